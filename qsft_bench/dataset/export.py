"""Datasets for other tools: the Hugging Face layout, which is our own shards with a card, and Minari's."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from qsft_bench import __version__
from qsft_bench.dataset.store import EpisodeDataset, Manifest
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_directory, check_free, write_text
from qsft_bench.registry import env_spec

Progress = Callable[[int, int], None]
MINARI_BATCH = 500  # episodes between two messages of progress
COLUMNS = {
    "episode": "number within the dataset",
    "seed": "what the environment was reset with",
    "turn": "from 0",
    "frames": "in an episode's first row the images of all its rows as one block, see below, else null",
    "frames_shape": "beside it the block's shape: turns, height, width, 3",
    "proprio": "numbers measured when the image of this turn was taken",
    "observation": "what was new this turn; the transcript is this column in order, actions in between",
    "action": "null in an episode's last row, which is what was seen at the end",
    "reward": "for `action`; an episode's return is the sum",
    "invalid": "why the environment refused the action, else null",
    "log_likelihood": "exact log-probability (nats) of the action under the behaviour, null where unknown",
    "terminated": "whether the episode ends here by its own rules",
    "truncated": "whether the episode is broken off here",
    "success": "the environment's verdict in the last row, else null",
}
DECODING = """\
import math

import numpy
import pyarrow
import pyarrow.parquet

first_turns = pyarrow.parquet.read_table("path/to/this/folder/00000.parquet", filters=[("turn", "==", 0)])
for row in first_turns.to_pylist():
    raw = pyarrow.Codec("zstd").decompress(row["frames"], math.prod(row["frames_shape"]))
    images = numpy.frombuffer(raw, "uint8").reshape(row["frames_shape"])  # (turns, height, width, 3), RGB"""


# Hugging Face ---------------------------------------------------------------------------------------------------------


def export_hf(dataset: EpisodeDataset, out: Path) -> None:
    """Copy the dataset into `out`, with a card that `datasets.load_dataset(out)` and the hub understand.

    The shards are the dataset's own bytes beside its manifest, so `out` is a dataset of this package as well.

    Raises:
        BenchError: a shard is damaged, `out` holds something else, or it cannot be written.
    """
    manifest = dataset.manifest
    _check_apart(dataset, out)
    check_free(out, out / "manifest.json", lambda found: found.get("content") == manifest.content)
    with atomic_directory(out) as temporary:
        for shard in manifest.shards:
            dataset.verify_shard(shard)
            shutil.copyfile(dataset.directory / shard.file, temporary / shard.file)
        for name in ("manifest.json", "card.md"):
            if (dataset.directory / name).exists():
                shutil.copyfile(dataset.directory / name, temporary / name)
        columns = pq.read_schema(temporary / manifest.shards[0].file).names
        write_text(temporary / "README.md", hf_card(manifest, _card(dataset), columns))


def hf_card(manifest: Manifest, card: str, columns: Sequence[str]) -> str:
    """The dataset card: YAML that says which files are the data, then `card`, what the columns are and how to read them.

    Args:
        columns: of the data, each one of `COLUMNS`.
    """
    images = "frames" in columns
    turns = sum(shard.turns for shard in manifest.shards) + manifest.episodes  # the last observations have rows as well
    lines = [
        "---",
        f"pretty_name: {manifest.recipe.env} {manifest.recipe.tier}",
        "task_categories:",
        "- reinforcement-learning",
        "tags:",
        "- offline-rl",
        *(["- text"] if "observation" in columns else ["- robotics"]),
        *(["- image"] if images and "observation" in columns else []),
        "size_categories:",
        f"- {_size_category(turns)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        '    path: "[0-9]*.parquet"',
        "---",
        "",
        card.rstrip(),
        "",
        "## Columns",
        "",
        f"{turns:,} rows, one a turn. `manifest.json` holds the recipe and the SHA-256 of every file.",
        "",
        "| column | |",
        "|---|---|",
        *(f"| `{name}` | {COLUMNS[name]} |" for name in columns),
        "",
        "## Open it",
        "",
        "```python",
        'turns = datasets.load_dataset("path/to/this/folder", split="train")',
        'turns = pandas.read_parquet(sorted(glob.glob("path/to/this/folder/*.parquet")))',
        'episodes = qsft_bench.dataset.store.EpisodeDataset("path/to/this/folder").episodes()',
        "```",
    ]
    if images:
        block = "A block of images is Zstandard of their raw bytes, one byte a channel; without this package it opens so:"
        lines += ["", block, "", "```python", DECODING, "```"]
    return "\n".join(lines) + "\n"


def _size_category(rows: int) -> str:
    """The hub's name for the order of magnitude of `rows`."""
    bounds = [(10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"), (10**9, "1B")]
    low = ""
    for bound, name in bounds:
        if rows < bound:
            return f"{low}<n<{name}" if low else f"n<{name}"
        low = name
    return "n>1B"


# Minari ---------------------------------------------------------------------------------------------------------------


def export_minari(
    dataset: EpisodeDataset, out: Path, *, episodes: int | None = None, progress: Progress = lambda done, total: None
) -> str:
    """Write the dataset into `out`, a folder of Minari datasets (`MINARI_DATASETS_PATH`), as HDF5.

    Observations and actions are `Text`; or a `Dict` of `text` and `image`, a `Text` and a `Box`, and a `Text`; or a `Dict` of
    `image` and `proprio`, two `Box`es, and a `Box`. Images are stored as they are: Minari's JPEG would change them. What Minari
    has no place for stands in the infos, at the index of the observation that followed the action: `invalid` (empty where the
    action was none), `log_likelihood` (NaN where unknown), `success`.

    Args:
        episodes: only the first so many. Minari keeps a group of arrays an episode, which takes room and time: 0.25 MB for
            25 images of 48 x 48.

    Returns:
        The id by which `minari.load_dataset` finds it, `<env>-<tier>-v0`.

    Raises:
        BenchError: Minari is not installed, `out` holds something else under that id, a shard is damaged, or it holds a text
            that HDF5 cannot.
    """
    try:
        import h5py  # noqa: F401 - Minari asks for these two when it writes
        import PIL  # noqa: F401
        from minari import __version__ as minari_version
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise BenchError(f"cannot write Minari's format: {error}; pip install 'qsft-bench[minari]'") from error
    manifest = dataset.manifest
    made = manifest.recipe
    total = manifest.episodes if episodes is None else min(episodes, manifest.episodes)
    if total < 1:
        raise BenchError("export at least one episode")
    name = re.sub(r"[^-\w]+", "-", f"{made.env}-{made.tier}") + "-v0"
    folder = out / name
    _check_apart(dataset, folder)
    check_free(folder, folder / "data" / "metadata.json", lambda found: found.get("content") == manifest.content)

    def buffers() -> Iterator[Any]:
        for number, episode in enumerate(islice(dataset.episodes(), total)):
            if number % MINARI_BATCH == 0:
                progress(number, total)
            yield EpisodeBuffer(id=number, seed=episode.seed, **_buffer(episode))
        progress(total, total)

    observations, actions = _spaces(islice(dataset.episodes(), total))
    with atomic_directory(folder) as temporary:
        place = temporary.resolve() / "data"  # Minari loses its way on a relative path
        storage = MinariStorage.new(place, observations, actions, _gymnasium_spec(manifest), "hdf5", jpeg_encoding=False)
        storage.update_metadata(
            {
                "dataset_id": name,
                "minari_version": minari_version,
                "algorithm_name": f"{made.tier} behaviour",
                "description": _card(dataset),
                "requirements": [f"qsft-bench>={__version__}"],
                "recipe": asdict(made),
                "content": manifest.content,
            }
        )
        try:
            storage.update_episodes(buffers())
        except ValueError as error:
            raise BenchError(f"{dataset.directory} cannot be written as HDF5: {error}") from error
    return name


def _buffer(episode: Episode) -> dict[str, Any]:
    """An episode as the columns of Minari's `EpisodeBuffer`."""
    taken, last = episode.turns[: episode.length], episode.length - 1
    observations: Any = [turn.observation for turn in episode.turns]
    if not isinstance(observations[0], str):
        observations = {name: [each[name] for each in observations] for name in observations[0]}
    return {
        "observations": observations,
        "actions": [turn.action for turn in taken],
        "rewards": [turn.reward for turn in taken],
        "terminations": [episode.terminated and index == last for index in range(len(taken))],
        "truncations": [episode.truncated and index == last for index in range(len(taken))],
        "infos": {
            "invalid": ["", *(turn.invalid or "" for turn in taken)],
            "log_likelihood": [math.nan, *(math.nan if turn.log_likelihood is None else turn.log_likelihood for turn in taken)],
            "success": [False, *(bool(episode.success) and index == last for index in range(len(taken)))],
        },
    }


def _spaces(episodes: Iterator[Episode]) -> tuple[Any, Any]:
    """Spaces of the observations and the actions: the smallest `Text`s that hold them, or boxes like those of the first."""
    from gymnasium.spaces import Box, Dict

    first = next(episodes)
    observation: Any = first.turns[0].observation
    action: Any = first.turns[0].action
    if isinstance(observation, str):
        return _text_spaces(chain([first], episodes))
    image = Box(0, 255, observation["image"].shape, np.uint8)
    if "text" in observation:
        said, done = _text_spaces(chain([first], episodes))
        return Dict({"text": said, "image": image}), done
    proprio = Box(-np.inf, np.inf, observation["proprio"].shape, np.float32)
    return Dict({"image": image, "proprio": proprio}), Box(-1, 1, action.shape, np.float32)


def _text_spaces(episodes: Iterable[Episode]) -> tuple[Any, Any]:
    """The smallest `Text` spaces that hold every observation and every action."""
    from gymnasium.spaces import Text

    longest, letters = [1, 1], [set(" "), set(" ")]
    for episode in episodes:
        for turn in episode.turns:
            seen: Any = turn.observation
            for place, text in enumerate((seen if isinstance(seen, str) else seen["text"], turn.action)):
                if isinstance(text, str):
                    longest[place] = max(longest[place], len(text))
                    letters[place].update(text)
    observation, action = (
        Text(most, min_length=0, charset="".join(sorted(used))) for most, used in zip(longest, letters, strict=True)
    )
    return observation, action


def _gymnasium_spec(manifest: Manifest) -> Any:
    """Gymnasium's declaration of the environment with the options it was played under, for `recover_environment`."""
    import gymnasium

    made = manifest.recipe
    env_spec(made.env)  # importing the environment's folder registers it
    declared = gymnasium.spec(made.env_id)
    return gymnasium.envs.registration.EnvSpec(
        made.env_id, entry_point=declared.entry_point, disable_env_checker=True, kwargs=dict(made.options)
    )


# Both -----------------------------------------------------------------------------------------------------------------


def _card(dataset: EpisodeDataset) -> str:
    """What the dataset's `card.md` says."""
    path = dataset.directory / "card.md"
    return path.read_text(encoding="utf-8") if path.exists() else f"# {dataset.manifest.recipe.env}\n"


def _check_apart(dataset: EpisodeDataset, folder: Path) -> None:
    """Refuse to write over or into the dataset itself.

    Raises:
        BenchError: `folder` is the dataset's own, or one of the two lies in the other.
    """
    ours, theirs = dataset.directory.resolve(), folder.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise BenchError(f"{folder} and {dataset.directory} are one in the other; export to a folder outside the dataset")
