"""Chess: White against a weak Stockfish. The declaration; the game is in `env.py`, its data's players in `behaviour.py`."""

from __future__ import annotations

from typing import Any

from envs import register
from qsft_bench.spec import AGENTS, EnvSpec, Tier

# A word binds a piece to its square and a move is one word. A row is at most 36 tokens, in play 40: <bos>, 32 pieces, en
# passant, castling rights, up to four refused moves, the move.
_PIECES: dict[str, Any] = {
    "options": {"observation": "pieces", "action": "word"},
    "codec": "words",
    "context": 40,
    "constrained": True,  # to legal moves, as in chess_endgame: else refused moves, up to 400 a game, are most of the score
}

# `qsft-bench calibrate --env chess --episodes 3000` measures what stands in the tier: the behaviour's .216 within .034. How the
# mode of the mixture scores is not known exactly.
# A batch counts windows of up to 16 moves. A game takes longer than in other environments: fewer are played.
_PLAYED: dict[str, Any] = {
    **{"batch_size": 32, "learning_rate": 5e-3},
    **{"evaluation_episodes": 200, "validation_episodes": 50, "curve_points": 0},
}

SPEC = EnvSpec(
    name="chess",
    id="qsft_bench/Chess-v0",
    summary="White against Stockfish at its weakest; an illegal move costs 1 and changes nothing (LMRL-Gym's rules)",
    table=1,
    columns=("Chess",),
    horizon=400,
    return_range=(-400.0, 1.0),
    state="observation",
    discount=1.0,
    metric="return",
    behaviour="envs.chess.behaviour:Levels",
    random="envs.chess.behaviour:BestOrAny",  # with nothing mixed in
    solver="envs.chess.behaviour:Strong",
    tiers={
        "base": Tier(
            behaviour={"levels": 5, "random": 0.05},
            summary="Stockfish at a skill (0 to 4) drawn for the game, up to 5% random moves; the paper's mean return, 0.21",
            references={"random": -0.998, "behaviour": 0.216, "ceiling": 0.995},
        ),
    },
    scales={
        "smoke": {**_PIECES, "dataset_episodes": 40},
        "small": {**_PIECES, "dataset_episodes": 3_000, "steps": 1_500, **_PLAYED},
        "standard": {**_PIECES, "dataset_episodes": 100_000},
        "paper": {"codec": "characters", "dataset_episodes": 625_000},
    },
    agents=tuple(name for name in AGENTS if name not in ("filtered_bc", "return_conditioned")),  # a game takes too long for all
    prompt="envs.chess:prompt.md",
    extra="chess",
)

register(SPEC.id, "envs.chess.env:Chess")
