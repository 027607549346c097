"""The paper's tables from nothing but this repository: which cells, their records, the files in results/."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from qsft_bench.curves import stability, summarise
from qsft_bench.dataset.generate import recipe
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, mean_score, read_records, task_name
from qsft_bench.figures import bars
from qsft_bench.figures import curves as plot_curves
from qsft_bench.files import copy_file, read_json, write_json, write_text
from qsft_bench.pipeline import Pipeline, commit, hardware, learns, versions
from qsft_bench.preset import scale
from qsft_bench.registry import agent_class, env_names, env_spec, make_env
from qsft_bench.spec import EnvSpec
from qsft_bench.stats import interval
from qsft_bench.tables import IMITATION, Table, build_columns, build_table, steadiness, write_paired, write_table


def make_table(pipeline: Pipeline, number: int, preset: str, agents: Sequence[str] = (), seeds: int | None = None) -> Table:
    """The paper's table `number`, into results/<preset>/table<number>.*"""
    specs = [env_spec(name) for name in env_names()]
    tasks = [(spec, "base") for spec in specs if spec.table == number]
    cells = task_cells(pipeline, tasks, preset, agents, seeds)
    return _make(
        pipeline, f"table{number}", cells, preset, lambda records, sources: build_table(number, records, preset, sources)
    )


def make_separation(pipeline: Pipeline, preset: str, agents: Sequence[str] = (), seeds: int | None = None) -> Table:
    """Every column made to tell values from imitation (other tiers, tasks outside the paper), into separation.*"""
    tasks = separation_tasks(preset)
    cells = task_cells(pipeline, tasks, preset, agents, seeds)
    return _make_columns(pipeline, "separation", "Separation: data on which imitation stays low", tasks, cells, preset)


def separation_tasks(preset: str) -> list[tuple[EnvSpec, str]]:
    """What the separation table shows at `preset`: tiers beside the paper's, and tasks that are not the paper's."""
    specs = [env_spec(name) for name in env_names()]
    return [
        (spec, tier) for spec in specs for tier in scale(preset, spec).tiers or spec.tiers if tier != "base" or not spec.table
    ]


def make_ablation(pipeline: Pipeline, agent: str, env: str, tier: str, preset: str) -> Table:
    """An agent beside all its variants on one task, into <agent>_ablation.*, and its decodings into <agent>_decodings.csv."""
    cls: Any = agent_class(agent)
    env = env_spec(env).name
    names = [*IMITATION, agent, *(f"{agent}@{variant}" for variant in cls.variants)]
    cells = [Cell(name, env, tier, preset) for name in names]
    title = f"{agent}, each choice changed by itself, on {task_name(env, tier)}"
    table = _make_columns(pipeline, f"{agent}_ablation", title, [(env_spec(env), tier)], cells, preset)
    bars(table, pipeline.results(preset) / f"{agent}_ablation")
    write_text(
        pipeline.results(preset) / f"{agent}_decodings.csv", sweep(pipeline, Cell(agent, env, tier, preset)).to_csv(index=False)
    )
    return table


def make_stability(
    pipeline: Pipeline, env: str, tier: str, preset: str, agents: Sequence[str] = (), seeds: int | None = None
) -> pd.DataFrame:
    """Learning curves of several trainings an agent, into stability.{md,csv,png,pdf}; returns one row an agent.

    Every curve is of a training in `runs/`, watched on validation seeds: published checkpoints have none.
    """
    began = time.monotonic()
    spec, directory = env_spec(env), pipeline.results(preset)
    env, pipeline = spec.name, replace(pipeline, source="scratch")
    cells = [
        Cell(agent, env, tier, preset, seed)
        for agent in agents or ("sft", "ilql", "qsft")
        for seed in range(seeds or max(3, scale(preset, spec).training_seeds))
    ]
    records = pipeline.curves(cells)
    sources = provenance(pipeline, cells, {"stability": time.monotonic() - began})
    found = summarise(records, binary=spec.metric == "success")
    title = f"Return while training on {task_name(env, tier)}, {len(set(records['training_seed']))} trainings an agent"
    write_text(directory / "stability.csv", found.to_csv(index=False))
    unit = f"{spec.columns[0]}: {'mean return' if spec.metric == 'return' else 'success rate'}"
    plot_curves(records, found, title, unit, directory / "stability")
    measured = stability(records)
    each = scale(preset, spec).curve_episodes
    write_text(directory / "stability.md", steadiness(title, measured, each, sources))
    for cell in cells:
        path = pipeline.curve_path(cell)
        copy_file(path, directory / "curves" / cell.task / path.name)
    _remember(directory, "stability", sources)
    return measured


def sweep(pipeline: Pipeline, cell: Cell) -> pd.DataFrame:
    """Mean score with its interval of every decoding in the agent's `sweep`, on validation seeds."""
    spec, (agent, _) = env_spec(cell.env), pipeline.player(cell)
    rows = []
    for decoding, episodes in zip(agent.sweep, pipeline.validate(agent, cell, agent.sweep, "sweep"), strict=True):
        scores = pd.DataFrame([{"episode_seed": e.seed, "training_seed": 0, "score": mean_score([e], spec)} for e in episodes])
        found = interval(scores, binary=spec.metric == "success")
        rows.append({**asdict(decoding), "n": found.n, "mean": found.mean, "ci_low": found.low, "ci_high": found.high})
    return pd.DataFrame(rows)


def task_cells(
    pipeline: Pipeline, tasks: Sequence[tuple[EnvSpec, str]], preset: str, agents: Sequence[str], seeds: int | None
) -> list[Cell]:
    """The cells of some tasks: the environment's own agents (or `agents`) that can play here, and every other with records.

    An environment that cannot start, because a package or a program is missing, has none: its columns stay empty, and
    progress says why.
    """
    cells = []
    for spec, tier in tasks:
        try:
            make_env(spec, **scale(preset, spec).options).close()
        except BenchError as error:
            pipeline.progress(f"{spec.name} is left out", 0, 1, str(error))
            continue
        records = pipeline.runs(Cell("", spec.name, tier, preset)) / "records"
        recorded = sorted({path.name.rpartition("-seed")[0] for path in records.glob("*-seed*.parquet")})
        others = [name for name in recorded if "@" not in name]
        chosen = [name for name in dict.fromkeys([*(agents or spec.agents), *others]) if not agent_class(name).unavailable()]
        for seed in range(seeds or scale(preset, spec).training_seeds):
            cells += [Cell(agent, spec.name, tier, preset, seed) for agent in chosen if seed == 0 or learns(agent)]
    return cells


def _make_columns(
    pipeline: Pipeline, stem: str, title: str, tasks: Sequence[tuple[EnvSpec, str]], cells: Sequence[Cell], preset: str
) -> Table:
    columns = [spec.column(column, tier) for spec, tier in tasks for column in spec.columns]

    def build(records: pd.DataFrame, sources: Mapping[str, Any]) -> Table:
        return build_columns(records, columns, stem=stem, title=title, preset=preset, provenance=sources)

    return _make(pipeline, stem, cells, preset, build)


def _make(
    pipeline: Pipeline,
    stem: str,
    cells: Sequence[Cell],
    preset: str,
    build: Callable[[pd.DataFrame, Mapping[str, Any]], Table],
) -> Table:
    """Play the cells, then write the table, its records, where it came from, and every paired comparison so far."""
    began = time.monotonic()
    records = pipeline.all_records(cells)
    sources = provenance(pipeline, cells, {stem: time.monotonic() - began})
    directory = pipeline.results(preset)
    table = build(records, sources)
    write_table(table, directory)
    pipeline.copy_records(cells)
    if pipeline.publishes:
        for cell in cells:
            if not cell.training_seed and (pipeline.run_checkpoint(cell) / "config.json").exists():
                pipeline.publish(cell)
    paths = [path for path in sorted(directory.glob("records/*/*.parquet")) if not path.name.endswith(".transcripts.parquet")]
    write_paired(pd.concat([read_records(path) for path in paths], ignore_index=True), directory)
    _remember(directory, stem, sources)
    return table


def _remember(directory: Path, stem: str, sources: Mapping[str, Any]) -> None:
    path = directory / "provenance.json"
    write_json(path, {**(read_json(path) if path.exists() else {}), stem: sources})


def provenance(pipeline: Pipeline, cells: Sequence[Cell], stages: dict[str, float]) -> dict[str, Any]:
    """Where the numbers of these cells come from: code, machine, data, training time and the decoding chosen."""
    decoding: dict[str, dict[str, str]] = {}
    datasets: dict[str, str] = {}
    training: dict[str, dict[str, str]] = {}
    for cell in cells:
        if cell.training_seed or not learns(cell.agent):
            continue
        spec, sizes = env_spec(cell.env), pipeline.scale(cell)
        agent: Any = agent_class(cell.agent).load(pipeline.checkpoint(cell))
        for column in spec.columns:
            heading = spec.column(column, cell.tier)
            decoding.setdefault(cell.agent, {})[heading] = agent.decoding.describe()
            options = ", ".join(f"{key}={value}" for key, value in sizes.options.items()) or "default"
            datasets[heading] = f"{recipe(spec, cell.tier, sizes).episodes:,} episodes, {options}, tokens: {sizes.codec}"
            if "training" in agent.meta:
                training.setdefault(cell.agent, {})[heading] = _training(agent)
    return {
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        "stages": {name: round(seconds, 1) for name, seconds in stages.items()},
        "decoding": decoding,
        "datasets": datasets,
        "training": training,
    }


def _training(agent: Any) -> str:
    """How an agent was trained, what it reached, and whether it knows how well it plays (normalised returns)."""
    meta = agent.meta
    made = meta["training"]
    parts = [f"{made['steps']:,} steps on {made['episodes']:,} episodes in {made['seconds'] / 60:.0f} min"]
    gaps = [entry["gap_closed"] for entry in made["history"] if "gap_closed" in entry]
    if gaps and agent.imitates:
        parts.append(f"{gaps[-1]:.1%} of the gap to the exact behaviour's loss closed")
    if "started_from" in meta:
        parts.insert(0, "after " + ", ".join(origin["agent"] for origin in meta["started_from"].values()))
    if "start_value" in meta:
        value = meta["start_value"]
        parts.append(f"value at the start {value['estimated']:.2f}, its own play returned {value['played']:.2f}")
    return "; ".join(parts)
