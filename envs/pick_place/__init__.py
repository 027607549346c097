"""Pick-place: pick an object and place it on the tray. The declaration; the task is in `env.py`, its data's player in
`behaviour.py`, what it shares with drawer-grasp in `envs/_manipulation/`."""

from __future__ import annotations

from envs import register
from envs._manipulation.declaration import COMMON, MODE
from qsft_bench.spec import HABIT_AGENTS, EnvSpec, Tier

COLUMNS = ("Pick Object", "Place Object Near Target")


def _data(*scores: float) -> dict[str, float]:
    return dict(zip(COLUMNS, scores, strict=True))


# `qsft-bench calibrate --env pick-place --episodes 1000` measured what stands in the tiers, within .031.
SPEC = EnvSpec(
    name="pick_place",
    id="qsft_bench/PickPlace-v0",
    summary="a seven-joint arm picks an object and places it on the tray, from pixels (after COG)",
    columns=COLUMNS,
    horizon=30,
    behaviour="envs.pick_place.behaviour:PickPlaceScript",
    solver="envs.pick_place.behaviour:PickPlaceScript",
    aliases=("pick-place",),
    tiers={
        "base": Tier(
            behaviour={"noise": 0.1, "stray": 0.6},
            mode=MODE,
            summary="a noisy script; in 60% of the episodes it grasps or lets go at a random place",
            references={"random": 0.0, "behaviour": _data(0.613, 0.402), "greedy_behaviour": 1.0, "ceiling": 1.0},
        ),
        "habit": Tier(
            behaviour={"noise": 0.1, "stray": 0.2, "habit": 0.62},
            summary="a noisy script that goes home over its target, 62% of the time, instead of going down; 20% random places",
            references={"random": 0.0, "behaviour": _data(0.502, 0.392), "greedy_behaviour": 0.0, "ceiling": 1.0},
            agents=HABIT_AGENTS,
            mode={**MODE, "habit": 1.0},
        ),
    },
    **COMMON,
)

register(SPEC.id, "envs.pick_place.env:PickPlace")
