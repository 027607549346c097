"""The reward against the original's formulas, worked by hand: what each case scores follows from the rules in `reward.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envs.webshop.catalogue import NO_LIMIT, Goal, Product
from envs.webshop.generate import limit_text, price_limit
from envs.webshop.reward import alike, options_matched, plain_color, reward, title_overlap, type_match

PRODUCT = Product(
    asin="B000000001",
    title="Norvale Sun Hat, UV Protection",
    description="A hat for the beach, made with natural ingredients.",
    bullets=("Keeps its shape", "Made of straw"),
    rating="4.0",
    reviews=(),
    price_tag="$19.99",
    price=19.99,
    query="sun hat",
    categories=("Clothing", "Men", "Hats"),
    nouns=("sun", "hat"),
    attributes=("wide brim", "machine washable"),
    options={"color": ("navy", "sand"), "size": ("small", "large")},
)
GOAL = Goal(
    asin="B000000001",
    instruction="",
    query="sun hat",
    categories=("Clothing", "Men", "Hats"),
    nouns=("sun", "hat"),
    attributes=("wide brim",),
    options=("navy",),
    price_limit=30.0,
)
OTHER: dict[str, Any] = {"query": "beach towel", "categories": ("Home", "Bath", "Towels")}
FIVE = ("sun", "towel", "beach", "bag", "set")  # one of them is PRODUCT's
NINE = ("sun", *"bcdefghi")
TEN = (*NINE, "j")
ELEVEN = (*TEN, "k")

# (what the goal has otherwise, type)
TYPES: list[tuple[dict[str, Any], float]] = [
    ({}, 1.0),
    ({"query": "beach towel"}, 1.0),  # three parts of the category are shared
    ({"categories": ("Home", "Bath", "Towels")}, 1.0),  # the query is the same
    (OTHER, 1.0),  # both nouns are shared: overlap 1
    ({**OTHER, "nouns": ("hat", "rack", "wall", "hook")}, 1.0),  # 1/4 > .2
    ({**OTHER, "nouns": FIVE}, 0.5),  # 1/5 is not above .2
    ({**OTHER, "nouns": FIVE, "query": "sun hat"}, 1.0),
    ({**OTHER, "nouns": FIVE, "categories": ("Hats", "Men", "Sale")}, 1.0),  # two shared parts, in any order
    ({**OTHER, "nouns": FIVE, "categories": ("Hats", "Hats", "Sale")}, 0.5),  # one part, twice
    ({**OTHER, "nouns": FIVE, "query": "Sun Hat"}, 0.5),  # queries are compared as they are
    ({**OTHER, "nouns": NINE}, 0.5),  # 1/9 > .1
    ({**OTHER, "nouns": TEN}, 0.5),  # 1/10 is not below .1
    ({"nouns": TEN}, 1.0),
    ({**OTHER, "nouns": ELEVEN}, 0.1),  # 1/11 < .1
    ({"nouns": ELEVEN}, 0.1),  # overrides the same query
    ({**OTHER, "nouns": ("towel",)}, 0.0),
    ({"nouns": ("towel",)}, 0.0),  # overrides the same query
    ({"nouns": ()}, 1.0),  # no nouns count as .2
    ({**OTHER, "nouns": ()}, 0.5),
    ({**OTHER, "nouns": ("hat", "hat", "a", "b", "c")}, 0.5),  # the goal's repetitions count: 1/5
    ({**OTHER, "nouns": ("hat", "hat")}, 1.0),  # 1/2
]


@pytest.mark.parametrize(("goal", "expected"), TYPES)
def test_the_type(goal: dict[str, Any], expected: float) -> None:
    wanted = replace(GOAL, **goal)
    assert type_match(PRODUCT, wanted) == expected
    assert reward(PRODUCT, ("navy",), wanted).total == pytest.approx(expected)


# (attributes wanted, how many of them the product has)
ATTRIBUTES: list[tuple[tuple[str, ...], int]] = [
    (("wide brim",), 1),
    (("wide brim", "machine washable"), 2),
    (("brim wide",), 1),  # the order of words does not count
    (("Wide-Brim",), 1),  # nor do signs and capitals
    (("wide",), 1),  # all its words are among the product's
    (("extra wide brim",), 1),  # or the other way round
    (("wide brims",), 1),  # 2 * 9 / (9 + 10) = 95
    (("machine wash",), 1),  # "machine" with "machine wash" 2*7/19 and "machine wash(able)" 2*12/28 = 86 > 85
    (("hand washable",), 0),  # "washable" is common: 2*8/(8+13) = 76
    (("narrow brim",), 0),
    (("gluten free",), 0),
    (("uv protection",), 1),  # the title says it
    (("UV Protection",), 0),  # but is compared in lower case
    (("its shape",), 1),  # a bullet says it
    (("shape made",), 1),  # bullets are joined before they are searched
    (("natural ingredients",), 1),  # the description says it
    (("ingredients natural",), 0),
    (("straw", "beach", "foam"), 2),
    (("hat", "hat"), 2),  # each that is asked for counts
]


@pytest.mark.parametrize(("wanted", "matched"), ATTRIBUTES)
def test_attributes(wanted: tuple[str, ...], matched: int) -> None:
    found = reward(PRODUCT, ("navy",), replace(GOAL, attributes=wanted))
    assert found.attributes == pytest.approx(matched / len(wanted))
    assert found.total == pytest.approx((matched + 1 + 1) / (len(wanted) + 1 + 1))


# (options wanted, chosen, how many match)
OPTIONS: list[tuple[tuple[str, ...], tuple[str, ...], int]] = [
    (("navy",), ("navy",), 1),
    (("navy",), (), 0),
    (("navy",), ("sand",), 0),
    (("navy", "small"), ("navy",), 1),
    (("navy", "small"), ("small", "navy"), 2),
    (("navy", "small"), ("large", "sand"), 0),
    ((), ("navy",), 0),
    (("blue",), ("navy blue",), 1),  # blue stands before navy among the colours
    (("navy",), ("navy blue",), 0),
    (("navy",), ("dark navy",), 0),  # and dark before both
    (("light grey",), ("grey marl",), 1),
    (("blue", "light blue"), ("blue",), 2),  # one choice may do for two wishes
    (("black1901",), ("black",), 1),
    (("stainless steel",), ("steel blue",), 0),  # steel against blue
    (("large",), ("x-large",), 1),  # the original's own: one's words are among the other's
    (("3-pack",), ("6-pack",), 0),  # "pack 3" with "pack 6": 2*5/12 = 83
    (("2-pack",), ("12-pack",), 1),  # "pack 2" with "pack 12": 2*6/13 = 92
    (("powder snow",), ("cool powder snow",), 1),
    (("10.5",), ("10.5",), 1),
    (("10.5",), ("10",), 1),  # "10 5" has 10
    (("xl",), ("xxl",), 0),  # 2*2/5 = 80
]


@pytest.mark.parametrize(("wanted", "chosen", "matched"), OPTIONS)
def test_options(wanted: tuple[str, ...], chosen: tuple[str, ...], matched: int) -> None:
    assert options_matched(wanted, chosen) == matched
    found = reward(PRODUCT, chosen, replace(GOAL, options=wanted))
    assert found.options == (pytest.approx(matched / len(wanted)) if wanted else 1.0)
    assert found.total == pytest.approx((1 + matched + 1) / (1 + len(wanted) + 1))


@pytest.mark.parametrize(
    ("price", "limit", "within"),
    [(19.99, 30.0, 1), (30.0, 30.0, 1), (30.01, 30.0, 0), (500.0, NO_LIMIT, 1), (0.0, 10.0, 1), (990.0, 980.0, 0)],
)
def test_the_price(price: float, limit: float, within: int) -> None:
    found = reward(replace(PRODUCT, price=price), ("navy",), replace(GOAL, price_limit=limit))
    assert found.price == within
    assert found.total == pytest.approx((1 + 1 + within) / 3)


# Everything together: (goal, chosen, total)
TOGETHER: list[tuple[dict[str, Any], tuple[str, ...], float]] = [
    ({"attributes": ("wide brim", "foldable"), "options": ("navy", "small")}, ("navy",), 3 / 5),
    ({"attributes": ("wide brim", "foldable"), "options": ("navy", "small"), "price_limit": 10.0}, ("navy",), 2 / 5),
    ({"attributes": ("foldable",), "options": (), "price_limit": 10.0}, (), 0.0),
    ({"attributes": (), "options": ()}, (), 1.0),
    ({"attributes": ("a wide brim",), "options": ("large",), **OTHER, "nouns": FIVE}, ("large",), 0.5),
    ({"attributes": ("foldable",), "options": ("large",), **OTHER, "nouns": FIVE}, (), 0.5 * 1 / 3),
    ({"attributes": ("wide brim", "straw"), "options": ("navy",), "nouns": ELEVEN}, ("navy",), 0.1),
    ({"attributes": ("wide brim", "straw"), "options": ("navy",), "nouns": ELEVEN}, (), 0.1 * 3 / 4),
]


@pytest.mark.parametrize(("goal", "chosen", "total"), TOGETHER)
def test_together(goal: dict[str, Any], chosen: tuple[str, ...], total: float) -> None:
    assert reward(PRODUCT, chosen, replace(GOAL, **goal)).total == pytest.approx(total)


def test_there_are_enough_cases() -> None:
    assert len(TYPES) + len(ATTRIBUTES) + len(OPTIONS) + len(TOGETHER) >= 60


def test_parts() -> None:
    assert alike("essential oils", "essential oil") and not alike("tea tree", "tea bag")
    assert not alike("", "") and not alike("!!", "??")  # nothing to compare
    assert title_overlap(("hat", "hat"), ("hat", "sun")) == 0.5
    assert [plain_color(text) for text in ("", "black forest", "violet lavender", "steelivy fuchsia", "shop")] == [
        "",
        "black",
        "lavender",
        "fuchsia",
        "shop",
    ]


def test_price_limits_are_of_the_four_next_tens() -> None:
    """Two of 30, 40, 50, 60 are drawn for a price of 25, and the larger counts: never 30."""
    found = {price_limit(25.0, first / 4, second / 3) for first in range(4) for second in range(3)}
    assert found == {40.0, 50.0, 60.0}
    assert price_limit(30.0, 0.0, 0.0) == 50.0  # 40 is the next above 30, 50 the larger of the two first
    assert price_limit(985.0, 0.5, 0.5) == NO_LIMIT  # only 990 is left
    assert price_limit(975.0, 0.0, 0.0) == 990.0
    assert limit_text(40.0) == ", and price lower than 40.00 dollars" and limit_text(NO_LIMIT) == ""
