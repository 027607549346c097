"""Wordle by LMRL-Gym's rules (Abdulhai et al. 2023): six tries at a hidden five-letter word, -1 for each that is not it."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
from gymnasium import spaces

from envs.wordle.feedback import (
    NOTHING_SAID,
    ActionFormat,
    ObservationFormat,
    Rules,
    answers,
    check_options,
    read_guess,
    write_answer,
    write_guess,
)
from envs.wordle.words import word_index, word_list
from qsft_bench.errors import BenchError

TRIES = 6
OPENING = "Wordle:\n"
NOT_A_WORD = "not a word of the list"


class Wordle(gymnasium.Env[str, str]):
    """One game; the observation is what is new this turn.

    A string that is not a word of the list costs a try and is answered with an empty line; `info["invalid"]` says why.
    The six tries are the game's own rule, so running out of them terminates the episode and never truncates it.

    Args:
        rules: `lmrl` or `official` (duplicate letters are counted); see `feedback`.
        observation: how colours are told; `bound` binds place, letter and colour into one word for each letter.
        action: how a guess is written. Either way is understood; this sets the action space.
        privileged: put the hidden word into `info["word"]`.

    Raises:
        BenchError: an option has no such value, or the word list was altered.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        rules: Rules = "lmrl",
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "lmrl",
        privileged: bool = False,
    ) -> None:
        check_options(rules, observation, action)
        self._answers = answers(rules, observation)
        self._privileged = privileged
        self._word = 0
        self._tries = 0
        longest_answer = len(write_answer("a" * 5, "b" * 5, observation))
        charset = string.ascii_letters + string.digits + ": \n"
        self.observation_space = spaces.Text(max(longest_answer, len(OPENING)), charset=charset)
        self.action_space = spaces.Text(len(write_guess("a" * 5, action)), charset=string.ascii_lowercase + " \n")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Hide a word drawn from `self.np_random`, or `options["word"]`.

        Raises:
            BenchError: `options["word"]` is not a word of the list.
        """
        super().reset(seed=seed)
        self._word = int(self.np_random.integers(len(self._answers)))
        if options and "word" in options:
            if options["word"] not in word_index():
                raise BenchError(f"wordle: {options['word']!r} cannot be hidden: {NOT_A_WORD}")
            self._word = word_index()[options["word"]]
        self._tries = TRIES
        return OPENING, self._facts()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Guess.

        Raises:
            gymnasium.error.ResetNeeded: the game is over or never began.
        """
        if self._tries == 0:
            raise gymnasium.error.ResetNeeded("wordle: the game is over; call reset()")
        self._tries -= 1
        info = self._facts()
        guess = read_guess(action)
        if guess is None:
            answer = NOTHING_SAID
            info["invalid"] = NOT_A_WORD if isinstance(action, str) else f"{type(action).__name__} is not text"
        else:
            answer = self._answers[guess][self._word]
        right = guess == self._word
        if right:
            self._tries = 0
        over = self._tries == 0
        if over:
            info["success"] = right
        return answer, 0.0 if right else -1.0, over, False, info

    def _facts(self) -> dict[str, Any]:
        return {"word": word_list()[self._word]} if self._privileged else {}
