"""Our engine says what TextWorld's own says, and leaves the process as it was."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("alfworld", reason="needs the extra `alfworld`")
pytest.importorskip("fast_downward", reason="needs textworld[pddl]")

from envs.alfworld import engine as engine_module
from envs.alfworld.behaviour import Expert
from envs.alfworld.engine import NOTHING, Engine, give_back, lease, translate, wheel
from envs.alfworld.env import know
from envs.alfworld.games import generate
from envs.alfworld.seen import Seen
from qsft_bench.errors import BenchError
from tests.envs.alfworld.stock import Stock

GAMES = 30
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def stock() -> Stock:
    return Stock()


@pytest.fixture
def engine() -> Engine:
    return lease()


@pytest.mark.parametrize("number", range(GAMES))
def test_every_text_command_list_and_flag_is_textworlds(number: int, stock: Stock, engine: Engine) -> None:
    """Each game is played by the expert, with commands of all kinds between its own; a third of them to the end."""
    game, rng, expert = generate("valid_seen" if number % 2 else "valid_unseen", number), random.Random(number), Expert()
    seen = Seen()
    ours, theirs = engine.start(game), stock.start(game)
    assert ours == theirs
    for _ in range(30 if number % 3 == 0 else 8):
        if ours.won:
            break
        other = rng.choice([*ours.admissible, "look", "inventory", "nonsense", "go to nowhere 1", " look "])
        command = other if rng.random() < 0.3 else next(iter(expert.weights(know(game, engine, ours, seen))))
        ours, theirs = engine.step(command), stock.step(command)
        assert ours == theirs, command
    give_back(engine)


def test_a_game_begins_anew(engine: Engine) -> None:
    game = generate("valid_seen", 0)
    first = engine.start(game)
    command = next(command for command in first.admissible if command.startswith("go to"))
    after = engine.step(command)
    assert engine.start(game) == first
    assert engine.step(command) == after
    assert engine.step("dance").text == NOTHING


def test_engines_beside_each_other_do_not_mix() -> None:
    games = [generate("valid_seen", number) for number in range(2)]
    alone = []
    for game in games:
        engine = lease()
        engine.start(game)
        alone.append(engine.step("look"))
        give_back(engine)
    both = [lease(), lease()]
    for engine, game in zip(both, games, strict=True):
        engine.start(game)
    assert [engine.step("look") for engine in both] == alone
    for engine in both:
        give_back(engine)


def test_an_engine_given_back_is_used_again() -> None:
    engine = lease()
    give_back(engine)
    assert lease() is engine
    give_back(engine)


def test_memory_does_not_grow_over_500_episodes() -> None:
    """Ten games, over and over. Before the first look at memory all of them were played."""
    games = [generate("valid_seen", number) for number in range(10)]

    def play(episodes: int) -> int:
        for number in range(episodes):
            engine = lease()
            scene = engine.start(games[number % len(games)])
            for command in scene.admissible[:5]:
                engine.step(command)
            give_back(engine)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2)  # MiB

    before = play(50)
    assert play(500) - before <= 8


def test_a_problem_that_is_none_is_an_error() -> None:
    with pytest.raises(BenchError, match="PDDL cannot be read"):
        translate("(define (problem half) (:domain alfred) (:objects agent1 - ag")


def test_arguments_environment_and_home_stay_as_they_were(tmp_path: Path) -> None:
    program = """
import json, os, sys
from envs.alfworld.engine import lease
from envs.alfworld.games import generate
lease().start(generate("valid_seen", 0))
print(json.dumps([sys.argv, os.environ.get("ALFWORLD_DATA"), os.listdir(os.environ["HOME"])]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "ALFWORLD_DATA"}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), *sys.path)))}
    done = subprocess.run([sys.executable, "-c", program, "own"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["-c", "own"], None, []]


def test_a_version_that_was_never_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "VERSIONS", {"textworld": "0.0.1"})
    wheel.cache_clear()
    try:
        with pytest.raises(BenchError, match=r"textworld .* was never compared .* pip install"):
            wheel()
    finally:
        monkeypatch.undo()
        wheel.cache_clear()
        wheel()
