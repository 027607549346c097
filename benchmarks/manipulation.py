"""How fast the arm's two tasks are played by the scripts that write their data, pictures and the scripts' thinking included."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np

from benchmarks.row import Row, Target, cpu_seconds
from qsft_bench.episode import Episode
from qsft_bench.preset import scale
from qsft_bench.registry import attribute, env_spec
from qsft_bench.rollout import play_episodes

STEPS_PER_SECOND = 350  # roboverse, with its arm of meshes: 129 and 60 steps/s
EPISODES_PER_SECOND = {"pick_place": 12, "drawer_grasp": 9}
EPISODES = 48
REPEATS = 5


def measure(directory: Path) -> list[Row]:
    """Steps and episodes a second of both tasks, and what the pictures cost; empty where PyBullet is missing."""
    try:
        from envs._manipulation.world import World
    except ImportError:
        return []
    rows = []
    for name, wanted in EPISODES_PER_SECOND.items():
        steps, episodes = np.median([_speed(name) for _ in range(REPEATS)], axis=0)
        blank = np.zeros((48, 48, 3), np.uint8)
        with patch.object(World, "image", lambda world, size, blank=blank: blank):
            physics = median(_speed(name)[0] for _ in range(REPEATS))
        rows += [
            Row(
                f"{name}: steps of the behaviour, a picture each",
                f"{steps:,.0f} steps/s",
                f"{STEPS_PER_SECOND} steps/s",
                steps / STEPS_PER_SECOND,
                Target("at least", 1),
            ),
            Row(
                f"{name}: episodes of the behaviour",
                f"{episodes:.1f} episodes/s",
                f"{wanted} episodes/s",
                episodes / wanted,
                Target("at least", 1),
            ),
            Row(
                f"{name}: steps with pictures",
                f"{steps:,.0f} steps/s",
                f"the same, nothing drawn: {physics:,.0f} steps/s",
                steps / physics,
            ),
        ]
    return rows


def _speed(name: str) -> tuple[float, float]:
    """Steps and episodes a second of processor time; simulators were started before."""
    spec = env_spec(name)
    options = scale("small", spec).options
    player = attribute(spec.behaviour)(**options, **spec.tier("base").behaviour)
    play_episodes(player, spec, options, range(spec.side_by_side))
    played: list[Episode] = []
    seconds = cpu_seconds(lambda: played.extend(play_episodes(player, spec, options, range(EPISODES))))
    return sum(episode.length for episode in played) / seconds, EPISODES / seconds
