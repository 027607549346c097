"""What a gradient step costs: Q-SFT beside SFT, objectives beside the bare trunk on the arm, many episodes beside few."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn import functional as F

from baselines.q_transformer import QTransformer
from baselines.qsft import QSFT, QSFTConfig
from baselines.sft import SFT
from benchmarks.row import Row, Target
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.pipeline import Pipeline
from qsft_bench.preset import Scale, scale
from qsft_bench.registry import env_spec, make_env
from qsft_bench.token_agent import TokenAgent
from qsft_bench.train import Run, Training, make_optimizers, mixed_precision

REPEATS, STEPS = 5, 10
EPISODES = 100_000  # what a token costs to train on from so many, and from a hundredth of them


def measure(directory: Path) -> list[Row]:
    """The median ratio over repeats that take turns."""
    bench = _Bench(directory, "wordle")
    rows = bench.rows(
        "SFT step",
        lambda: bench.step(SFT()),
        {
            "Q-SFT step, default": (Target("at most", 1.45), lambda: bench.step(QSFT(_hot(QSFTConfig())))),
            "Q-SFT step, qsft@paper (a third network)": (None, lambda: bench.step(QSFT(QSFT.config_for("wordle", "paper")))),
        },
    )
    rows.append(_share(directory))
    try:
        make_env(env_spec("pick_place")).close()
    except BenchError:
        return rows
    arm = _Bench(directory, "pick_place")
    return rows + arm.rows(
        "the trunk's cross-entropy on batches at hand",
        arm.bare_step,
        {
            "BC step": (Target("at most", 1 / 0.85), lambda: arm.step(SFT())),
            "Q-SFT step": (
                Target("at most", 1.45),
                lambda: arm.step(QSFT(_hot(replace(QSFT.config_for("pick_place"), training=Training())))),
            ),
            "Q-Transformer step": (Target("at most", 1.6), lambda: arm.step(QTransformer())),
        },
    )


def _share(directory: Path) -> Row:
    """A token of Wordle from the whole dataset beside one from 1% of it: batches are read out of memory-mapped files."""
    few, many = (_Bench(directory / str(episodes), "wordle", episodes) for episodes in (EPISODES // 100, EPISODES))
    tokens = few.tokens(), many.tokens()
    times = [(few.step(SFT()) / tokens[0], many.step(SFT()) / tokens[1]) for _ in range(2 * REPEATS)]
    return Row(
        f"wordle: SFT, a token from {EPISODES:,} episodes",
        f"{median(late for _, late in times) * 1e6:.1f} us",
        f"from {EPISODES // 100:,}: {median(early for early, _ in times) * 1e6:.1f} us",
        median(late / early for early, late in times),
        Target("at most", 1.05),
    )


def _hot(config: QSFTConfig) -> QSFTConfig:
    """After the warm start, that is, with the target network in use: without it there is no second network to run."""
    return replace(config, warm_start="none")


class _Bench:
    """A task at preset `smoke` with the model and the batch of `small`, and an SFT checkpoint on it.

    Args:
        episodes: of data; as many as the preset has if 0.
    """

    def __init__(self, directory: Path, env: str, episodes: int = 0) -> None:
        spec = env_spec(env)
        small = scale("small", spec)
        sizes = replace(scale("smoke", spec), model=small.model, batch_size=small.batch_size, context=small.context)
        sizes = replace(sizes, dataset_episodes=episodes or sizes.dataset_episodes)
        cell = Cell("sft", env, preset="smoke")
        pipeline = Pipeline(root=directory, scales={env: replace(sizes, steps=STEPS)})
        self.env = env
        self.sizes: Scale = sizes
        self.sft = pipeline.checkpoint(cell)
        self.data: TokenDataset = pipeline.tokens(cell)

    def rows(
        self,
        against: str,
        base: Callable[[], float],
        contenders: Mapping[str, tuple[Target | None, Callable[[], float]]],
    ) -> list[Row]:
        """One row a contender: its step, in seconds, beside that of `base`."""
        plain: list[float] = []
        times: dict[str, list[float]] = {what: [] for what in contenders}
        for _ in range(REPEATS):
            plain.append(base())
            for what, (_, step) in contenders.items():
                times[what].append(step())
        return [
            Row(
                f"{self.env}: {what}; {self.sizes.model}, batch {self.sizes.batch_size}",
                f"{median(times[what]) * 1e3:.1f} ms",
                f"{against}: {median(plain) * 1e3:.1f} ms",
                median(mine / theirs for mine, theirs in zip(times[what], plain, strict=True)),
                target,
            )
            for what, (target, _) in contenders.items()
        ]

    def step(self, agent: TokenAgent) -> float:
        """Median processor time of a step of `qsft_bench.train.train`: batch, loss, backward, optimiser, target network."""
        stamps: list[float] = []
        run = Run(
            self.sft.with_name("unused"),
            replace(self.sizes, steps=STEPS),
            prerequisite=lambda name: SFT.load(self.sft),
            checkpoint_seconds=math.inf,
            watch=lambda step: stamps.append(time.process_time()),
            watch_every=1,
        )
        agent.fit(self.data, run)
        return median(after - before for before, after in pairwise(stamps[1:-1]))  # the first warms up, the last diagnoses

    def tokens(self) -> float:
        """Median tokens of the batches that `step` learns from."""
        view = self.data.training
        return median(int(view.batch(view.order(step, self.sizes.batch_size, 0)).mask.sum()) for step in range(1, STEPS - 1))

    def bare_step(self) -> float:
        """Median processor time of forward, cross-entropy, backward and optimiser, with nothing of the house around them."""
        codec = self.data.codec
        config = NetworkConfig(self.sizes.model, codec.size, self.sizes.context, {"policy": Head(codec.outputs)}, codec.slots)
        network = Network(config)
        named = {f"policy.{key}": value for key, value in network.named_parameters()}
        optimizers = make_optimizers(named, Training(), self.sizes.learning_rate)
        view, drawn = self.data.training, np.random.default_rng(0)
        batches = [view.batch(drawn.integers(0, len(view.windows), self.sizes.batch_size)) for _ in range(STEPS)]
        mixed = mixed_precision("auto", "cpu") == "bf16"
        times = []
        for batch in batches:
            began = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                F.cross_entropy(network(batch)["policy"], batch.action).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            times.append(time.process_time() - began)
        return median(times[1:])
