"""A person at the keyboard, behind the same Agent interface as everybody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode


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
        return [self._ask(episode) for episode in episodes]

    def _ask(self, episode: Episode) -> str:
        if len(episode.turns) > 1 and (reason := episode.turns[-2].invalid):
            self.write(f"[{reason}]")
        self.write(str(episode.turns[-1].observation).rstrip("\n"))
        return self.read(f"turn {len(episode.turns)}> ") + "\n"
