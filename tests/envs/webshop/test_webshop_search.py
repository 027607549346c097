"""Lucene's BM25: its words, its one-byte lengths, its scores worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.webshop.search import K1, LONGEST_QUERY, STOP_WORDS, B, Search, stored_length, words
from qsft_bench.errors import BenchError


def test_words_are_lucenes() -> None:
    text = "The Men's Running-Shoes, 3.5 oz; U.S.A. don't 1,000 ml foo_bar café"
    assert words(text) == ["men", "run", "shoe", "3.5", "oz", "u.s.a", "don't", "1,000", "ml", "foo_bar", "café"]
    assert words("") == words("The of AND") == [] and len(STOP_WORDS) == 33
    assert words("caresses ponies relational") == ["caress", "poni", "relat"]  # Porter's own examples


@pytest.mark.parametrize(
    ("length", "stored"),
    # Below 40 exact; then 24 + what fits into four significant bits: 41 - 24 = 17 = 10001b -> 10000b = 16.
    [(0, 0), (1, 1), (39, 39), (40, 40), (41, 40), (42, 42), (55, 54), (56, 56), (59, 56), (60, 60), (100, 96), (1000, 984)],
)
def test_lengths_are_kept_in_one_byte(length: int, stored: int) -> None:
    assert stored_length(length) == stored


@given(st.integers(0, 10**6))
def test_stored_lengths_lose_less_than_an_eighth(length: int) -> None:
    assert 0 <= length - stored_length(length) <= length / 8
    assert stored_length(stored_length(length)) == stored_length(length)


def test_scores_by_hand() -> None:
    documents = ["red hat", "red red scarf wool", "blue coat " + "padding " * 40]
    found = Search.over(documents, "scores by hand")
    lengths, average = [2, 4, stored_length(42)], (2 + 4 + 42) / 3  # the average is of true lengths

    def part(tf: int, df: int, document: int) -> float:
        idf = math.log(1 + (3 - df + 0.5) / (df + 0.5))
        return idf * tf / (tf + K1 * (1 - B + B * lengths[document] / average))

    expected = [part(1, 2, 0) + part(1, 1, 0), part(2, 2, 1), 0.0]
    assert found.scores("the red hats").tolist() == pytest.approx(expected, rel=1e-6)
    assert found.scores("coats")[2] == pytest.approx(part(1, 1, 2), rel=1e-6)
    assert found.scores("hat hat")[0] == pytest.approx(2 * part(1, 1, 0), rel=1e-6)  # said twice counts twice
    assert found.top("the red hats", 10) == (0, 1)
    assert found.top("nothing of this", 10) == found.top("", 10) == ()


def test_equal_scores_keep_the_order_of_the_catalogue() -> None:
    found = Search.over(["same text"] * 30 + ["same text twice text"], "ties")
    assert found.top("text", 5) == (30, 0, 1, 2, 3)
    assert found.top("text", 100) == (30, *range(30))


@given(st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=12), st.data())
def test_top_is_what_sorting_gives(documents: list[str], data: st.DataObject) -> None:
    found = Search.over([text.replace("a", "q") for text in documents], repr(documents))
    query = data.draw(st.sampled_from(["q", "b c", "q d e", "z"]))
    scores = found.scores(query)
    order = [k for k in np.lexsort((np.arange(len(scores)), -scores)) if scores[k] > 0]
    for count in (1, 3, 50):
        assert list(found.top(query, count)) == order[:count]


def test_an_index_is_made_once_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSFT_BENCH_CACHE", str(tmp_path))
    Search.over(["red hat"], "kept")
    again = Search.over(iter(lambda: pytest.fail("read the documents again"), None), "kept")
    assert again.top("hat", 1) == (0,)
    (folder,) = (tmp_path / "webshop").iterdir()
    (folder / "indptr.csc.index.npy").write_bytes(b"broken")
    with pytest.raises(BenchError, match="delete that folder"):
        Search.over(["red hat"], "kept")


def test_a_megabyte_is_read_up_to_its_limit() -> None:
    found = Search.over(["red hat", "blue coat"], "megabyte")
    assert found.top("red " * 250_000, 5) == (0,)
    assert found.top("x " * LONGEST_QUERY + "coat", 5) == ()
