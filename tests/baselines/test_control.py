"""Every learned agent where it sees an image and answers with a vector: the four corners.

A light stands in one corner of the image; pointing at it pays 1 and ends the episode, as pointing elsewhere does. The data
point at any corner. Imitation does so too; filtered imitation and values point at the light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsft_bench.control import dequantise
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.registry import agent_class
from qsft_bench.token_agent import Decoding
from tests.baselines import toys
from tests.examples import control_data

BINS, SIZE = 3, 12
CORNERS = [(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
AGENTS: dict[str, dict[str, Any]] = {
    "sft": {},
    "filtered_bc": {},
    "return_conditioned": {},
    "ilql": {"polyak": 0.05},  # values must come from the second token to the first
    "cql": {},
    "q_transformer": {},
    "archer": {},
    "qsft": {},
}
SCALE = replace(toys.SCALE, context=16, steps=500, batch_size=32)


def opening(seed: int) -> Episode:
    """An episode that awaits its action; the corner is the seed's."""
    rng = np.random.default_rng(seed)
    x, y = CORNERS[rng.integers(4)]
    image = rng.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
    image[4 + int(4 * y) :, 4 + int(4 * x) :][:4, :4] = 250
    return Episode("toy", seed, [Turn({"image": image, "proprio": rng.uniform(-1, 1, 3).astype(np.float32)})])


def wanted(seed: int) -> tuple[float, float]:
    return CORNERS[np.random.default_rng(seed).integers(4)]


def answered(seed: int, action: np.ndarray) -> Episode:
    episode = opening(seed)
    right = tuple(action) == wanted(seed)
    episode.step(action, opening(seed + 1).turns[0].observation, float(right), True, False, {"success": right})
    return episode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenDataset, Path]:
    """Data, and every agent trained on them and saved."""
    directory = tmp_path_factory.mktemp("corners")
    rng = np.random.default_rng(0)
    data = control_data(
        directory / "data", [answered(seed, dequantise(2 * rng.integers(0, 2, 2), BINS)) for seed in range(1500)], BINS
    )
    for name, config in AGENTS.items():
        toys.trained(name, data, directory, SCALE, **config)
    return data, directory


def success(agent: Any, seeds: Sequence[int] = range(5000, 5200)) -> float:
    actions = agent.act([opening(seed) for seed in seeds])
    assert all(action.dtype == np.float32 and action.shape == (2,) for action in actions)
    assert set(np.concatenate(actions)) <= {-1.0, 0.0, 1.0}
    return float(np.mean([answered(seed, action).success for seed, action in zip(seeds, actions, strict=True)]))


@pytest.mark.parametrize("name", AGENTS)
def test_who_sees_the_light(made: tuple[TokenDataset, Path], name: str) -> None:
    agent: Any = agent_class(name).load(made[1] / name)
    far = {"beta": 64.0} if hasattr(agent.decoding, "beta") else {}
    decoding = replace(agent.decoding, greedy=True, **far)
    if name == "sft":
        assert success(agent) < 0.4
    else:
        assert success(agent.with_decoding(decoding)) > 0.9
    if agent.state_values([opening(0)]) is not None:
        values = agent.with_decoding(decoding).state_values([opening(seed) for seed in range(50)])
        assert values.shape == (50,) and 0.3 < values.mean() < 1.2


def test_an_agent_shown_the_numbers_alone_points_anywhere(made: tuple[TokenDataset, Path], tmp_path: Path) -> None:
    data, _ = made
    sees = {name: toys.trained("filtered_bc", data, tmp_path / name, SCALE, sees=name) for name in ("image", "numbers")}
    found = {name: success(agent.with_decoding(Decoding(greedy=True))) for name, agent in sees.items()}
    assert found["image"] > 0.9 and found["numbers"] < 0.5
    again = agent_class("filtered_bc").load(tmp_path / "numbers" / "filtered_bc")
    assert success(again.with_decoding(Decoding(greedy=True))) == found["numbers"]  # type: ignore[attr-defined]


def test_text_cannot_be_blanked(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no numbers beside images"):
        toys.trained("sft", toys.chain_data(tmp_path / "data", 50), tmp_path, sees="image")


def test_an_image_of_another_size_is_refused(made: tuple[TokenDataset, Path]) -> None:
    agent = agent_class("sft").load(made[1] / "sft")
    small = opening(0)
    small.turns[0].observation = {"image": np.zeros((6, 6, 3), np.uint8), "proprio": np.zeros(3, np.float32)}
    with pytest.raises(BenchError, match="options of the data"):
        agent.act([small])
