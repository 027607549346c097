"""What a purchase is worth (Yao et al. 2022, section 3): how much of an instruction the product and its options fulfil.

```
reward = type * (attributes matched + options matched + [price <= limit]) / (attributes + options + 1)      of those asked for
type   = 1 if found under the same query, or two shared parts of the category, or title overlap > .2; else .5
         overlap below .1: .1; no overlap: 0         (both override; overlap = the share of the goal's title nouns in the title)
```
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from envs.webshop.catalogue import Goal, Product

ALIKE = 85  # of 100; above it two texts count as the same

_COLORS = """
alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo caramel
champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream crystal dark denim
eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather indigo ivory ivy khaki
lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom mustard
natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand sapphire seashell silver
skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut wheat white wine yellow
"""
COLORS = tuple(_COLORS.split())
"""The original's colours, in its order: the first that occurs in an option's value stands for it."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A purchase's worth and its four parts, each from 0 to 1 (`options` is 1 where none were asked for)."""

    total: float
    type: float
    attributes: float
    options: float
    price: float


def reward(product: Product, chosen: Iterable[str], goal: Goal) -> Reward:
    """What buying `product` with the options `chosen` is worth to who wanted `goal`."""
    kind = type_match(product, goal)
    attributes = sum(has_attribute(product, wanted) for wanted in goal.attributes)
    options = options_matched(goal.options, tuple(chosen))
    price = product.price <= goal.price_limit
    asked = len(goal.attributes) + len(goal.options) + 1
    return Reward(
        total=kind * (attributes + options + price) / asked,
        type=kind,
        attributes=attributes / len(goal.attributes) if goal.attributes else 1.0,
        options=options / len(goal.options) if goal.options else 1.0,
        price=float(price),
    )


def title_overlap(bought: Iterable[str], wanted: tuple[str, ...]) -> float:
    """The share of the wanted title's nouns, repetitions counted, that the bought one has; .2 where it has no nouns."""
    return len(set(bought) & set(wanted)) / len(wanted) if wanted else 0.2


def type_match(product: Product, goal: Goal) -> float:
    """Whether it is the kind of thing that was wanted: 1, .5, .1 or 0."""
    overlap = title_overlap(product.nouns, goal.nouns)
    if overlap == 0:
        return 0.0
    if overlap < 0.1:
        return 0.1
    same_shelf = len(set(product.categories) & set(goal.categories)) >= 2
    return 1.0 if product.query == goal.query or same_shelf or overlap > 0.2 else 0.5


def has_attribute(product: Product, wanted: str) -> bool:
    """Whether the product has the attribute, or its title, bullets or description say so word for word."""
    if any(alike(own, wanted) for own in product.attributes):
        return True
    return any(wanted in text.lower() for text in (product.title, " ".join(product.bullets), product.description))


def options_matched(wanted: Iterable[str], chosen: Iterable[str]) -> int:
    """How many of the wanted option values are among the chosen ones, colours compared by their plain name."""
    plain = [plain_color(value) for value in chosen]
    return sum(any(alike(own, plain_color(value)) for own in plain) for value in wanted)


@lru_cache(maxsize=2**14)
def plain_color(value: str) -> str:
    """The first of `COLORS` that occurs in `value`, or `value` itself."""
    return next((color for color in COLORS if color in value), value)


@lru_cache(maxsize=2**18)
def alike(left: str, right: str) -> bool:
    """Whether two texts count as the same: the words of one, by and large, among those of the other."""
    return token_set_ratio(left, right, processor=default_process) > ALIKE
