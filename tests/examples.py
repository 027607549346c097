"""Hand-made episodes, and the sizes at which the whole pipeline runs in seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from qsft_bench.codec import TextCodec
from qsft_bench.control import dequantise
from qsft_bench.dataset.store import EpisodeDataset, Recipe, make_manifest, write_manifest, write_shard
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from qsft_bench.episode import Episode, Turn
from qsft_bench.preset import Scale

BOUND = {"observation": "bound", "action": "word"}
WORDS = Recipe("wordle", "qsft_bench/Wordle-v0", "base", BOUND, {"consistent": 0.315}, 60, 7, 20)
CHARACTERS = Recipe("wordle", "qsft_bench/Wordle-v0", "base", {}, {"consistent": 0.315}, 40, 7, 40)
TINY = Scale(
    summary="seconds",
    options=dict(BOUND),
    codec="words",
    dataset_episodes=120,
    model="nano",
    context=64,
    steps=6,
    batch_size=16,
    learning_rate=3e-3,
    evaluation_episodes=12,
    validation_episodes=3,
    curve_points=3,
    curve_episodes=4,
    publishes=True,
)


def episode(
    observations: Sequence[str], actions: Sequence[str], rewards: Sequence[float] | None = None, seed: int = 5, **ending: Any
) -> Episode:
    """A finished episode; there is one observation more than there are actions."""
    rewards = rewards if rewards is not None else [-1.0] * len(actions)
    turns = [Turn(o, a, r) for o, a, r in zip(observations, actions, rewards, strict=False)]
    ending = {"terminated": True, "success": False} | ending
    return Episode("toy", seed, [*turns, Turn(observations[-1])], **ending)


def codec_of(level: str, episodes: Sequence[Episode]) -> TextCodec:
    """A codec that knows every piece of these episodes."""
    texts = {str(text): 1 for one in episodes for turn in one.turns for text in (turn.observation, turn.action) if text}
    actions = {str(turn.action) for one in episodes for turn in one.turns if turn.action is not None}
    return TextCodec.learn(level, {**texts, "x\n": 1}, actions)


LINES = st.text("ab :'", min_size=0, max_size=9)


@st.composite
def finished_episodes(draw: st.DrawFn, most_turns: int = 6) -> Episode:
    """Text of any length, rewards of any sign, utterances that end in a newline."""
    count = draw(st.integers(1, most_turns))
    reward = st.floats(-3, 3, width=16).map(float)
    turns = [
        Turn(
            draw(LINES),
            draw(LINES) + "\n",
            draw(reward),
            draw(st.sampled_from([None, "refused"])),
            draw(st.one_of(st.none(), st.floats(-9, 0, width=16))),
        )
        for _ in range(count)
    ]
    truncated = draw(st.booleans())
    seed = draw(st.integers(0, 2**62))
    success = draw(st.booleans())
    return Episode("toy", seed, [*turns, Turn(draw(LINES))], not truncated, truncated, success)


def same(left: float | None, right: float | None) -> bool:
    """Equal, two NaNs included."""
    return left == right or (left is not None and right is not None and math.isnan(left) and math.isnan(right))


def control_episode(length: int, seed: int = 5, bins: int = 5, size: int = 12, success: bool = True) -> Episode:
    """A finished episode of images (size, size, 3), three numbers and control vectors of two dimensions, drawn from `seed`."""
    rng = np.random.default_rng(seed)

    def seen() -> dict[str, Any]:
        image = (60 * rng.integers(0, 4, (size, size, 3))).astype(np.uint8)
        return {"image": image, "proprio": rng.uniform(-1, 1, 3).astype(np.float32)}

    turns = [Turn(seen(), dequantise(rng.integers(0, bins, 2), bins)) for _ in range(length)]
    turns[-1].reward = float(success)
    return Episode("toy", seed, [*turns, Turn(seen())], terminated=True, success=success)


def control_data(directory: Path, episodes: Sequence[Episode], bins: int = 5) -> TokenDataset:
    """The tokens of `control_episode`s, by way of a dataset on disk."""
    settings: dict[str, Any] = {"context": 16, "state": "observation", "discount": 0.9}
    return tokenise(dataset_of(directory, episodes), directory / "tokens", codec=f"control:{bins}", **settings)


def picture_episode(length: int, seed: int = 5, size: int = 12, pictures: int = 4) -> Episode:
    """A finished episode of text and images (size, size, 3), of which there are `pictures` in all, drawn from `seed`.

    All but the first observation say the same: only the image tells them apart.
    """
    rng = np.random.default_rng(seed)

    def seen(text: str) -> dict[str, Any]:
        picture = np.random.default_rng(int(rng.integers(pictures)))
        return {"text": text, "image": picture.integers(0, 256, (size, size, 3), np.uint8)}

    turns = [Turn(seen("see\n" if turn else "the task\n"), ("go\n", "stop now\n")[rng.integers(2)]) for turn in range(length)]
    turns[-1].reward = float(seed % 2)
    return Episode("toy", seed, [*turns, Turn(seen("end\n"))], terminated=True, success=seed % 2 == 1)


def picture_data(directory: Path, episodes: Sequence[Episode], context: int = 64, state: Any = "transcript") -> TokenDataset:
    """The tokens of `picture_episode`s, by way of a dataset on disk."""
    settings: dict[str, Any] = {"context": context, "state": state, "discount": 0.9}
    return tokenise(dataset_of(directory, episodes), directory / "tokens", codec="words", **settings)


def dataset_of(directory: Path, episodes: Sequence[Episode]) -> EpisodeDataset:
    """A dataset of two shards on disk."""
    half = len(episodes) // 2
    shards = [write_shard(directory, 0, 0, episodes[:half]), write_shard(directory, 1, half, episodes[half:])]
    recipe = Recipe("toy", "qsft_bench/Toy-v0", "base", {}, {}, len(episodes), 0, half)
    write_manifest(directory / "manifest.json", make_manifest(recipe, shards))
    return EpisodeDataset(directory)
