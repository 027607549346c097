"""The players that collect Wordle's data, and those whose scores make results on it readable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.wordle.env import TRIES
from envs.wordle.feedback import (
    PATTERNS,
    ActionFormat,
    ObservationFormat,
    Rules,
    check_options,
    feedback_matrix,
    read_answer,
    read_guess,
    write_guess,
)
from envs.wordle.words import word_list
from qsft_bench.agent import KnownPolicy, tempered
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError


class Player(KnownPolicy):
    """A known distribution over the words of the list, given what the transcript tells.

    Everything is worked out anew from the transcript, which at six turns is cheaper than a cache: nothing to forget, and
    an answer cannot depend on what was asked before.

    Args:
        rules, observation, action: the environment's options.
    """

    def __init__(self, rules: Rules = "lmrl", observation: ObservationFormat = "lmrl", action: ActionFormat = "lmrl") -> None:
        check_options(rules, observation, action)
        self.rules = rules
        self.observation = observation
        self._matrix = feedback_matrix(rules)
        self.actions = [write_guess(word, action) for word in word_list()]

    def knowledge(self, episodes: Sequence[Episode]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """What the transcripts tell.

        Returns:
            Words consistent with all feedback, shape (episodes, N), which is every word where feedback contradicts itself;
            and the index of the latest valid guess, or -1, shape (episodes,).
        """
        told = np.full((2, TRIES, len(episodes)), -1)  # guess and feedback code by turn; -1: nothing told
        latest = np.full(len(episodes), -1)
        for column, episode in enumerate(episodes):
            turns = episode.turns
            for turn in range(episode.length):
                guess = read_guess(turns[turn].action)
                code = read_answer(str(turns[turn + 1].observation), self.observation)
                if guess is not None and code is not None:
                    told[:, turn, column] = guess, code
                    latest[column] = guess
        candidates = np.ones((len(episodes), len(self.actions)), dtype=bool)
        for guesses, codes in zip(*told, strict=True):
            if (guesses >= 0).any():
                candidates &= (self._matrix[guesses] == codes[:, None]) | (guesses < 0)[:, None]
        candidates[~candidates.any(axis=1)] = True
        return candidates, latest


class Mixture(Player):
    """The paper's data: now a word consistent with all feedback, now any word of the list; optionally a bad habit.

    ```
    pi(a) = consistent * [a is consistent] / (number of consistent words) + habit * [a is next] + (1 - consistent - habit) / N
    ```

    where `next` is the word after the latest guess in alphabetical order, round to the first, which is also where a game
    begins: a poor move of low entropy, so that the mode of the data is a poor player. Acting draws from pi^(1/temperature).
    By default neither is mixed in, which is uniformly random play.

    Args:
        consistent: probability of a uniformly drawn consistent word.
        habit: probability of the habit.
        temperature: below 1 sharpens the exact behaviour; 0 is its mode, ties drawn uniformly among the maximisers.

    Raises:
        BenchError: `consistent` and `habit` are not probabilities of separate events, or `temperature` is negative.
    """

    def __init__(
        self,
        rules: Rules = "lmrl",
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "lmrl",
        *,
        consistent: float = 0.0,
        habit: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(rules, observation, action)
        if min(consistent, habit) < 0 or consistent + habit > 1:
            raise BenchError(f"wordle: consistent={consistent} and habit={habit} must be >= 0 and add up to at most 1")
        if temperature < 0:
            raise BenchError(f"wordle: temperature={temperature} must be >= 0")
        self.consistent = consistent
        self.habit = habit
        self.temperature = temperature

    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        candidates, latest = self.knowledge(episodes)
        count, size = candidates.shape
        weights: NDArray[np.float64] = candidates * (self.consistent / candidates.sum(axis=1, keepdims=True))
        weights += max(0.0, 1 - self.consistent - self.habit) / size  # the difference may round below 0
        weights[np.arange(count), (latest + 1) % size] += self.habit
        return tempered(weights, self.temperature)


class Entropy(Player):
    """The ceiling, as far as a standard solver reaches: the guess whose feedback tells most about the word, in bits.

    Among equals a word that may be the hidden one goes first, then the alphabet; the last try is such a word in any case.
    """

    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        candidates, _ = self.knowledge(episodes)
        chosen = np.zeros(candidates.shape)
        for row, episode in enumerate(episodes):
            last = episode.length >= TRIES - 1
            chosen[row, most_informative(np.packbits(candidates[row]).tobytes(), self.rules, last)] = 1
        return chosen


@lru_cache(maxsize=2**16)
def most_informative(candidates: bytes, rules: Rules, only_candidates: bool) -> int:
    """Index of the guess that maximises the entropy of the feedback when the hidden word is uniform over `candidates`.

    Args:
        candidates: packed bits over the word list (`np.packbits`).
        only_candidates: whether the guess must itself be one of them.
    """
    matrix = feedback_matrix(rules)
    size = len(matrix)
    allowed = np.unpackbits(np.frombuffer(candidates, dtype=np.uint8), count=size).astype(bool)
    cells = matrix[:, allowed] + len(PATTERNS) * np.arange(size)[:, None]
    counts = np.bincount(cells.ravel(), minlength=size * len(PATTERNS)).reshape(size, len(PATTERNS))
    shares = counts / allowed.sum()
    entropy = -(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=1)
    if only_candidates:
        entropy[~allowed] = -1
    best = np.isclose(entropy, entropy.max(), rtol=0, atol=1e-9)
    return int(np.flatnonzero(best & allowed if (best & allowed).any() else best)[0])
