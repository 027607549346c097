"""ALFWorld: household tasks in text, on the real engine. The declaration; `env.py` plays the games of `games.py` on
`engine.py`, `render.py` draws what the text has revealed, `behaviour.py` collects the data.

A seed decides about the game too: those of datasets draw from the 1,200 games of training, those that validate and test from
120 other games in the same rooms. The mode of `base` makes the errors that are made more often than not: it brings an untreated
object, and never switches the lamp on. The mode of `habit` looks about until the end.
"""

from __future__ import annotations

from typing import Any

from envs import register
from envs.alfworld.games import COLUMNS
from qsft_bench.spec import AGENTS, EnvSpec, Tier


def _scores(*scores: float) -> dict[str, float]:
    return dict(zip(COLUMNS.values(), scores, strict=True))


# `python -m envs.alfworld.calibrate` measured what stands in the tiers: 2,400 episodes a player, each column within .05. In
# all, the data of `base` win 35.3% and those of `habit` 34.9%, each within 2%.
_RANDOM = _scores(0.021, 0.008, 0.0, 0.0, 0.0, 0.0)
TIERS = {
    "base": Tier(
        behaviour={"errors": 1.0, "slip": 0.05},
        summary="an expert that gets steps of the task wrong, most of all to heat, clean and cool",
        references={
            "random": _RANDOM,
            "behaviour": _scores(0.620, 0.356, 0.206, 0.259, 0.207, 0.478),
            "greedy_behaviour": _scores(1.0, 0.116, 0.0, 0.0, 0.0, 1.0),
            "ceiling": 1.0,
        },
    ),
    "habit": Tier(
        behaviour={"errors": 0.33, "slip": 0.05, "habit": 0.55},
        summary="fewer errors, but in 55% of the episodes it only looks about where it would take the object",
        references={
            "random": _RANDOM,
            "behaviour": _scores(0.424, 0.346, 0.342, 0.332, 0.294, 0.358),
            "greedy_behaviour": 0.0,
            "ceiling": 1.0,
        },
    ),
}

_TEXT: dict[str, Any] = {"options": {"obs": "text", "games": "generated"}, "codec": "words", "context": 1024}

SPEC = EnvSpec(
    name="alfworld",
    id="qsft_bench/ALFWorld-v0",
    summary="household tasks in text, of six types, on the real engine (ALFWorld's rules)",
    table=1,
    columns=tuple(COLUMNS.values()),
    horizon=30,
    return_range=(0.0, 1.0),
    value_range=(0.0, 1.0),
    state="transcript",
    discount=0.97,  # a win is worth more the sooner it comes, or to look about would cost nothing
    metric="success",
    behaviour="envs.alfworld.behaviour:Erring",
    random="envs.alfworld.behaviour:Uniform",
    solver="envs.alfworld.behaviour:Expert",
    agents=AGENTS,
    tiers=TIERS,
    scales={
        "smoke": {**_TEXT, "dataset_episodes": 24},
        "small": {**_TEXT, "dataset_episodes": 12_000},
        "standard": {**_TEXT, "dataset_episodes": 24_000},
        "paper": {
            **{"options": {"obs": "text+image", "games": "auto"}, "codec": "words", "context": 1024},
            "dataset_episodes": 24_000,
        },
    },
    extra="alfworld",
    side_by_side=8,
    shard_episodes=2_000,
)

register(SPEC.id, "envs.alfworld.env:ALFWorld")
