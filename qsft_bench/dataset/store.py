"""Episodes on disk: one Parquet row a turn, in shards, beside a manifest that says what they are and proves it.

```
data/small/wordle/base/
    manifest.json     identity (content hash), recipe, counts, returns, library versions, SHA-256 of every shard
    00000.parquet     episodes 0 .. shard_episodes - 1, readable by pandas, DuckDB and `datasets`
    00001.parquet
```
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qsft_bench.dataset.frames import pack, unpack
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_path, file_sha256, json_sha256, read_json, write_json

FORMAT = 1
EPISODES_AT_ONCE = 256  # turned into columns together: no more than their images are held raw


def _schema(*seen_and_done: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(
        [
            ("episode", pa.int64()),
            ("seed", pa.int64()),
            ("turn", pa.int32()),
            *seen_and_done,
            ("reward", pa.float64()),
            ("invalid", pa.large_string()),
            ("log_likelihood", pa.float64()),
            ("terminated", pa.bool_()),
            ("truncated", pa.bool_()),
            ("success", pa.bool_()),
        ]
    )


SCHEMA = _schema(("observation", pa.large_string()), ("action", pa.large_string()))
# Where an observation is an image and measured numbers, and an action a vector. All images of an episode stand in its first
# row, as one block (see `frames`) of the shape beside it, (turns, height, width, 3).
CONTROL_SCHEMA = _schema(
    ("frames", pa.large_binary()),
    ("frames_shape", pa.list_(pa.int32())),
    ("proprio", pa.list_(pa.float32())),
    ("action", pa.list_(pa.float32())),
)
# Where an observation is text and an image, and an action text; images as above.
PICTURE_SCHEMA = _schema(
    ("observation", pa.large_string()),
    ("frames", pa.large_binary()),
    ("frames_shape", pa.list_(pa.int32())),
    ("action", pa.large_string()),
)


@dataclass(frozen=True)
class Recipe:
    """Everything the content of a dataset follows from; its hash keys the stage that generates it."""

    env: str
    env_id: str
    tier: str
    options: Mapping[str, Any]
    behaviour: Mapping[str, Any]
    episodes: int
    seed: int
    shard_episodes: int

    @property
    def sha256(self) -> str:
        return json_sha256(asdict(self))


@dataclass(frozen=True)
class Shard:
    """One file of a dataset: `sha256` proves the bytes, `content` identifies the episodes whatever wrote the bytes."""

    file: str
    first: int
    episodes: int
    turns: int
    sha256: str
    content: str
    return_sum: float
    return_square_sum: float
    return_min: float
    return_max: float
    successes: int


@dataclass(frozen=True)
class Manifest:
    """What a dataset is. `content` is its identity: equal content, equal hash, on every machine."""

    recipe: Recipe
    shards: tuple[Shard, ...]
    content: str
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def episodes(self) -> int:
        return sum(shard.episodes for shard in self.shards)

    @property
    def mean_return(self) -> float:
        return math.fsum(shard.return_sum for shard in self.shards) / self.episodes

    @property
    def return_sd(self) -> float:
        square = math.fsum(shard.return_square_sum for shard in self.shards) / self.episodes
        return math.sqrt(max(0.0, square - self.mean_return**2))

    @property
    def return_bounds(self) -> tuple[float, float]:
        """Least and greatest return in the data (Assumption 4.1 normalises by them)."""
        return min(shard.return_min for shard in self.shards), max(shard.return_max for shard in self.shards)

    @property
    def success_rate(self) -> float:
        return sum(shard.successes for shard in self.shards) / self.episodes


def make_manifest(recipe: Recipe, shards: Sequence[Shard]) -> Manifest:
    """The manifest of finished shards.

    Raises:
        BenchError: there is no episode.
    """
    if not sum(shard.episodes for shard in shards):
        raise BenchError(f"the {recipe.env} dataset is empty; ask for at least one episode")
    content = json_sha256([asdict(recipe), [shard.content for shard in shards]])
    versions = {name: version(name) for name in ("gymnasium", "numpy", "pyarrow")} | {"python": platform.python_version()}
    return Manifest(recipe, tuple(shards), content, versions)


def table_from_episodes(episodes: Iterable[Episode], first: int, *, images: bool = True) -> pa.Table:
    """Episodes as an Arrow table by `SCHEMA`, or where they hold images by `PICTURE_SCHEMA` (beside text) or `CONTROL_SCHEMA`.

    Args:
        first: number of the first episode.
        images: if false, images and numbers beside them are left out: seed and actions give them again, bit for bit.

    Raises:
        BenchError: an episode is unfinished or holds an action or reward that cannot be stored.
    """
    tables, waiting = [], iter(episodes)
    while chunk := list(islice(waiting, EPISODES_AT_ONCE)):
        tables.append(_table(chunk, first, images))
        first += len(chunk)
    return pa.concat_tables(tables).combine_chunks() if tables else SCHEMA.empty_table()


def _table(episodes: Sequence[Episode], first: int, images: bool) -> pa.Table:
    seen_first = episodes[0].turns[0].observation
    schema = SCHEMA if isinstance(seen_first, str) else PICTURE_SCHEMA if "text" in seen_first else CONTROL_SCHEMA
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    append = {name: columns[name].append for name in schema.names}
    try:
        for number, episode in enumerate(episodes, first):
            if not episode.done:
                raise BenchError(f"episode {number} of {episode.env} is not finished")
            last = len(episode.turns) - 1
            for index, turn in enumerate(episode.turns):
                if not math.isfinite(turn.reward):
                    raise BenchError(f"episode {number} of {episode.env} has reward {turn.reward} at turn {index}")
                append["episode"](number)
                append["seed"](episode.seed)
                append["turn"](index)
                append["action"](turn.action)
                append["reward"](turn.reward)
                append["invalid"](turn.invalid)
                append["log_likelihood"](turn.log_likelihood)
                append["terminated"](index == last and episode.terminated)
                append["truncated"](index == last and episode.truncated)
                append["success"](episode.success if index == last else None)
            observations: list[Any] = [turn.observation for turn in episode.turns]
            if schema is SCHEMA:
                columns["observation"] += observations
                continue
            block, shape = pack([seen["image"] for seen in observations]) if images else (None, None)
            columns["frames"] += [block] + [None] * last
            columns["frames_shape"] += [shape] + [None] * last
            if schema is PICTURE_SCHEMA:
                columns["observation"] += [seen["text"] for seen in observations]
            else:
                columns["proprio"] += [seen["proprio"] if images else None for seen in observations]
        return pa.table(columns, schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, KeyError) as error:
        raise BenchError(f"episodes {first} and on cannot be stored: {error}") from error


def episodes_from_table(table: pa.Table, env: str, source: str) -> Iterator[Episode]:
    """The episodes of an Arrow table by any of the schemas; images (and numbers) that were left out lack in the observations.

    Raises:
        BenchError: a reward or an action is missing, a reward is not finite, turns are out of order, or images are damaged;
            `source` is named.
    """
    names = ("episode", "seed", "turn", "reward", "invalid", "log_likelihood", "terminated", "truncated", "success")
    columns = [table[name].to_pylist() for name in names]
    turns: list[Turn] = []
    for (observation, action), number, seed, index, reward, invalid, likelihood, terminated, truncated, success in zip(
        _seen_and_done(table, source), *columns, strict=True
    ):
        if index != len(turns) or reward is None or not math.isfinite(reward):
            what = f"turn {index} where {len(turns)} is due" if index != len(turns) else f"reward {reward} at turn {index}"
            raise BenchError(f"{source}: episode {number} has {what}; generate or import the dataset again")
        turns.append(Turn(observation, action, reward, invalid, likelihood))
        if terminated or truncated:
            try:
                episode = Episode(env, seed, turns, terminated, truncated, success)
            except ValueError as error:
                raise BenchError(f"{source}: {error}; generate or import the dataset again") from error
            yield episode
            turns = []
    if turns:
        raise BenchError(f"{source} ends inside an episode; generate or import the dataset again")


def _seen_and_done(table: pa.Table, source: str) -> Iterator[tuple[Any, Any]]:
    """Observation and action of every row."""
    if _schema_of(table) is SCHEMA:
        yield from zip(table["observation"].to_pylist(), table["action"].to_pylist(), strict=True)
        return
    beside = "observation" if _schema_of(table) is PICTURE_SCHEMA else "proprio"
    images: NDArray[np.uint8] | None = None
    columns = (table[name].to_pylist() for name in ("episode", "turn", "frames", "frames_shape", beside, "action"))
    for number, index, block, shape, said, action in zip(*columns, strict=True):
        if index == 0:
            images = None if block is None else unpack(block, shape, f"{source}: episode {number}, turn 0")
        if images is not None and index >= len(images):
            raise BenchError(f"{source}: episode {number} has no image at turn {index}; generate or import it again")
        image = {} if images is None else {"image": images[index]}
        if beside == "observation":
            yield {"text": said, **image}, action
        else:
            numbers = {"proprio": np.array(said, np.float32)} if image else {}
            yield {**image, **numbers}, None if action is None else np.array(action, np.float32)


def _schema_of(table: pa.Table) -> pa.Schema:
    if "frames" not in table.column_names:
        return SCHEMA
    return PICTURE_SCHEMA if "observation" in table.column_names else CONTROL_SCHEMA


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file of turns.

    Raises:
        BenchError: it is not one, or a column is missing.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BenchError(f"{path} is damaged ({error}); delete it and make it again") from error
    missing = [name for name in _schema_of(table).names if name not in table.column_names]
    if missing:
        raise BenchError(f"{path} has no column {', '.join(missing)}; generate or import the dataset again")
    return table


def content_sha256(table: pa.Table) -> str:
    """Hash of a table's values, independent of compression, chunking and Parquet's version.

    Raises:
        BenchError: images are damaged.
    """
    digest = hashlib.sha256()
    for name in _schema_of(table).names:
        column = table[name].combine_chunks()
        digest.update(name.encode())
        _update(digest, column)
        if pa.types.is_large_binary(column.type):
            for row, (block, shape) in enumerate(zip(column, table["frames_shape"], strict=True)):
                if block.is_valid:
                    digest.update(unpack(block.as_py(), shape.as_py(), f"row {row}").tobytes())
    return digest.hexdigest()


def _update(digest: Any, column: pa.Array) -> None:
    """Add which values there are, and unless they are blocks of images, the values."""
    digest.update(pc.is_valid(column).cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_large_string(column.type):
        digest.update(pc.fill_null(pc.binary_length(column), 0).cast(pa.int64()).to_numpy().tobytes())
        digest.update("".join(value for value in column.to_pylist() if value).encode())
    elif pa.types.is_list(column.type):
        digest.update(pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64()).to_numpy().tobytes())
        _update(digest, pc.list_flatten(column))
    elif not pa.types.is_large_binary(column.type):
        filled = pc.fill_null(column, False if pa.types.is_boolean(column.type) else 0)
        if pa.types.is_boolean(column.type):
            filled = filled.cast(pa.uint8())
        digest.update(filled.to_numpy().tobytes())


def write_shard(directory: Path, index: int, first: int, episodes: Iterable[Episode]) -> Shard:
    """Write one shard atomically and describe it.

    Args:
        episodes: taken one after another; their images are never all held raw.

    Raises:
        BenchError: no room or no permission, or episodes that cannot be stored; nothing half-written is left.
    """
    returns: list[float] = []
    turns: list[int] = []
    successes: list[bool] = []

    def counted() -> Iterator[Episode]:
        for episode in episodes:
            returns.append(episode.total_return)
            turns.append(episode.length)
            successes.append(bool(episode.success))
            yield episode

    table = table_from_episodes(counted(), first)
    path = directory / f"{index:05d}.parquet"
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=2**17)
        digest = file_sha256(temporary)
    return Shard(
        file=path.name,
        first=first,
        episodes=len(returns),
        turns=sum(turns),
        sha256=digest,
        content=content_sha256(table),
        return_sum=math.fsum(returns),
        return_square_sum=math.fsum(value * value for value in returns),
        return_min=min(returns, default=math.inf),
        return_max=max(returns, default=-math.inf),
        successes=sum(successes),
    )


class EpisodeDataset:
    """A finished dataset on disk; opening it reads the manifest alone.

    Args:
        directory: the folder with `manifest.json`.

    Raises:
        BenchError: there is no manifest, or it is of another format.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        path = self.directory / "manifest.json"
        if not path.exists():
            raise BenchError(f"{self.directory} holds no dataset; make one with `qsft-bench data generate`")
        self.manifest = read_manifest(path)

    def episodes(self) -> Iterator[Episode]:
        """Every episode in order, one shard in memory at a time, each shard verified before it is read.

        Raises:
            BenchError: a shard is missing or altered.
        """
        for shard in self.manifest.shards:
            yield from self.shard_episodes(shard)

    def shard_episodes(self, shard: Shard) -> Iterator[Episode]:
        """The episodes of one shard, verified first."""
        self.verify_shard(shard)
        path = self.directory / shard.file
        yield from episodes_from_table(read_table(path), self.manifest.recipe.env, str(path))

    def verify(self) -> None:
        """Check every shard's bytes and content, and the identity that follows from them.

        Raises:
            BenchError: the first file that is not as the manifest says.
        """
        for shard in self.manifest.shards:
            self.verify_shard(shard)
            found = content_sha256(read_table(self.directory / shard.file))
            if found != shard.content:
                raise BenchError(f"{self.directory / shard.file} holds content {found}, the manifest expects {shard.content}")
        expected = make_manifest(self.manifest.recipe, self.manifest.shards).content
        if expected != self.manifest.content:
            raise BenchError(f"{self.directory}/manifest.json says content {self.manifest.content}, its shards give {expected}")

    def verify_shard(self, shard: Shard) -> None:
        """Compare a shard's bytes with the manifest.

        Raises:
            BenchError: the file is missing or has another SHA-256; both are named.
        """
        path = self.directory / shard.file
        if not path.exists():
            raise BenchError(f"{path} is missing; run `qsft-bench data generate` again to restore it")
        found = file_sha256(path)
        if found != shard.sha256:
            raise BenchError(
                f"{path} was truncated or altered: its SHA-256 is {found}, the manifest expects {shard.sha256}; "
                "delete it and run `qsft-bench data generate` again"
            )


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        BenchError: it is damaged or of another format.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BenchError(f"{path} is not a dataset manifest of format {FORMAT}; generate the dataset again")
    try:
        return Manifest(
            Recipe(**value["recipe"]), tuple(Shard(**shard) for shard in value["shards"]), value["content"], value["versions"]
        )
    except (KeyError, TypeError) as error:
        raise BenchError(f"{path} is damaged ({error}); generate the dataset again") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically, the returns beside the counts for people to read."""
    summary = {
        "episodes": manifest.episodes,
        "mean_return": round(manifest.mean_return, 6),
        "return_sd": round(manifest.return_sd, 6),
        "return_bounds": list(manifest.return_bounds),
        "success_rate": round(manifest.success_rate, 6),
    }
    write_json(path, {**asdict(manifest), "summary": summary})
