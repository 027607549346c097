"""How fast the shop answers, how fast the behaviour that writes its data shops, and what a tenfold catalogue takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.row import Row, Target, cpu_seconds
from qsft_bench.agent import Agent
from qsft_bench.episode import Episode
from qsft_bench.preset import scale
from qsft_bench.registry import attribute, env_spec, make_env
from qsft_bench.rollout import rollout

STEPS_PER_SECOND = 3_000
START_SECONDS = 2.0
LARGE, LARGE_GIB = 100_000, 2.0
EPISODES = 1_024
REPEATS = 3

_START = """
import time, sys
began = time.process_time()
from envs.webshop.env import WebShop
WebShop(products=int(sys.argv[1])).reset(seed=0)
import resource
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def measure(directory: Path) -> list[Row]:
    """Steps/s of the bare environment (the behaviour's actions, written down before), with the behaviour playing; start-up."""
    spec = env_spec("webshop")
    rows = []
    for name, options in (("original", {}), ("compact", dict(scale("small", spec).options))):
        player = attribute(spec.behaviour)(**options, **spec.tier("base").behaviour)
        played = median(_play(player, options) for _ in range(REPEATS))
        actions = [[str(turn.action) for turn in e.turns[:-1]] for e in _episodes(player, options)]
        alone = median(_replay(actions, options) for _ in range(REPEATS))
        rows += [
            Row(
                f"WebShop, 10,000 products, {name} format, one core",
                f"{alone:,.0f} steps/s",
                f"{STEPS_PER_SECOND:,} steps/s (the original: about 30 with 1,000 products)",
                alone / STEPS_PER_SECOND,
                Target("at least", 1),
            ),
            Row(
                f"WebShop rollout of the behaviour, {name} format, environment included",
                f"{played:,.0f} turns/s",
                f"the environment alone: {alone:,.0f} steps/s",
                played / alone,
            ),
        ]
    seconds, _ = _start(0)
    rows.append(
        Row(
            "WebShop, start-up of a process once indexed, until the first page",
            f"{seconds:.2f} s",
            f"{START_SECONDS:g} s",
            seconds / START_SECONDS,
            Target("at most", 1),
        )
    )
    began = time.monotonic()
    _start(LARGE)  # makes the index where there is none
    _, gib = _start(LARGE)
    rows.append(
        Row(
            f"WebShop, memory of a process with {LARGE:,} products ({time.monotonic() - began:.0f} s for two starts)",
            f"{gib:.2f} GiB",
            f"{LARGE_GIB:g} GiB",
            gib / LARGE_GIB,
            Target("at most", 1),
        )
    )
    return rows


def _episodes(player: Agent, options: dict[str, object]) -> list[Episode]:
    spec = env_spec("webshop")
    seeds = range(2**32, 2**32 + EPISODES)
    return list(rollout(player, lambda: make_env(spec, **options), seeds, name=spec.name, batch_size=256))


def _play(player: Agent, options: dict[str, object]) -> float:
    found: list[Episode] = []
    seconds = cpu_seconds(lambda: found.extend(_episodes(player, options)))
    return sum(episode.length for episode in found) / seconds


def _replay(actions: list[list[str]], options: dict[str, object]) -> float:
    env = make_env(env_spec("webshop"), **options)

    def play() -> None:
        for seed, visit in enumerate(actions, 2**32):
            env.reset(seed=seed)
            for action in visit:
                env.step(action)

    return sum(map(len, actions)) / cpu_seconds(play)


def _start(products: int) -> tuple[float, float]:
    """Processor seconds and GiB of a new process that opens the shop."""
    command = [sys.executable, "-c", _START, str(products)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ.copy())
    seconds, gib = map(float, done.stdout.split())
    return seconds, gib
