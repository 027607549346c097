"""The paper's tables from nothing but this repository: which cells, their records, the files in results/."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from qsft_bench.dataset.generate import recipe
from qsft_bench.evaluate import Cell, task_name
from qsft_bench.files import write_json
from qsft_bench.pipeline import Pipeline, commit, hardware, versions
from qsft_bench.preset import scale
from qsft_bench.registry import agent_class, env_names, env_spec
from qsft_bench.tables import Table, build_table, write_paired, write_table


def table_cells(
    pipeline: Pipeline, number: int, preset: str, agents: Sequence[str] = (), seeds: int | None = None
) -> list[Cell]:
    """The cells of a table: every built environment's agents, and every other agent that has records there."""
    cells = []
    for name in env_names():
        spec = env_spec(name)
        if spec.table != number:
            continue
        records = pipeline.root / "runs" / preset / task_name(name, "base") / "records"
        recorded = sorted({path.name.rpartition("-seed")[0] for path in records.glob("*-seed*.parquet")})
        chosen = list(dict.fromkeys([*(agents or spec.agents), *recorded]))
        for seed in range(seeds or scale(preset, spec).training_seeds):
            cells += [
                Cell(agent, name, "base", preset, seed) for agent in chosen if seed == 0 or agent not in ("random", "behaviour")
            ]
    return cells


def make_table(pipeline: Pipeline, number: int, preset: str, agents: Sequence[str] = (), seeds: int | None = None) -> Table:
    """Make table `number` and write it, its paired comparisons, its records and its provenance to results/<preset>/."""
    cells = table_cells(pipeline, number, preset, agents, seeds)
    began = time.monotonic()
    records = pipeline.all_records(cells)
    sources = provenance(pipeline, cells, {f"table {number}": time.monotonic() - began})
    directory = pipeline.results(preset)
    table = build_table(number, records, preset, sources)
    write_table(table, directory)
    write_paired(records, directory)
    write_json(directory / "provenance.json", sources)
    pipeline.copy_records(cells)
    return table


def provenance(pipeline: Pipeline, cells: Sequence[Cell], stages: dict[str, float]) -> dict[str, Any]:
    """Where the numbers of these cells come from: code, machine, data, training time and the decoding chosen."""
    from qsft_bench.token_agent import TokenAgent

    decoding: dict[str, dict[str, str]] = {}
    datasets: dict[str, str] = {}
    training: dict[str, Any] = {}
    for cell in cells:
        if cell.training_seed or not issubclass(agent_class(cell.agent), TokenAgent):
            continue
        spec, sizes = env_spec(cell.env), pipeline.scale(cell)
        agent: Any = agent_class(cell.agent).load(pipeline.checkpoint(cell))
        for column in spec.columns:
            heading = spec.column(column, cell.tier)
            decoding.setdefault(cell.agent, {})[heading] = agent.decoding.describe()
            options = ", ".join(f"{key}={value}" for key, value in sizes.options.items()) or "default"
            datasets[heading] = f"{recipe(spec, cell.tier, sizes).episodes:,} episodes, {options}, tokens: {sizes.codec}"
        if "training" in agent.meta:
            training[str(cell)] = {key: agent.meta["training"][key] for key in ("steps", "episodes", "seconds")}
    return {
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        "stages": {name: round(seconds, 1) for name, seconds in stages.items()},
        "decoding": decoding,
        "datasets": datasets,
        "training": training,
    }
