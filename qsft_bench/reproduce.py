"""The paper's tables and figures from nothing but this repository: which cells, their records, the files in results/."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from qsft_bench import points
from qsft_bench.curves import configurations, plays, read_curve, stability, summarise, whole
from qsft_bench.dataset.generate import recipe
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, mean_score, read_records, task_name
from qsft_bench.figures import against_share, against_size, bands, bars, caption, points_page
from qsft_bench.figures import curves as plot_curves
from qsft_bench.files import copy_file, read_json, write_json, write_text
from qsft_bench.pipeline import Pipeline, commit, hardware, learns, versions
from qsft_bench.preset import figure4, scale
from qsft_bench.registry import agent_class, env_names, env_spec, make_env
from qsft_bench.spec import EnvSpec
from qsft_bench.stats import interval
from qsft_bench.tables import IMITATION, Table, build_columns, build_table, steadiness, write_paired, write_table

FIGURE_3_COLUMN = "Pick Object"
FIGURE_3_AGENTS = ("sft", "qsft", "q_transformer")  # Q-SFT goes on where SFT ends
FIGURE_4_ENV = "twenty_questions"
FIGURE_4_AGENTS = ("sft", "sft_greedy", "sft_temp", "ilql", "qsft")


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
    names = list(dict.fromkeys([*IMITATION, agent, *(f"{agent}@{variant}" for variant in cls.variants)]))
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
    """Learning curves of several trainings an agent, into stability.{md,csv,png,pdf}; returns one row an agent."""
    spec = env_spec(env)
    trainings = seeds or max(3, scale(preset, spec).training_seeds)
    cells = [
        Cell(agent, spec.name, tier, preset, seed) for agent in agents or ("sft", "ilql", "qsft") for seed in range(trainings)
    ]
    title = f"Return while training on {task_name(spec.name, tier)}, {trainings} trainings an agent"
    records, _, sources = _draw_curves(pipeline, "stability", title, cells)
    measured = stability(records)
    each = pipeline.scale(cells[0]).curve_episodes
    write_text(pipeline.results(preset) / "stability.md", steadiness(title, measured, each, sources))
    return measured


def make_figure3(pipeline: Pipeline, preset: str, agents: Sequence[str] = (), seeds: int | None = None) -> pd.DataFrame:
    """The paper's Figure 3, success while training against samples seen, into figure3.{md,csv,png,pdf}.

    Returns:
        One row an agent, column and evaluation: `curves.summarise` with `samples`.

    Raises:
        BenchError: no environment here fills the figure's column.
    """
    specs = [spec for spec in map(env_spec, env_names()) if FIGURE_3_COLUMN in spec.columns]
    if not specs:
        raise BenchError(f"no environment here fills {FIGURE_3_COLUMN!r}, which Figure 3 shows")
    spec, chosen = specs[0], agents or FIGURE_3_AGENTS
    cells = [
        Cell(agent, spec.name, "base", preset, seed)
        for agent in chosen
        for seed in range(seeds or scale(preset, spec).training_seeds)
    ]
    sizes = pipeline.scale(cells[0])
    title = f"Figure 3: success while training on {spec.name}"
    _, found, sources = _draw_curves(pipeline, "figure3", title, cells, sizes.batch_size)
    first = {agent: " and ".join(_learner(Cell(agent, spec.name)).prerequisites) for agent in chosen}
    started = ", ".join(f"{agent} starts from {names}" for agent, names in first.items() if names)
    text = (
        f"Success rate of {sizes.curve_episodes} validation episodes an evaluation, under decodings fixed beforehand, against "
        f"the training samples seen: gradient steps times the {sizes.batch_size} windows of a batch, those of the agent "
        f"started from included{f' ({started})' if started else ''}. Bands: 95% over {bands(found)}; thin lines: each "
        f"training. The paper's Figure 3 shows {FIGURE_3_COLUMN}. `figure3.csv` has every evaluation with its interval."
    )
    write_text(pipeline.results(preset) / "figure3.md", caption(title, text, "figure3", sources))
    return found


def make_figure4(
    pipeline: Pipeline, preset: str, agents: Sequence[str] = (), seeds: int | None = None, only: Sequence[str] = ()
) -> pd.DataFrame:
    """The paper's Figure 4, return against model size, and its companion, return against the share of the data, into figure4*.

    With `source="scratch"` the points that the run lacks are trained first, and the figure is of the run, in
    runs/<preset>/figure4/; else it is of the published points, in results/<preset>/. `publishes` copies the run's points there
    first, whatever the source.

    Args:
        only: patterns of the points to train, as `smollm2/10%/qsft` or `tiny`; all of them if empty.

    Returns:
        One row a model, share and agent: `points.read`.

    Raises:
        BenchError: there is no point to draw, or points could not be made (after the others were).
    """
    began = time.monotonic()
    spec, compared = env_spec(FIGURE_4_ENV), figure4(preset, env_spec(FIGURE_4_ENV))
    trainings = range(seeds or scale(preset, spec).training_seeds)
    for agent in agents:
        _learner(Cell(agent, spec.name))
    everything = [
        points.Trained(point, Cell(agent, spec.name, "base", preset, seed))
        for point in compared.points
        for agent in agents or FIGURE_4_AGENTS
        for seed in trainings
    ]
    failed = points.make(pipeline, points.chosen(everything, only)) if pipeline.source == "scratch" else {}
    ours = pipeline.source == "scratch" and not pipeline.publishes
    directory = pipeline.root / "runs" / preset / points.FOLDER if ours else pipeline.results(preset)
    folder = points.run_folder(pipeline, preset) if ours else directory / points.FOLDER
    if pipeline.publishes:
        points.publish(pipeline, everything, folder)
    found, origins = points.read(pipeline, everything, folder)
    if found.empty and failed:
        name, reason = next(iter(failed.items()))
        raise BenchError(f"{name} could not be made: {reason}")
    if found.empty:
        raise BenchError(
            f"{folder} holds no point of Figure 4; `qsft-bench figure 4 --preset {preset} --from scratch` trains them"
        )
    write_text(directory / "figure4.csv", found.to_csv(index=False))
    references = spec.tier("base").references_of(spec.columns[0])
    own = found[found["share"] == compared.share]
    pairs, counted = found[found["model"].isin(compared.companion)], points.counted(found)
    titles = [
        f"Figure 4: return on {spec.columns[0]} against model size, {compared.share} of the data",
        f"{spec.columns[0]}: the same architecture from pretrained and from random weights",
    ]
    if len(own):
        against_size(own, titles[0], f"{spec.columns[0]}: mean return", references, directory / "figure4")
    if len(pairs):
        against_share(pairs, titles[1], f"{spec.columns[0]}: mean return", counted, directory / "figure4_pretraining")
    missing = [trained.name for trained in everything if trained.name not in origins]
    sources = {
        **_made_here({"figure4": time.monotonic() - began}),
        "preset": preset,
        "trained_at": sorted({origin["commit"] for origin in origins.values()}),
        "trained_on": sorted({origin["hardware"] for origin in origins.values()}),
        "missing": missing,
        "points": {name: _point(origin) for name, origin in origins.items()},
    }
    _remember(directory, "figure4", sources)
    write_text(directory / "figure4.md", points_page(titles, found, len(pairs) > 0, counted, sources))
    if failed:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in failed.items())
        raise BenchError(f"the figure is drawn without the points that could not be made: {reasons}")
    return found


def _point(origin: Mapping[str, Any]) -> str:
    """How one point was made, in a line."""
    parts = [str(origin["model"]), f"{origin['parameters']:,} parameters"]
    if origin["steps"]:
        identity = origin["follows_from"]["identity"]
        rate = identity["scale"]["learning_rate"] * identity["config"]["training"]["learning_rate"]
        size = f"{origin['steps']:,} steps of {identity['scale']['batch_size']} on {origin['training_episodes']:,} episodes"
        if "tuning" in identity["scale"]:
            parts.append(f"tuned {identity['scale']['tuning']}")
        parts.append(f"{size} in {origin['training_seconds']:.0f} s, learning rate {rate:g}")
        parts += [
            f"held-out loss {end['validation_loss']:.2f} nats an action (the behaviour's own {end['exact_loss']:.2f})"
            for end in origin["history"][-1:]
            if "validation_loss" in end
        ]
    return "; ".join([*parts, f"decoding {origin['decoding']}"])


def _draw_curves(
    pipeline: Pipeline, stem: str, title: str, cells: Sequence[Cell], batch: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The learning curves of the cells of one task, into <stem>.{csv,png,pdf} and provenance.json.

    Args:
        batch: samples a gradient step, where the figure counts samples.

    Returns:
        Their records, those summed up, and where they came from.
    """
    began = time.monotonic()
    spec, directory = env_spec(cells[0].env), pipeline.results(cells[0].preset)
    records = learning_curves(pipeline, cells)
    found = summarise(records, binary=spec.metric == "success")
    if batch is not None:
        found.insert(found.columns.get_loc("updates") + 1, "samples", found["updates"] * batch)
    unit = "mean return" if spec.metric == "return" else "success rate"
    write_text(directory / f"{stem}.csv", found.to_csv(index=False))
    plot_curves(records, found, title, unit, directory / stem, batch)
    ends = found.groupby("agent", sort=False).last()
    watched = {own.agent: decoding.describe() for cell in cells for own, decoding in plays(_learner(cell), cell).items()}
    sources = {
        **_made_here({stem: time.monotonic() - began}),
        "preset": cells[0].preset,
        "trained_at": sorted(set(records["commit"])),
        "agents": {
            agent: {"n": int(row.n), "seeds": int(row.seeds), "interval": f"95% over {row.over}", "decoding": watched[agent]}
            for agent, row in ends.iterrows()
        },
    }
    _remember(directory, stem, sources)
    return records, found, sources


def learning_curves(pipeline: Pipeline, cells: Sequence[Cell]) -> pd.DataFrame:
    """The learning curves of many cells: the run's own, else those beside the results, else from trainings made now.

    All of them are then beside the results, in results/<preset>/curves/<task>/. With `source="scratch"` those that were there
    before are not used.

    Raises:
        BenchError: a file is damaged, or a checkpoint is there whose training was not watched as it would be now.
    """
    missing = [cell for cell in cells if _curve_file(pipeline, cell) is None]
    if missing:
        replace(pipeline, source="scratch").curves(missing)  # published checkpoints have no curve
    found = []
    for cell in cells:
        path = _curve_file(pipeline, cell)
        if path is None:
            own = pipeline.run_checkpoint(cell)
            raise BenchError(f"{pipeline.curve_path(cell)} was recorded otherwise than now; remove {own} to train it again")
        found.append(read_curve(path, pipeline.steps(cell)))
        beside = _curve_beside_results(pipeline, cell)
        if path != beside:
            copy_file(path, beside)
    return pd.concat(found, ignore_index=True)


def _curve_file(pipeline: Pipeline, cell: Cell) -> Path | None:
    """The whole learning curve of the cell's training, in the configuration that it would have now, or None."""
    sizes = pipeline.scale(cell)
    hashes = configurations(_learner(cell), cell, pipeline.identity(cell), sizes.options, sizes.constrained)
    paths = [pipeline.curve_path(cell)]
    if pipeline.source == "published":
        paths.append(_curve_beside_results(pipeline, cell))
    return next((path for path in paths if whole(path, pipeline.steps(cell), hashes)), None)


def _curve_beside_results(pipeline: Pipeline, cell: Cell) -> Path:
    return pipeline.results(cell.preset) / "curves" / cell.task / pipeline.curve_path(cell).name


def _learner(cell: Cell) -> Any:
    """The class of the cell's agent.

    Raises:
        BenchError: it does not train.
    """
    if not learns(cell.agent):
        raise BenchError(f"{cell.agent} does not train and has no place in this figure; name an agent that does")
    return agent_class(cell.agent)


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
        chosen = [
            name for name in dict.fromkeys([*(agents or spec.agents_of(tier)), *others]) if not agent_class(name).unavailable()
        ]
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
            size = f"{recipe(spec, cell.tier, sizes).episodes:,} episodes"
            datasets[heading] = f"{size}, {options}, tokens: {pipeline.codec(cell)}"
            if sizes.constrained:
                datasets[heading] += "; learned agents choose among the admissible actions"
            if "training" in agent.meta:
                training.setdefault(cell.agent, {})[heading] = _training(agent)
    return {**_made_here(stages), "decoding": decoding, "datasets": datasets, "training": training}


def _made_here(stages: Mapping[str, float]) -> dict[str, Any]:
    """Code, machine and seconds of each stage."""
    return {
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        "stages": {name: round(seconds, 1) for name, seconds in stages.items()},
    }


def _training(agent: Any) -> str:
    """How an agent was trained, what it reached, and whether it knows how well it plays (normalised returns)."""
    meta = agent.meta
    made = meta["training"]
    where = f" on {made['hardware']}" if "hardware" in made else ""  # checkpoints did not always say
    parts = [f"{made['steps']:,} steps on {made['episodes']:,} episodes in {made['seconds'] / 60:.0f} min{where}"]
    if "model" in made:
        parts.append(made["model"])
    gaps = [entry["gap_closed"] for entry in made["history"] if "gap_closed" in entry]
    if gaps and agent.imitates:
        parts.append(f"{gaps[-1]:.1%} of the gap to the exact behaviour's loss closed")
    if "started_from" in meta:
        parts.insert(0, "after " + ", ".join(origin["agent"] for origin in meta["started_from"].values()))
    if "start_value" in meta:
        value = meta["start_value"]
        parts.append(f"value at the start {value['estimated']:.2f}, its own play returned {value['played']:.2f}")
    return "; ".join(parts)
