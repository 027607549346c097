"""data/README.md: every way that it shows to open a dataset gives the dataset's numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from qsft_bench.dataset.store import EpisodeDataset

PAGE = Path(__file__).parents[2].joinpath("data/README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(library: str, dataset: EpisodeDataset) -> dict[str, Any]:
    """What the names of the block that imports `library` stand for after it ran on `dataset`."""
    pytest.importorskip(library)
    (block,) = [block for block in BLOCKS if f"import {library}\n" in block]
    names: dict[str, Any] = {}
    exec(block.replace("data/small/wordle", str(dataset.directory)), names)
    return names


@pytest.fixture(scope="module")
def returns(smoke_dataset: EpisodeDataset) -> list[float]:
    return [episode.total_return for episode in smoke_dataset.episodes()]


def test_pandas(smoke_dataset: EpisodeDataset, returns: list[float]) -> None:
    assert run("pandas", smoke_dataset)["returns"].tolist() == returns


def test_duckdb(smoke_dataset: EpisodeDataset, returns: list[float]) -> None:
    assert run("duckdb", smoke_dataset)["returns"].fetchall() == list(enumerate(returns))


def test_datasets(smoke_dataset: EpisodeDataset, returns: list[float]) -> None:
    turns = list(run("datasets", smoke_dataset)["turns"])
    assert sum(turn["reward"] for turn in turns) == sum(returns)
    assert turns[0]["observation"] == "Wordle:\n"
