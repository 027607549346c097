"""How much faster two workers generate a dataset than one: wall time, so the machine must have two cores to itself."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.row import Row, Target
from qsft_bench.dataset.generate import generate, recipe
from qsft_bench.preset import scale
from qsft_bench.registry import env_spec
from qsft_bench.workers import workers

REPEATS, SHARDS, SHARD_EPISODES = 3, 8, 10_000


def measure(directory: Path) -> list[Row]:
    """Wordle's data, the start of the workers included."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(REPEATS):
        for count, taken in times.items():
            taken.append(_seconds(directory / f"{repeat}-{count}", count))
    one, two = (median(times[count]) for count in (1, 2))
    episodes = SHARDS * SHARD_EPISODES
    return [
        Row(
            f"Generating {episodes:,} Wordle episodes with two processes, wall time",
            f"{two:.1f} s",
            f"with one: {one:.1f} s; the ratio is one / two",
            median(left / right for left, right in zip(times[1], times[2], strict=True)),
            Target("at least", 1.7),
        )
    ]


def _seconds(directory: Path, count: int) -> float:
    spec = env_spec("wordle")
    sizes = replace(scale("small", spec), dataset_episodes=SHARDS * SHARD_EPISODES)
    made = replace(recipe(spec, "base", sizes), shard_episodes=SHARD_EPISODES)
    began = time.monotonic()
    generate(directory, made, workers=workers("process", count))
    return time.monotonic() - began
