"""The endings: fair starts, the cap, and the numbers that the declaration states."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.chess_endgame import SPEC
from qsft_bench import registry
from qsft_bench.codec import TextCodec
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout

chess = pytest.importorskip("chess", reason="needs python-chess: pip install chess")
engine = pytest.importorskip("envs.chess.engine")
try:
    engine.find()
except BenchError as error:
    pytest.skip(str(error), allow_module_level=True)

from envs.chess.behaviour import BestOrAny  # noqa: E402 - needs python-chess
from envs.chess.formats import read_board  # noqa: E402
from envs.chess_endgame.env import ENDINGS, MOVES, ChessEndgame  # noqa: E402

SMALL: dict[str, Any] = dict(SPEC.scales["small"]["options"])


def test_starts() -> None:
    env, seen = ChessEndgame(observation="pieces"), Counter[str]()
    for seed in range(800):
        board = read_board(env.reset(seed=seed)[0], "pieces")
        assert board.is_valid() and not board.is_game_over() and board.turn == chess.WHITE
        white = "".join(sorted(piece.symbol() for piece in board.piece_map().values()))
        seen[white.replace("K", "").replace("k", "")] += 1
    assert {ending: seen[ending] / 800 for ending in ENDINGS} == pytest.approx(dict.fromkeys(ENDINGS, 0.25), abs=0.06)
    assert env.reset(seed=3)[0] == env.reset(seed=3)[0] != env.reset(seed=4)[0]


def test_small_endings_and_their_tokens() -> None:
    env, words = ChessEndgame(**SMALL), set()
    for seed in range(300):
        told = env.reset(seed=seed)[0]
        pieces = TextCodec.pieces("words", told)
        assert len(pieces) == 4 and pieces[0][0] == "K" and pieces[1][1] in "QR" and pieces[3] == " -\n"
        words |= set(pieces)
    assert len(words) <= 4 * 64 + 1
    with pytest.raises(BenchError, match=r"endings=.* must be some of Q, R, QR, RR"):
        ChessEndgame(endings=["P"])
    with pytest.raises(BenchError, match="endings"):
        ChessEndgame(endings=[])


def after(env: ChessEndgame, move: str) -> tuple[Any, ...]:
    """Reward, both flags and the info of a move, without the statistics and the legal moves."""
    _, reward, terminated, truncated, info = env.step(move)
    plain = {name: value for name, value in info.items() if name not in ("statistics", "admissible")}
    return reward, terminated, truncated, plain


def test_a_mate_and_the_cap() -> None:
    env = ChessEndgame(**SMALL)
    env.reset(seed=0, options={"fen": "7k/8/5KQ1/8/8/8/8/8 w - - 0 1"})
    assert after(env, "Qg7\n") == (1, True, False, {"success": True})
    env = ChessEndgame(**SMALL, moves=2)
    env.reset(seed=0, options={"fen": "8/8/8/3k4/8/8/8/K6R w - - 0 1"})
    assert after(env, "Ka2\n") == (0, False, False, {})
    assert after(env, "Ka1\n") == (0, False, True, {"success": False})
    env.reset(seed=0, options={"fen": "8/8/8/8/8/8/1k6/3Q3K w - - 0 1"})
    env._reply = lambda: env._board.parse_san("Kxc1")  # type: ignore[method-assign]
    assert after(env, "Qc1\n") == (0, True, False, {"success": False})  # the queen is lost: a draw
    assert SPEC.horizon == MOVES


def test_gymnasium_finds_nothing_to_say() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"envs.chess_endgame:{SPEC.id}", **SMALL).unwrapped)
    assert isinstance(registry.make_env(registry.env_spec("chess_endgame"), **SMALL), ChessEndgame)


@pytest.mark.parametrize("tier", list(SPEC.tiers))
def test_the_declared_behaviour(tier: str) -> None:
    """50 games: the declared mean return and share of illegal moves, and the likelihood that each move was chosen with."""
    player = registry.attribute(SPEC.behaviour)(**SMALL, **SPEC.tier(tier).behaviour)
    played = list(rollout(player, lambda: ChessEndgame(**SMALL), range(2**33, 2**33 + 50), name="chess_endgame"))
    mean = statistics.fmean(episode.total_return for episode in played)
    assert mean == pytest.approx(SPEC.tier(tier).references["behaviour"], abs=3 * 0.5 / 50**0.5)
    turns = [turn for episode in played for turn in episode.turns[: episode.length]]
    assert all(turn.log_likelihood <= 0 for turn in turns)
    assert sum(turn.invalid is not None for turn in turns) / len(turns) == pytest.approx(player.illegal, abs=0.01)
    assert all(episode.success == (episode.total_return + episode.invalid_actions == 1) for episode in played)
    # A fair estimate of 1: the chance of an action, over the chance with which it was chosen, is 1 for each of N on average N.
    weights = [np.exp(-turn.log_likelihood) / len(player.distribution(str(turn.observation))[0]) for turn in turns]
    assert np.mean(weights) == pytest.approx(1, abs=4 * np.std(weights) / len(weights) ** 0.5)


def test_the_habit_leads_nowhere_and_the_engine_mates() -> None:
    habit = SPEC.tier("habit").behaviour

    def wins(**player: Any) -> float:
        played = rollout(BestOrAny(**SMALL, **player), lambda: ChessEndgame(**SMALL), range(25), name="chess_endgame")
        return statistics.fmean(episode.total_return for episode in played)

    assert wins(**habit, temperature=0) < 0.25  # .06 in the long run
    assert wins(best=1.0) > 0.45  # .67
