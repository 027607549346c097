"""Theoretical chess endings: mate the lone king. The declaration; the game is in `env.py`, the players are chess's."""

from __future__ import annotations

from typing import Any

from envs import register
from qsft_bench.spec import AGENTS, EnvSpec, Tier

# The two endings with three pieces are what models trained from scratch on two cores can learn from: 300,000 positions.
# A row is at most 10 tokens: <bos>, three pieces, castling rights, up to four refused moves, the move.
_THREE: dict[str, Any] = {
    "options": {"observation": "pieces", "action": "word", "endings": ["Q", "R"]},
    "codec": "words",
    "context": 12,
    "constrained": True,  # to legal moves: where all plays end in repeated refusals, nothing is learned of how to win
}

# `qsft-bench calibrate --env chess_endgame --episodes 1500` measures what stands in the tiers, 95% intervals within .04; the
# ceiling stands as the engine at depth 9 had it in 100 games, within .05.
SPEC = EnvSpec(
    name="chess_endgame",
    id="qsft_bench/ChessEndgame-v0",
    summary="mate the lone king with a queen, a rook or two of them (after LMRL-Gym's endgames)",
    table=0,
    columns=("Chess Endgame",),
    horizon=50,
    return_range=(-50.0, 1.0),
    value_range=(0.0, 1.0),  # an illegal move counts as what it costs most: the win
    state="observation",
    discount=0.98,  # the board has no clock: without it a win is worth the same however far off
    metric="return",
    behaviour="envs.chess.behaviour:BestOrAny",
    random="envs.chess.behaviour:BestOrAny",  # with nothing mixed in
    solver="envs.chess.behaviour:Strong",
    tiers={
        "base": Tier(
            behaviour={"best": 0.7, "illegal": 0.01},
            mode={"temperature": 0.0},
            summary="70% the engine's best move at depth 5, 1% an illegal one, else any legal one",
            references={"random": 0.005, "behaviour": 0.2, "greedy_behaviour": 0.673, "ceiling": 0.94},
        ),
        # Here the exact behaviour at its best temperature (.7, of 1, .7, .5 and 0) reaches .475.
        "habit": Tier(
            behaviour={"best": 0.9, "habit": 0.48, "illegal": 0.01},
            mode={"temperature": 0.0},
            summary="90% the best move, but with White's king on a light square 42%, and 48% an idle one; 1% illegal",
            references={"random": 0.005, "behaviour": 0.173, "greedy_behaviour": 0.065, "ceiling": 0.94},
        ),
    },
    scales={
        "smoke": {**_THREE, "dataset_episodes": 200},
        "small": {
            **_THREE,
            "dataset_episodes": 60_000,
            "steps": 8_000,
            "batch_size": 64,
            "learning_rate": 5e-3,
            "tiers": ("base",),
        },
        "standard": {**_THREE, "dataset_episodes": 100_000},
        "paper": {"codec": "characters", "dataset_episodes": 100_000},
    },
    agents=tuple(name for name in AGENTS if name not in ("filtered_bc", "return_conditioned")),  # as in chess
    prompt="envs.chess_endgame:prompt.md",
    extra="chess",
)

register(SPEC.id, "envs.chess_endgame.env:ChessEndgame")
