"""Feedback against the rule book, by hand and by property; the frozen word list."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.wordle.feedback import (
    PATTERNS,
    answers,
    feedback,
    feedback_matrix,
    read_answer,
    read_guess,
    write_answer,
    write_guess,
)
from envs.wordle.words import WORD_FILE, load_words, word_index, word_list
from qsft_bench.errors import BenchError

WORDS_OF_ANY_LETTERS = st.text(alphabet="abcd", min_size=5, max_size=5)  # few letters: many duplicates


@pytest.mark.parametrize(
    ("guess", "word", "official", "lmrl"),
    [
        ("hovel", "level", "bbggg", "bbggg"),
        ("sassy", "glass", "yybgb", "yyygb"),
        ("eerie", "there", "ybybg", "yyybg"),
        ("speed", "abide", "bbyby", "bbyyy"),
        ("speed", "steal", "gbgbb", "gbgyb"),
        ("speed", "crepe", "bygyb", "bygyb"),
        ("speed", "erase", "ybyyb", "ybyyb"),
        ("geese", "elude", "bybbg", "byybg"),
        ("crane", "crane", "ggggg", "ggggg"),
        ("fluff", "crane", "bbbbb", "bbbbb"),
    ],
)
def test_colours_worked_by_hand(guess: str, word: str, official: str, lmrl: str) -> None:
    assert feedback(guess, word, "official") == official
    assert feedback(guess, word, "lmrl") == lmrl


@given(WORDS_OF_ANY_LETTERS, WORDS_OF_ANY_LETTERS)
def test_official_answers_each_letter_of_the_word_once(guess: str, word: str) -> None:
    colours = feedback(guess, word, "official")
    answered = Counter(letter for letter, colour in zip(guess, colours, strict=True) if colour != "b")
    assert answered == Counter(guess) & Counter(word)
    assert [colour == "g" for colour in colours] == [a == b for a, b in zip(guess, word, strict=True)]


@given(WORDS_OF_ANY_LETTERS, WORDS_OF_ANY_LETTERS)
def test_lmrl_looks_at_each_letter_alone(guess: str, word: str) -> None:
    for letter, there, colour in zip(guess, word, feedback(guess, word, "lmrl"), strict=True):
        assert colour == ("g" if letter == there else "y" if letter in word else "b")


@pytest.mark.parametrize("rules", ["lmrl", "official"])
@pytest.mark.parametrize("observation", ["lmrl", "bound"])
def test_tables_agree_with_the_function(rules: Any, observation: Any) -> None:
    words, matrix, table = word_list(), feedback_matrix(rules), answers(rules, observation)
    assert matrix.shape == (400, 400)
    for guess, word in np.random.default_rng(0).integers(400, size=(500, 2)):
        colours = feedback(words[guess], words[word], rules)
        assert PATTERNS[matrix[guess, word]] == colours
        assert table[guess][word] == write_answer(words[guess], colours, observation)
    assert (np.diag(matrix) == PATTERNS.index("ggggg")).all()


def test_formats() -> None:
    assert write_answer("hovel", "bbygg", "lmrl") == "b b y g g\n"
    assert write_answer("hovel", "bbygg", "bound") == "1hb 2ob 3vy 4eg 5lg\n"
    assert re.findall(r"\w+", "1hb 2ob 3vy 4eg 5lg\n") == ["1hb", "2ob", "3vy", "4eg", "5lg"]
    assert write_guess("hovel", "word") == "hovel\n"
    assert write_guess("hovel", "lmrl") == "h o v e l\n"


@pytest.mark.parametrize("observation", ["lmrl", "bound"])
def test_every_answer_reads_back(observation: Any) -> None:
    for code, colours in enumerate(PATTERNS):
        assert read_answer(write_answer("hovel", colours, observation), observation) == code
    assert read_answer("\n", observation) is None
    assert read_answer("Wordle:\n", observation) is None


@pytest.mark.parametrize("text", ["about", "about\n", "a b o u t\n", " \t about \n\n", "ab out"])
def test_guess_is_read_as_lmrl_gym_reads_it(text: str) -> None:
    assert read_guess(text) == word_index()["about"] == 0


@pytest.mark.parametrize("text", ["", "\n", "ABOUT", "About\n", "abou", "aboutt", "a\nbout", "zzzzz", None, 0, ["about"]])
def test_no_guess(text: object) -> None:
    assert read_guess(text) is None


def test_word_list_is_sorted_and_plain() -> None:
    words = word_list()
    assert len(words) == len(set(words)) == 400
    assert list(words) == sorted(words)
    assert all(re.fullmatch("[a-z]{5}", word) for word in words)


def test_altered_word_list_is_refused(tmp_path: Path) -> None:
    altered = tmp_path / "words.txt"
    altered.write_bytes(WORD_FILE.read_bytes() + b"zzzzz\n")
    with pytest.raises(BenchError, match=r"SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}"):
        load_words(altered)
