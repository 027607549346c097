"""Wordle: six tries at a hidden word. The declaration; the game is in `env.py`, its data's players in `behaviour.py`."""

from __future__ import annotations

from typing import Any

from envs import register
from qsft_bench.spec import EnvSpec, Tier

# Letters bound to place and colour, and a word a guess: what models trained from scratch on two cores can learn from.
# A row is at most 39 tokens: an opening of three, then a guess and five letters a turn.
_BOUND: dict[str, Any] = {"options": {"observation": "bound", "action": "word"}, "codec": "words", "context": 48}

# `qsft-bench calibrate --env wordle --episodes 200000` measured what stands in the tiers, with standard errors below .005.
_RANDOM, _CEILING = -5.948, -1.848

SPEC = EnvSpec(
    name="wordle",
    id="qsft_bench/Wordle-v0",
    summary="guess a hidden five-letter word in six tries (LMRL-Gym's rules)",
    table=1,
    columns=("Wordle",),
    horizon=6,
    return_range=(-6.0, 0.0),
    state="transcript",
    discount=1.0,
    metric="return",
    behaviour="envs.wordle.behaviour:Mixture",
    random="envs.wordle.behaviour:Mixture",  # with nothing mixed in
    solver="envs.wordle.behaviour:Entropy",
    prompt="envs.wordle:prompt.md",
    tiers={
        # Imitation at its best temperature (0) is near the ceiling here: this data hardly tells RL from imitation.
        "base": Tier(
            behaviour={"consistent": 0.315},
            mode={"temperature": 0.0},
            summary="31.5% words consistent with all feedback, else any word of the list; the paper's mean return, -4.12",
            references={"random": _RANDOM, "behaviour": -4.122, "greedy_behaviour": -2.304, "ceiling": _CEILING},
        ),
        # Here it stays far below: -3.91 at the best temperature (.85), worse than the data itself from .5 down.
        "habit": Tier(
            behaviour={"consistent": 0.343, "habit": 0.3},
            mode={"temperature": 0.0},
            summary="30% the alphabet's next word (a bad habit), 34.3% consistent words, else any word; the same mean return",
            references={"random": _RANDOM, "behaviour": -4.113, "greedy_behaviour": -4.806, "ceiling": _CEILING},
        ),
    },
    scales={
        "smoke": {**_BOUND, "dataset_episodes": 2_000},
        "small": {**_BOUND, "dataset_episodes": 2_000_000, "steps": 7_600, "batch_size": 256, "learning_rate": 1e-2},  # 1 epoch
        "standard": {**_BOUND, "dataset_episodes": 2_000_000},
        "paper": {"codec": "characters", "dataset_episodes": 20_000},
    },
)

register(SPEC.id, "envs.wordle.env:Wordle")
