"""ReAct (Yao et al. 2023, "ReAct: Synergizing Reasoning and Acting in Language Models"): a prompted model that thinks aloud.

Every turn the model reads the environment's rules with worked episodes (`EnvSpec.prompt`), then its own episode so far:

```
Observation: what the environment said
Thought: what the model made of it
Action: what it did
Observation: ...
Thought:                                          and here it goes on
```

Nothing is learned. Thoughts go back to the model and nowhere else; the environment gets the text after the last `Action:`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any, ClassVar

from qsft_bench import llm
from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.spec import EnvSpec

MAX_TOKENS = 256  # of a thought and an action together
HISTORY = 6000  # characters of the episode that the model reads; the oldest turns drop out first
FORMATS = frozenset({"observation", "action", "obs"})  # options that choose how texts are written, and images beside them
STOP = "\nObservation:"  # what follows is the environment's to say
ACTION = re.compile(r"^[ \t]*Action:[ \t]*(\S.*)$", re.MULTILINE)
TASK = """\
{rules}

Now it is your turn. Each time, write one line that begins with "Thought:" and then one line that begins with "Action:".

{episode}
Thought:"""


class React(Agent):
    """Asks a language model, at temperature 0, so that equal episodes get equal actions.

    A text without a line `Action: ...` acts with the empty string, which the environment answers by its own rules.

    Args:
        spec: the environment, for its rules; it must speak and be spoken to in text.
        model: who is asked.

    Raises:
        BenchError: the environment's prompt is missing.
    """

    summary: ClassVar[str] = "a prompted language model that thinks before it acts (Yao et al. 2023)"
    apart: ClassVar[bool] = False  # limits on what it spends hold for a process, and it asks for several at once as it is

    def __init__(self, spec: EnvSpec, model: llm.LanguageModel) -> None:
        self.model = model
        self.rules = read_rules(spec)
        self._follows_on = spec.state == "transcript"
        self._thoughts: dict[tuple[str, int], dict[int, str]] = {}  # of an episode, by turn

    @classmethod
    def create(cls, spec: EnvSpec, tier: str, options: dict[str, Any]) -> React:
        """A player with the model that the environment variables name (`qsft_bench.llm`).

        Raises:
            BenchError: they name none.
        """
        return cls(spec, llm.language_model())

    @classmethod
    def unavailable(cls) -> str:
        return llm.unavailable()

    @classmethod
    def env_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """`options` without those that choose how texts are written, and images: it reads the environment's own text."""
        return {name: value for name, value in options.items() if name not in FORMATS}

    @property
    def identity(self) -> dict[str, Any]:
        """What its actions depend on; JSON, without secrets."""
        prompt = hashlib.sha256((TASK + self.rules).encode()).hexdigest()
        return {"model": self.model.identity, "prompt": prompt, "max_tokens": MAX_TOKENS, "history": HISTORY}

    def note(self) -> str:
        """What was asked and spent so far."""
        return self.model.summary()

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        """One line an episode.

        Raises:
            BenchError: an observation is not text, or the model cannot be asked (`Endpoint.complete`).
        """
        prompts = [[{"role": "user", "content": self.prompt(episode)}] for episode in episodes]
        actions: list[Action] = []
        for episode, text in zip(episodes, self.model.complete_many(prompts, max_tokens=MAX_TOKENS, stop=[STOP]), strict=True):
            thought, action = read_answer(text)
            self._thoughts.setdefault((episode.env, episode.seed), {})[episode.length] = thought
            actions.append(f"{action}\n" if action else "")
        return actions

    def forget(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            self._thoughts.pop((episode.env, episode.seed), None)

    def prompt(self, episode: Episode) -> str:
        """What the model reads: the rules, then the episode's beginning (where it still counts) and its newest turns."""
        thoughts = self._thoughts.get((episode.env, episode.seed), {})
        turns = [_write_turn(episode, turn, thoughts.get(turn, "")) for turn in range(len(episode.turns))]
        kept = turns[-1:]
        opening = turns[:1] if self._follows_on and len(turns) > 1 else []
        room = HISTORY - sum(map(len, kept + opening))
        for text in reversed(turns[len(opening) : -1]):
            room -= len(text)
            if room < 0:
                break
            kept.insert(0, text)
        return TASK.format(rules=self.rules, episode="\n".join(opening + kept))


def read_rules(spec: EnvSpec) -> str:
    """The text that `spec.prompt` names, or its summary where it names none.

    Raises:
        BenchError: there is no such text.
    """
    if not spec.prompt:
        return f"The task: {spec.summary}."
    package, _, name = spec.prompt.partition(":")
    try:
        return resources.files(package).joinpath(name).read_text(encoding="utf-8").strip()
    except (ImportError, OSError) as error:
        raise BenchError(f"{spec.name} declares the prompt {spec.prompt}, which cannot be read ({error})") from error


def read_answer(text: str) -> tuple[str, str]:
    """Thought and action in a model's text, each on one line; the action is empty where there is none."""
    text = text.partition(STOP)[0]
    found = list(ACTION.finditer(text))
    thought = text[: found[-1].start()] if found else text
    return " ".join(thought.split()).removeprefix("Thought:").strip(), found[-1][1].strip() if found else ""


def _write_turn(episode: Episode, number: int, thought: str) -> str:
    turn = episode.turns[number]
    if not isinstance(turn.observation, str) or not isinstance(turn.action, str | None):
        raise BenchError(f"react plays in text, and {episode.env} does not; choose another agent")
    lines = [f"Observation: {turn.observation.strip()}".strip()]
    if thought and turn.action is not None:
        lines.append(f"Thought: {thought}")
    if turn.action is not None:
        lines.append(f"Action: {turn.action.strip()}".strip())
    return "\n".join(lines)
