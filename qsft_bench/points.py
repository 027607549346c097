"""The points of Figure 4: agents that learn from a share of the data with models of several sizes, each point by itself.

```
runs/<preset>/figure4/<model>/<share>/                    tokens, checkpoints and records, as `qsft_bench.pipeline` has them
runs/<preset>/figure4/points/<model>/<share>/<agent>-seed0.parquet          a finished point: its records,
                                                         -seed0.transcripts.parquet        what was said,
                                                         -seed0.json                       where it came from
results/<preset>/figure4/<model>/<share>/                 the same three files, published
```

The figure is drawn from finished points and needs no checkpoint: ILQL's heads over the 49,152 ids of SmolLM2 alone are hundreds
of megabytes, too large to be published.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, read_records, statistics
from qsft_bench.files import copy_file, read_json, write_json
from qsft_bench.pipeline import Pipeline, Progress, commit, hardware, learns, prerequisites, versions
from qsft_bench.preset import Point
from qsft_bench.registry import agent_class, env_spec
from qsft_bench.stats import interval
from qsft_bench.weights import RANDOM, note

FOLDER = "figure4"
SUFFIXES = (".transcripts.parquet", ".parquet", ".json")  # the last makes a point finished


@dataclass(frozen=True)
class Trained:
    """An agent at a point, by one training.

    Attributes:
        point: the model and its share of the data.
        cell: the agent, and what it plays.
    """

    point: Point
    cell: Cell

    @property
    def name(self) -> str:
        """`tiny/10%/qsft`; with `/seed1` for further trainings."""
        seed = f"/seed{self.cell.training_seed}" if self.cell.training_seed else ""
        return f"{self.point.model}/{self.point.share}/{self.cell.agent}{seed}"

    def file(self, folder: Path, suffix: str) -> Path:
        """One of its files in a folder of points."""
        return folder / self.point.model / self.point.share / f"{self.cell.agent}-seed{self.cell.training_seed}{suffix}"

    def pipeline(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline that makes it: at the point's scale, in a folder of the point's own."""
        place = f"{self.point.model}/{self.point.share}"
        told = partial(_told_where, pipeline.progress, place)
        return replace(pipeline, scales={self.cell.env: self.point.scale}, part=f"{FOLDER}/{place}", progress=told)


def _told_where(progress: Progress, place: str, stage: str, done: int, total: int, note: str) -> None:
    progress(f"{stage}, {place}", done, total, note)


def run_folder(pipeline: Pipeline, preset: str) -> Path:
    """Where the run keeps its finished points."""
    return pipeline.root / "runs" / preset / FOLDER / "points"


def chosen(everything: Sequence[Trained], only: Collection[str]) -> list[Trained]:
    """Those whose name matches one of the patterns (`smollm2/*/qsft`); all of them without patterns.

    Raises:
        BenchError: a pattern matches none.
    """
    for pattern in only:
        if not any(_matches(trained, pattern) for trained in everything):
            names = ", ".join(dict.fromkeys(trained.name for trained in everything))
            raise BenchError(f"no point of the figure is called {pattern!r}; there are {names} (and * stands for anything)")
    return [trained for trained in everything if not only or any(_matches(trained, pattern) for pattern in only)]


def _matches(trained: Trained, pattern: str) -> bool:
    return fnmatchcase(trained.name, pattern) or fnmatchcase(trained.name, f"{pattern}/*")


def make(pipeline: Pipeline, wanted: Sequence[Trained]) -> dict[str, str]:
    """Train and evaluate what the run has not finished yet, `jobs` at a time; a call that was cut off goes on where it stopped.

    Returns:
        Why, by name, for those that failed; one that fails takes no other with it.
    """
    cells: dict[tuple[str, Cell], Trained] = {}

    def add(trained: Trained) -> None:
        for needed in prerequisites(trained.cell):
            add(replace(trained, cell=needed))
        cells.setdefault(_key(trained), trained)

    folder = run_folder(pipeline, wanted[0].cell.preset) if wanted else Path()
    missing = [trained for trained in wanted if not finished(pipeline, trained, folder)]
    for trained in missing:
        add(trained)
    for trained in {
        trained.name.rpartition("/")[0]: trained for trained in cells.values() if learns(trained.cell.agent)
    }.values():
        trained.pipeline(pipeline).tokens(trained.cell)  # once, before workers ask for it
    failed = {}
    with pipeline.workers(learning=True) as pool:
        worker = pipeline._worker(pool.calling(pipeline.progress))
        tasks = {key: (_make, (worker, trained, folder if trained in missing else None)) for key, trained in cells.items()}
        needs = {
            key: [_key(replace(trained, cell=cell)) for cell in prerequisites(trained.cell)] for key, trained in cells.items()
        }
        for key, reason in pool.in_order(tasks, needs):
            if reason:
                failed[cells[key].name] = reason
                pipeline.progress(f"point {cells[key].name}", 0, 1, reason)
    return failed


def _key(trained: Trained) -> tuple[str, Cell]:
    return f"{trained.point.model}/{trained.point.share}", trained.cell


def _make(pipeline: Pipeline, trained: Trained, folder: Path | None) -> str:
    """Train, and with a `folder` evaluate and put the point there; why it failed, or nothing."""
    try:
        own = trained.pipeline(pipeline)
        if folder is None:
            own.checkpoint(trained.cell)
        else:
            _finish(own, trained, folder)
    except Exception as error:  # whatever it is: the others go on
        return f"{type(error).__name__}: {error}"
    return ""


def _finish(pipeline: Pipeline, trained: Trained, folder: Path) -> None:
    began = time.monotonic()
    cell = trained.cell
    agent, origin = pipeline.player(cell)
    pipeline.records(cell, player=(agent, origin))
    records = pipeline.records_path(cell, origin)
    for suffix in (".transcripts.parquet", ".parquet"):
        copy_file(records.with_suffix(suffix), trained.file(folder, suffix))
    backbone = next(iter(agent.networks.values())).backbone
    made = agent.meta.get("training", {})
    write_json(
        trained.file(folder, ".json"),
        {
            "point": trained.name,
            "follows_from": _follows_from(pipeline, trained),
            "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
            "model": note(trained.point.scale.model),
            "steps": made.get("steps", 0),
            "training_episodes": made.get("episodes", 0),
            "training_seconds": made.get("seconds", 0.0),
            "history": made.get("history", []),
            "decoding": agent.decoding.describe(),
            "tuning": agent.meta.get("tuning", {}),
            "seconds": round(time.monotonic() - began, 1),
            "commit": commit(),
            "hardware": hardware(),
            "versions": versions(),
        },
    )


def _follows_from(pipeline: Pipeline, trained: Trained) -> dict[str, Any]:
    """What a point follows from, beside the code; known before it is made."""
    needed = {cell.agent: pipeline.identity(cell) for cell in prerequisites(trained.cell)}
    sizes = {name: getattr(trained.point.scale, name) for name in ("options", "evaluation_episodes", "validation_episodes")}
    return {"identity": pipeline.identity(trained.cell), "prerequisites": needed, **sizes}


def finished(pipeline: Pipeline, trained: Trained, folder: Path) -> dict[str, Any] | None:
    """Where the point in `folder` came from; None where there is none, or one of another configuration (progress says so)."""
    path = trained.file(folder, ".json")
    if not path.exists():
        return None
    found, wanted = read_json(path), _follows_from(trained.pipeline(pipeline), trained)
    try:
        same = _completed(trained.cell, found["follows_from"], path) == wanted
    except (BenchError, KeyError):
        same = False
    if not same:
        pipeline.progress(f"point {trained.name}", 0, 1, f"{path} is of another configuration, and is left out")
    return found if same else None


def _completed(cell: Cell, found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    from qsft_bench.token_agent import completed

    def whole(agent: str, identity: Mapping[str, Any]) -> dict[str, Any]:
        return completed(agent_class(agent), identity, path.parent)  # type: ignore[arg-type]

    needed = {agent: whole(agent, identity) for agent, identity in found["prerequisites"].items()}
    return {**found, "identity": whole(cell.agent, found["identity"]), "prerequisites": needed}


def publish(pipeline: Pipeline, wanted: Sequence[Trained], folder: Path) -> None:
    """Copy the run's finished points to `folder`."""
    for trained in wanted:
        own = run_folder(pipeline, trained.cell.preset)
        if finished(pipeline, trained, own):
            for suffix in SUFFIXES:
                copy_file(trained.file(own, suffix), trained.file(folder, suffix))


def read(pipeline: Pipeline, wanted: Sequence[Trained], folder: Path) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The points in `folder`, one row a model, share and agent, and where each training came from, by name.

    Returns:
        `model,weights,tokens,parameters,share,episodes,agent,n,seeds,mean,ci_low,ci_high,over,held_out,exact`: `weights` is
        `random` or `pretrained`, `tokens` the options under which the game was read and written, `episodes` the share in games.
        Intervals are those of `stats.interval`. `held_out` is the loss (nats an action) of imitation on games held out, at the
        end of training, and `exact` that of the behaviour itself; empty for agents that do not imitate. Of what the environment
        counts beside the score there follow `NAME,NAME_low,NAME_high`, see `counted`.

    Raises:
        BenchError: a file is damaged.
    """
    from qsft_bench.model.network import SIZES

    sources, parts = {}, dict[tuple[str, str, str], list[tuple[Trained, pd.DataFrame]]]()
    for trained in wanted:
        source = finished(pipeline, trained, folder)
        if source is not None:
            sources[trained.name] = source
            place = (trained.point.model, trained.point.share, trained.cell.agent)
            parts.setdefault(place, []).append((trained, read_records(trained.file(folder, ".parquet"))))
    rows = []
    for (model, share, agent), group in parts.items():
        trained, sizes = group[0][0], group[0][0].point.scale
        binary = env_spec(trained.cell.env).metric == "success"
        played = pd.concat([records for _, records in group], ignore_index=True)
        spread = interval(played, binary=binary)
        ends = [entry for own, _ in group for entry in sources[own.name]["history"][-1:]]
        losses = pd.DataFrame(ends, columns=["validation_loss", "exact_loss"], dtype=float).mean()
        beside: dict[str, float] = {}
        for name, values in statistics(played).items():
            known = interval(played[values.notna()].assign(score=values))
            beside |= {name: known.mean, f"{name}_low": known.low, f"{name}_high": known.high}
        rows.append(
            {
                "model": model,
                "weights": "random" if sizes.model in SIZES or sizes.model.startswith(RANDOM) else "pretrained",
                "tokens": ", ".join(f"{key} {value}" for key, value in sizes.options.items()) or "default",
                "parameters": sources[trained.name]["parameters"],
                "share": share,
                "episodes": sizes.dataset_episodes,
                "agent": agent,
                "n": spread.n,
                "seeds": spread.seeds,
                "mean": spread.mean,
                "ci_low": spread.low,
                "ci_high": spread.high,
                "over": spread.over,
                "held_out": losses["validation_loss"],
                "exact": losses["exact_loss"],
                **beside,
            }
        )
    return pd.DataFrame(rows), sources


def counted(found: pd.DataFrame) -> list[list[str]]:
    """Of what the environment counts beside the score, the columns of `read` with its mean and interval, the first its name."""
    return [[name, f"{name}_low", f"{name}_high"] for name in found if f"{name}_low" in found]
