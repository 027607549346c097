"""Figures from tables and records; every one as PNG and PDF beside the CSV that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qsft_bench.files import atomic_path
from qsft_bench.stats import written
from qsft_bench.tables import IMITATION, Table

SPREAD = ["mean", "ci_low", "ci_high"]  # columns of a mean with its interval


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


def against_size(found: pd.DataFrame, title: str, unit: str, references: Mapping[str, float], stem: Path) -> list[Path]:
    """Score against the size of the model, one colour an agent.

    Models whose weights and tokens are of one kind are joined by a line and a band; a star is a pretrained one, a ring one from
    random weights that reads as the pretrained do.

    Args:
        found: of `qsft_bench.points.read`, at one share of the data.
        unit: of the score, for the axis.
        references: scores of players that learn nothing, drawn as grey lines.
        stem: path without suffix; `.png` and `.pdf` are written.
    """
    pyplot = _pyplot()
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    figure, axes = pyplot.subplots(figsize=(8, 5.4), layout="constrained")
    kinds = _kinds(found)
    for number, (agent, rows) in enumerate(found.groupby("agent", sort=False)):
        thin, place = agent in IMITATION, 1.05 ** (number - 2)  # side by side where they would hide each other
        for kind, group in rows.groupby(["weights", "tokens"], sort=False):
            line = group.sort_values("parameters")
            x = line["parameters"] * place
            label = agent if kind == next(iter(kinds)) else None
            _scored(axes, x, line, f"C{number}", label, thin, kinds[kind])
    for name in ("behaviour", "greedy_behaviour", "ceiling"):
        if name in references:
            axes.axhline(references[name], color="0.6", linewidth=0.7, linestyle=":")
            axes.annotate(
                f" {name}", (1, references[name]), xycoords=("axes fraction", "data"), fontsize=6, color="0.4", va="center"
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("parameters of the model (embeddings included, heads not)")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
    shown = [
        Line2D([], [], color="0.3", linestyle="", marker=marker, fillstyle=fill, label=f"{weights} weights; {tokens}")
        for (weights, tokens), (marker, fill) in kinds.items()
    ]
    handles = [*axes.get_legend_handles_labels()[0], *shown]
    figure.legend(
        handles=handles, loc="outside lower center", ncol=3, fontsize="small", title=f"bars and bands: 95% over {bands(found)}"
    )
    axes.set_title(title, fontsize=10)
    return _write(figure, stem)


def against_share(found: pd.DataFrame, title: str, unit: str, counted: Sequence[list[str]], stem: Path) -> list[Path]:
    """Score against the share of the data, one panel an agent: from pretrained and from random weights.

    Below are panels of what the environment counts beside the score, and at the end one of the loss of imitation on held-out
    games: where hardly a game is won, they tell more than returns.

    Args:
        found: of `qsft_bench.points.read`, of models that differ by their weights alone.
        unit: of the score, for the axis.
        counted: `qsft_bench.points.counted` of these.
        stem: path without suffix; `.png` and `.pdf` are written.
    """
    pyplot = _pyplot()
    agents, imitated = list(dict.fromkeys(found["agent"])), found[found["held_out"].notna()]
    measures = {unit: SPREAD, **{columns[0]: columns for columns in counted}}
    high, wide = len(measures), len(agents) + (len(imitated) > 0)
    size = (1.2 + 2.6 * wide, 0.8 + 2.6 * high)
    figure, grid = pyplot.subplots(high, wide, figsize=size, layout="constrained", squeeze=False)
    colours = {weights: f"C{number}" for number, weights in enumerate(dict.fromkeys(found["weights"]))}
    for (measure, columns), row in zip(measures.items(), grid, strict=True):
        row[0].set_ylabel(measure)
        for agent, axes in zip(agents, row, strict=False):
            axes.sharey(row[0])
            axes.label_outer()
            for weights, rows in found[found["agent"] == agent].groupby("weights", sort=False):
                line = rows.sort_values("episodes")
                shown = line[columns].set_axis(SPREAD, axis=1)
                _scored(axes, line["episodes"], shown, colours[weights], f"{weights} weights", False, ("o", "full"))
    for agent, axes in zip(agents, grid[0], strict=False):
        axes.set_title(agent, fontsize=9)
    if len(imitated):
        for axes in grid[1:, -1]:
            axes.set_visible(False)
        axes = grid[0][-1]
        axes.set_title(f"{', '.join(dict.fromkeys(imitated['agent']))}: loss on held-out games", fontsize=9)
        axes.set_ylabel("nats an action")
        for weights, rows in imitated.groupby("weights", sort=False):
            line = rows.sort_values("episodes")
            axes.plot(line["episodes"], line["held_out"], "o-", color=colours[weights])
            axes.plot(line["episodes"], line["exact"], "_:", color="0.6")
        axes.annotate(
            "the behaviour itself", (line["episodes"].iloc[0], line["exact"].iloc[0]), fontsize=6, color="0.4", va="top"
        )
    for axes in grid.flat:
        axes.set_xscale("log")
        ticks = dict(zip(found["episodes"], found["share"], strict=True))
        axes.set_xlim(min(ticks) / 1.5, max(ticks) * 1.5)
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in (*grid[-1], grid[0][-1]):
        axes.set_xlabel("share of the data")
    grid[0][0].legend(fontsize="small", title=f"95% over {bands(found)}", title_fontsize="small")
    figure.suptitle(title, fontsize=10)
    return _write(figure, stem)


def _kinds(found: pd.DataFrame) -> dict[tuple[str, str], tuple[str, Any]]:
    """Marker and filling by (weights, tokens) of the models; the ring is for random weights beside pretrained ones."""
    present = list(dict.fromkeys(zip(found["weights"], found["tokens"], strict=True)))
    pretrained = {tokens for weights, tokens in present if weights == "pretrained"}
    return {
        (weights, tokens): ("*", "full") if weights == "pretrained" else ("o", "none" if tokens in pretrained else "full")
        for weights, tokens in present
    }


def _scored(axes: Any, x: pd.Series, line: pd.DataFrame, colour: str, label: Any, thin: bool, marker: tuple[str, Any]) -> None:
    """Means with bars, and a band where there are several of them."""
    style: dict[str, Any] = {"linewidth": 0.8, "linestyle": ":"} if thin else {"linewidth": 1.5}
    spread = [line["mean"] - line["ci_low"], line["ci_high"] - line["mean"]]
    size = (9 if marker[0] == "*" else 5) * (0.8 if thin else 1)
    axes.errorbar(
        x,
        line["mean"],
        yerr=spread,
        color=colour,
        label=label,
        marker=marker[0],
        fillstyle=marker[1],
        markersize=size,
        capsize=2,
        elinewidth=0.8,
        **style,
    )
    if len(line) > 1 and not thin:
        axes.fill_between(x, line["ci_low"], line["ci_high"], color=colour, alpha=0.12, linewidth=0)


def points_page(
    titles: Sequence[str], found: pd.DataFrame, companion: bool, counted: Sequence[list[str]], sources: Mapping[str, Any]
) -> str:
    """What Figure 4 and its companion show, as Markdown, with every point, what is missing, and where they came from.

    Args:
        titles: of the two.
        found: of `qsft_bench.points.read`.
        companion: whether there is a companion.
        counted: `qsft_bench.points.counted` of the points.
        sources: as `provenance.json` has them.
    """
    formats = found.groupby("tokens", sort=False)["model"].unique()
    read = "; ".join(f"{tokens} ({', '.join(models)})" for tokens, models in formats.items())
    text = [
        f"# {titles[0]}",
        f"Mean return of {_numbers(found['n'])} test episodes a point, with its 95% interval over {bands(found)}. "
        "`figure4.csv` has every point; the records and transcripts of each are in `figure4/<model>/<share>/`. Checkpoints are "
        "not published: the heads of a large vocabulary alone are too large.",
    ]
    beside = [columns[0] for columns in counted]
    if beside:
        text[-1] += f" Beside the score the environment counts {' and '.join(beside)} (docs/environments.md)."
    if len(formats) > 1:
        text.append(f"**The game is not read alike by all models**: {read}. Compare across these with care.")
    text.append(f"![{titles[0]}](figure4.png)")
    if companion:
        text += [
            f"## {titles[1]}",
            "The same architecture, tokens and games; what is trained, for how long and at which rate stands with the points.",
            f"![{titles[1]}](figure4_pretraining.png)",
        ]
    names = ["model", "share", "agent", "mean return", *beside, "episodes", "how"]
    lines = [names, ["---", "---:", "---", "---:", *["---:"] * len(counted), "---:", "---"]]
    for row in found.to_dict("records"):
        spreads = [[row[column] for column in columns] for columns in (SPREAD, *counted)]
        measured = ["-" if math.isnan(mean) else written(mean, low, high, "{:.2f}".format) for mean, low, high in spreads]
        how = sources["points"].get(f"{row['model']}/{row['share']}/{row['agent']}", "")
        lines.append([row["model"], row["share"], row["agent"], *measured, f"{row['n']:,}", how])
    text += ["## Points", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    if sources["missing"]:
        text.append(f"Not trained yet: {', '.join(sources['missing'])}.")
    entries = {"preset": sources["preset"], "trained at commit": ", ".join(sources["trained_at"])}
    entries |= {"trained on": "; ".join(sources["trained_on"]), "drawn at commit": sources["commit"]}
    entries |= {"drawn on": sources["hardware"], "versions": _flat(sources["versions"])}
    return "\n\n".join([*text, _listed(entries)]) + "\n"


def _numbers(values: pd.Series) -> str:
    return " or ".join(f"{value:,}" for value in sorted(set(values)))


def caption(title: str, text: str, name: str, sources: Mapping[str, Any]) -> str:
    """What a figure shows, as Markdown, with the figure and where it came from.

    Args:
        name: of the figure's files, without suffix; they stand in the same folder.
        sources: as `provenance.json` has them.
    """
    entries = {agent: _flat(entry) for agent, entry in sources["agents"].items()}
    entries |= {"preset": sources["preset"], "trained at commit": ", ".join(sources["trained_at"])}
    entries |= {"drawn at commit": sources["commit"], "hardware": sources["hardware"], "versions": _flat(sources["versions"])}
    return "\n\n".join([f"# {title}", text, f"![{title}]({name}.png)", _listed(entries)]) + "\n"


def _listed(entries: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in entries.items())


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
