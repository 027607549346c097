"""Drawer-grasp: open the drawer and grasp the object inside. The declaration; the task is in `env.py`, its data's player in
`behaviour.py`, what it shares with pick-place in `envs/_manipulation/`."""

from __future__ import annotations

from envs import register
from envs._manipulation.declaration import COMMON, MODE
from qsft_bench.spec import HABIT_AGENTS, EnvSpec, Tier

# `qsft-bench calibrate --env drawer-grasp --episodes 1000` measured what stands in the tiers, within .031.
SPEC = EnvSpec(
    name="drawer_grasp",
    id="qsft_bench/DrawerGrasp-v0",
    summary="a seven-joint arm opens a drawer and grasps the object inside, from pixels (after COG)",
    columns=("Drawer Grasp",),
    horizon=40,
    behaviour="envs.drawer_grasp.behaviour:DrawerGraspScript",
    solver="envs.drawer_grasp.behaviour:DrawerGraspScript",
    aliases=("drawer", "drawer-grasp"),
    tiers={
        "base": Tier(
            behaviour={"noise": 0.1, "stray": 0.63},
            mode=MODE,
            summary="a noisy script; in 63% of the episodes it hooks or grasps at a random place",
            references={"random": 0.0, "behaviour": 0.395, "greedy_behaviour": 0.998, "ceiling": 0.998},
        ),
        "habit": Tier(
            behaviour={"noise": 0.1, "stray": 0.2, "habit": 0.53},
            summary="a noisy script that goes home over its target, 53% of the time, instead of going down; 20% random places",
            references={"random": 0.0, "behaviour": 0.413, "greedy_behaviour": 0.0, "ceiling": 0.998},
            agents=HABIT_AGENTS,
            mode={**MODE, "habit": 1.0},
        ),
    },
    **COMMON,
)

register(SPEC.id, "envs.drawer_grasp.env:DrawerGrasp")
