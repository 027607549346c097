"""Records: which episodes, resumed after any interruption, and never mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from envs.wordle.behaviour import Mixture
from qsft_bench import evaluate as module
from qsft_bench.dataset.store import episodes_from_table
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, Origin, episode_scores, evaluate, mean_score, read_records, record, task_name
from qsft_bench.registry import env_spec
from tests.examples import BOUND, episode

CELL = Cell("behaviour", "wordle", "habit", "smoke", 1)
ORIGIN = Origin("data", "weights", "abc123", dict(BOUND))
SPEC = env_spec("wordle")


class Counting(Mixture):
    """Remembers which seeds it played."""

    def __init__(self) -> None:
        super().__init__(**BOUND, consistent=0.4)  # type: ignore[arg-type]
        self.played: list[int] = []

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        self.played += [one.seed for one in episodes if one.length == 0]
        return super().act(episodes)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)


def run(path: Path, episodes: int = 10, agent: Counting | None = None, origin: Origin = ORIGIN) -> pd.DataFrame:
    return evaluate(agent or Counting(), CELL, SPEC, origin, episodes, path)


def plain(records: pd.DataFrame) -> list[dict[str, Any]]:
    return records.drop(columns="wall_time").to_dict("records")


def transcripts(path: Path) -> dict[int, Episode]:
    table = pq.read_table(path.with_suffix(".transcripts.parquet"))
    found = list(episodes_from_table(table, "wordle", "transcripts"))
    assert len({one.seed for one in found}) == len(found)
    return {one.seed: one for one in found}


def test_what_an_environment_counts_is_recorded() -> None:
    one = episode(["o", "p"], ["a"], statistics={"wins": 1.0})
    (row,) = record(CELL, one, SPEC, ORIGIN, 0.0)
    assert row["statistic wins"] == 1.0


def test_episodes_of_one_task_share_a_cluster() -> None:
    spec = replace(SPEC, test_tasks=3)
    start = spec.test_seeds.start
    assert [spec.test_task(start + number) for number in (0, 1, 2, 3, 7)] == [0, 1, 2, 0, 1]
    assert spec.test_task(5) is None and SPEC.test_task(start) is None
    one = episode(["o", "p"], ["a"], seed=start + 4)
    assert record(CELL, one, spec, ORIGIN, 0.0)[0]["cluster"] == 1
    assert "cluster" not in record(CELL, one, SPEC, ORIGIN, 0.0)[0]


def test_a_record_for_each_test_seed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.parquet"
    steps: list[tuple[int, int]] = []
    records = evaluate(Counting(), CELL, SPEC, ORIGIN, 10, path, lambda done, total: steps.append((done, total)))
    assert records["episode_seed"].tolist() == list(SPEC.test_seeds[:10])
    assert set(records["column"]) == {"Wordle habit"}
    assert steps == [(0, 10), (4, 10), (8, 10), (10, 10)]
    played = transcripts(path)
    for row in records.to_dict("records"):
        one = played[row["episode_seed"]]
        assert (row["score"], row["return"], row["success"]) == (one.total_return, one.total_return, one.success)
        assert (row["turns"], row["invalid_actions"]) == (one.length, 0)
        assert (row["agent"], row["env"], row["tier"], row["preset"]) == ("behaviour", "wordle", "habit", "smoke")
        assert (row["training_seed"], row["dataset_hash"], row["checkpoint_hash"], row["commit"]) == (
            1,
            "data",
            "weights",
            "abc123",
        )
        assert row["config_hash"] == ORIGIN.config_hash(CELL)
    assert plain(read_records(path)) == plain(records)


def test_what_is_there_is_not_played_again(tmp_path: Path) -> None:
    path, agent = tmp_path / "records.parquet", Counting()
    few = run(path, 6, agent)
    more = run(path, 10, agent)
    assert agent.played == list(SPEC.test_seeds[:10])
    assert plain(more)[:6] == plain(few)
    assert plain(run(path, 3, agent)) == plain(few)[:3]
    assert len(read_records(path)) == 10
    assert len(agent.played) == 10


@pytest.mark.parametrize("call", ["play_episodes", "write_records"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interruption_costs_at_most_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int) -> None:
    """Between any two writes; records and transcripts tell the same story afterwards."""
    path = tmp_path / "records.parquet"
    whole = run(tmp_path / "whole.parquet")
    real, calls = getattr(module, call), [0]

    def interrupted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    monkeypatch.setattr(module, call, real)
    agent = Counting()
    assert plain(run(path, 10, agent)) == plain(whole)
    assert agent.played == list(SPEC.test_seeds[4 * (at - 1) : 10])
    assert transcripts(path) == transcripts(tmp_path / "whole.parquet")


def test_lost_transcripts_are_played_again(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    first = run(path)
    path.with_suffix(".transcripts.parquet").unlink()
    assert plain(run(path)) == plain(first)
    assert len(read_records(path)) == len(transcripts(path)) == 10


@pytest.mark.parametrize(
    "other",
    [replace(ORIGIN, checkpoint_hash="others"), replace(ORIGIN, options={**BOUND, "rules": "official"})],
)
def test_records_of_another_configuration_are_refused(tmp_path: Path, other: Origin) -> None:
    path = tmp_path / "records.parquet"
    before = run(path)
    with pytest.raises(BenchError, match=rf"{path} holds records of another configuration of behaviour on wordle-habit"):
        run(path, origin=other)
    assert plain(read_records(path)) == plain(before)


def test_a_full_disk_keeps_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    path = tmp_path / "records.parquet"
    run(path, 4)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("qsft_bench.files.os.replace", full)
    with pytest.raises(BenchError, match="No space left on device"):
        run(path, 8)
    monkeypatch.undo()
    assert len(read_records(path)) == len(transcripts(path)) == 4


@pytest.mark.parametrize("name", ["records.parquet", "records.transcripts.parquet"])
def test_damaged_records_are_named(tmp_path: Path, name: str) -> None:
    run(tmp_path / "records.parquet", 4)
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(BenchError, match=rf"{name} is damaged .*; delete it"):
        run(tmp_path / "records.parquet", 8)


@pytest.mark.parametrize("episodes", [0, -5, 1_000_001])
def test_as_many_episodes_as_there_are_seeds(tmp_path: Path, episodes: int) -> None:
    with pytest.raises(BenchError, match=f"ask for 1 to that many episodes, not {episodes}"):
        run(tmp_path / "records.parquet", episodes)


def test_scores() -> None:
    lost, won = episode(["o", "end"], ["a"], [-1.0]), episode(["o", "end"], ["a"], [0.0], success=True)
    assert episode_scores(lost, SPEC) == {"Wordle": -1.0}
    by_success = replace(SPEC, metric="success")
    assert (episode_scores(lost, by_success), episode_scores(won, by_success)) == ({"Wordle": 0.0}, {"Wordle": 1.0})
    won.scores = {"Pick": 1.0, "Heat": 0.5}
    assert episode_scores(won, by_success) == {"Pick": 1.0, "Heat": 0.5}
    assert mean_score([lost, won], by_success) == pytest.approx(0.5)


def test_names_of_cells() -> None:
    assert (task_name("wordle", "base"), task_name("wordle", "habit")) == ("wordle", "wordle-habit")
    assert str(CELL) == "behaviour on wordle-habit (seed 1)"
    assert str(Cell("sft", "wordle")) == "sft on wordle"
