"""What each rank does under `tests/test_ranks.py`: `torchrun --nproc-per-node 2 -m tests.two_ranks FOLDER`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from baselines.qsft import QSFT, QSFTConfig
from baselines.sft import SFT
from qsft_bench import ranks
from qsft_bench.dataset.tokens import open_tokens
from qsft_bench.files import write_json
from qsft_bench.model import chunks
from qsft_bench.model.network import SIZES
from qsft_bench.train import Run, Training
from tests.examples import TINY

SCALE = replace(TINY, model="pair", context=160, steps=8)
PAIR = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64}  # two blocks, so that one of them is sharded by itself
# AdamW: Muon orthogonalises in bfloat16, where the order of sums shows.
CONFIG = QSFTConfig(training=Training(precision="no", accumulate=2, optimizer="adamw"), warm_start="none")


@contextlib.contextmanager
def two_blocks() -> Iterator[None]:
    """Makes the size `pair` known, and has losses read a few tokens at a time, as those of large vocabularies are."""
    with patch.dict(SIZES, pair=PAIR), patch.object(chunks, "LOGITS", 2_000):
        yield


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def fit(folder: Path, name: str, stop: bool = False, **options: Any) -> None:
    """Train on the tokens that `folder` names from the SFT checkpoint in it; save it, and what its watch saw, as `name`.

    Args:
        stop: all ranks end after the fifth step.
    """
    agent, watched = QSFT(CONFIG), list[int]()
    data = open_tokens(Path((folder / "tokens.txt").read_text()))

    def watch(step: int) -> None:
        agent.networks["value"](data.training.batch(data.training.order(0, 2, 0)))  # as play would, in this rank alone
        watched.append(step)

    def before_step(step: int, steps: int) -> None:
        if step == 5:
            raise StoppedError

    if stop:
        agent.before_step = before_step  # type: ignore[method-assign]
    run = Run(
        folder / name,
        SCALE,
        prerequisite=lambda _: SFT.load(folder / "sft"),
        checkpoint_seconds=-1.0,
        watch=watch,
        watch_every=4,
        **options,
    )
    with two_blocks():
        agent.fit(data, run)
    if ranks.is_main():
        agent.save(folder / name)
        write_json(folder / name / "watched.json", watched)
    else:
        assert not watched


def main(folder: Path) -> None:
    """Trainings that `test_ranks` compares with those of one process."""
    assert ranks.world_size() == 2
    fit(folder, "whole")
    fit(folder, "one, then two")  # whose state one process left
    with contextlib.suppress(StoppedError):
        fit(folder, "two, then one", stop=True)
    fit(folder, "sharded", sharded=True)
    fit(folder, "one, then sharded", sharded=True)
    with contextlib.suppress(StoppedError):
        fit(folder, "sharded, then one", stop=True, sharded=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
