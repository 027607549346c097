"""What the game answers to a guess, and how guesses and answers are written.

```
guess     hovel    written   hovel (action="word")                     or   h o v e l (action="lmrl")
word      level
colours   bbggg    written   1hb 2ob 3vg 4eg 5lg (observation="bound") or   b b g g g (observation="lmrl")
```
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.wordle.words import word_index, word_list
from qsft_bench.errors import BenchError, did_you_mean

Rules = Literal["lmrl", "official"]
ObservationFormat = Literal["lmrl", "bound"]
ActionFormat = Literal["lmrl", "word"]

LENGTH = 5
PATTERNS = tuple("".join(colours) for colours in itertools.product("byg", repeat=LENGTH))
"""Colours by code: b absent, y present elsewhere, g right place."""
CODES = {colours: code for code, colours in enumerate(PATTERNS)}
NOTHING_SAID = "\n"
"""The answer to a string that is not a word of the list."""


def check_options(rules: str, observation: str, action: str) -> None:
    """Refuse what the game does not offer.

    Raises:
        BenchError: naming the option and its values.
    """
    options = (("rules", rules, Rules), ("observation", observation, ObservationFormat), ("action", action, ActionFormat))
    for name, value, kind in options:
        if value not in get_args(kind):
            raise BenchError(f"wordle: {name}={value!r} does not exist{did_you_mean(str(value), get_args(kind))}")


def feedback(guess: str, word: str, rules: Rules = "lmrl") -> str:
    """The colours of `guess` when `word` is hidden, e.g. `bbggg`.

    `official` answers each letter of the word at most once: green first, then yellow from the left. `lmrl` (LMRL-Gym)
    does not count: a letter that is anywhere in the word is never black.
    """
    unanswered = [there for letter, there in zip(guess, word, strict=True) if letter != there]
    colours = ""
    for letter, there in zip(guess, word, strict=True):
        if letter == there:
            colours += "g"
        elif rules == "lmrl":
            colours += "y" if letter in word else "b"
        elif letter in unanswered:
            unanswered.remove(letter)
            colours += "y"
        else:
            colours += "b"
    return colours


@lru_cache
def feedback_matrix(rules: Rules) -> NDArray[np.uint8]:
    """Code of the feedback for every guess (row) and hidden word (column), shape (N, N)."""
    words = word_list()
    return np.array([[CODES[feedback(guess, word, rules)] for word in words] for guess in words], dtype=np.uint8)


@lru_cache
def answers(rules: Rules, observation: ObservationFormat) -> tuple[tuple[str, ...], ...]:
    """The text answering every guess (row) for every hidden word (column)."""
    table = []
    for guess, codes in zip(word_list(), feedback_matrix(rules).tolist(), strict=True):
        texts = {code: write_answer(guess, PATTERNS[code], observation) for code in set(codes)}
        table.append(tuple(texts[code] for code in codes))
    return tuple(table)


def write_answer(guess: str, colours: str, observation: ObservationFormat) -> str:
    """`b b g g g`, or `1hb 2ob 3vg 4eg 5lg`, which a word tokenizer keeps as five words that say it all; and a newline."""
    if observation == "lmrl":
        return " ".join(colours) + "\n"
    bound = zip(range(1, LENGTH + 1), guess, colours, strict=True)
    return " ".join(f"{place}{letter}{colour}" for place, letter, colour in bound) + "\n"


def read_answer(answer: str, observation: ObservationFormat) -> int | None:
    """The code that `write_answer` wrote into `answer`, or None where it tells nothing."""
    return CODES.get(answer[::2][:LENGTH] if observation == "lmrl" else answer[2::4])


def write_guess(word: str, action: ActionFormat) -> str:
    """`hovel` or `h o v e l`, and a newline."""
    return (word if action == "word" else " ".join(word)) + "\n"


def read_guess(action: object) -> int | None:
    """Index of the word that `action` says, or None; spaces do not count, as in LMRL-Gym, so both formats are understood."""
    return word_index().get(action.strip().replace(" ", "")) if isinstance(action, str) else None
