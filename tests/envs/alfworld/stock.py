"""TextWorld's own driver, as alfworld uses it, to compare ours with."""

from __future__ import annotations

import sys

from envs.alfworld.engine import Scene, domain, wheel
from envs.alfworld.games import Game


class Stock:
    """`PddlEnv` with alfworld's names, for one game after the other."""

    def __init__(self) -> None:
        self._grammar = (wheel().data / "alfred.twl2").read_text()
        arguments = sys.argv
        try:
            import textworld
            from textworld.envs import PddlEnv
        finally:
            sys.argv = arguments
        self._env = PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))

    def start(self, game: Game) -> Scene:
        """Begin `game`."""
        env = self._env
        arguments = sys.argv
        try:
            goal = self._grammar.replace("UNKNOWN GOAL", game.goal)
            env.load({"pddl_domain": domain(), "grammar": goal, "pddl_problem": game.problem})
            demangler = wheel().Demangler(game_infos=env._entity_infos)
            for info in env._entity_infos.values():
                info.name = demangler.demangle_alfred_name(info.id)
            state = env.reset()
        finally:
            sys.argv = arguments
        return Scene(state.feedback, tuple(state["admissible_commands"]), state["won"])

    def step(self, command: str) -> Scene:
        """Do `command`."""
        state, score, done = self._env.step(command)
        assert score == done == state["won"]
        return Scene(state.feedback, tuple(state["admissible_commands"]), state["won"])
