"""data/README.md: every way that it shows to open a dataset gives the dataset's numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsft_bench.dataset.store import CONTROL_SCHEMA, SCHEMA, EpisodeDataset
from tests.examples import control_data, control_episode

PAGE = Path(__file__).parents[2].joinpath("data/README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(library: str, dataset: EpisodeDataset) -> dict[str, Any]:
    """What the names of the block that imports `library` stand for after it ran on `dataset`."""
    pytest.importorskip(library)
    (block,) = [block for block in BLOCKS if f"import {library}\n" in block]
    names: dict[str, Any] = {}
    exec(re.sub(r"data/small/\w+", lambda _: str(dataset.directory), block), names)
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


def test_images(tmp_path: Path) -> None:
    episodes = [control_episode(2, seed, success=seed == 0) for seed in range(4)]
    control_data(tmp_path, episodes)
    found = run("pyarrow.parquet", EpisodeDataset(tmp_path))["images"]
    assert sorted(found) == [0, 1, 2, 3]
    for number, one in enumerate(episodes):
        assert np.array_equal(found[number], np.stack([turn.observation["image"] for turn in one.turns]))


def test_every_column_is_explained() -> None:
    section = PAGE.split("## Columns\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))))
    assert named == {*SCHEMA.names, *CONTROL_SCHEMA.names}
