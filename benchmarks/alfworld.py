"""How fast ALFWorld answers on the engine made fast from outside, beside alfworld's own AlfredTWEnv on the same games."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.row import Row, Target, cpu_seconds
from qsft_bench.errors import BenchError
from qsft_bench.files import write_json
from qsft_bench.registry import env_spec, make_env

GENERATED, OFFICIAL = 120, 80  # steps/s a core that there must be
GAMES = 6  # one of each type
STEPS = 20  # of each game
REPEATS = 3


def measure(directory: Path) -> list[Row]:
    """Steps/s of generated games and, where `$QSFT_BENCH_TESTDATA/alfworld` has them, official ones; resets included.

    Empty where alfworld is missing.
    """
    try:
        make_env(env_spec("alfworld")).close()
    except BenchError:
        return []
    from envs.alfworld.games import FOLDER, Official, generate

    pools: dict[str, tuple[Sequence[Any], int]] = {}
    pools["generated"] = [generate("valid_seen", number) for number in range(GAMES)], GENERATED
    official = Path(os.environ.get("QSFT_BENCH_TESTDATA", "nowhere")) / "alfworld" / FOLDER / "valid_seen"
    if official.is_dir():
        pools["official"] = list(Official(official))[::2], OFFICIAL
    rows = []
    for name, (games, wanted) in pools.items():
        ours = median(_speed(games) for _ in range(REPEATS))
        stock = _stock(games, directory / name)
        what = f"ALFWorld, {name} games, text, resets included, one core"
        rows += [
            Row(what, f"{ours:,.0f} steps/s", f"{wanted} steps/s", ours / wanted, Target("at least", 1)),
            Row(what, f"{ours:,.0f} steps/s", f"AlfredTWEnv on the same games: {stock:.1f} steps/s", ours / stock),
        ]
    return rows


def _speed(games: Sequence[Any]) -> float:
    """Games were translated before, as they are for all but the first of the episodes that are played of one."""
    env = make_env(env_spec("alfworld"))

    def play() -> None:
        for game in games:
            _, info = env.reset(seed=0, options={"game": game})
            for turn in range(STEPS):
                *_, terminated, truncated, info = env.step(_command(info["admissible"], turn))
                if terminated or truncated:
                    break

    play()
    seconds = cpu_seconds(play)
    env.close()
    return len(games) * STEPS / seconds


def _command(admissible: Sequence[str], turn: int) -> str:
    """Any, but the same at every turn for whoever lists the same."""
    return sorted(admissible)[turn * 7 % len(admissible)]


def _stock(games: Sequence[Any], folder: Path) -> float:
    """Steps/s of AlfredTWEnv, batch size 1, on games written in the official layout."""
    from envs.alfworld.engine import domain, wheel
    from envs.alfworld.games import task_type

    grammar = (wheel().data / "alfred.twl2").read_text()
    for number, game in enumerate(games):
        told = {"pddl_domain": domain(), "grammar": grammar.replace("UNKNOWN GOAL", game.goal), "pddl_problem": game.problem}
        write_json(folder / str(number) / "game.tw-pddl", {**told, "solvable": True})
        write_json(folder / str(number) / "traj_data.json", {"task_type": task_type(game.column)})
    with _quiet():
        import textworld.gym
        from alfworld.agents.environment.alfred_tw_env import AlfredTWEnv

        config = {
            "dataset": {"eval_id_data_path": str(folder), "num_eval_games": -1},
            "env": {
                "goal_desc_human_anns_prob": 0,
                "task_types": range(1, 7),
                "domain_randomization": False,
                "expert_type": "",
            },
            "general": {"training_method": "dqn"},
            "rl": {"training": {"max_nb_steps_per_episode": 50}},
        }
        register = textworld.gym.register_games

        def here(*arguments: Any, **options: Any) -> str:
            """In this process, whose processor time is measured, not in one of its own."""
            return str(register(*arguments, **{**options, "asynchronous": False}))

        with patch.object(textworld.gym, "register_games", here):
            env = AlfredTWEnv(config, train_eval="eval_in_distribution").init_env(batch_size=1)

        def play() -> None:
            for _ in games:
                _, infos = env.reset()
                for turn in range(STEPS):
                    _, _, (done,), infos = env.step([_command(infos["admissible_commands"][0], turn)])
                    if done:
                        break

        seconds = cpu_seconds(play)
        env.close()
    return len(games) * STEPS / seconds


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """alfworld prints, sets a variable and makes a folder in the home unless one is named; translating changes `sys.argv`."""
    arguments, before = sys.argv, os.environ.get("ALFWORLD_DATA")
    os.environ["ALFWORLD_DATA"] = "/tmp"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.argv = arguments
        del os.environ["ALFWORLD_DATA"]
        if before is not None:
            os.environ["ALFWORLD_DATA"] = before
