"""Twenty Questions by LMRL-Gym's rules (Abdulhai et al. 2023): -1 a question, 0 for the one that names the hidden object."""

from __future__ import annotations

import re
import string
from functools import lru_cache
from typing import Any, Literal, get_args

import gymnasium
from gymnasium import spaces

from envs.twenty_questions.knowledge import knowledge
from envs.twenty_questions.language import LONGEST, Question, understand
from envs.twenty_questions.oracle import shared_oracle
from qsft_bench.errors import BenchError, did_you_mean

QUESTIONS = 20
OPENING = "Questions:\n"

ObservationFormat = Literal["lmrl", "bound"]
ActionFormat = Literal["sentence", "word"]
Oracle = Literal["embedded", "llm"]


class TwentyQuestions(gymnasium.Env[str, str]):
    """One game; the observation is the answer.

    A question that is not understood is answered with no, and `info["matched"]` says whether it was; a text that is no
    question at all costs one too, and `info["invalid"]` says why. At the end `info["statistics"]["matched"]` is the share of
    the questions that were understood. Naming the object ends the game, by any of its names. The twenty questions are the
    game's own rule, so running out of them terminates the episode and never truncates it.

    Args:
        observation: `lmrl` answers `Yes.` or `No.`; `bound` binds the answer to what it answers in one word, `animal_yes`.
        action: how the players ask: `sentence` (`Is it an animal?`) or `word` (`animal`). Either way is understood.
        oracle: who answers. `embedded` looks it up in the knowledge base; `llm` asks the language model that environment
            variables name (`qsft_bench.llm`), except about guesses and about what is no question.
        privileged: put the hidden object into `info["object"]`.

    Raises:
        BenchError: an option has no such value, or no language model is named for `llm`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "sentence",
        oracle: Oracle = "embedded",
        privileged: bool = False,
    ) -> None:
        check_options(observation, action, oracle)
        self._bound = observation == "bound"
        self._privileged = privileged
        self._things = knowledge().things
        self._sentences = {attribute.key: attribute.question for attribute in knowledge().attributes}
        self._model = shared_oracle() if oracle == "llm" else None
        self._hidden = 0
        self._playing = False
        self._asked = 0
        self._matched = 0
        self.observation_space = spaces.Text(64, charset=string.ascii_letters + "._: \n")
        self.action_space = spaces.Text(LONGEST, charset=string.ascii_letters + string.digits + " ,.?'_-\n")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Hide an object drawn from `self.np_random`, or the one whose key is `options["object"]`.

        Raises:
            BenchError: `options["object"]` is not one of the objects.
        """
        super().reset(seed=seed)
        self._hidden = int(self.np_random.integers(len(self._things)))
        if options and "object" in options:
            keys = [thing.key for thing in self._things]
            if options["object"] not in keys:
                raise BenchError(
                    f"twenty_questions: {options['object']!r} cannot be hidden{did_you_mean(str(options['object']), keys)}"
                )
            self._hidden = keys.index(options["object"])
        self._playing = True
        self._asked = self._matched = 0
        return OPENING, self._facts()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Ask.

        Raises:
            gymnasium.error.ResetNeeded: the game is over or never began.
            BenchError: the model of `oracle="llm"` cannot be reached, or its budget is spent.
        """
        if not self._playing:
            raise gymnasium.error.ResetNeeded("twenty_questions: the game is over; call reset()")
        info = self._facts()
        if isinstance(action, str):
            question = understand(action)
        else:
            question = Question(matched=False, invalid=f"{type(action).__name__} is not text")
        if question.invalid is not None:
            info["invalid"] = question.invalid
        if self._model is None or question.guess is not None or question.invalid is not None:
            yes, matched = bool(question.yes >> self._hidden & 1), question.matched
        else:
            asked = self._sentences.get(action.strip(), action)
            yes, matched = self._model.answer(self._things[self._hidden].spoken, asked), True
        info["matched"] = matched
        self._asked += 1
        self._matched += matched
        right = question.guess == self._hidden
        over = right or self._asked == QUESTIONS
        if over:
            self._playing = False
            info["success"] = right
            info["statistics"] = {"matched": self._matched / self._asked}
        return write_answer(yes, question.key if self._bound else None), 0.0 if right else -1.0, over, False, info

    def _facts(self) -> dict[str, Any]:
        return {"object": self._things[self._hidden].key} if self._privileged else {}


def check_options(observation: str, action: str, oracle: str = "embedded") -> None:
    """Refuse what the game does not offer.

    Raises:
        BenchError: naming the option and its values.
    """
    options = (("observation", observation, ObservationFormat), ("action", action, ActionFormat), ("oracle", oracle, Oracle))
    for name, value, kind in options:
        if value not in get_args(kind):
            raise BenchError(f"twenty_questions: {name}={value!r} does not exist{did_you_mean(str(value), get_args(kind))}")


def write_answer(yes: bool, key: str | None) -> str:
    """`Yes.`, or where `key` says what was asked (empty: nothing that has a word of its own) `animal_yes` or `yes`."""
    if key is None:
        return "Yes.\n" if yes else "No.\n"
    return f"{key}_{'yes' if yes else 'no'}\n".removeprefix("_")


@lru_cache(maxsize=2**12)
def read_answer(answer: str) -> bool | None:
    """Whether `answer` means yes, however a person or `write_answer` says it, or None where it says neither."""
    word = re.sub(r"[^a-z]+", " ", answer.lower()).split()[-1:]
    if word in (["yes"], ["y"], ["yeah"], ["yep"], ["true"]):
        return True
    if word in (["no"], ["n"], ["nope"], ["false"]):
        return False
    return None
