"""Figures from tables and records; every one as PNG and PDF beside the CSV that it shows."""

from __future__ import annotations

from pathlib import Path

from qsft_bench.files import atomic_path
from qsft_bench.tables import Table


def bars(table: Table, stem: Path) -> list[Path]:
    """One bar an agent with its interval, the best at the top, for a table of one column; returns the paths.

    Args:
        stem: path without suffix; `.png` and `.pdf` are written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

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
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary, format=path.suffix[1:], dpi=150, metadata={"CreationDate": None} if path.suffix == ".pdf" else None
            )
    pyplot.close(figure)
    return paths
