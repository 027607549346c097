"""What a Q-SFT gradient step costs beside an SFT step, in the training loop itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from baselines.qsft import QSFT, QSFTConfig
from baselines.sft import SFT
from benchmarks.row import Row, Target
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.evaluate import Cell
from qsft_bench.pipeline import Pipeline
from qsft_bench.preset import Scale, scale
from qsft_bench.registry import env_spec
from qsft_bench.token_agent import TokenAgent
from qsft_bench.train import Run

TARGET = 1.45
REPEATS, STEPS = 5, 10


def measure(directory: Path) -> list[Row]:
    """The median ratio over repeats that take turns: SFT, Q-SFT by default, Q-SFT as in the paper.

    After the warm start, that is, with the target network in use: without it there is no second network to run.
    """
    spec = env_spec("wordle")
    small = scale("small", spec)
    sizes = replace(scale("smoke", spec), model=small.model, batch_size=small.batch_size, context=small.context)
    cell = Cell("sft", "wordle", preset="smoke")
    pipeline = Pipeline(root=directory, scales={"wordle": replace(sizes, steps=STEPS)})
    checkpoint = pipeline.checkpoint(cell)
    data = pipeline.tokens(cell)

    def sft_step() -> float:
        return _step_seconds(SFT(), data, checkpoint, sizes)

    def qsft_step(config: QSFTConfig) -> float:
        return _step_seconds(QSFT(config), data, checkpoint, sizes)

    default, paper = replace(QSFTConfig(), warm_start="none"), QSFT.config_for("wordle", "paper")
    contenders: list[tuple[str, Target | None, Callable[[], float]]] = [
        ("Q-SFT step, default", Target("at most", TARGET), lambda: qsft_step(default)),
        ("Q-SFT step, qsft@paper (a third network)", None, lambda: qsft_step(paper)),
    ]
    base: list[float] = []
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(REPEATS):
        base.append(sft_step())
        for found, (_, _, step) in zip(times, contenders, strict=True):
            found.append(step())
    against = f"SFT step: {median(base) * 1e3:.1f} ms"
    return [
        Row(
            f"{what}; {sizes.model}, batch {sizes.batch_size}",
            f"{median(found) * 1e3:.1f} ms",
            against,
            median(mine / plain for mine, plain in zip(found, base, strict=True)),
            target,
        )
        for (what, target, _), found in zip(contenders, times, strict=True)
    ]


def _step_seconds(agent: TokenAgent, data: TokenDataset, sft: Path, sizes: Scale) -> float:
    """Median processor time of a step of `qsft_bench.train.train`: batch, loss, backward, optimiser, target network."""
    stamps: list[float] = []
    run = Run(
        sft.with_name("unused"),
        replace(sizes, steps=STEPS),
        prerequisite=lambda name: SFT.load(sft),
        checkpoint_seconds=math.inf,
        watch=lambda step: stamps.append(time.process_time()),
        watch_every=1,
    )
    agent.fit(data, run)
    return median(after - before for before, after in pairwise(stamps[1:-1]))  # the first warms up, the last diagnoses
