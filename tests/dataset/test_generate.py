"""The same dataset from any number of workers and after any interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from qsft_bench.dataset import generate as module
from qsft_bench.dataset.generate import generate, recipe
from qsft_bench.dataset.store import EpisodeDataset, Recipe, Shard
from qsft_bench.errors import BenchError
from qsft_bench.registry import env_spec
from qsft_bench.workers import Executor, workers
from tests.examples import TINY, WORDS
from tests.executors import EXECUTORS, killed_once, stop_ray

SLOW = replace(WORDS, episodes=400, shard_episodes=20)  # 20 shards: time enough to be killed among them


@pytest.mark.parametrize("executor", EXECUTORS)
def test_two_workers_write_what_one_writes(
    smoke_dataset: EpisodeDataset, tmp_path: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are killed at it: nothing is lost, and nothing doubled."""
    monkeypatch.setattr(module, "make_shard", killed_once)
    seen: list[tuple[int, int]] = []
    try:
        again = generate(
            tmp_path / "data",
            WORDS,
            workers=workers(executor, 2),
            progress=lambda done, total: seen.append((done, total)),
        )
    finally:
        stop_ray()
    assert sorted(path.name for path in tmp_path.glob("killed at *")) == ["killed at 1", "killed at 2"]
    assert again.manifest.content == smoke_dataset.manifest.content
    assert again.manifest.shards == smoke_dataset.manifest.shards
    assert list(again.episodes()) == list(smoke_dataset.episodes())
    assert [done for done, _ in seen] == [0, 20, 40, 60]
    assert sorted(path.name for path in again.directory.glob("*.parquet")) == [shard.file for shard in again.manifest.shards]
    assert [path.name for path in again.directory.glob("*.json")] == ["manifest.json"]
    again.verify()


def test_an_episode_does_not_depend_on_its_shard(smoke_dataset: EpisodeDataset, tmp_path: Path) -> None:
    """Nor on how many others there are."""
    few = generate(tmp_path / "few", replace(WORDS, episodes=7, shard_episodes=4))
    assert list(few.episodes()) == list(smoke_dataset.episodes())[:7]
    assert few.manifest.content != smoke_dataset.manifest.content


def test_another_seed_is_another_dataset(smoke_dataset: EpisodeDataset, tmp_path: Path) -> None:
    other = generate(tmp_path / "other", replace(WORDS, episodes=7, shard_episodes=7, seed=8))
    assert not {one.seed for one in other.episodes()} & {one.seed for one in smoke_dataset.episodes()}


def test_dataset_seeds_are_not_test_seeds(smoke_dataset: EpisodeDataset) -> None:
    spec = env_spec("wordle")
    assert all(one.seed in spec.dataset_seeds for one in smoke_dataset.episodes())
    assert all(one.seed not in spec.test_seeds and one.seed not in spec.validation_seeds for one in smoke_dataset.episodes())


def test_kill_9_in_the_middle(tmp_path: Path) -> None:
    """Killed once the first shards stand; the next call keeps those and ends with the content of an undisturbed one."""
    directory = tmp_path / "killed"
    code = (
        "from pathlib import Path; from qsft_bench.dataset.generate import generate\n"
        f"from tests.dataset.test_generate import SLOW; generate(Path({str(directory)!r}), SLOW)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not list(directory.glob("*.json")):
        assert child.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    assert not (directory / "manifest.json").exists()
    with pytest.raises(BenchError, match="holds no dataset"):
        EpisodeDataset(directory)
    finished = {path.stem: path.stat().st_mtime_ns for path in directory.glob("0*.json")}
    kept = {name: (directory / f"{name}.parquet").stat().st_mtime_ns for name in finished}
    first: list[int] = []
    resumed = generate(directory, SLOW, progress=lambda done, total: first.append(done))
    assert first[0] == 20 * len(finished)
    assert kept == {name: (directory / f"{name}.parquet").stat().st_mtime_ns for name in kept}
    resumed.verify()
    assert resumed.manifest.content == generate(tmp_path / "undisturbed", SLOW).manifest.content


def test_a_whole_dataset_is_not_generated_again(smoke_dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_shard", lambda *arguments: pytest.fail("generated again"))
    assert generate(smoke_dataset.directory, WORDS).manifest == smoke_dataset.manifest


def test_a_deleted_shard_is_restored_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate(tmp_path / "data", WORDS)
    (whole.directory / "00001.parquet").unlink()
    made: list[int] = []
    real = module.make_shard

    def make_shard(directory: Path, recipe: Recipe, index: int) -> Shard:
        made.append(index)
        return real(directory, recipe, index)

    monkeypatch.setattr(module, "make_shard", make_shard)
    again = generate(whole.directory, WORDS)
    again.verify()
    assert made == [1]
    assert again.manifest.content == whole.manifest.content


def test_another_recipe_in_the_folder_is_refused(smoke_dataset: EpisodeDataset) -> None:
    other = replace(WORDS, tier="habit", episodes=61)
    with pytest.raises(
        BenchError, match=r"holds another dataset \(tier is 'base', wanted 'habit'; episodes is 60, wanted 61\)"
    ):
        generate(smoke_dataset.directory, other)
    EpisodeDataset(smoke_dataset.directory).verify()


def test_shards_of_another_recipe_are_refused(tmp_path: Path) -> None:
    """Also before there is a manifest."""
    module.make_shard(tmp_path, WORDS, 0)
    with pytest.raises(BenchError, match="holds shards of another recipe"):
        generate(tmp_path, replace(WORDS, seed=9))


def test_a_failure_keeps_finished_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up at the second shard."""
    import errno

    real, calls = pq.write_table, [0]

    def fills_up(*arguments: Any, **options: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments, **options)

    monkeypatch.setattr(pq, "write_table", fills_up)
    with pytest.raises(BenchError, match=r"cannot write .*00001\.parquet: No space left on device; free some space"):
        generate(tmp_path / "data", WORDS)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["00000.json", "00000.parquet"]
    monkeypatch.undo()
    starts: list[int] = []
    generate(tmp_path / "data", WORDS, progress=lambda done, total: starts.append(done)).verify()
    assert starts[0] == 20


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(BenchError, match=r"cannot write .*; choose a folder you may write to"):
        generate(tmp_path / "file" / "data", WORDS)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="at least one episode"):
        generate(tmp_path / "data", replace(WORDS, episodes=0))
    assert not (tmp_path / "data").exists()


def test_the_recipe_of_a_scale() -> None:
    spec = env_spec("wordle")
    found = recipe(spec, "habit", TINY, seed=3)
    assert (found.env, found.env_id, found.tier, found.episodes, found.seed) == (spec.name, spec.id, "habit", 120, 3)
    assert found.behaviour == dict(spec.tier("habit").behaviour)
    assert found.options == TINY.options
    assert found.shard_episodes == 60  # two shards at least, so that two workers share them
    assert recipe(spec, "base", TINY).sha256 != found.sha256
    with pytest.raises(BenchError, match="wordle has no tier 'hard'; it has base, habit"):
        recipe(spec, "hard", TINY)
