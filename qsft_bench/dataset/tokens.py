"""TokenDataset: a dataset as memory-mapped token arrays, made once and read by every learner without the environment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from qsft_bench import weights
from qsft_bench.codec import Codec, ControlCodec, PretrainedCodec, TextCodec, codec_from_config
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_directory, json_sha256, read_json, write_json
from qsft_bench.tokens import Frames, TokenArrays, TokenBatch, normalise

VALIDATION_SHARE = 0.02
MAX_VALIDATION_EPISODES = 5_000


@dataclass(frozen=True)
class TokenRecipe:
    """What a token cache follows from, beside the dataset's content."""

    dataset: str
    codec: str
    context: int
    state: Literal["transcript", "observation"]
    discount: float
    return_bounds: tuple[float, float]


class TokenDataset:
    """Token arrays of a dataset with its codec; the last 2% of the episodes (at most 5,000) are for validation.

    Attributes:
        arrays: see `TokenArrays`.
        codec: made the ids.
        env: the environment's short name.
        meta: what `meta.json` holds: the recipes, the return bounds, the codec.
        discount: applied where an utterance ends.
        return_bounds: the returns that are 0 and 1 on the learners' scale, in the environment's unit.
        mean_return: of the whole dataset, in the environment's unit.
    """

    def __init__(
        self, arrays: TokenArrays, codec: Codec, meta: dict[str, Any], episodes: NDArray[np.int64] | None = None
    ) -> None:
        self.arrays = arrays
        self.codec = codec
        self.meta = meta
        self.env: str = meta["env"]
        self.discount: float = meta["recipe"]["discount"]
        self.return_bounds: tuple[float, float] = tuple(meta["return_bounds"])
        self.mean_return: float = meta["mean_return"]
        self._episodes = episodes

    @property
    def episodes(self) -> NDArray[np.int64]:
        """Indices of the episodes this view holds."""
        return np.arange(len(self.arrays.episode_row) - 1) if self._episodes is None else self._episodes

    @property
    def returns(self) -> NDArray[np.float32]:
        """Undiscounted returns of those episodes, in the environment's unit."""
        return self.arrays.episode_return[self.episodes]

    def normalise(self, value: Any) -> Any:
        """A return in the environment's unit on the scale on which the data span [0, 1]."""
        return normalise(value, self.return_bounds)

    def denormalise(self, value: Any) -> Any:
        """The inverse of `normalise`."""
        low, high = self.return_bounds
        return low + value * (high - low)

    def select(self, episodes: NDArray[np.int64]) -> TokenDataset:
        """A view of some of the episodes."""
        return TokenDataset(self.arrays, self.codec, self.meta, np.asarray(episodes, np.int64))

    @cached_property
    def training(self) -> TokenDataset:
        """The view that learners learn from."""
        return self.select(self.episodes[: len(self.episodes) - self._held_out])

    @cached_property
    def validation(self) -> TokenDataset:
        """The held-out view."""
        return self.select(self.episodes[len(self.episodes) - self._held_out :])

    @property
    def _held_out(self) -> int:
        return min(MAX_VALIDATION_EPISODES, max(1, int(len(self.episodes) * VALIDATION_SHARE)))

    @cached_property
    def windows(self) -> NDArray[np.int64]:
        """Units of sampling, see `TokenArrays.windows`."""
        windows = self.arrays.windows(self._episodes)
        if not len(windows):
            raise BenchError(f"there is no episode left to learn {self.env} from")
        return windows

    def batch(self, indices: NDArray[np.int64]) -> TokenBatch:
        """The batch of the windows at `indices`."""
        return self.arrays.batch(self.windows[indices], self.discount)

    def order(self, step: int, batch_size: int, seed: int) -> NDArray[np.int64]:
        """Window indices of gradient step `step`: every epoch is a fresh permutation, and nothing but (seed, step) matters."""
        count = len(self.windows)
        slots = np.arange(step * batch_size, (step + 1) * batch_size)
        epochs, places = slots // count, slots % count
        return np.concatenate([self._permutation(seed, int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])

    def _permutation(self, seed: int, epoch: int) -> NDArray[np.int64]:
        cached = getattr(self, "_last_permutation", None)
        if cached is None or cached[0] != (seed, epoch):
            cached = ((seed, epoch), np.random.default_rng([seed, epoch]).permutation(len(self.windows)))
            self._last_permutation = cached
        return cached[1]


def tokenise(
    dataset: EpisodeDataset,
    directory: Path,
    *,
    codec: str | Codec,
    context: int,
    state: Literal["transcript", "observation"],
    discount: float,
    return_bounds: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenDataset:
    """Make the token arrays of `dataset` below `directory`, or open them if they are there.

    Args:
        codec: a level of `TextCodec`, learned from the dataset (of texts, or of texts with images), or `control:<bins>` for
            control vectors with images and numbers, or `pretrained:<model>` for that model's own tokenizer, `chat:<model>` for
            that in its chat template, or a codec to use as it is.
        return_bounds: returns that become 0 and 1; the least and the greatest in the data unless given.

    Raises:
        BenchError: a shard is damaged, or nothing can be learned from the data.
    """
    level = codec if isinstance(codec, str) else codec.sha256
    if level.startswith(("pretrained:", "chat:")):  # another model may stand under this name by now
        level += f"@{weights.tokenizer_sha256(weights.folder(level.partition(':')[2], whole=False))}"
    bounds = return_bounds or dataset.manifest.return_bounds
    recipe = TokenRecipe(dataset.manifest.content, level, context, state, discount, bounds)
    folder = directory / json_sha256(asdict(recipe))[:16]
    if (folder / "meta.json").exists():
        return open_tokens(folder)
    manifest = dataset.manifest
    total = 2 * len(manifest.shards)
    if isinstance(codec, str):
        codec = _learn_codec(dataset, codec, lambda done: progress(done, total))
    meta = {
        "recipe": asdict(recipe),
        "env": manifest.recipe.env,
        "tier": manifest.recipe.tier,
        "dataset_recipe": manifest.recipe.sha256,
        "return_bounds": list(bounds),
        "mean_return": manifest.mean_return,
        "codec": codec.config(),
    }
    pieces = []
    settings: dict[str, Any] = {"context": context, "state": state, "discount": discount, "return_bounds": bounds}
    with atomic_directory(folder) as temporary, ExitStack() as stack:
        if codec.slots is not None:  # too many images to hold
            settings["frames"] = stack.enter_context(_FramesFile(temporary / "images.npy", codec.slots.image))
        for index, shard in enumerate(manifest.shards):
            pieces.append(TokenArrays.encode(dataset.shard_episodes(shard), codec, **settings))
            progress(len(manifest.shards) + index + 1, total)
        for name in TokenArrays.names(codec.slots, state):
            if name != "images":
                np.save(temporary / f"{name}.npy", _join([getattr(piece, name) for piece in pieces], name))
        write_json(temporary / "meta.json", meta)
    return open_tokens(folder)


class _FramesFile(Frames):
    """Images by index, written one after another into a file for `numpy.load`.

    Args:
        path: of the file.
        shape: of an image.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        super().__init__()
        self._shape = shape
        self._count = 0
        self._file = path.open("wb")
        self._write_header()

    def keep(self, image: NDArray[np.uint8]) -> int:
        self._file.write(image.tobytes())
        self._count += 1
        return self._count - 1

    def _write_header(self) -> None:
        """It takes the same room for any number of images: numpy leaves some for arrays that grow."""
        self._file.seek(0)
        header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._write_header()
        self._file.close()


def open_tokens(folder: Path) -> TokenDataset:
    """Open token arrays without reading them: they are memory-mapped.

    Raises:
        BenchError: a file is missing or damaged.
    """
    meta = read_json(folder / "meta.json")
    codec = codec_from_config(meta["codec"])
    names = TokenArrays.names(codec.slots, meta["recipe"]["state"])
    try:
        values = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
    except (OSError, ValueError, EOFError) as error:
        raise BenchError(f"the token cache {folder} is damaged ({error}); delete it and it is made again") from error
    return TokenDataset(TokenArrays(**values), codec, json.loads(json.dumps(meta)))


def _learn_codec(dataset: EpisodeDataset, level: str, progress: Callable[[int], None]) -> Codec:
    kind, _, rest = level.partition(":")
    if kind == "control":
        if not rest.isdigit():
            raise BenchError(f"codec {level!r} must say how many bins a dimension has, as in control:33")
        return ControlCodec.learn(int(rest), next(dataset.episodes()))
    if kind == "chat" and not rest:
        raise BenchError("codec 'chat' is a pretrained model's: name one with a chat template (--model pip:smollm2-135m)")
    texts: Counter[str] = Counter()
    actions: set[str] = set()
    image: tuple[int, ...] | None = None
    for index, shard in enumerate(dataset.manifest.shards):
        for episode in dataset.shard_episodes(shard):
            for turn in episode.turns:
                observation = turn.observation
                if isinstance(observation, Mapping) and "text" in observation:
                    image = image or observation["image"].shape
                    observation = observation["text"]
                for value in (observation, turn.action):
                    if isinstance(value, str):
                        texts[value] += 1
                if isinstance(turn.action, str):
                    actions.add(turn.action)
        progress(index + 1)
    if kind in ("pretrained", "chat"):
        return PretrainedCodec.learn(rest, actions, image, chat=kind == "chat")
    return TextCodec.learn(level, texts, actions, image=image)


def _join(parts: list[NDArray[Any]], name: str) -> NDArray[Any]:
    """Concatenate one array of several `TokenArrays`; offsets go on where the part before them ended."""
    if name not in ("row_start", "row_action", "row_frame", "episode_row"):
        return np.concatenate(parts)
    shifted, end = [parts[0]], int(parts[0][-1])
    for part in parts[1:]:
        shifted.append(part[1:] + end)
        end += int(part[-1])
    return np.concatenate(shifted)
