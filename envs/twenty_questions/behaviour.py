"""The players that collect the data of Twenty Questions, and those whose scores make results on it readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.twenty_questions.env import QUESTIONS, ActionFormat, ObservationFormat, Oracle, check_options, read_answer
from envs.twenty_questions.knowledge import Attribute, knowledge
from envs.twenty_questions.language import understand
from qsft_bench.agent import KnownPolicy, tempered
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError

COMMON = 8  # players ask of an attribute only if it is true of at least so many objects: narrower than that, they guess
GUESS_AT = 3  # from so few objects on, to name one is worth at least as much as any other question


@dataclass(slots=True)
class Told:
    """What the first `turns` turns of an episode tell.

    Attributes:
        left: the set of objects for which every answer is the one given.
        latest: index of the latest question among the player's own, or -1.
        asked: the indices of all of those, as bits.
    """

    episode: Episode
    turns: int
    left: int
    latest: int
    asked: int


class Player(KnownPolicy):
    """A known distribution over canonical questions and guesses, given what the transcript tells.

    Questions in any words and answers in any format are understood, a person's included; those that say nothing are passed
    over. Episodes only grow, so what their earlier turns told is kept until they end.

    Args:
        observation, action, oracle: the environment's options; transcripts are read in every format.
    """

    def __init__(
        self, observation: ObservationFormat = "lmrl", action: ActionFormat = "sentence", oracle: Oracle = "embedded"
    ) -> None:
        check_options(observation, action, oracle)
        things, attributes = knowledge().things, common_attributes()
        words = [attribute.key for attribute in attributes] + [thing.key for thing in things]
        sentences = [attribute.question for attribute in attributes] + [f"Is it {thing.spoken}?" for thing in things]
        self.actions = [f"{text}\n" for text in (words if action == "word" else sentences)]
        self._everything = knowledge().everything
        self._index_of_key = {key: index for index, key in enumerate(words)}
        self._told: dict[int, Told] = {}  # by identity of the episode, which it keeps alive

    def candidates(self, episode: Episode) -> int:
        """The set of objects for which every answer is the one given; all of them where no object is left."""
        return self._read(episode).left or self._everything

    def latest(self, episode: Episode) -> int:
        """Index of the latest action that is one of the player's own, or -1."""
        return self._read(episode).latest

    def asked(self, episode: Episode) -> int:
        """Indices of the player's own actions that were taken, as bits."""
        return self._read(episode).asked

    def forget(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            self._told.pop(id(episode), None)

    def _read(self, episode: Episode) -> Told:
        told = self._told.get(id(episode))
        if told is None:
            told = self._told[id(episode)] = Told(episode, 0, self._everything, -1, 0)
        turns = episode.turns
        while told.turns < episode.length:
            action = turns[told.turns].action
            told.turns += 1
            if isinstance(action, str):
                question = understand(action)
                index = self._index_of_key.get(question.key)
                if index is not None:
                    told.latest = index
                    told.asked |= 1 << index
                answer = read_answer(str(turns[told.turns].observation))
                if question.matched and answer is not None:
                    told.left &= question.yes if answer else ~question.yes
        return told


class Mixture(Player):
    """The data: now a question that tells something, now any; optionally a bad habit.

    ```
    pi(a) = informed * [a is informative] / (number of those) + habit * [a is next] + (1 - informed - habit) / (all actions)
    ```

    With more than three objects left a question is informative if it is about an attribute that some of them have and some
    have not; with three or fewer, if it names one of them. `next` is what follows the latest question in the list of all
    questions, round to the first, which is also where a game begins: a poor move of low entropy, so that the mode of the data
    is a poor player. Acting draws from pi^(1/temperature). By default neither is mixed in, which is uniformly random play.

    Args:
        informed: probability of a uniformly drawn informative question.
        habit: probability of the habit.
        temperature: below 1 sharpens the exact behaviour; 0 is its mode, ties drawn uniformly among the maximisers.

    Raises:
        BenchError: `informed` and `habit` are not probabilities of separate events, or `temperature` is negative.
    """

    def __init__(
        self,
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "sentence",
        oracle: Oracle = "embedded",
        *,
        informed: float = 0.0,
        habit: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(observation, action, oracle)
        if min(informed, habit) < 0 or informed + habit > 1:
            raise BenchError(f"twenty_questions: informed={informed} and habit={habit} must be >= 0 and add up to at most 1")
        if temperature < 0:
            raise BenchError(f"twenty_questions: temperature={temperature} must be >= 0")
        self.informed = informed
        self.habit = habit
        self.temperature = temperature

    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        size = len(self.actions)
        weights = np.full((len(episodes), size), max(0.0, 1 - self.informed - self.habit) / size)  # may round below 0
        if self.informed:
            weights += self.informed * informative(tuple(self.candidates(episode) for episode in episodes))
        if self.habit:
            following = [(self.latest(episode) + 1) % size for episode in episodes]
            weights[np.arange(len(episodes)), following] += self.habit
        return tempered(weights, self.temperature)


class Solver(Player):
    """The ceiling, as far as greedy search reaches: the question that splits the objects left most evenly, then guesses.

    It asks nothing twice while there is anything else to ask, so that an answer it could not read does not hold it up.
    """

    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        chosen = np.zeros((len(episodes), len(self.actions)))
        for row, episode in enumerate(episodes):
            last = episode.length >= QUESTIONS - 1
            chosen[row, best_question(self.candidates(episode), self.asked(episode), last)] = 1
        return chosen


@lru_cache(maxsize=1)
def common_attributes() -> tuple[Attribute, ...]:
    """The attributes that players ask of, in the order of the file."""
    return tuple(a for a in knowledge().attributes if COMMON <= a.true.bit_count() <= len(knowledge().things) - COMMON)


@lru_cache(maxsize=1)
def truth() -> NDArray[np.float32]:
    """Whether each common attribute is true of each object, shape (objects, attributes)."""
    count = len(knowledge().things)
    return np.array([[a.true >> i & 1 for a in common_attributes()] for i in range(count)], dtype=np.float32)


def members(sets: Sequence[int]) -> NDArray[np.float32]:
    """The sets' members as zeros and ones, shape (sets, objects)."""
    count = len(knowledge().things)
    width = -(-count // 8)
    packed = np.frombuffer(b"".join(one.to_bytes(width, "little") for one in sets), dtype=np.uint8).reshape(len(sets), width)
    return np.unpackbits(packed, axis=1, count=count, bitorder="little").astype(np.float32)


@lru_cache(maxsize=1)
def informative(sets: tuple[int, ...]) -> NDArray[np.float64]:
    """For each set of objects left, the uniform distribution over informative questions (see `Mixture`), (sets, actions).

    The latest answer is kept, as a rollout asks twice in a row: for the actions and for their likelihood.
    """
    left = members(sets)
    size = left.sum(axis=1, keepdims=True)
    yes = left @ truth()
    open_questions = (yes > 0) & (yes < size)
    few = (size <= GUESS_AT) | ~open_questions.any(axis=1, keepdims=True)
    chosen = np.concatenate([open_questions & ~few, (left > 0) & few], axis=1)
    return chosen / chosen.sum(axis=1, keepdims=True)


@lru_cache(maxsize=2**16)
def best_question(candidates: int, asked: int = 0, last: bool = False) -> int:
    """Index of the solver's action. Equals: the first.

    Args:
        candidates: the objects left.
        asked: bits of the actions taken before, which are avoided.
        last: whether no question follows.
    """
    left = members([candidates])[0]
    count = truth().shape[1]
    new = np.array([not asked >> index & 1 for index in range(count + len(left))])
    guesses = left * (1 + new[count:])
    yes = left @ truth()
    rarer = np.minimum(yes, left.sum() - yes) * new[:count]
    if last or candidates.bit_count() <= GUESS_AT or not rarer.any():
        return count + int(guesses.argmax())
    return int(rarer.argmax())
