"""SFT on a world whose text says nothing: what is right stands in the pictures, of this turn and of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from qsft_bench.agent import Agent
from qsft_bench.dataset.tokens import tokenise
from qsft_bench.episode import Action, Episode
from qsft_bench.noise import uniform
from qsft_bench.rollout import rollout
from tests.baselines import toys
from tests.examples import dataset_of

SIDES = ("left\n", "right\n")
KNOWING = 0.8  # probability with which the data do what is right


class Lamps(gymnasium.Env[dict[str, Any], str]):
    """Three turns: which half of the picture is lit? Then once more: which was in the first picture? Each right answer pays 1.

    Args:
        dark: show nothing.
    """

    def __init__(self, dark: bool = False) -> None:
        self.dark = dark

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.lit: list[int] = []
        return self._show(), {}

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        reward = float(action == SIDES[self.lit[0 if len(self.lit) == 3 else -1]])
        over = len(self.lit) == 3
        return self._show(), reward, over, False, {"success": over and reward == 1}

    def _show(self) -> dict[str, Any]:
        self.lit.append(int(self.np_random.integers(2)))
        image = self.np_random.integers(0, 60, (12, 12, 3), np.uint8)
        if not self.dark:
            image[:, 6 * self.lit[-1] :][:, :6] += np.uint8(150)
        return {"text": "and first?\n" if len(self.lit) == 3 else "now?\n", "image": image}


class Guide(Agent):
    """The data's player; it sees as anybody does."""

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        draws = uniform([episode.seed for episode in episodes], [episode.length for episode in episodes])
        return [SIDES[right ^ int(draw > KNOWING)] for right, draw in zip(map(self._right, episodes), draws, strict=True)]

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> np.ndarray:
        rights = [SIDES[self._right(episode)] for episode in episodes]
        return np.log([KNOWING if action == right else 1 - KNOWING for action, right in zip(actions, rights, strict=True)])

    def _right(self, episode: Episode) -> int:
        image = episode.turns[0 if episode.length == 2 else -1].observation["image"]
        return int(image[:, 6:].mean() > image[:, :6].mean())


def play(agent: Agent, seeds: range, dark: bool = False) -> list[Episode]:
    return list(rollout(agent, lambda: Lamps(dark), seeds, name="lamps"))


@pytest.mark.parametrize("name", ["sft", "qsft"])
def test_what_only_the_pictures_show_is_learned(tmp_path: Path, name: str) -> None:
    dataset = dataset_of(tmp_path, play(Guide(), range(2**33, 2**33 + 1200)))
    settings: dict[str, Any] = {"context": 48, "state": "transcript", "discount": 1.0}
    data = tokenise(dataset, tmp_path / "tokens", codec="words", **settings)
    scale = replace(toys.SCALE, context=48, steps=240, batch_size=64)
    agent = toys.trained("sft", data, tmp_path, scale)
    gap = toys.last_diagnosis(agent)["gap_closed"]  # 0: what can be said without pictures; 1: the data's own likelihood
    if name == "qsft":
        agent = toys.trained("qsft", data, tmp_path, scale)
    best = agent.with_decoding(replace(agent.decoding, greedy=True)) if name == "sft" else agent
    seen, blind = (
        np.mean([[turn.reward for turn in episode.turns[:3]] for episode in play(best, range(200), dark)], axis=0)
        for dark in (False, True)
    )
    assert gap > 0.8
    assert seen.min() > 0.95, seen  # the first picture, two turns later, as well as the newest
    assert blind.max() < 0.75, blind
