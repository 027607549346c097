"""Figures from tables and records; every one as PNG and PDF beside the CSV that it shows."""

from __future__ import annotations

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


def curves(records: pd.DataFrame, summary: pd.DataFrame, title: str, unit: str, stem: Path) -> list[Path]:
    """Score against gradient steps, one colour an agent: its mean, its 95% band, and each training as a thin line.

    Args:
        records: of `qsft_bench.curves.read_curve`, one column of the table.
        summary: the same, by `qsft_bench.curves.summarise`.
        unit: of the score, for the axis.
        stem: path without suffix; `.png` and `.pdf` are written.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6.5, 4), layout="constrained")
    for number, (agent, line) in enumerate(summary.groupby("agent", sort=False)):
        colour = f"C{number}"
        axes.plot(line["updates"], line["mean"], color=colour, label=agent)
        axes.fill_between(line["updates"], line["ci_low"], line["ci_high"], color=colour, alpha=0.15, linewidth=0)
        own = records[records["agent"] == agent]
        for _, training in own.groupby("training_seed"):
            means = training.groupby("step")["score"].mean()
            axes.plot(means.index + training["steps_before"].iloc[0], means, color=colour, alpha=0.5, linewidth=0.6)
    means = records.groupby(["agent", "training_seed", "step"])["score"].mean()
    room = 0.05 * (means.max() - means.min()) or 0.5
    axes.set_ylim(means.min() - room, means.max() + room)  # the bands of few trainings are wider than what is to be seen
    axes.set_xlabel("gradient steps, those of the agent started from included")
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return _write(figure, stem)


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
