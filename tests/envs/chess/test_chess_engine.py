"""The engine: answers that depend on the question alone, whatever happens to the process, and none left behind."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from envs.chess import SPEC
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout

chess = pytest.importorskip("chess", reason="needs python-chess: pip install chess")
engine = pytest.importorskip("envs.chess.engine")
try:
    engine.find()
except BenchError as error:
    pytest.skip(str(error), allow_module_level=True)

from envs.chess import skill  # noqa: E402 - needs python-chess
from envs.chess.behaviour import Levels  # noqa: E402
from envs.chess.env import Chess  # noqa: E402

SMALL: dict[str, Any] = dict(SPEC.scales["small"]["options"])
GAMES = (
    "from tests.envs.chess.test_chess_engine import games; "
    "print([[turn.observation for turn in episode.turns] for episode in games(2)])"
)


def games(count: int) -> list[Episode]:
    player = Levels(**SMALL, levels=5, random=0.05)
    return list(rollout(player, lambda: Chess(**SMALL, moves=6), range(70, 70 + count), name="chess"))


def positions(count: int) -> list[str]:
    rng, found = random.Random(1), []
    while len(found) < count:
        board = chess.Board()
        for _ in range(rng.randrange(60)):
            if not board.is_game_over():
                board.push(rng.choice(list(board.legal_moves)))
        if not board.is_game_over():
            found.append(board.epd())
    return found


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2] if Path(f"/proc/{pid}/stat").exists() else True


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_an_answer_by_hand() -> None:
    (best, score), *others = engine.analyse("7k/8/5KQ1/8/8/8/8/8 w - -", 3)
    assert score == engine.MATE - 1 and chess.Board("7k/8/5KQ1/8/8/8/8/8 w - - 0 1").san(chess.Move.from_uci(best)).endswith(
        "#"
    )
    assert len(others) == engine.LINES - 1
    assert engine.analyse("7k/5KQ1/8/8/8/8/8/8 b - -", 1) == ()  # mated: there is nothing to say
    assert engine.analyse("k7/8/8/8/8/8/1q6/3K4 w - -", 4)[0][1] < -500
    assert engine.name().startswith("Stockfish")


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    asked = [(position, depth) for position in positions(15) for depth in (1, 4)]
    answers = {question: engine.analyse(*question) for question in asked}
    random.Random(2).shuffle(asked)
    engine.close()
    assert {question: engine.analyse(*question) for question in asked} == answers


def test_a_killed_engine_changes_no_game() -> None:
    skill.forget()
    undisturbed = games(2)
    skill.forget()
    player = Levels(**SMALL, levels=5, random=0.05)
    act, turns = player.act, []

    def murderous(episodes: Any) -> Any:
        turns.append(len(episodes))
        if len(turns) in (2, 5):
            os.kill(engine._running.process.pid, signal.SIGKILL)
        return act(episodes)

    player.act = murderous  # type: ignore[method-assign]
    assert list(rollout(player, lambda: Chess(**SMALL, moves=6), range(70, 72), name="chess")) == undisturbed
    assert len(turns) >= 5


def test_an_engine_that_always_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "dying"
    dying.write_text(
        "#!/bin/sh\nread line; echo uciok; while read line; do case $line in isready) echo readyok;; go*) exit;; esac; done\n"
    )
    dying.chmod(0o755)
    engine.close()
    monkeypatch.setenv(engine.PATH_VARIABLE, str(dying))
    with pytest.raises(BenchError, match="stopped 3 times"):
        engine.analyse(chess.STARTING_FEN, 1)
    monkeypatch.setenv(engine.PATH_VARIABLE, "/bin/true")
    with pytest.raises(BenchError, match="does not start as a UCI engine"):
        engine.name()


def test_same_games_in_another_process() -> None:
    told = [[turn.observation for turn in episode.turns] for episode in games(2)]
    assert run(GAMES).stdout == f"{told}\n"


def test_many_games_one_engine() -> None:
    envs = [Chess(**SMALL) for _ in range(20)]
    engines = set()
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        env.step("e4\n")
        engines.add(engine._running.process.pid)
    assert len(engines) == 1


@pytest.mark.parametrize("end", ["pass", "os._exit(3)", "raise SystemError", "os.kill(os.getpid(), 9)"])
def test_no_engine_outlives_its_process(end: str) -> None:
    code = f"import os; from envs.chess import engine; engine.name(); print(engine._running.process.pid, flush=True); {end}"
    assert gone(int(run(code).stdout))


def _child(queue: Any) -> None:
    queue.put((engine.analyse(chess.STARTING_FEN.rsplit(" ", 2)[0], 1), engine._running.process.pid))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_has_its_own_engine(method: str) -> None:
    position = chess.STARTING_FEN.rsplit(" ", 2)[0]
    answer, mine = engine.analyse(position, 1), engine._running.process.pid
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_child, args=(queue,))
    worker.start()
    said, its = queue.get(timeout=30)
    worker.join(30)
    assert said == answer and its != mine
    assert gone(its) and engine.analyse(position, 1) == answer and engine._running.process.pid == mine


def test_a_missing_engine_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.PATH_VARIABLE, "/nowhere/stockfish")
    with pytest.raises(BenchError, match=r"/nowhere/stockfish.*apt-get install stockfish"):
        Chess()
    monkeypatch.delenv(engine.PATH_VARIABLE)
    monkeypatch.setattr(engine.shutil, "which", lambda *_, **__: None)
    with pytest.raises(BenchError, match="not here: apt-get install stockfish"):
        Chess()
