"""A person at the keyboard: in the agent's place, or in the environment's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_path

NO_TEXT = (
    "cannot be played at a keyboard, it is no text game; "
    "`qsft-bench watch --agent AGENT --env ENV` films an agent that plays it"
)


class Person(Agent):
    """Shows what is new and reads one line a turn.

    Args:
        read: returns a line without its newline; raises EOFError or KeyboardInterrupt to stop.
        write: shows text.
    """

    def __init__(self, read: Callable[[str], str] = input, write: Callable[[str], None] = print) -> None:
        self.read = read
        self.write = write

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        """The lines read.

        Raises:
            BenchError: an observation is no text.
        """
        return [self._ask(episode) for episode in episodes]

    def _ask(self, episode: Episode) -> str:
        if len(episode.turns) > 1 and (reason := episode.turns[-2].invalid):
            self.write(f"[{reason}]")
        observation = episode.turns[-1].observation
        if not isinstance(observation, str):
            raise BenchError(f"{episode.env} {NO_TEXT}")
        self.write(observation.rstrip("\n"))
        return self.read(f"turn {len(episode.turns)}> ") + "\n"


class Pictured(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Saves what the environment draws after every reset and step, `00.png`, `01.png`, ..., and shows each path.

    Args:
        env: made with `render_mode="rgb_array"`.
        folder: for the pictures; made if it is not there. Those of an earlier play in it are replaced.
        write: shows text.
    """

    def __init__(self, env: gymnasium.Env, folder: Path, write: Callable[[str], None] = print) -> None:
        super().__init__(env)
        self.folder = folder
        self.write = write
        self._turn = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        found = super().reset(seed=seed, options=options)
        self._turn = 0
        self._save()
        return found

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        found = super().step(action)
        self._turn += 1
        self._save()
        return found

    def _save(self) -> None:
        from PIL import Image

        path = self.folder / f"{self._turn:02}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(np.asarray(self.env.render())).save(temporary, format="PNG")
        self.write(f"[picture: {path}]")


class PersonsWorld(gymnasium.Env[str, str]):
    """Opens as another environment does, then shows each action and lets a person say what comes of it; `done` ends it.

    Args:
        opening: the first observation.
        turns: the most actions.
        read, write: as for `Person`.

    Raises:
        BenchError: the opening is no text.
    """

    def __init__(
        self, opening: str, turns: int, read: Callable[[str], str] = input, write: Callable[[str], None] = print
    ) -> None:
        if not isinstance(opening, str):
            raise BenchError(f"this environment {NO_TEXT}")
        self.observation_space = self.action_space = spaces.Text(1000)
        self.opening = opening
        self.turns = turns
        self.read = read
        self.write = write
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._taken = 0
        return self.opening, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._taken += 1
        self.write(action.rstrip("\n"))
        answer = self.read(f"turn {self._taken}, your answer> ")
        over = answer.strip().lower() == "done"
        return f"{answer}\n", 0.0 if over else -1.0, over, self._taken >= self.turns, {"success": over}
