"""Codecs: texts by hand, and properties of any text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.codec import BOS, DUMMY, PAD, SPECIAL, UNKNOWN, TextCodec, codec_from_config
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from tests.examples import codec_of, finished_episodes

LEVELS = st.sampled_from(["words", "characters"])


@given(LEVELS, st.text(max_size=60))
def test_pieces_joined_give_the_text_back(level: str, text: str) -> None:
    assert "".join(TextCodec.pieces(level, text)) == text


@given(LEVELS, st.lists(st.text(max_size=30), min_size=1, max_size=5).filter(any))
def test_text_in_the_vocabulary_survives_the_round_trip(level: str, texts: list[str]) -> None:
    codec = TextCodec.learn(level, dict.fromkeys(texts, 1), texts)
    for text in texts:
        assert codec.decode(codec.observation(text)) == text
        assert UNKNOWN not in codec.observation(text)
        assert codec.action(text) == (codec.observation(text) or (UNKNOWN,))
        assert len(codec.action(text)) <= codec.action_limit


@given(LEVELS, st.lists(finished_episodes(), min_size=1, max_size=2), st.text(max_size=20))
def test_codec_configuration_round_trip(level: str, episodes: list[Episode], text: str) -> None:
    codec = codec_of(level, episodes)
    again = codec_from_config(codec.config())
    assert again.sha256 == codec.sha256
    assert (again.size, again.outputs, again.action_limit) == (codec.size, codec.outputs, codec.action_limit)
    assert again.observation(text) == codec.observation(text)
    assert (again.ends == codec.ends).all()


def test_words_by_hand() -> None:
    codec = TextCodec.learn("words", {"Wordle:\n": 3, " 1hb 2ob\n": 1, "hovel\n": 5}, ["hovel\n"])
    assert codec.vocabulary == ("hovel\n", " 1hb", " 2ob\n", ":\n", "Wordle")  # the one of actions first
    first = len(SPECIAL)
    assert codec.action("hovel\n") == (first,)
    assert codec.observation("Wordle:\n") == (first + 4, first + 3)
    assert codec.observation(" 1hb 9zz\n") == (first + 1, UNKNOWN)
    assert codec.action("never seen\n") == (UNKNOWN,)  # cut at the limit of one token
    assert codec.action("Wordle:\n") == (UNKNOWN,)  # known, but nothing that an action is made of
    assert (codec.size, codec.outputs, codec.action_limit) == (first + 5, first + 1, 1)
    assert codec.ends.tolist() == [False] * first + [True]
    assert codec.decode([first, UNKNOWN]) == "hovel\n\ufffd"


@given(LEVELS, finished_episodes())
def test_special_ids_are_never_playable_nor_written_by_an_environment(level: str, one: Episode) -> None:
    codec = codec_of(level, [one])
    assert not codec.playable[: len(SPECIAL)].any()
    assert codec.playable[len(SPECIAL) :].all()
    assert not codec.ends[: len(SPECIAL)].any()
    written = {k for turn in one.turns for k in codec.observation(turn.observation)}
    assert not written & {PAD, BOS, DUMMY}
    assert all(codec.ends[codec.action(turn.action)[-1]] for turn in one.turns if turn.action is not None)


def test_the_limit_keeps_the_most_frequent_pieces() -> None:
    codec = TextCodec.learn("characters", {"aaa": 2, "b": 3, "cc": 1, "d": 1}, ["a"], limit=len(SPECIAL) + 2)
    assert codec.vocabulary == ("a", "b")
    assert codec.observation("abc") == (len(SPECIAL), len(SPECIAL) + 1, UNKNOWN)


def test_an_empty_action_is_still_one_token() -> None:
    codec = TextCodec.learn("words", {"go\n": 1}, [""])
    assert codec.action_limit == 1
    assert codec.action("") == (UNKNOWN,)
    assert TextCodec.learn("words", {"go\n": 1}, []).action_limit == 1


def test_what_a_codec_refuses() -> None:
    codec = TextCodec.learn("words", {"go\n": 1}, ["go\n"])
    with pytest.raises(BenchError, match="unknown codec 'syllables'; known: words, characters"):
        TextCodec.learn("syllables", {"a": 1}, ["a"])
    with pytest.raises(BenchError, match="no text to learn a vocabulary from"):
        TextCodec.learn("words", {"": 4}, [""])
    with pytest.raises(BenchError, match="takes text, not ndarray"):
        codec.observation(np.zeros(3))
    with pytest.raises(BenchError, match="takes text, not ndarray"):
        codec.action(np.zeros(3))
    with pytest.raises(BenchError, match="unknown codec 'image'"):
        codec_from_config({"codec": "image"})
    with pytest.raises(BenchError, match="another version"):
        codec_from_config({**codec.config(), "special": ["<pad>"]})


def test_return_tokens() -> None:
    first = SPECIAL.index("<return 0>")
    codec = TextCodec("words", ["one"], 1, 1)
    assert codec.return_token(np.array([-1, 0, 0.049, 0.05, 0.999, 1, 7])).tolist() == [
        first + k for k in (0, 0, 0, 1, 19, 19, 19)
    ]
