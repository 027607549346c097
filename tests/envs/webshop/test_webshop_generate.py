"""The generated catalogue: the same everywhere, varied, unambiguous under the reward, and as hard as it is said to be."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from statistics import fmean

import pytest

from envs.webshop import generate
from envs.webshop.catalogue import Goal, Product, load_catalogue
from envs.webshop.generate import HELD_OUT_FILE, HELD_OUT_SHA256, OPENINGS, generated_catalogue, kinds, lexicon
from envs.webshop.pages import OPTION_NAMES, compact_label, plain_words
from envs.webshop.reward import alike, plain_color, reward
from qsft_bench.errors import BenchError


def best(product: Product, goal: Goal) -> float:
    return max(reward(product, chosen, goal).total for chosen in itertools.product(*product.options.values()))


def test_the_held_out_instructions_are_the_published_ones() -> None:
    assert hashlib.sha256(HELD_OUT_FILE.read_bytes()).hexdigest() == HELD_OUT_SHA256
    shop = load_catalogue()
    said = [goal.instruction for goal in shop.goals]
    assert said[: shop.test] == HELD_OUT_FILE.read_text().splitlines() and shop.test == 100
    held_out = set(said[: shop.test + shop.validation])
    assert len(held_out) == 300 and not held_out & set(said[300:])


def test_another_lexicon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "OPENINGS", OPENINGS[::-1])
    with pytest.raises(BenchError, match="was altered"):
        generated_catalogue.__wrapped__()


def test_its_size_and_variety() -> None:
    shop = load_catalogue()
    assert len(shop.products) == 10_000 and len(shop.goals) == 12_000 and len(lexicon()["domain"]) >= 5
    assert len({product.asin for product in shop.products}) == 10_000
    assert all(len(product.asin) == 10 for product in shop.products)
    assert len({product.title for product in shop.products}) > 9_500
    assert len({product.description for product in shop.products}) > 1_000
    words = Counter(word for product in shop.products for text in every_text(product) for word in plain_words(text))
    words.update(word for goal in shop.goals for word in plain_words(goal.instruction))
    assert len(words) < 3_500


def every_text(product: Product) -> list[str]:
    return [product.title, product.description, *product.bullets, *product.reviews, *itertools.chain(*product.options.values())]


def test_what_makes_it_hard_is_as_frequent_as_stated() -> None:
    shop = load_catalogue()
    accessories = fmean("Accessories & Spares" in product.categories for product in shop.products)
    assert accessories == pytest.approx(0.25, abs=0.02)
    names = {kind.name: kind.synonym for kind in kinds()}
    assert fmean(f" {names[goal.query]}" in goal.instruction for goal in shop.goals) == pytest.approx(0.3, abs=0.02)
    said = [attribute in goal.instruction.replace(",", " ").split() for goal in shop.goals for attribute in goal.attributes]
    assert fmean(said) == pytest.approx(0.7, abs=0.02)


def test_every_instruction_can_be_fulfilled() -> None:
    shop = load_catalogue()
    for goal in shop.goals[:2_000]:
        assert reward(shop.by_asin[goal.asin], goal.options, goal).total == 1.0


def test_its_difficulty() -> None:
    """A first-result buyer about .5, the best of the first ten about .95 (`python -m envs.webshop.difficulty` prints both)."""
    shop = load_catalogue()
    first, ten = [], []
    for goal in shop.goals[300:700]:
        found = [shop.products[number] for number in shop.search.top(goal.instruction, 10)]
        first.append(reward(found[0], (), goal).total)
        ten.append(max(best(product, goal) for product in found))
    assert 0.4 < fmean(first) < 0.55 and 0.9 < fmean(ten) < 0.98


def test_words_that_differ_do_not_pass_for_each_other() -> None:
    """No attribute of a domain, and no value of an option, is alike to another under the reward's fuzzy matching."""
    for domain in lexicon()["domain"]:
        names = list(domain["attributes"])
        assert not [pair for pair in itertools.combinations(names, 2) if alike(*pair)]
        sentences = [text.format(a="a", attr="") for text in (*domain["features"], *domain["blurbs"])]
        assert not [name for name in names for text in sentences if name in text.lower()]
    for values in lexicon()["options"].values():
        plain = [plain_color(value) for value in values]
        assert not [pair for pair in itertools.combinations(plain, 2) if alike(*pair)]


def test_other_words_mean_one_thing_each() -> None:
    """So that who knows the lexicon knows what is meant; and in the compact format a value is one word of its own."""
    others = [other for domain in lexicon()["domain"] for other in domain["attributes"].values()]
    others += [other for values in lexicon()["options"].values() for other in values.values()]
    own = {name for domain in lexicon()["domain"] for name in domain["attributes"]}
    own |= {value for values in lexicon()["options"].values() for value in values}
    assert len(set(others)) == len(others) and not own & set(others)
    assert all(len(plain_words(word)) == 1 for word in (*others, *own))
    labels = [compact_label(value) for values in lexicon()["options"].values() for value in values]
    assert len(set(labels)) == len(labels)
    assert not set(labels) & {"buy", "back", "next", "home", "description", "features", "reviews", *map(str, range(1, 51))}
    assert set(lexicon()["options"]) <= OPTION_NAMES
    names = [kind.name for kind in kinds()]
    assert len(set(names)) == len(names) == len({kind.synonym for kind in kinds()})
    assert not set(names) & {kind.synonym for kind in kinds()}
