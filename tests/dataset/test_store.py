"""Episodes on disk: what comes back, what identifies it, and what bad data get."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.dataset import store
from qsft_bench.dataset.store import (
    EpisodeDataset,
    Recipe,
    content_sha256,
    episodes_from_table,
    make_manifest,
    read_manifest,
    table_from_episodes,
    write_manifest,
    write_shard,
)
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.files import file_sha256, read_json, write_json
from tests.examples import episode, finished_episodes, same

RECIPE = Recipe("toy", "qsft_bench/Toy-v0", "base", {}, {}, 2, 0, 2)


def write(directory: Path, episodes: list[Episode]) -> EpisodeDataset:
    shard = write_shard(directory, 0, 0, episodes)
    write_manifest(directory / "manifest.json", make_manifest(RECIPE, [shard]))
    return EpisodeDataset(directory)


@pytest.fixture
def copied(smoke_dataset: EpisodeDataset, tmp_path: Path) -> EpisodeDataset:
    """A copy of the smoke dataset that a test may spoil."""
    shutil.copytree(smoke_dataset.directory, tmp_path / "data")
    return EpisodeDataset(tmp_path / "data")


# Round trip and identity ----------------------------------------------------------------------------------------------


@given(st.lists(finished_episodes(), max_size=5), st.integers(0, 2**40))
def test_episodes_come_back(episodes: list[Episode], first: int) -> None:
    table = table_from_episodes(episodes, first)
    found = list(episodes_from_table(table, "toy", "memory"))
    assert len(found) == len(episodes)
    for left, right in zip(found, episodes, strict=True):
        for a, b in zip(left.turns, right.turns, strict=True):
            assert (a.observation, a.action, a.reward, a.invalid) == (b.observation, b.action, b.reward, b.invalid)
            assert same(a.log_likelihood, b.log_likelihood)
        assert (left.seed, left.terminated, left.truncated, left.success) == (
            right.seed,
            right.terminated,
            right.truncated,
            right.success,
        )
    assert sorted(set(table["episode"].to_pylist())) == list(range(first, first + len(episodes)))


@given(
    st.lists(finished_episodes(), min_size=1, max_size=4),
    st.sampled_from(["zstd", "snappy", "none"]),
    st.integers(1, 9),
    st.sampled_from(["1.0", "2.6"]),
)
def test_the_content_hash_is_of_the_values_alone(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[Episode], compression: str, group: int, version: str
) -> None:
    table = table_from_episodes(episodes, 0)
    path = tmp_path_factory.getbasetemp() / "rewritten.parquet"
    pq.write_table(table, path, compression=compression, row_group_size=group, version=version)
    again = pq.read_table(path)
    pieces = pa.concat_tables([table.slice(k, 1) for k in range(table.num_rows)])
    assert content_sha256(again) == content_sha256(table) == content_sha256(pieces)


@given(finished_episodes(), st.data())
def test_the_content_hash_sees_every_value(one: Episode, data: st.DataObject) -> None:
    table = table_from_episodes([one], 0)
    row = data.draw(st.integers(0, table.num_rows - 1))
    name = data.draw(st.sampled_from(table.column_names))
    values = table[name].to_pylist()
    kind = table.schema.field(name).type
    if kind == pa.large_string():
        values[row] = f"{values[row] or ''}!"
    else:
        values[row] = not values[row] if kind == pa.bool_() else (values[row] or 0) + 1
    changed = table.set_column(table.column_names.index(name), table.schema.field(name), pa.array(values, table[name].type))
    assert content_sha256(changed) != content_sha256(table)


def test_text_that_moves_between_turns_changes_the_content() -> None:
    left = table_from_episodes([episode(["ab", "c", "end"], ["x\n", "y\n"])], 0)
    right = table_from_episodes([episode(["a", "bc", "end"], ["x\n", "y\n"])], 0)
    empty = table_from_episodes([episode(["o", "end"], [""])], 0)
    assert content_sha256(left) != content_sha256(right)
    assert empty["action"].to_pylist() == ["", None]


def test_the_manifest_counts(smoke_dataset: EpisodeDataset) -> None:
    manifest = smoke_dataset.manifest
    episodes = list(smoke_dataset.episodes())
    returns = np.array([one.total_return for one in episodes])
    assert manifest.episodes == len(episodes) == 60
    assert sum(shard.turns for shard in manifest.shards) == sum(one.length for one in episodes)
    assert manifest.mean_return == pytest.approx(returns.mean())
    assert manifest.return_sd == pytest.approx(returns.std())
    assert manifest.return_bounds == (returns.min(), returns.max())
    assert manifest.success_rate == pytest.approx(np.mean([one.success for one in episodes]))
    assert read_json(smoke_dataset.directory / "manifest.json")["summary"]["episodes"] == 60
    assert all(turn.log_likelihood is not None and turn.log_likelihood < 0 for one in episodes for turn in one.turns[:-1])
    smoke_dataset.verify()


def test_pandas_reads_it_without_this_package(smoke_dataset: EpisodeDataset) -> None:
    frame = pd.read_parquet(sorted(smoke_dataset.directory.glob("*.parquet")))
    assert frame.groupby("episode")["reward"].sum().mean() == pytest.approx(smoke_dataset.manifest.mean_return)
    assert frame["episode"].nunique() == 60


def test_the_manifest_comes_back(smoke_dataset: EpisodeDataset) -> None:
    assert read_manifest(smoke_dataset.directory / "manifest.json") == smoke_dataset.manifest
    assert smoke_dataset.manifest.recipe.sha256 == read_manifest(smoke_dataset.directory / "manifest.json").recipe.sha256


def test_opening_reads_the_manifest_alone(smoke_dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pq, "read_table", lambda *arguments: pytest.fail("a shard was opened"))
    EpisodeDataset(smoke_dataset.directory)
    tracemalloc.start()
    opened = EpisodeDataset(smoke_dataset.directory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opened.manifest == smoke_dataset.manifest
    assert peak < 200_000  # bytes


# What bad data get ----------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [truncate, alter])
def test_a_truncated_or_altered_shard_is_named_with_both_hashes(copied: EpisodeDataset, spoil: Callable[[Path], None]) -> None:
    shard = copied.manifest.shards[1]
    path = copied.directory / shard.file
    spoil(path)
    for read in (copied.verify, lambda: list(copied.episodes())):
        with pytest.raises(BenchError) as error:
            read()
        assert all(part in str(error.value) for part in (str(path), shard.sha256, file_sha256(path)))
    assert len(list(copied.shard_episodes(copied.manifest.shards[0]))) == 20  # the others are still good


def test_a_missing_shard_is_named(copied: EpisodeDataset) -> None:
    (copied.directory / "00002.parquet").unlink()
    with pytest.raises(BenchError, match=r"00002\.parquet is missing; run `qsft-bench data generate` again"):
        copied.verify()


def resigned(dataset: EpisodeDataset, change: Callable[[pa.Table], pa.Table]) -> EpisodeDataset:
    """The dataset with its first shard changed and the manifest's file hash (not its content hash) brought up to date."""
    path = dataset.directory / "00000.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    manifest = read_json(dataset.directory / "manifest.json")
    manifest["shards"][0]["sha256"] = file_sha256(path)
    write_json(dataset.directory / "manifest.json", manifest)
    return EpisodeDataset(dataset.directory)


def with_column(name: str, value: Any, row: int) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        index = table.column_names.index(name)
        return table.set_column(index, table.schema.field(name), pa.array(values, table[name].type, from_pandas=False))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["reward"]), r"00000\.parquet has no column reward"),
        (with_column("reward", math.nan, 1), r"00000\.parquet: episode 0 has reward nan at turn 1"),
        (with_column("reward", None, 1), r"00000\.parquet: episode 0 has reward None at turn 1"),
        (with_column("action", None, 0), r"00000\.parquet: .*turn 0 has no action but is not the last"),
        (with_column("turn", 5, 1), r"00000\.parquet: episode 0 has turn 5 where 1 is due"),
        (lambda table: table.slice(0, table.num_rows - 1), r"00000\.parquet ends inside an episode"),
    ],
)
def test_data_that_cannot_be_learned_from(copied: EpisodeDataset, change: Callable[[pa.Table], pa.Table], message: str) -> None:
    dataset = resigned(copied, change)
    with pytest.raises(BenchError, match=message):
        list(dataset.episodes())
    with pytest.raises(BenchError):
        dataset.verify()


def test_values_swapped_behind_the_file_hash_are_found_by_verify(copied: EpisodeDataset) -> None:
    dataset = resigned(copied, with_column("reward", -0.5, 0))
    with pytest.raises(BenchError, match=r"00000\.parquet holds content [0-9a-f]{64}, the manifest expects [0-9a-f]{64}"):
        dataset.verify()


def test_a_manifest_of_another_identity_is_found_by_verify(copied: EpisodeDataset) -> None:
    manifest = read_json(copied.directory / "manifest.json")
    manifest["recipe"]["seed"] = 8
    write_json(copied.directory / "manifest.json", manifest)
    with pytest.raises(BenchError, match=r"manifest\.json says content"):
        EpisodeDataset(copied.directory).verify()


def test_a_file_that_is_not_parquet(copied: EpisodeDataset) -> None:
    path = copied.directory / "00000.parquet"
    path.write_text("hello")
    manifest = copied.manifest
    first = replace(manifest.shards[0], sha256=file_sha256(path))
    write_manifest(copied.directory / "manifest.json", replace(manifest, shards=(first, *manifest.shards[1:])))
    with pytest.raises(BenchError, match=r"00000\.parquet is damaged"):
        list(EpisodeDataset(copied.directory).episodes())


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read as JSON"), ("[]", "not a dataset manifest of format 1"), ('{"format": 1}', "damaged")],
)
def test_a_bad_manifest(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BenchError, match=rf"manifest\.json.*{message}"):
        EpisodeDataset(tmp_path)


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="holds no dataset; make one with `qsft-bench data generate`"):
        EpisodeDataset(tmp_path / "nowhere")
    with pytest.raises(BenchError, match="the toy dataset is empty"):
        make_manifest(RECIPE, [write_shard(tmp_path, 0, 0, [])])


def test_episodes_that_cannot_be_stored(tmp_path: Path) -> None:
    unfinished = Episode("toy", 1, [Turn("o", "a", 0.0), Turn("p")])
    with pytest.raises(BenchError, match="episode 7 of toy is not finished"):
        write_shard(tmp_path, 0, 7, [unfinished])
    changed = episode(["o", "end"], ["a"])
    changed.turns[0].reward = math.nan
    with pytest.raises(BenchError, match="episode 0 of toy has reward nan at turn 0"):
        write_shard(tmp_path, 0, 0, [changed])
    changed.turns[0] = Turn("o", np.zeros(8))
    with pytest.raises(BenchError, match="episodes 0 and on cannot be stored"):
        write_shard(tmp_path, 0, 0, [changed])
    assert not list(tmp_path.iterdir())


def full_disk(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["qsft_bench.dataset.store.pq.write_table", "qsft_bench.files.os.replace"])
def test_a_full_disk_leaves_the_old_shard(copied: EpisodeDataset, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(call, full_disk)
    with pytest.raises(BenchError, match=r"cannot write .*00000\.parquet: No space left on device"):
        write_shard(copied.directory, 0, 0, [episode(["o", "end"], ["a"])])
    monkeypatch.undo()
    copied.verify()
    assert not list(copied.directory.glob(".*"))


def test_the_schema_is_what_the_docs_say() -> None:
    table = table_from_episodes([episode(["o", "p", "end"], ["a", "b"], [0, 1], truncated=True, terminated=False)], 0)
    assert table.schema == store.SCHEMA
    assert table.to_pydict() == {
        "episode": [0, 0, 0],
        "seed": [5, 5, 5],
        "turn": [0, 1, 2],
        "observation": ["o", "p", "end"],
        "action": ["a", "b", None],
        "reward": [0.0, 1.0, 0.0],
        "invalid": [None] * 3,
        "log_likelihood": [None] * 3,
        "terminated": [False] * 3,
        "truncated": [False, False, True],
        "success": [None, None, False],
    }
    assert pc.sum(table["reward"]).as_py() == 1.0
