"""ALFWorld: household tasks in text, on the real engine. The declaration; `env.py` plays the games of `games.py` on
`engine.py`, `seen.py` reads the texts, `notes.py` keeps the books on them, `formats.py` writes them shorter for small models,
`render.py` draws them, `behaviour.py` collects the data.

A seed decides about the game too: those of datasets draw from the 1,200 games of training, those that test take 120 other games
in the same rooms in turn, those that validate 120 games in other rooms. The mode of `base` makes the errors that are made more
often than not: it brings an untreated object, and puts down what it should look at under the lamp. The mode of `habit` looks
about until the end.
"""

from __future__ import annotations

from typing import Any

from envs import register
from envs.alfworld.games import COLUMNS
from qsft_bench.spec import AGENTS, HABIT_AGENTS, EnvSpec, Tier


def _scores(*scores: float) -> dict[str, float]:
    return dict(zip(COLUMNS.values(), scores, strict=True))


# `qsft-bench calibrate --env alfworld --episodes 600` measures what stands in the tiers, each column
# within .1. In all, the data of `base` win 33% and those of `habit` 34%, each within 4%.
_RANDOM = _scores(0.021, 0.008, 0.0, 0.0, 0.0, 0.0)

# What models from random weights on two cores can learn from: one line a turn, in words that bind what belongs together.
_SHORT: dict[str, Any] = {
    "options": {"observation": "short", "action": "short", "games": "generated"},
    "codec": "words",
    "context": 512,
    "constrained": True,
}

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
    prompt="envs.alfworld:prompt.md",
    agents=tuple(name for name in AGENTS if name != "return_conditioned"),  # not trained at `small` yet
    tiers={
        "base": Tier(
            behaviour={"errors": 1.0, "slip": 0.03},
            mode={"temperature": 0.0},
            summary="a player that has read the texts and gets steps wrong, most of all to heat, clean and cool",
            references={
                "random": _RANDOM,
                "behaviour": _scores(0.64, 0.40, 0.18, 0.19, 0.22, 0.35),
                "greedy_behaviour": _scores(1.0, 0.0, 0.0, 0.0, 0.0, 0.9),
                "ceiling": 1.0,
            },
        ),
        "habit": Tier(
            behaviour={"errors": 0.22, "slip": 0.03, "habit": 0.55},
            mode={"temperature": 0.0},
            summary="fewer errors, but 55% of the time it only looks about where it would take the object",
            references={
                "random": _RANDOM,
                "behaviour": _scores(0.51, 0.33, 0.37, 0.32, 0.36, 0.18),
                "greedy_behaviour": 0.0,
                "ceiling": 1.0,
            },
            agents=HABIT_AGENTS,
        ),
    },
    scales={
        "smoke": {**_SHORT, "dataset_episodes": 24, "validation_episodes": 6, "evaluation_episodes": 12, "curve_points": 0},
        # A step of the engine takes 2 ms: fewer episodes than elsewhere are played to tune, and none to watch.
        "small": {
            **_SHORT,
            **{"dataset_episodes": 12_000, "steps": 1_000, "batch_size": 64, "learning_rate": 3e-3},
            **{"evaluation_episodes": 600, "validation_episodes": 60, "curve_points": 0},
        },
        "standard": {**_SHORT, "dataset_episodes": 24_000},
        # The paper's model. An image takes 1,176 places, so that three fit: the instruction's and the two newest. An epoch.
        "paper": {
            "options": {"games": "auto", "obs": "text+image", "image_size": 192},
            **{"model": "llava-hf/llava-v1.6-mistral-7b-hf", "tuning": "lora:16", "checkpointing": True, "context": 4096},
            **{"dataset_episodes": 10_000, "steps": 2_200, "batch_size": 8},
        },
    },
    extra="alfworld",
    test_tasks=120,
    side_by_side=32,  # an engine takes 4 MB
    shard_episodes=1_000,
)

register(SPEC.id, "envs.alfworld.env:ALFWorld")
