"""The original's files: what is read, what is reported and left out, and the public sample where it is at hand."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.webshop.catalogue import NO_LIMIT, Catalogue, load_catalogue
from envs.webshop.env import WebShop
from envs.webshop.official import Imported, _records, import_files, official_catalogue
from envs.webshop.reward import reward
from qsft_bench.cli import main
from qsft_bench.errors import BenchError

SAMPLE = Path(os.environ.get("QSFT_BENCH_TESTDATA", "/nowhere")) / "webshop"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="QSFT_BENCH_TESTDATA names no folder with webshop/ in it")


def record(asin: str = "C000000001", **fields: Any) -> dict[str, Any]:
    """A product as the original's files have it."""
    return {
        "asin": asin,
        "name": "Norvale Sun Hat for Men",
        "full_description": "A hat.",
        "small_description": ["Made of straw", "Light"],
        "product_category": "Clothing › Men › Hats",
        "category": "fashion",
        "query": " Sun Hats ",
        "pricing": "$19.99",
        "customization_options": {"Color": [{"value": " Navy/White "}, {"value": "sand", "image": "x"}], "Size": None},
        "images": ["https://example.com/a.jpg"],
    } | fields


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the files; the cache is another, and nothing of it is remembered."""
    monkeypatch.setenv("QSFT_BENCH_CACHE", str(tmp_path / "cache"))
    official_catalogue.cache_clear()
    yield tmp_path / "files"  # type: ignore[misc]
    official_catalogue.cache_clear()


def write(
    folder: Path, products: Any, attributes: Any | None = None, human: Any | None = None, name: str = "items_shuffle_1000.json"
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(products if isinstance(products, str) else json.dumps(products))
    for file, content in (("items_ins_v2_1000.json", attributes), ("items_human_ins.json", human)):
        (folder / file).write_text(json.dumps({} if content is None else content))
    return folder


def imported(folder: Path, **options: Any) -> tuple[Imported, list[str]]:
    said: list[str] = []
    return import_files(folder, lambda where, reason: said.append(f"{where}: {reason}"), **options), said


def many(count: int = 30, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Products with an instruction of each sort."""
    asins = [f"B{number:09d}" for number in range(count)]
    known = {
        asin: {"attributes": ["wide brim"], "instruction": "Find me hats", "instruction_attributes": ["wide brim"]}
        for asin in asins
    }
    human = {
        asin: [{"instruction": "i want a hat.", "instruction_attributes": ["wide brim"], "instruction_options": ["sand"]}]
        for asin in asins
    }
    return [record(asin, **fields) for asin in asins], known, human


def test_a_product_is_read_as_the_original_reads_it(place: Path) -> None:
    found, said = imported(write(place, *many()))
    assert (found.products, found.human, found.synthetic, found.skipped, said) == (30, 30, 60, 0, [])
    shop = load_catalogue("official")
    product = shop.products[0]
    assert product.options == {"color": ("navy | white", "sand")}  # an option without values is none
    assert (product.query, product.categories) == ("sun hats", ("Clothing", "Men", "Hats"))
    assert (product.price, product.price_tag, product.attributes) == (19.99, "$19.99", ("wide brim",))
    assert product.nouns == ("norvale", "sun", "hat", "men") and product.rating == "N.A."
    assert product.indexed == "norvale sun hat for men a hat. made of straw color: navy | white, sand"
    goal = shop.goals[0]
    assert re.fullmatch(r"i want a hat, and price lower than [345]0\.00 dollars", goal.instruction)
    assert (goal.attributes, goal.options) == (("wide brim",), ("sand",))
    assert reward(shop.by_asin[goal.asin], ("sand",), goal).total == 1


def test_synthetic_instructions_are_all_combinations_of_options(place: Path) -> None:
    options = {"Size": [{"value": "S"}, {"value": "M"}], "Color": [{"value": "red"}, {"value": "tan"}, {"value": "navy"}]}
    found, _ = imported(write(place, *many(5, customization_options=options)))
    assert found.synthetic == 5 * 6
    shop = load_catalogue("official-synthetic")
    said = sorted(goal.instruction for goal in shop.goals if goal.asin == "B000000000")
    assert len(said) == 6 and said[0].startswith("Find me hats with color: navy, and size: m, and price lower than ")
    assert len({goal.price_limit for goal in shop.goals if goal.asin == "B000000000"}) == 1


BAD: list[tuple[Any, str]] = [
    ("text", "str is no product"),
    (None, "NoneType is no product"),
    ({}, "'asin' is missing"),
    (record(name=None), "'name' is NoneType, not text"),
    (record(name=["a"]), "'name' is list, not text"),
    ({k: v for k, v in record().items() if k != "query"}, "'query' is missing"),
    ({k: v for k, v in record().items() if k != "small_description"}, "'small_description' is missing"),
    (record(small_description=[1]), "'small_description' is not text or a list of texts"),
    (record(small_description=None), "'small_description' is not text"),
    (record(full_description=3), "'full_description' is int"),
    (record(product_category={}), "'product_category' is dict"),
    (record(pricing=19.99), "'pricing' is float, not text"),
    (record(pricing="free"), "'pricing' 'free' is no price"),
    (record(pricing="$1.2.3"), "is no price"),
    (record(customization_options=["navy"]), "'customization_options' is list"),
    (record(customization_options={"color": "navy"}), "the option 'color' is not a list of values"),
    (record(customization_options={"color": [{"image": "x"}]}), "the option 'color' is not a list of values"),
    (record(asin="../../etc"), "is not made of letters and digits"),
    (record(asin=5), "'asin' is int"),
    (record("B000000000"), "this id came before"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_bad_records_are_reported_and_left_out(place: Path, bad: Any, reason: str) -> None:
    products, known, human = many()
    folder = write(place, [*products, bad], known, human)
    found, said = imported(folder)
    assert (found.products, found.skipped) == (30, 1)
    (line,) = said
    assert line.startswith("items_shuffle_1000.json, record 30 (") and reason in line
    with pytest.raises(BenchError, match=re.escape(reason)):
        imported(folder, strict=True)


def test_what_the_original_passes_over_is_passed_over(place: Path) -> None:
    products, known, human = many()
    found, said = imported(write(place, [record("nan"), record("B0000000000000"), *products], known, human))
    assert (found.products, found.skipped, said) == (30, 0, [])


def test_bad_instructions_are_reported_and_left_out(place: Path) -> None:
    products, known, human = many()
    first, second, third, fourth = list(human)[:4]
    human[first] = "i want a hat"
    human[second] = [{"instruction": 5}, *human[second]]
    human[third][0] = human[third][0] | {"instruction_options": [1]}
    human[fourth][0] = human[fourth][0] | {"instruction_attributes": []}  # the original skips these too
    known[first] = {"attributes": ["wide brim"], "instruction": "Find me hats"}  # no instruction_attributes
    found, said = imported(write(place, products, known, human))
    assert (found.products, found.human, found.synthetic, found.skipped) == (30, 27, 58, 3)
    assert ["is no list of instructions" in said[0], "lacks its text" in said[1], "no list of texts" in said[2]] == [True] * 3


def test_html_is_reported_and_taken_out_and_nothing_else_is(place: Path) -> None:
    products, known, human = many()
    products[0] |= {
        "name": "<b>Sun</b> Hat<script>alert(1)</script>",
        "full_description": "1 < 2 > 0 &amp; <br/>so<!-- on -->",
        "small_description": ["size < 5", "<img src=x onerror=alert(1)>straw"],
        "customization_options": {"color": [{"value": "<i>navy</i>"}]},
    }
    found, said = imported(write(place, products, known, human))
    assert found.skipped == 0 and len(said) == 4 and all("HTML in" in line and "record 0" in line for line in said)
    product = load_catalogue("official").by_asin["B000000000"]
    assert product.title == "Sun Hat alert(1)" and product.description == "1 < 2 > 0 & so"
    assert product.bullets == ("size < 5", "straw") and product.options == {"color": ("navy",)}


def test_prices(place: Path) -> None:
    products, known, human = many()
    products[0]["pricing"], products[1]["pricing"], products[2]["pricing"] = "", "$1,299.99 - $1,500.00", None
    imported(write(place, products, known, human))
    shop = load_catalogue("official")
    assert [(product.price_tag, product.price) for product in (shop.products[0], shop.products[2])] == [("$100.0", 100.0)] * 2
    dear = shop.products[1]
    assert dear.price_tag == "$1299.99 to $1500.0" and 1299.99 <= dear.price <= 1500
    assert {goal.price_limit for goal in shop.goals if goal.asin == dear.asin} == {NO_LIMIT}  # limits end at 990
    assert official_catalogue.__wrapped__(True, 0).products[1].price == dear.price


def test_fewer_products_and_too_few_instructions(place: Path) -> None:
    imported(write(place, *many()))
    assert len(load_catalogue("official", 10).products) == 10 and len(load_catalogue("official", 10).goals) == 10
    shop = load_catalogue("official")
    assert (shop.test, shop.validation) == (6, 6)
    with pytest.raises(BenchError, match="too few"):
        load_catalogue("official", 3)


def test_the_original_splits_where_there_are_enough(place: Path) -> None:
    options = {"n": [{"value": str(number)} for number in range(70)]}
    imported(write(place, *many(30, customization_options=options)))
    shop = load_catalogue("official-synthetic")
    assert (len(shop.goals), shop.test, shop.validation) == (2_100, 100, 1_400)


def test_files_that_cannot_be_used(place: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="data import webshop PATH"):
        load_catalogue("official")
    place.mkdir()
    with pytest.raises(BenchError, match=r"here: none"):
        imported(place)
    with pytest.raises(BenchError, match="must be items_shuffle"):
        imported(tmp_path / "absent")
    for text, message in (
        ("{}", "no JSON list"),
        ("[{}", "not whole"),
        ("", "not whole"),
        ("[1] x", None),
        ("[nonsense]", "no JSON"),
    ):
        with pytest.raises(BenchError, match=message or "no product that can be used"):
            imported(write(place, text))
    (place / "items_shuffle_1000.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BenchError, match="cannot be read"):
        imported(place)
    write(place, [record()], name="items_shuffle.json")
    with pytest.raises(BenchError, match="name the file"):
        imported(place)
    write(place, [record()], attributes=[1])
    with pytest.raises(BenchError, match="no JSON object by product id"):
        imported(place / "items_shuffle_1000.json")
    assert not (tmp_path / "cache" / "webshop" / "official").exists()


@given(
    st.lists(st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.text())), max_size=8),
    st.integers(1, 9),
)
def test_lists_are_read_piece_by_piece(tmp_path_factory: pytest.TempPathFactory, values: list[Any], chunk: int) -> None:
    path = tmp_path_factory.mktemp("list") / "list.json"
    path.write_text(json.dumps(values, indent=chunk % 3 or None, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("envs.webshop.official.CHUNK", chunk)
        assert list(_records(path)) == values


def test_the_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    products, known, human = many()
    folder = write(place, [*products, {}], known, human)
    main(["data", "import", "webshop", str(folder)])
    out, err = capsys.readouterr()
    assert "30 products, 30 instructions by people, 60 synthetic ones" in out and "1 records left out" in out
    assert "record 30 (None): 'asin' is missing" in err
    for arguments, message in (
        (["webshop"], "data import webshop PATH"),
        (["wordle", str(folder)], "wordle has no public files"),
        (["lmrl", "wordle"], "data import lmrl ENV PATH"),
        (["webshp", str(folder)], "did you mean"),
    ):
        with pytest.raises(SystemExit):
            main(["data", "import", *arguments])
        assert message.lower() in capsys.readouterr().err.lower()


def test_an_official_shop_is_played_like_the_generated_one(place: Path) -> None:
    imported(write(place, *many()))
    for writing in ("original", "compact"):
        env = WebShop(catalogue="official", observation=writing, action=writing)
        for seed in (0, 1_000_000, 2_000_000):
            observation, _ = env.reset(seed=seed)
            assert "hat" in observation
        (found,) = [
            action for action in env.step("search[sun hat]")[4]["admissible"] if action in ("1\n", "click[b000000000]\n")
        ]
        assert "navy" in env.step(found)[0]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSFT_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        official_catalogue.cache_clear()
        found = import_files(SAMPLE)
        for human in (True, False):
            official_catalogue(human).search  # noqa: B018 - made while the cache is there
        yield found
        official_catalogue.cache_clear()


@needs_sample
def test_the_sample_has_the_originals_6910_synthetic_goals(sample: Imported) -> None:
    assert (sample.products, sample.synthetic, sample.skipped) == (1_000, 6_910, 0)
    shop: Catalogue = official_catalogue(False)
    assert len(shop.goals) == 6_910 and (shop.test, shop.validation) == (100, 1_400)
    goal = shop.goals[0]
    assert reward(shop.by_asin[goal.asin], goal.options, goal).total == 1.0
    assert len(official_catalogue(True).goals) == sample.human


@needs_sample
def test_a_product_of_the_sample_is_found_by_its_title(sample: Imported) -> None:
    shop = official_catalogue(False)
    found = [number == shop.search.top(product.title, 1)[0] for number, product in enumerate(shop.products[:200])]
    assert sum(found) > 190
