r"""Tables: evaluation records in, the paper's Tables 1-3 and the separation tables out.

```
records --build_columns--> Table --markdown | latex | frame | as_json | render--> table1.md .tex .csv .json, terminal
              ^ build_table: the columns, title and names of one of the paper's tables
```

Numbers come from records and nothing else; what an environment declares (metric, reference scores) comes from the registry, and
the paper's own rows from `PAPER`. Every written number is in the unit the paper prints: mean return, or percent of success.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from qsft_bench.errors import BenchError
from qsft_bench.evaluate import statistics
from qsft_bench.files import write_text
from qsft_bench.preset import scale
from qsft_bench.registry import agent_class, agent_names, env_names, env_spec
from qsft_bench.spec import EnvSpec, Tier
from qsft_bench.stats import Interval, clusters_of, interval, paired, written

AGENTS = (
    *("react", "sft", "sft_greedy", "sft_temp", "filtered_bc", "return_conditioned", "ilql", "cql", "q_transformer", "archer"),
    *("qsft", "bc", "random", "behaviour"),
)
"""The order of rows; agents from elsewhere stand between the learned ones and `random`."""

IMITATION = ("sft", "sft_greedy", "sft_temp")
"""One checkpoint, three decodings: in every table, because a win is a win over the best of them."""

NOT_LEARNED_BY_RL = frozenset({"react", "bc", "random", "behaviour", *IMITATION})
RIVALS = ("ilql", "cql", "q_transformer", "archer", "filtered_bc", "return_conditioned")
"""Whom Q-SFT is compared with, pair by pair."""

TABLES: Mapping[int, tuple[str, ...]] = {
    1: ("Chess", "Wordle", "20Q", "Pick", "Examine", "Clean", "Heat", "Cool", "Pick2"),
    2: ("Score",),
    3: ("Pick Object", "Place Object Near Target", "Drawer Grasp"),
}

TITLES: Mapping[int, str] = {
    1: "Table 1: language games and ALFWorld",
    2: "Table 2: WebShop",
    3: "Table 3: robotic manipulation",
}

PRINTED_AS: Mapping[int, Mapping[str, str]] = {3: {"sft": "bc"}}
"""Without pretrained weights the paper calls SFT behaviour cloning."""

SUCCESS_COLUMNS = frozenset(TABLES[1][3:] + TABLES[3])
"""Columns of success rates, for those that no environment declares yet; the others ask their `EnvSpec`."""

PAPER: Mapping[str, Mapping[str, float]] = {
    "Chess": {"react": 0, "sft": 0.11, "ilql": 0.09, "qsft": 0.15},
    "Wordle": {"react": -4.96, "sft": -3.81, "ilql": -2.08, "qsft": -2.11},
    "20Q": {"react": -13.2, "sft": -17.3, "ilql": -14.2, "qsft": -13.1},
    "Pick": {"react": 45, "sft": 38, "ilql": 28, "qsft": 39},
    "Examine": {"react": 19, "sft": 15, "ilql": 7, "qsft": 21},
    "Clean": {"react": 17, "sft": 0, "ilql": 0, "qsft": 19},
    "Heat": {"react": 7, "sft": 11, "ilql": 5, "qsft": 14},
    "Cool": {"react": 12, "sft": 0, "ilql": 2, "qsft": 18},
    "Pick2": {"react": 24, "sft": 18, "ilql": 15, "qsft": 21},
    "Score": {"react": 0.60, "sft": 0.55, "archer": 0.57, "qsft": 0.63},
    "Pick Object": {"sft": 44, "cql": 78, "q_transformer": 92, "qsft": 94},
    "Place Object Near Target": {"sft": 32, "cql": 57, "q_transformer": 68, "qsft": 64},
}
"""The paper's numbers (Hong, Dragan and Levine 2024, Tables 1-3), column -> agent -> score in the printed unit."""

NOT_BUILT = "not built yet"
MISSING = "-"
SMOKE_NOTE = "The numbers mean nothing: this is the smoke preset, which only shows that every part runs."

CELL_FIELDS = ("agent", "column", "n", "seeds", "mean", "ci_low", "ci_high", "paper")
PAIR_FIELDS = ("column", "agent_a", "agent_b", "n", "difference", "ci_low", "ci_high")
RECORD_FIELDS = ("agent", "column", "preset", "training_seed", "episode_seed", "score", "config_hash")

Format = Literal["md", "csv", "json", "tex"]


@dataclass(frozen=True)
class Column:
    """A heading, and the environment and tier behind it (None while no environment declares it)."""

    name: str
    spec: EnvSpec | None = None
    tier: str = "base"

    @property
    def success(self) -> bool:
        """Whether scores are 0/1 and print as percent."""
        return self.spec.metric == "success" if self.spec else self.name in SUCCESS_COLUMNS

    @property
    def unit(self) -> float:
        """Printed unit per unit of the records."""
        return 100.0 if self.success else 1.0

    def text(self, value: float) -> str:
        """`value`, in the printed unit, rounded: whole percent or two decimals."""
        text = f"{value:.{0 if self.success else 2}f}"
        return text.lstrip("-") if float(text) == 0 else text


@dataclass(frozen=True)
class Cell:
    """One agent on one column, in the printed unit.

    Attributes:
        agent: name as printed.
        column: heading.
        interval: ours; None without records.
        paper: the paper's number, if it has one.
        absent: what prints where there are no records.
        statistics: means over the episodes of what the environment counts beside the score.
    """

    agent: str
    column: str
    interval: Interval | None
    paper: float | None
    absent: str = MISSING
    statistics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A finished table; the functions below write it in several forms.

    Attributes:
        title: heading.
        stem: file name without suffix.
        preset: of all its records; empty if there are none.
        summary: what the preset is, one line.
        columns: in order.
        cells: row by row, every agent on every column.
        provenance: commit, hardware, versions, stages (name -> seconds), decoding and training (agent -> column -> text),
            datasets (column -> text); every key optional.
        printed_as: agents that print under another name here.
    """

    title: str
    stem: str
    preset: str
    summary: str
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    provenance: Mapping[str, Any]
    printed_as: Mapping[str, str]

    @property
    def intervals(self) -> list[Interval]:
        """The intervals of all cells that have records."""
        return [cell.interval for cell in self.cells if cell.interval is not None]


def build_table(
    number: int,
    records: pd.DataFrame,
    preset: str,
    provenance: Mapping[str, Any] | None = None,
    *,
    specs: Iterable[EnvSpec] | None = None,
) -> Table:
    """The paper's table `number`, from records of `preset`.

    Args:
        number: 1, 2 or 3.
        records: one row an evaluation episode; other tables' columns are passed over.
        preset: name of the preset the records must be of.
        provenance: see `Table`.
        specs: declared environments; by default every registered one.

    Raises:
        BenchError: as `build_columns`, or there is no such table.
    """
    if number not in TABLES:
        raise BenchError(f"there is no table {number}; choose from {', '.join(map(str, TABLES))}")
    return build_columns(
        records,
        TABLES[number],
        stem=f"table{number}",
        title=TITLES[number],
        preset=preset,
        provenance=provenance,
        printed_as=PRINTED_AS.get(number, {}),
        specs=specs,
    )


def build_columns(
    records: pd.DataFrame,
    columns: Sequence[str],
    *,
    stem: str,
    title: str,
    preset: str = "",
    provenance: Mapping[str, Any] | None = None,
    printed_as: Mapping[str, str] | None = None,
    specs: Iterable[EnvSpec] | None = None,
) -> Table:
    """A table of any columns: rows are the agents with records on them, those the paper has there, and `IMITATION`.

    Raises:
        BenchError: the records lack a field, mix presets or configurations, hold an episode twice or an unusable score.
    """
    printed_as = printed_as or {}
    declared = _declared(specs)
    headings = tuple(declared.get(name, Column(name)) for name in columns)
    records = _usable(records, columns)
    for agent, name in printed_as.items():
        if {agent, name} <= set(records["agent"]):
            raise BenchError(f"{title} prints {agent!r} as {name!r}, but {name!r} has records too; rename that agent")
    preset = _one_preset(records, preset)
    by_cell = {key: cell for key, cell in records.groupby(["agent", "column"])}
    agents = set(records["agent"]) | {agent for name in columns for agent in PAPER.get(name, {})} | set(IMITATION)
    cells = []
    for agent in sorted(agents, key=_agent_order):
        for column in headings:
            own = by_cell.get((agent, column.name))
            found = None if own is None else _measured(agent, column, own)
            absent = NOT_BUILT if column.spec is None else _unavailable(agent) or MISSING
            paper = PAPER.get(column.name, {}).get(agent)
            beside = {} if own is None else statistics(own)
            counted = {name: float(values.mean()) for name, values in beside.items()}
            cells.append(Cell(printed_as.get(agent, agent), column.name, found, paper, absent, counted))
    summaries = dict.fromkeys(scale(preset, column.spec).summary for column in headings if preset and column.spec)
    summary = " ".join(filter(None, summaries))
    return Table(title, stem, preset, summary, headings, tuple(cells), dict(provenance or {}), dict(printed_as))


def frame(table: Table) -> pd.DataFrame:
    """One row a cell, `agent,column,n,seeds,mean,ci_low,ci_high,paper`, in the printed unit."""
    rows = pd.DataFrame([_entries(cell) for cell in table.cells], columns=list(CELL_FIELDS))
    return rows.astype(dict.fromkeys(("mean", "ci_low", "ci_high", "paper"), float))


def as_json(table: Table) -> dict[str, Any]:
    """Cells, columns and provenance as plain JSON values; what is not known is null."""
    return {
        "title": table.title,
        "preset": table.preset,
        "summary": table.summary,
        "columns": [
            {
                "column": column.name,
                "env": column.spec.name if column.spec else None,
                "tier": column.tier,
                "unit": "percent" if column.success else "return",
                "references": {name: value * column.unit for name, value in _reference_scores(column).items()},
            }
            for column in table.columns
        ],
        "cells": [
            _entries(cell)
            | {"over": cell.interval.over if cell.interval else None, "absent": None if cell.interval else cell.absent}
            | {"statistics": dict(cell.statistics)}
            for cell in table.cells
        ],
        "provenance": dict(table.provenance),
    }


def markdown(table: Table) -> str:
    """The table for people: matrix, reference scores, decodings, data and provenance."""
    blocks = [f"# {_markdown(table.title)}"]
    if table.preset == "smoke":
        blocks.append(f"**{SMOKE_NOTE}**")
    blocks += [" ".join(_markdown(line) for line in _caption(table))]
    matrix = [[_markdown(agent), *values] for agent, *values in _matrix(table)]  # values are this module's own text
    blocks.append(_grid(["Agent", *(_markdown(_heading(table, column)) for column in table.columns)], matrix))
    if any(cell.paper is not None for cell in table.cells):
        blocks.append("Rows marked (paper): Hong, Dragan and Levine (2024), other models and data, so not the same experiment.")
    blocks.append("Overlapping intervals rank nobody; `paired.csv` compares agents on the same episodes.")
    blocks += _references(table)
    blocks += _beside(table)
    blocks += _by_agent(table, "decoding", "Decoding and hyperparameters")
    blocks += _by_agent(table, "training", "Training")
    blocks += _provenance(table)
    return "\n\n".join(blocks) + "\n"


def latex(table: Table) -> str:
    r"""A floating `table` for LaTeX; needs `\usepackage{booktabs}`."""
    note = rf"\textbf{{{_latex(SMOKE_NOTE)}}} " if table.preset == "smoke" else ""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{note}{_latex(' '.join([table.title + '.', *_caption(table)]))}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["Agent", *(_latex(_heading(table, column)) for column in table.columns)]) + r" \\",
        r"\midrule",
        *(" & ".join(_latex(text) for text in row) + r" \\" for row in _matrix(table)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def render(table: Table, width: int | None = None) -> RichTable:
    """The matrix for a terminal, which is too narrow for columns that nothing fills yet: they are named below it.

    Args:
        width: of the terminal in characters, None for any; where the whole matrix is wider, it is of bare means.
    """
    whole = _rendered(table, intervals=True)
    if width is None or Console(width=10_000).measure(whole).maximum <= width:
        return whole
    return _rendered(table, intervals=False)


def _rendered(table: Table, intervals: bool) -> RichTable:
    absent = [column.name for column in table.columns if _not_built(table, column)]
    table = replace(
        table,
        columns=tuple(column for column in table.columns if column.name not in absent),
        cells=tuple(cell for cell in table.cells if cell.column not in absent),
    )
    note = f"{SMOKE_NOTE}\n" if table.preset == "smoke" else ""
    lines = [*_caption(table), *([f"Not built yet: {', '.join(absent)}."] if absent else [])]
    if not intervals:
        lines.append(f"This terminal is too narrow for the intervals: they are in {table.stem}.md.")
    title, caption = Text(_plain(table.title)), Text(note + _plain(" ".join(lines)))
    shown = RichTable(title=title, caption=caption, caption_justify="left")
    shown.add_column("Agent", no_wrap=True)
    for column in table.columns:
        shown.add_column(Text(_plain(column.name)), justify="right")
    for row in _matrix(table):
        texts = row if intervals else [row[0], *(_bare(text) for text in row[1:])]
        shown.add_row(*(Text(_plain(text)) for text in texts))  # Text: brackets from data are not rich's markup
    return shown


def _bare(text: str) -> str:
    """A mean without its interval; what is no number as a dash."""
    mean = text.partition(" [")[0]
    return mean if mean.lstrip("-")[:1].isdigit() else "-"


def write_table(table: Table, directory: Path, formats: Sequence[Format] = ("md", "csv", "json", "tex")) -> list[Path]:
    """Write `<stem>.<format>` for each of `formats` into `directory`, each whole or not at all; returns the paths.

    Raises:
        BenchError: the folder cannot be written.
    """
    texts: dict[Format, str] = {
        "md": markdown(table),
        "csv": _csv(frame(table)),
        "json": json.dumps(as_json(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "tex": latex(table),
    }
    paths = [Path(directory) / f"{table.stem}.{suffix}" for suffix in formats]
    for suffix, path in zip(formats, paths, strict=True):
        write_text(path, texts[suffix])
    return paths


def write_columns(
    records: pd.DataFrame,
    columns: Sequence[str],
    directory: Path,
    stem: str,
    *,
    title: str = "",
    preset: str = "",
    provenance: Mapping[str, Any] | None = None,
    specs: Iterable[EnvSpec] | None = None,
) -> list[Path]:
    """Write a table of any columns (`Wordle habit`, `Stitching`) as `<stem>.md` and `<stem>.csv`; returns the paths."""
    title = title or stem.replace("_", " ").capitalize()
    table = build_columns(records, columns, stem=stem, title=title, preset=preset, provenance=provenance, specs=specs)
    return write_table(table, directory, ("md", "csv"))


def steadiness(title: str, measured: pd.DataFrame, episodes: int, provenance: Mapping[str, Any]) -> str:
    """How steadily agents learn, as Markdown, from what `qsft_bench.curves.stability` measured."""
    head = ["Agent", "trainings", "at the first evaluation", "at the last", "sd between trainings", "greatest fall"]
    rows = [
        [_markdown(row.agent), str(row.seeds), *(f"{value:.2f}" for value in (row.first, row.last, row.spread, row.fall))]
        for row in measured.itertuples()
    ]
    lines = [
        f"Mean score of {episodes} validation episodes an evaluation, under decodings fixed beforehand (`watched` in the",
        "agents' files). The greatest fall is that of an evaluation below the best before it, the mean over trainings; with so",
        "few episodes it is above 0 by chance alone. `stability.csv` has every evaluation with its 95% interval.",
    ]
    blocks = [f"# {_markdown(title)}", " ".join(lines), _grid(head, rows), "![curves](stability.png)"]
    return "\n\n".join([*blocks, "\n".join(_facts(provenance))]) + "\n"


def paired_frame(records: pd.DataFrame, *, specs: Iterable[EnvSpec] | None = None) -> pd.DataFrame:
    """Paired differences, `column,agent_a,agent_b,n,difference,ci_low,ci_high`, on every column that has records.

    Every agent that is not mere imitation against each of `IMITATION`, and against the best of them by mean (again, as
    `best_sft:<name>`: the row that decides whether there is a win); `qsft` also against each of `RIVALS`. Differences are in
    the printed unit (percentage points for success), a positive one favours `agent_a`, and `n` counts the common episode
    seeds; 0 where two agents share none. Intervals run over trainings where two agents share several training seeds, else
    over episodes. Where every episode fills one of an environment's several columns (ALFWorld), all of them together are a
    column too, `<environment> (all)`.

    Raises:
        BenchError: as `build_columns`.
    """
    records = _usable(records, None)
    _one_preset(records, "")
    declared = _declared(specs)
    for whole, part in _all_columns(records, declared):
        declared[whole.name] = whole
        records = pd.concat([records, part], ignore_index=True)
    known = [name for names in TABLES.values() for name in names]
    rows = []
    for name in sorted(set(records["column"]), key=lambda name: (known.index(name) if name in known else len(known), name)):
        column = declared.get(name, Column(name))
        agents = {agent: own for agent, own in records[records["column"] == name].groupby("agent")}
        means = {agent: _measured(agent, column, agents[agent]).mean for agent in IMITATION if agent in agents}
        for a in sorted(agents, key=_agent_order):
            rivals = [] if a in NOT_LEARNED_BY_RL else [(rival, rival) for rival in means]
            if rivals:
                best = max(means, key=lambda agent: means[agent])
                rivals.append((best, f"best_sft:{best}"))
            if a == "qsft":
                rivals += [(b, b) for b in RIVALS if b in agents]
            for b, label in rivals:
                rows.append((name, a, label, *_difference(agents[a], agents[b], column)))
    result = pd.DataFrame(rows, columns=list(PAIR_FIELDS))
    return result.astype({"n": int, "difference": float, "ci_low": float, "ci_high": float})


def _all_columns(records: pd.DataFrame, declared: Mapping[str, Column]) -> list[tuple[Column, pd.DataFrame]]:
    """A column, and its records, for the columns of each environment and tier that an episode fills one of."""
    found = []
    tiers = {(column.spec.name, column.tier): (column.spec, column.tier) for column in declared.values() if column.spec}
    for spec, tier in tiers.values():
        own = records[records["column"].isin([spec.column(name, tier) for name in spec.columns])]
        name = spec.column(f"{spec.name} (all)", tier)
        if own["column"].nunique() > 1 and not own.duplicated(["agent", "training_seed", "episode_seed"]).any():
            found.append((Column(name, spec, tier), own.assign(column=name)))
    return found


def write_paired(records: pd.DataFrame, directory: Path, *, specs: Iterable[EnvSpec] | None = None) -> Path:
    """Write `paired_frame(records)` as `paired.csv` into `directory`; returns the path."""
    path = Path(directory) / "paired.csv"
    write_text(path, _csv(paired_frame(records, specs=specs)))
    return path


# From records to cells


def _declared(specs: Iterable[EnvSpec] | None) -> dict[str, Column]:
    """Every heading that some environment fills, on every tier of it."""
    specs = [env_spec(name) for name in env_names()] if specs is None else specs
    return {
        spec.column(name, tier): Column(spec.column(name, tier), spec, tier)
        for spec in specs
        for name in spec.columns
        for tier in spec.tiers
    }


def _usable(records: pd.DataFrame, columns: Sequence[str] | None) -> pd.DataFrame:
    """The records of `columns` (None: all), if every cell is one evaluation of one configuration a training."""
    if records.empty:
        return pd.DataFrame(columns=list(RECORD_FIELDS))
    if lacking := [name for name in RECORD_FIELDS if name not in records]:
        raise BenchError(f"records lack {', '.join(lacking)}; evaluate again with this version of qsft-bench")
    if columns is not None:
        records = records[records["column"].isin(columns)]
    for (agent, column, seed), configs in records.groupby(["agent", "column", "training_seed"])["config_hash"]:
        if configs.nunique(dropna=False) > 1:
            raise BenchError(
                f"{agent} on {column}, training seed {seed}, mixes {configs.nunique(dropna=False)} configurations; "
                "delete the records of all but one"
            )
    return records


def _one_preset(records: pd.DataFrame, preset: str) -> str:
    """The preset all records are of; `preset` where there are none."""
    found = sorted(set(records["preset"]))
    if len(found) > 1 or (preset and found not in ([], [preset])):
        wanted = f"of preset {preset!r}" if preset else "of one preset"
        raise BenchError(f"the records are of preset {', '.join(map(repr, found))}; pass only those {wanted}")
    return preset or "".join(found)


def _measured(agent: str, column: Column, records: pd.DataFrame) -> Interval:
    try:
        found = interval(records, binary=column.success, clusters=clusters_of(records))
    except BenchError as error:
        raise BenchError(f"{agent} on {column.name}: {error}") from error
    return found.scaled(column.unit)


def _unavailable(agent: str) -> str:
    """Why an agent of this repository cannot play here; empty if it can, or is not of this repository."""
    return agent_class(agent).unavailable() if agent in agent_names() else ""


def _difference(a: pd.DataFrame, b: pd.DataFrame, column: Column) -> tuple[int, float, float, float]:
    if not set(a["episode_seed"]) & set(b["episode_seed"]):
        return 0, math.nan, math.nan, math.nan
    # Over trainings as soon as both agents have several: a win that another training would undo is none.
    shared = set(a["training_seed"]) & set(b["training_seed"])
    found = paired(a, b, binary=column.success, over="training seeds" if len(shared) > 1 else "episodes").scaled(column.unit)
    return found.n, round(found.mean, 6), round(found.low, 6), round(found.high, 6)


def _agent_order(agent: str) -> tuple[float, str]:
    return (AGENTS.index(agent) if agent in AGENTS else AGENTS.index("random") - 0.5, agent)


def _entries(cell: Cell) -> dict[str, Any]:
    """The fields of a cell in the files; None where there is no number."""
    found = cell.interval
    bounds = (found.mean, found.low, found.high) if found else (math.nan,) * 3
    numbers = [None if math.isnan(value) else round(value, 6) for value in bounds]
    counts = (found.n, found.seeds) if found else (0, 0)
    return dict(zip(CELL_FIELDS, (cell.agent, cell.column, *counts, *numbers, cell.paper), strict=True))


def _csv(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False, lineterminator="\n")


# Text that all forms share, not yet escaped


def _caption(table: Table) -> list[str]:
    """Sentences above the matrix: preset, units, episodes, and what the intervals run over."""
    lines = [f"Preset {table.preset}: {table.summary.rstrip('.') or 'no summary'}."] if table.preset else []
    for success, unit in ((False, "mean return"), (True, "percent of episodes that succeed")):
        names = [column.name for column in table.columns if column.success is success]
        lines += [f"{', '.join(names)}: {unit}."] if names else []
    if not table.intervals:
        return [*lines, "No records yet."]
    least, most = min(found.n for found in table.intervals), max(found.n for found in table.intervals)
    seeds = [found.seeds for found in table.intervals if found.seeds > 1]
    together = ", all its trainings together" if seeds else ""
    lines.append(f"Mean and 95% interval of {_span(least, most)} evaluation episodes a cell{together}.")
    episodes = "over episodes (t for returns, Wilson for success rates) of one training: another training may differ by more"
    trainings = f"over training seeds (t over the means of {_span(min(seeds), max(seeds))} trainings)" if seeds else ""
    if len(seeds) == len(table.intervals):
        lines.append(f"Intervals run {trainings}.")
    elif seeds:
        lines.append(f"Intervals run {trainings}; where marked †, {episodes}.")
    else:
        lines.append(f"Intervals run {episodes}.")
    grouped = {cell.column: cell.interval.clusters for cell in table.cells if cell.interval and cell.interval.clusters}
    for clusters in dict.fromkeys(grouped.values()):
        of = ", ".join(name for name, number in grouped.items() if number == clusters)
        lines.append(f"{of}: episodes are of {clusters} tasks a column, and intervals run over tasks (t).")
    if any(math.isnan(found.low) for found in table.intervals):
        lines.append("Where ? stands, one value, or values all equal, show no spread and give no interval.")
    return lines


def _span(least: int, most: int) -> str:
    return str(most) if least == most else f"{least} to {most}"


def _matrix(table: Table) -> list[list[str]]:
    """Rows of text: an agent's own, then the paper's where it has one."""
    columns = {column.name: column for column in table.columns}
    mixed = len({found.over for found in table.intervals}) > 1
    rows = []
    for agent in dict.fromkeys(cell.agent for cell in table.cells):
        own = [cell for cell in table.cells if cell.agent == agent]
        rows.append([agent, *(_value(cell, columns[cell.column], mixed) for cell in own)])
        if any(cell.paper is not None for cell in own):
            rows.append([f"{agent} (paper)", *("" if cell.paper is None else f"{cell.paper:g}" for cell in own)])
    return rows


def _not_built(table: Table, column: Column) -> bool:
    return all(cell.absent == NOT_BUILT and cell.interval is None for cell in table.cells if cell.column == column.name)


def _heading(table: Table, column: Column) -> str:
    """A column's name, and whether anything can fill it."""
    return f"{column.name} ({NOT_BUILT})" if _not_built(table, column) else column.name


def _value(cell: Cell, column: Column, mixed: bool) -> str:
    if (found := cell.interval) is None:
        return "" if cell.absent == NOT_BUILT else cell.absent  # the heading says so
    mark = " †" if mixed and found.over == "episodes" else ""
    return written(found.mean, found.low, found.high, column.text) + mark


# The parts of the Markdown below the matrix


def _tier(column: Column) -> Tier:
    return column.spec.tier(column.tier) if column.spec else Tier({}, "")


def _reference_scores(column: Column) -> dict[str, float]:
    """By player, in the unit of the records; a tier's column has the name of the paper's column in its declaration."""
    named = (
        [name for name in column.spec.columns if column.spec.column(name, column.tier) == column.name] if column.spec else []
    )
    return _tier(column).references_of(named[0] if named else column.name)


def _references(table: Table) -> list[str]:
    """Scores of reference players, a row for the columns of a task that share them, and what they say about the dataset."""
    groups: dict[str, list[Column]] = {}
    for column in table.columns:
        if column.spec and (found := _reference_scores(column)):
            groups.setdefault(f"{column.spec.name} {column.tier} {found}", []).append(column)
    rows, verdicts = [], []
    for columns in groups.values():
        first, names = columns[0], _markdown(", ".join(column.name for column in columns))
        scores = {name: value * first.unit for name, value in _reference_scores(first).items()}
        behaviour, greedy, ceiling = (scores.get(name) for name in ("behaviour", "greedy_behaviour", "ceiling"))
        closed = ""
        if behaviour is not None and greedy is not None and ceiling is not None and ceiling > behaviour:
            share = (greedy - behaviour) / (ceiling - behaviour)
            closed = f"{share:.0%}"
            if share > 0.8:
                short = first.text(max(0.0, ceiling - greedy))
                verdicts.append(
                    f"{names}: greedy imitation of the exact behaviour is within {short} of the ceiling "
                    f"({closed} of the gap): this dataset cannot tell RL from imitation."
                )
        order = ("random", "behaviour", "greedy_behaviour", "ceiling")
        rows.append([names, *(first.text(scores[name]) if name in scores else MISSING for name in order), closed or MISSING])
    if not rows:
        return []
    head = ["Column", "random", "behaviour (the data)", "greedy on the exact behaviour", "ceiling", "gap closed by greedy"]
    return ["## Reference scores", _grid(head, rows), *verdicts]


def _beside(table: Table) -> list[str]:
    """What environments count beside the score, a row an agent."""
    blocks = []
    for column in table.columns:
        cells = [cell for cell in table.cells if cell.column == column.name and cell.statistics]
        names = list(dict.fromkeys(name for cell in cells for name in cell.statistics))
        rows = [
            [_markdown(cell.agent), *(f"{cell.statistics[name]:.3g}" if name in cell.statistics else MISSING for name in names)]
            for cell in cells
        ]
        if rows:
            blocks += [f"## Beside the score: {_markdown(column.name)}", _grid(["Agent", *map(_markdown, names)], rows)]
    return [*blocks, "Means over episodes."] if blocks else []


def _by_agent(table: Table, key: str, title: str) -> list[str]:
    """What provenance says of each agent shown, by column."""
    texts = table.provenance.get(key) or {}
    shown = [column.name for column in table.columns if any(column.name in own for own in texts.values())]
    rows = []
    for agent in sorted(texts, key=_agent_order):
        if any(name in texts[agent] for name in shown):
            own = (str(texts[agent].get(name, MISSING)) for name in shown)
            rows.append([_markdown(text) for text in (table.printed_as.get(agent, agent), *own)])
    return [f"## {title}", _grid(["Agent", *map(_markdown, shown)], rows, numbers=False)] if rows else []


def _provenance(table: Table) -> list[str]:
    """Data, machine and code behind the numbers, and seconds of every stage."""
    blocks = []
    datasets = table.provenance.get("datasets") or {}
    names = [column.name for column in table.columns if column.name in datasets]
    rows = [[_markdown(name), _markdown(str(datasets[name]))] for name in names]
    if rows:
        blocks += ["## Datasets", _grid(["Column", "Size and format"], rows, numbers=False)]
    lines = _facts(table.provenance)
    if stages := table.provenance.get("stages"):
        lines.append(_fact("wall time", {name: f"{seconds:.0f} s" for name, seconds in stages.items()}))
    return [*blocks, "## Provenance", "\n".join(lines)] if lines else blocks


def _facts(provenance: Mapping[str, Any]) -> list[str]:
    """Code and machine behind the numbers, a line each."""
    return [_fact(name, provenance[name]) for name in ("commit", "hardware", "versions") if provenance.get(name)]


def _fact(name: str, value: Any) -> str:
    return f"- {name}: {_markdown(_sentence(value))}"


def _sentence(value: Any) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table of cells that are escaped already; `numbers` stand to the right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


# Escaping: names come from other people's packages and must stay one line of plain text

_MARKDOWN_SPECIAL = re.compile(
    r"[\\`*\[\]<>|!&$~^#@{}]"
    r"|_(?!(?<=[^\W_]_)[^\W_])"  # an underscore inside a word is only an underscore
    r"|:(?=\S)|\.(?=[^\W\d])"  # https://, :emoji:, www.name: GitHub links what looks like an address
)

_LATEX_SPECIAL = {
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "†": r"\textdagger{}", "[": "{[}", "]": "{]}"},
}


def _plain(text: str) -> str:
    """`text` on one line, without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", _plain(text))


def _latex(text: str) -> str:
    # Brackets are wrapped because one at the start of a row is read as an argument of the `\\` before it.
    escaped = "".join(_LATEX_SPECIAL.get(letter, letter) for letter in _plain(text))
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)
