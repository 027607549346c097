"""The two declarations. Image and proprioception are the state; the discount is below 1 because no clock is in the picture."""

from __future__ import annotations

from typing import Any

from envs import register
from envs._manipulation.actions import BINS
from qsft_bench.spec import EnvSpec, Tier

_AGENTS = (
    "random",
    "behaviour",
    "sft",
    "sft_greedy",
    "sft_temp",
    "filtered_bc",
    "return_conditioned",
    "ilql",
    "cql",
    "q_transformer",
    "qsft",
)
_SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"codec": "control", "dataset_episodes": 20},
    "small": {"codec": "control", "dataset_episodes": 2_000},
    "standard": {"codec": "control", "dataset_episodes": 20_000},
    # The paper's 256 bins have none for 0; one more has.
    "paper": {"codec": "control", "dataset_episodes": 300_000, "options": {"bins": 257}},
}
_COMMON: dict[str, Any] = {
    "table": 3,
    "return_range": (0.0, 1.0),
    "state": "observation",
    "discount": 0.98,
    "metric": "success",
    "random": "envs._manipulation.behaviour:Uniform",
    "scales": _SCALES,
    "agents": _AGENTS,
    "extra": "manipulation",
}

# Successes of the data, with the recipes of `python -m envs._manipulation.calibrate`: 500 episodes of `base`, 1,000 of `habit`.
PICK_PLACE = EnvSpec(
    name="pick_place",
    id="qsft_bench/PickPlace-v0",
    summary=f"a seven-joint arm picks an object and places it on the tray ({BINS} bins of each of eight dimensions)",
    columns=("Pick Object", "Place Object Near Target"),
    horizon=30,
    behaviour="envs._manipulation.behaviour:PickPlaceScript",
    solver="envs._manipulation.behaviour:PickPlaceScript",
    aliases=("pick-place",),
    tiers={
        # The likeliest action is the script's: imitation that is greedy, and perfect, is at the ceiling.
        "base": Tier(
            behaviour={"noise": 0.1, "stray": 0.6},
            summary="a noisy script; in 60% of the episodes it grasps or lets go at a random place",
            references={"behaviour": 0.39},
        ),
        # The likeliest action over the object is to leave it.
        "habit": Tier(
            behaviour={"noise": 0.1, "stray": 0.2, "habit": 0.62},
            summary="a noisy script that goes home over its target, 62% of the time, instead of going down; 20% random places",
            references={"behaviour": 0.392},
        ),
    },
    **_COMMON,
)

DRAWER_GRASP = EnvSpec(
    name="drawer_grasp",
    id="qsft_bench/DrawerGrasp-v0",
    summary=f"a seven-joint arm opens a drawer and grasps the object inside ({BINS} bins of each of eight dimensions)",
    columns=("Drawer Grasp",),
    horizon=40,
    behaviour="envs._manipulation.behaviour:DrawerGraspScript",
    solver="envs._manipulation.behaviour:DrawerGraspScript",
    aliases=("drawer", "drawer-grasp"),
    tiers={
        "base": Tier(
            behaviour={"noise": 0.1, "stray": 0.6},
            summary="a noisy script; in 60% of the episodes it hooks or grasps at a random place",
        ),
        "habit": Tier(
            behaviour={"noise": 0.1, "stray": 0.2, "habit": 0.53},
            summary="a noisy script that goes home over its target, 53% of the time, instead of going down; 20% random places",
            references={"behaviour": 0.413},
        ),
    },
    **_COMMON,
)

register(PICK_PLACE.id, "envs._manipulation.env:PickPlace")
register(DRAWER_GRASP.id, "envs._manipulation.env:DrawerGrasp")
