"""What is written can be read: both formats show the same, and a reader finds it again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.webshop.catalogue import NO_LIMIT, Product, load_catalogue
from envs.webshop.pages import PARTS, WRITINGS, Writing, compact_label, plain_text, plain_words, prices
from qsft_bench.errors import BenchError
from tests.envs.webshop.shop import DEAR, GOAL, HAT, ODD, RACK, product

FORMATS = [WRITINGS["original"], WRITINGS["compact"]]
both = pytest.mark.parametrize("writing", FORMATS, ids=["original", "compact"])
SAID = ("machine_washable", "sun", "hat", "navy", "size", "large")


@both
def test_the_instruction(writing: Writing) -> None:
    view = writing.read(writing.start(GOAL.instruction))
    assert (view.kind, view.words, view.limit) == ("search", SAID, 30.0)
    free = writing.read(writing.start("i need a machine-washable sun hat in navy in size large"))
    assert (free.words, free.limit) == (SAID, NO_LIMIT)
    assert writing.read(writing.home()).kind == "search"


@both
def test_results(writing: Writing) -> None:
    view = writing.read(writing.results([HAT, RACK, DEAR], 2, 3, 9))
    assert view.kind == "results" and view.page == 2 and view.pages == 3
    found = {writing.product_label(one, place): one for place, one in enumerate([HAT, RACK, DEAR], 1)}
    assert list(view.listed) == list(found)
    for label, one in found.items():
        words, price = view.listed[label]
        assert words == plain_words(one.title) and one.price <= price < one.price + 1
    assert writing.read(writing.results([], 1, 1, 0)).listed == {}


@both
def test_an_item(writing: Writing) -> None:
    view = writing.read(writing.item(HAT))
    assert view.kind == "item" and view.words == plain_words(HAT.title) and HAT.price <= view.price < HAT.price + 1
    assert set(view.options) == {"color", "size"}
    labels = [label for values in view.options.values() for label in values]
    assert [writing.option_labels(HAT)[label] for label in labels] == [
        ("color", "navy"),
        ("color", "dark-blue"),
        ("size", "small"),
        ("size", "large"),
    ]
    assert writing.read(writing.item(RACK)).options == {} and writing.read(writing.item_again(HAT)).kind == "item"


@both
def test_the_rest(writing: Writing) -> None:
    for part in PARTS:
        for one in (HAT, ODD):
            assert writing.read(writing.part(one, part)).kind == "part"
    assert "straw" in writing.read(writing.part(HAT, "features")).words
    assert writing.read(writing.clicked("navy")).kind == "clicked"
    assert writing.read(writing.bought(0.5)).kind == "end" and writing.read(writing.nothing()).kind == "nothing"


@both
def test_actions(writing: Writing) -> None:
    words = ("machine_washable", "hat")
    assert writing.query(writing.search(words)) == words
    assert writing.query(writing.click("navy")) is None
    assert writing.search(words).endswith("\n") and writing.click("navy").endswith("\n")
    assert [writing.label(button) for button in ("buy", "back")] in (["buy now", "< prev"], ["buy", "back"])


@both
@given(st.text())
def test_any_text_can_be_read(writing: Writing, text: str) -> None:
    assert writing.read(text).kind
    writing.query(text)


def test_every_page_of_the_shop_is_read_alike_in_both_formats() -> None:
    original, compact = FORMATS
    for one in load_catalogue().products[:300]:
        left, right = (writing.read(writing.item(one)) for writing in FORMATS)
        assert left.words == right.words == plain_words(one.title)
        assert {name: tuple(map(compact_label, values)) for name, values in left.options.items()} == dict(right.options)
        assert set(original.read(original.part(one, "features")).words) == set(
            compact.read(compact.part(one, "features")).words
        )


def test_words() -> None:
    assert plain_words("I need a Water-Resistant hat, 3.5 oz, for Men's heads!") == (
        "water_resistant",
        "hat",
        "3_5",
        "oz",
        "men_s",
        "heads",
    )
    assert plain_words("Crème ☃") == ("creme",) and plain_words("the of ...") == ()
    assert plain_text("a\n  b\tc ☃é") == "a b c ?e" and plain_text("<b>&amp;</b>") == "<b>&amp;</b>"
    assert compact_label("Dark Blue | 2 x 3") == "dark_blue_2_x_3" and compact_label("☃") == "_"
    assert prices("$1,299.99 to $2,000") == [1299.99, 2000.0] and prices("free") == [0.0]


def test_a_range_of_prices_shows_both_ends_and_counts_as_the_higher() -> None:
    sale: Product = product("B000000009", "Hat", 15.0, price_tag="$9.5 to $24.99")
    for writing in FORMATS:
        assert writing.read(writing.results([sale], 1, 1, 1)).listed[writing.product_label(sale, 1)][1] in (24.99, 25.0)
        assert writing.read(writing.item(sale)).price in (24.99, 25.0)
    assert WRITINGS["compact"].item(sale).endswith(" : 10 25\n")


def test_options_that_share_a_label_are_the_last_one() -> None:
    twice = product("B000000008", "Hat", 5.0, options={"color": ("natural",), "style": ("natural",)})
    for writing in FORMATS:
        assert dict(writing.option_labels(twice)) == {"natural": ("style", "natural")}


def test_the_screen_is_for_people() -> None:
    screen = WRITINGS["screen"]
    assert screen.item(HAT) == (
        "Norvale Sun Hat for Men, Foldable\n  $19.99, rated 4.1\n  color: [navy]  [dark_blue]\n  size: [small]  [large]\n"
        "[buy]  [back] to the results  [home]  [description]  [features]  [reviews]\n"
    )
    assert "  [2] Kestrel Hanger for Sun Hat  $7.49\n" in screen.results([HAT, RACK], 1, 2, 12)
    with pytest.raises(BenchError, match="is for people"):
        screen.read("")
