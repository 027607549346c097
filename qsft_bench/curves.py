"""Learning curves: what an agent scores while it trains, one record an episode and step, on validation seeds.

The decodings are fixed beforehand (`TokenAgent.watched`): a curve that chose the best one anew at every step would show
the luck of the choice.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, Origin, read_records, record, write_records
from qsft_bench.files import json_sha256
from qsft_bench.rollout import play_episodes
from qsft_bench.spec import EnvSpec
from qsft_bench.stats import interval

if TYPE_CHECKING:
    from qsft_bench.token_agent import Decoding, TokenAgent


@dataclass(frozen=True)
class Curve:
    """Records of one training: an evaluation of every decoding in `TokenAgent.watched` at every step it is called for.

    Attributes:
        path: file of the records, which have a column `step` beside those of `evaluate.record`.
        cell, spec: what is trained and played.
        options: of the environment.
        seeds: episodes of one evaluation.
        steps_before: gradient steps that the agent it started from had taken, kept in the column of that name.
        commit: of the code that trains.
    """

    path: Path
    cell: Cell
    spec: EnvSpec
    options: Mapping[str, Any]
    seeds: Sequence[int]
    steps_before: int
    commit: str

    def add(self, agent: TokenAgent, step: int) -> None:
        """Play the agent as it is after `step` gradient steps; replaces what an interrupted run recorded from there on."""
        agent.networks.eval()
        rows = []
        for cell, decoding in plays(agent, self.cell).items():
            made = (agent.meta["identity"], decoding, self.options, agent.meta.get("constrained", False))
            origin = _origin(*made, agent.meta["dataset"], self.commit)
            began = time.monotonic()
            played = play_episodes(agent.with_decoding(decoding), self.spec, origin.options, self.seeds)
            each = (time.monotonic() - began) / len(played)
            found = [row for episode in played for row in record(cell, episode, self.spec, origin, each)]
            rows += [{**row, "step": step, "steps_before": self.steps_before} for row in found]
        agent.networks.train()
        earlier = read_records(self.path) if step and self.path.exists() else pd.DataFrame()
        kept = earlier[earlier["step"] < step] if len(earlier) else earlier
        write_records(self.path, pd.concat([kept, pd.DataFrame(rows)], ignore_index=True))


def plays(agent: TokenAgent | type[TokenAgent], cell: Cell) -> dict[Cell, Decoding]:
    """Under which names, and with which decodings, the cell's agent plays while it trains (`TokenAgent.watched`)."""
    default = agent.default_decoding or agent.decoding_type()
    return {replace(cell, agent=cell.agent + suffix): found for suffix, found in (agent.watched or {"": default}).items()}


def configurations(
    agent: type[TokenAgent], cell: Cell, identity: Mapping[str, Any], options: Mapping[str, Any], constrained: bool
) -> frozenset[str]:
    """The `config_hash` of every record in the learning curve of a training.

    Args:
        identity: of the training, see `token_agent.identity`.
        options: of the environment.
        constrained: whether it played only actions that the environment lists.
    """
    return frozenset(
        _origin(identity, decoding, options, constrained).config_hash(own) for own, decoding in plays(agent, cell).items()
    )


def _origin(
    identity: Mapping[str, Any],
    decoding: Decoding,
    options: Mapping[str, Any],
    constrained: bool,
    dataset: str = "",
    commit: str = "",
) -> Origin:
    played = [identity, asdict(decoding), *(["constrained"] if constrained else [])]
    return Origin(dataset, json_sha256(played), commit, dict(options))


def whole(path: Path, steps: int, hashes: Collection[str]) -> bool:
    """Whether `path` has the curve of a whole training of `steps` gradient steps in the configuration `hashes`.

    Raises:
        BenchError: it is damaged.
    """
    if not path.exists():
        return False
    records = read_records(path)
    return records["step"].max() == steps and set(records["config_hash"]) == set(hashes)


def read_curve(path: Path, steps: int) -> pd.DataFrame:
    """The records of one training of `steps` gradient steps.

    Raises:
        BenchError: they are missing, damaged, or end before the training did.
    """
    if not path.exists():
        raise BenchError(f"no learning curve in {path}; remove the checkpoint it belongs to to train it again, watched")
    records = read_records(path)
    if records["step"].max() != steps:
        raise BenchError(f"{path} ends at step {records['step'].max()} of {steps}; remove the checkpoint to train it again")
    return records


def summarise(records: pd.DataFrame, binary: bool = False) -> pd.DataFrame:
    """One row an agent, column and step: `agent,column,step,updates,n,seeds,mean,ci_low,ci_high,over`.

    `updates` counts the gradient steps of the agent it started from too. Intervals are those of `stats.interval`: over
    training seeds where there are several, and `over` says so.
    """
    rows = []
    for (agent, column, step), found in records.groupby(["agent", "column", "step"], sort=False):
        spread = interval(found, binary=binary)
        updates = int(step) + int(found["steps_before"].iloc[0])
        bounds = {"mean": spread.mean, "ci_low": spread.low, "ci_high": spread.high, "over": spread.over}
        rows.append(
            {"agent": agent, "column": column, "step": step, "updates": updates, "n": spread.n, "seeds": spread.seeds, **bounds}
        )
    return pd.DataFrame(rows)


def stability(records: pd.DataFrame) -> pd.DataFrame:
    """How steadily each agent learns: `agent,column,seeds,first,last,spread,fall`.

    `first` and `last` are mean scores at the first and last evaluation; `spread` is the standard deviation of the last one
    between trainings; `fall` is the greatest drop below the best evaluation so far, the mean over trainings.
    """
    rows = []
    for (agent, column), found in records.groupby(["agent", "column"], sort=False):
        means = found.groupby(["training_seed", "step"])["score"].mean().unstack("step")
        falls = (means.cummax(axis=1) - means).max(axis=1)
        ends = {"first": means.iloc[:, 0].mean(), "last": means.iloc[:, -1].mean(), "spread": means.iloc[:, -1].std()}
        rows.append({"agent": agent, "column": column, "seeds": len(means), **ends, "fall": falls.mean()})
    return pd.DataFrame(rows)
