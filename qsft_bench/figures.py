"""Figures from tables and records; every one as PNG and PDF beside the CSV that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from qsft_bench.files import atomic_path
from qsft_bench.tables import Table


def bars(table: Table, stem: Path) -> list[Path]:
    """One bar an agent with its interval, the best at the top, for a table of one column; returns the paths.

    Args:
        stem: path without suffix; `.png` and `.pdf` are written.
    """
    pyplot = _pyplot()
    measured = [(cell.agent, cell.interval) for cell in table.cells if cell.interval is not None]
    measured.sort(key=lambda pair: pair[1].mean)
    figure, axes = pyplot.subplots(figsize=(6.5, 0.4 * len(measured) + 1.2), layout="constrained")
    means = [found.mean for _, found in measured]
    spread = [[found.mean - found.low for _, found in measured], [found.high - found.mean for _, found in measured]]
    axes.errorbar(means, range(len(measured)), xerr=spread, fmt="o", capsize=3, color="#20508a")
    axes.set_yticks(range(len(measured)), [agent for agent, _ in measured])
    axes.set_xlabel(f"{table.columns[0].name}, mean with its 95% interval")
    axes.set_title(table.title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    return _write(figure, stem)


def curves(
    records: pd.DataFrame, summary: pd.DataFrame, title: str, unit: str, stem: Path, batch: int | None = None
) -> list[Path]:
    """Score against gradient steps, one colour an agent: its mean, its 95% band, and each training as a thin line.

    Args:
        records: of `qsft_bench.curves.read_curve`; each column of the table has axes of its own.
        summary: the same, by `qsft_bench.curves.summarise`.
        unit: of the score, for the axis.
        stem: path without suffix; `.png` and `.pdf` are written.
        batch: samples a gradient step; if given, the axis counts samples.
    """
    pyplot = _pyplot()
    from matplotlib.ticker import EngFormatter

    columns = list(dict.fromkeys(summary["column"]))
    figure, grid = pyplot.subplots(1, len(columns), figsize=(1.5 + 5 * len(columns), 4), layout="constrained", squeeze=False)
    for column, axes in zip(columns, grid[0], strict=True):
        _curves(axes, records[records["column"] == column], summary[summary["column"] == column], batch or 1)
        counted = "gradient steps" if batch is None else "training samples seen"
        axes.set_xlabel(f"{counted}, those of the agent started from included")
        if batch is not None:
            axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_ylabel(f"{column}: {unit}")
        axes.grid(alpha=0.3)
        axes.legend(title=f"band: 95% over {bands(summary)}", title_fontsize="small")
    figure.suptitle(title, fontsize=10)
    return _write(figure, stem)


def caption(title: str, text: str, name: str, sources: Mapping[str, Any]) -> str:
    """What a figure shows, as Markdown, with the figure and where it came from.

    Args:
        name: of the figure's files, without suffix; they stand in the same folder.
        sources: as `provenance.json` has them.
    """
    entries = {agent: _flat(entry) for agent, entry in sources["agents"].items()}
    entries |= {"preset": sources["preset"], "trained at commit": ", ".join(sources["trained_at"])}
    entries |= {"drawn at commit": sources["commit"], "hardware": sources["hardware"], "versions": _flat(sources["versions"])}
    facts = "\n".join(f"- {key}: {value}" for key, value in entries.items())
    return "\n\n".join([f"# {title}", text, f"![{title}]({name}.png)", facts]) + "\n"


def _flat(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in entry.items())


def bands(summary: pd.DataFrame) -> str:
    """What the intervals of `qsft_bench.curves.summarise` run over, in words: `training seeds`, or who over what."""
    over = summary.groupby("agent", sort=False)["over"].first()
    if over.nunique() == 1:
        return str(over.iloc[0])
    return ", ".join(f"{kind} ({' and '.join(agents.index)})" for kind, agents in over.groupby(over, sort=False))


def _curves(axes: Any, records: pd.DataFrame, summary: pd.DataFrame, each: int) -> None:
    """One column's lines and bands; a gradient step is `each` units of the horizontal axis."""
    for number, (agent, line) in enumerate(summary.groupby("agent", sort=False)):
        colour = f"C{number}"
        axes.plot(line["updates"] * each, line["mean"], color=colour, label=agent)
        axes.fill_between(line["updates"] * each, line["ci_low"], line["ci_high"], color=colour, alpha=0.15, linewidth=0)
        own = records[records["agent"] == agent]
        for _, training in own.groupby("training_seed"):
            means = training.groupby("step")["score"].mean()
            updates = means.index + training["steps_before"].iloc[0]
            axes.plot(updates * each, means, color=colour, alpha=0.5, linewidth=0.6)
    means = records.groupby(["agent", "training_seed", "step"])["score"].mean()
    narrow = summary[summary["over"] == "episodes"]  # the bands of few trainings are wider than what is to be seen
    shown = pd.concat([means, narrow["ci_low"], narrow["ci_high"]])
    room = 0.05 * (shown.max() - shown.min()) or 0.5
    axes.set_ylim(shown.min() - room, shown.max() + room)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write(figure: Any, stem: Path) -> list[Path]:
    """The figure as PNG and PDF, without the hour it was made."""
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary, format=path.suffix[1:], dpi=150, metadata={"CreationDate": None} if path.suffix == ".pdf" else None
            )
    _pyplot().close(figure)
    return paths
