"""Evaluation: fixed episode seeds in, one record per episode and column out, the transcripts beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qsft_bench.agent import Agent
from qsft_bench.dataset.store import read_table, table_from_episodes
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_path, json_sha256
from qsft_bench.rollout import play_episodes
from qsft_bench.spec import EnvSpec

CHUNK = 250  # episodes between two writes of the records
STATISTIC = "statistic "  # opens the name of each field that holds one of `Episode.statistics`


@dataclass(frozen=True)
class Cell:
    """One entry of a table before it is averaged: who (`agent` or `agent@variant`) plays what, trained from which seed."""

    agent: str
    env: str
    tier: str = "base"
    preset: str = "small"
    training_seed: int = 0

    @property
    def variant(self) -> str:
        """`paper` for the agent `qsft@paper`, empty for `qsft`."""
        return self.agent.partition("@")[2]

    @property
    def task(self) -> str:
        """Folder name of the environment and tier: `wordle`, `wordle-habit`."""
        return task_name(self.env, self.tier)

    def __str__(self) -> str:
        seed = f" (seed {self.training_seed})" if self.training_seed else ""
        return f"{self.agent} on {self.task}{seed}"


def task_name(env: str, tier: str) -> str:
    """Folder name of an environment and tier."""
    return env if tier == "base" else f"{env}-{tier}"


@dataclass(frozen=True)
class Origin:
    """Where a record came from, beside its cell; `config_hash` covers everything that play depends on."""

    dataset_hash: str
    checkpoint_hash: str
    commit: str
    options: dict[str, Any]

    def config_hash(self, cell: Cell) -> str:
        return json_sha256([asdict(cell), self.options, self.checkpoint_hash])


def statistics(records: pd.DataFrame) -> dict[str, pd.Series]:
    """What the environment counted beside the score in each episode, by its name; what was counted in none is left out."""
    fields = [name for name in records if name.startswith(STATISTIC) and records[name].notna().any()]
    return {name.removeprefix(STATISTIC): records[name] for name in fields}


def mean_score(episodes: Sequence[Episode], spec: EnvSpec) -> float:
    """Mean of the environment's metric over episodes and columns."""
    scores = [score for episode in episodes for score in episode_scores(episode, spec).values()]
    return sum(scores) / len(scores)


def episode_scores(episode: Episode, spec: EnvSpec) -> dict[str, float]:
    """Value by column: the environment's own scores where it gives them, else its metric in its only column."""
    if episode.scores:
        return episode.scores
    return {spec.columns[0]: episode.total_return if spec.metric == "return" else float(bool(episode.success))}


def record(cell: Cell, episode: Episode, spec: EnvSpec, origin: Origin, wall_time: float) -> list[dict[str, Any]]:
    """The records of one episode, one a column; `cluster` is its task where several test episodes share one."""
    task = spec.test_task(episode.seed)
    shared = {} if task is None else {"cluster": task}
    return [
        {
            "agent": cell.agent,
            "env": cell.env,
            "tier": cell.tier,
            "column": spec.column(column, cell.tier),
            "preset": cell.preset,
            "training_seed": cell.training_seed,
            "episode_seed": episode.seed,
            **shared,
            "score": score,
            "return": episode.total_return,
            "success": bool(episode.success),
            "turns": episode.length,
            "invalid_actions": episode.invalid_actions,
            **{f"{STATISTIC}{name}": value for name, value in episode.statistics.items()},
            "config_hash": origin.config_hash(cell),
            "dataset_hash": origin.dataset_hash,
            "checkpoint_hash": origin.checkpoint_hash,
            "commit": origin.commit,
            "wall_time": wall_time,
        }
        for column, score in episode_scores(episode, spec).items()
    ]


@dataclass(frozen=True)
class Played:
    """Some episodes, and how long each took on average (s)."""

    episodes: list[Episode]
    seconds: float


def play_chunk(agent: Agent, spec: EnvSpec, origin: Origin, seeds: Sequence[int]) -> Played:
    """One episode a seed, side by side."""
    began = time.monotonic()
    episodes = play_episodes(agent, spec, origin.options, seeds)
    return Played(episodes, (time.monotonic() - began) / len(seeds))


def evaluate(
    agent: Agent,
    cell: Cell,
    spec: EnvSpec,
    origin: Origin,
    episodes: int,
    path: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    play: Callable[[Sequence[Sequence[int]]], Iterable[Played]] | None = None,
    parts: int = 1,
) -> pd.DataFrame:
    """Play the first `episodes` test seeds and keep the records in `path`; those already there are not played again.

    Transcripts go to `<path stem>.transcripts.parquet`, in the format of a dataset. Both files are replaced whole after
    every `CHUNK` episodes, so an interruption costs at most one chunk (of every worker).

    Args:
        play: plays chunks of seeds, in any order; in this process, one after another, if not given.
        parts: how many chunks it wants at least.

    Raises:
        BenchError: `path` holds records of another configuration or checkpoint, or `episodes` is not 1 to the seeds there are.
    """
    if not 1 <= episodes <= len(spec.test_seeds):
        raise BenchError(f"{spec.name} has {len(spec.test_seeds)} test seeds: ask for 1 to that many episodes, not {episodes}")
    wanted = spec.test_seeds[:episodes]
    transcripts = path.with_suffix(".transcripts.parquet")
    records = read_records(path) if path.exists() else pd.DataFrame()
    if len(records):
        found = set(records["config_hash"])
        if found != {origin.config_hash(cell)}:
            raise BenchError(f"{path} holds records of another configuration of {cell}; remove it, or write elsewhere")
    kept = read_table(transcripts) if len(records) and transcripts.exists() else None
    done: set[int] = set()
    if kept is not None:  # an interruption between the two files leaves transcripts without records: those are dropped
        done = set(records["episode_seed"]) & set(kept["seed"].to_pylist()) & set(wanted)
        kept = kept.filter(pc.is_in(kept["seed"], pa.array(sorted(done), pa.int64())))
    records = records[records["episode_seed"].isin(done)] if done else pd.DataFrame()
    missing = [seed for seed in wanted if seed not in done]
    progress(len(done), episodes)
    chunks = _chunks(missing, max(1, min(CHUNK, -(-len(missing) // parts))))
    have = len(done)
    for played in (play_chunk(agent, spec, origin, chunk) for chunk in chunks) if play is None else play(chunks):
        rows = [row for episode in played.episodes for row in record(cell, episode, spec, origin, played.seconds)]
        records = pd.concat([records, pd.DataFrame(rows)], ignore_index=True) if len(records) else pd.DataFrame(rows)
        table = table_from_episodes(played.episodes, first=wanted.index(played.episodes[0].seed), images=False)
        kept = table if kept is None else pa.concat_tables([kept, table])
        kept = kept.sort_by([("episode", "ascending"), ("turn", "ascending")])
        with atomic_path(transcripts) as temporary:
            pq.write_table(kept, temporary, compression="zstd")
        records = records.sort_values(["column", "episode_seed"], ignore_index=True)
        write_records(path, records)
        have += len(played.episodes)
        progress(have, episodes)
    return records.sort_values(["column", "episode_seed"], ignore_index=True)


def _chunks(seeds: Sequence[int], size: int) -> list[Sequence[int]]:
    """Runs of neighbouring seeds, at most `size` in each: transcripts number the episodes of a chunk one after another."""
    starts = [0]
    for index in range(1, len(seeds)):
        if seeds[index] != seeds[index - 1] + 1 or index - starts[-1] == size:
            starts.append(index)
    return [seeds[start:end] for start, end in zip(starts, [*starts[1:], len(seeds)], strict=True) if start < end]


def read_records(path: Path) -> pd.DataFrame:
    """The records in one file.

    Raises:
        BenchError: it is damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} is damaged ({error}); delete it and evaluate again") from error


def write_records(path: Path, records: pd.DataFrame) -> None:
    """Replace the records in one file."""
    with atomic_path(path) as temporary:
        records.to_parquet(temporary, compression="zstd", index=False)
