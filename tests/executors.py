"""The kinds of workers that tests run over, and how one is killed. It imports little: every worker of a test imports it."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

from qsft_bench import rollout
from qsft_bench.dataset.generate import make_shard
from qsft_bench.dataset.store import Recipe, Shard

NO_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed")
EXECUTORS = ["process", pytest.param("ray", marks=NO_RAY)]


def stop_ray() -> None:
    """End the cluster that tests have started, if they have."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def killed_once(directory: Path, recipe: Recipe, index: int) -> Shard:
    """`make_shard`, but that its worker is killed once among the episodes of shard 1, and once with shard 2 written."""
    mark = directory.parent / f"killed at {index}"
    if mark.exists() or index == 0:
        return make_shard(directory, recipe, index)
    mark.touch()
    if index == 2:
        make_shard(directory, recipe, index)
        os.kill(os.getpid(), signal.SIGKILL)
    rollout.play = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, return-value]
    return make_shard(directory, recipe, index)
