"""The generated catalogue: products and instructions written from `lexicon.toml`, the same on every machine.

Three things make it as hard as the original's: instructions name the type by a word that titles do not use (`SYNONYMS`),
accessories name another type in their titles (`DECOYS`), and instructions paraphrase attributes and options (`PARAPHRASES`).
"""

from __future__ import annotations

import hashlib
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.webshop.catalogue import LIMITS, NO_LIMIT, Catalogue, Goal, Product
from qsft_bench.errors import BenchError

PRODUCTS = 10_000
INSTRUCTIONS = 12_000
TEST, VALIDATION = 100, 200
HELD_OUT_FILE = Path(__file__).with_name("held_out.txt")  # the instructions to test on
HELD_OUT_SHA256 = "4e408c556359cf6e79924c7f043588ab815fcfd57555ef195187db7030fc388c"  # others are another environment
SEED = 2024

SYNONYMS = 0.3  # share of instructions that call the type by another name
DECOYS = 0.25  # share of products that are accessories to another type
PARAPHRASES = 0.3  # chance of each attribute and option in an instruction to be said in other words
KNOWN_AS, FITS_ANY = 0.75, 0.2  # share of products, and of accessories, whose description has that other name
TITLED = 2  # attributes that a title names; the others are in the features
ASKED = 0.7  # chance of each option to be asked for

OPENINGS = (
    "i need",
    "i am looking for",
    "find me",
    "i want to buy",
    "show me",
    "can you find",
    "please get me",
    "i would like",
)
SAID = {
    "color": "in {value}",
    "size": "in size {value}",
    "pack": "sold as {a} {value}",
    "scent": "with {a} {value} scent",
    "volume": "in the {value} bottle",
    "flavor": "with {value} flavor",
    "power": "that runs on {value}",
    "finish": "with {a} {value} finish",
    "dimensions": "in {value} dimensions",
}
PRAISE = ("does what it says", "arrived early", "a good buy", "would buy again", "better than the last one", "well made")
BLAME = ("smaller than expected", "took a while to arrive", "the box was dented", "not for everyone")


@dataclass(frozen=True)
class Kind:
    """A type of product with what its domain lends it."""

    name: str
    synonym: str
    query: str
    categories: tuple[str, ...]
    price: tuple[int, int]
    options: tuple[str, ...]
    domain: Mapping[str, Any]


@lru_cache(maxsize=1)
def lexicon() -> Mapping[str, Any]:
    """What everything is written from."""
    return tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def kinds() -> tuple[Kind, ...]:
    """Every type, in the order of the lexicon."""
    return tuple(
        Kind(
            entry["name"],
            entry["synonym"],
            entry["name"],
            (domain["shelf"], entry["shelf"], entry["name"].title()),
            (entry["price"][0], entry["price"][1]),
            tuple(entry["options"]),
            domain,
        )
        for domain in lexicon()["domain"]
        for entry in domain["type"]
    )


@lru_cache(maxsize=4)
def generated_catalogue(products: int = PRODUCTS) -> Catalogue:
    """`products` products and 12,000 instructions (fewer where that would be more than two a product).

    Raises:
        BenchError: the usual catalogue is not the one that results were measured on.
    """
    draw = random.Random(SEED * 1_000_003 + products)  # only its `random`, which is the same in every Python
    stock = [_product(number, draw) for number in range(products)]
    wanted = [(number, kind) for number, (_, kind, decoy) in enumerate(stock) if not decoy]
    count = min(INSTRUCTIONS, 2 * products)
    goals = [_goal(stock[number][0], kind, draw) for number, kind in (_pick(draw, wanted) for _ in range(count))]
    found = held_out_sha256(goals[:TEST])
    if products == PRODUCTS and found != HELD_OUT_SHA256:
        raise BenchError(
            f"lexicon.toml or generate.py was altered: the SHA-256 of the held-out instructions is {found}, expected "
            f"{HELD_OUT_SHA256}; restore them with `git checkout envs/webshop`"
        )
    made = tuple(product for product, _, _ in stock)
    identity = hashlib.sha256("\n".join(product.indexed for product in made).encode()).hexdigest()
    return Catalogue(f"generated catalogue of {products:,} products", identity, made, tuple(goals), TEST, VALIDATION)


def held_out_sha256(goals: Sequence[Goal]) -> str:
    """Of their instructions, one a line, as in `held_out.txt`."""
    return hashlib.sha256("".join(f"{goal.instruction}\n" for goal in goals).encode()).hexdigest()


def _pick(draw: random.Random, values: Sequence[Any]) -> Any:
    return values[int(draw.random() * len(values))]


def _some(draw: random.Random, values: Sequence[str], count: int) -> list[str]:
    """`count` different ones, in random order."""
    left = list(values)
    return [left.pop(int(draw.random() * len(left))) for _ in range(min(count, len(left)))]


def _product(number: int, draw: random.Random) -> tuple[Product, Kind, bool]:
    """A product, the type it is of or for, and whether it is only an accessory to it."""
    kind = _pick(draw, kinds())
    domain = kind.domain
    decoy = bool(draw.random() < DECOYS)
    brand, material, audience = (_pick(draw, domain[name]) for name in ("brands", "materials", "audiences"))
    attributes = _some(draw, list(domain["attributes"]), 4 + int(draw.random() * 3))
    shown = attributes[:TITLED]
    thing = _pick(draw, domain["accessories"]) if decoy else kind.name
    title = _title(draw, brand, material, thing, audience, shown, kind.name if decoy else "")
    low, high = kind.price
    price = (low + (high - low) * draw.random() ** 1.5) * (0.4 if decoy else 1.0)
    price = max(2, int(price)) + _pick(draw, (0.0, 0.49, 0.95, 0.99))
    options = {} if decoy and draw.random() < 0.8 else {name: _values(draw, name) for name in kind.options}
    sentences = [f"{_pick(draw, domain['blurbs'])}."]
    if draw.random() < (FITS_ANY if decoy else KNOWN_AS):
        sentences.append(f"{'Fits any' if decoy else 'Also known as'} {kind.synonym}.")
    sentences.append(f"From {brand}, for {audience}.")
    hidden = attributes[len(shown) :]
    bullets = tuple(_pick(draw, domain["features"]).format(a=_article(name), attr=name).capitalize() for name in hidden + shown)
    rating = 3.0 + round(2 * draw.random(), 1)
    reviews = (f"{rating:.0f} stars: {_pick(draw, PRAISE)}", f"{max(1, rating - 1):.0f} stars: {_pick(draw, BLAME)}")
    product = Product(
        asin=_asin(number),
        title=title,
        description=" ".join(sentences),
        bullets=bullets,
        rating=f"{rating:.1f}",
        reviews=reviews,
        price_tag=f"${price:.2f}",
        price=price,
        query=f"{kind.query} accessories" if decoy else kind.query,
        categories=(kind.categories[0], "Accessories & Spares", thing.title()) if decoy else kind.categories,
        nouns=tuple(thing.split()),
        attributes=tuple(attributes),
        options=options,
    )
    return product, kind, decoy


def _asin(number: int) -> str:
    """`B0` and eight letters or digits that say nothing of the order."""
    alphabet = "0123456789ABCDEFGHJKLMNPQRSTVWXYZ"  # 33
    mixed = (number * 2_654_435_761 + 97) % 33**7
    return "B0G" + "".join(alphabet[mixed // 33**place % 33] for place in range(7))


def _title(draw: random.Random, brand: str, material: str, thing: str, audience: str, shown: Sequence[str], of: str) -> str:
    """A title in one of four shapes; `of` is the type that an accessory is for."""
    first, second = shown[0].title(), shown[-1].title()
    thing, material = thing.title(), material.title()
    whom = f"{of.title()}, also for {audience.title()}" if of else audience.title()
    shapes = (
        f"{brand} {first} {material} {thing} for {whom}, {second}",
        f"{brand} {thing} for {whom}, {material}, {first} and {second}",
        f"{first} {thing} by {brand}, {second}, {material}, for {whom}",
        f"{brand} {material} {thing} for {whom} - {first}, {second}",
    )
    return str(_pick(draw, shapes))


def _values(draw: random.Random, option: str) -> tuple[str, ...]:
    """Three or four values, in the order of the lexicon."""
    known = list(lexicon()["options"][option])
    chosen = set(_some(draw, known, 3 + int(draw.random() * 2)))
    return tuple(value for value in known if value in chosen)


def _goal(product: Product, kind: Kind, draw: random.Random) -> Goal:
    """An instruction that `product` fulfils."""
    attributes = _some(draw, product.attributes, 1 + int(draw.random() * 3))
    options = {name: _pick(draw, values) for name, values in product.options.items() if draw.random() < ASKED}
    thing = kind.synonym if draw.random() < SYNONYMS else kind.name

    def say(word: str, others: Mapping[str, str]) -> str:
        return others[word] if draw.random() < PARAPHRASES else word

    described = ", ".join(say(name, kind.domain["attributes"]) for name in attributes)
    spoken = {name: say(value, lexicon()["options"][name]) for name, value in options.items()}
    chosen = [SAID[name].format(a=_article(value), value=value) for name, value in spoken.items()]
    wanted = f"{described} {thing}" if thing.endswith("s") else f"{_article(described)} {described} {thing}"
    said = " ".join([f"{_pick(draw, OPENINGS)} {wanted}", *chosen])
    limit = price_limit(product.price, draw.random(), draw.random())
    return Goal(
        asin=product.asin,
        instruction=said + limit_text(limit),
        query=product.query,
        categories=product.categories,
        nouns=product.nouns,
        attributes=tuple(attributes),
        options=tuple(options.values()),
        price_limit=limit,
    )


def _article(text: str) -> str:
    return "an" if text[0] in "aeiou" and not text.startswith(("one", "uv", "usb")) else "a"


def price_limit(price: float, first: float, second: float) -> float:
    """The limit an instruction names: two of the four multiples of 10 dollars next above `price`, and of these the larger.

    Args:
        first, second: two draws from [0, 1).
    """
    above = [limit for limit in LIMITS if limit > price][:4]
    if len(above) < 2:
        return NO_LIMIT
    left = above.pop(int(first * len(above)))
    return max(left, above[int(second * len(above))])


def limit_text(limit: float) -> str:
    """What an instruction says of its limit."""
    return "" if limit == NO_LIMIT else f", and price lower than {limit:.2f} dollars"
