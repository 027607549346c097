"""Verbs that make results: tables, figures, plans of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from qsft_bench.cli.shared import HERE, Where, make_pipeline, progressing, show, terminal
from qsft_bench.errors import BenchError

if TYPE_CHECKING:
    from qsft_bench.pipeline import Pipeline


@dataclass(frozen=True)
class Results:
    """How results are made."""

    preset: str = "small"
    """Sizes."""
    source: Annotated[Literal["published", "scratch"], arg(name="from")] = "published"
    """Use published checkpoints, or train every one."""
    agents: tuple[str, ...] = ()
    """Only these agents; a table has those that its environments name if empty, and always those with records."""
    seeds: int | None = None
    """Trainings an agent, if not the preset's (stability: at least 3)."""
    where: OmitArgPrefixes[Where] = HERE


@dataclass(frozen=True)
class TableResults(Results):
    """How tables are made."""

    publish: bool = False
    """Copy this run's checkpoints to results/<preset>/checkpoints."""

    def make(self, make: Callable[[Pipeline], Any]) -> None:
        """Run `make` with a pipeline and print the table that it returns."""
        from qsft_bench.tables import render

        with progressing(make_pipeline(self.where, source=self.source, publishes=self.publish)) as running:
            table = make(running)
        show(render(table, terminal().width if sys.stdout.isatty() else None))


@dataclass(frozen=True)
class TableVerb:
    """Make one of the paper's tables: train and evaluate what is missing, then print it and write it to results/."""

    number: Positional[Literal[1, 2, 3]]
    """Which table."""
    results: OmitArgPrefixes[TableResults] = TableResults()

    def run(self) -> None:
        from qsft_bench.reproduce import make_table

        chosen = self.results
        chosen.make(lambda pipeline: make_table(pipeline, self.number, chosen.preset, chosen.agents, chosen.seeds))


@dataclass(frozen=True)
class Separation:
    """Make the table of the columns on which imitation stays low: habit tiers, and stitching."""

    results: OmitArgPrefixes[TableResults] = TableResults()

    def run(self) -> None:
        from qsft_bench.reproduce import make_separation

        chosen = self.results
        chosen.make(lambda pipeline: make_separation(pipeline, chosen.preset, chosen.agents, chosen.seeds))


@dataclass(frozen=True)
class Ablation:
    """Make the table of one agent and all its variants on one task."""

    agent: str = "qsft"
    """Agent."""
    env: str = "wordle"
    """Environment."""
    tier: str = "habit"
    """Data recipe."""
    results: OmitArgPrefixes[TableResults] = TableResults()

    def run(self) -> None:
        from qsft_bench.reproduce import make_ablation

        self.results.make(lambda pipeline: make_ablation(pipeline, self.agent, self.env, self.tier, self.results.preset))


@dataclass(frozen=True)
class Stability:
    """Draw return against training steps, several trainings an agent; from the committed curves where there are some."""

    env: str = "wordle"
    """Environment."""
    tier: str = "base"
    """Data recipe."""
    results: OmitArgPrefixes[Results] = Results()

    def run(self) -> None:
        from qsft_bench.reproduce import make_stability

        chosen = self.results
        with progressing(make_pipeline(chosen.where, source=chosen.source)) as running:
            found = make_stability(running, self.env, self.tier, chosen.preset, chosen.agents, chosen.seeds)
        print(found.to_string(index=False, float_format="%.3f"))


@dataclass(frozen=True)
class FigureVerb:
    """Draw one of the paper's figures from committed records, or from trainings made now."""

    number: Positional[Literal[3, 4]]
    """Which figure: 3 is success on pick-and-place against training samples, whose missing curves are trained; 4 is return on
    Twenty Questions against model size, of which only `--from scratch` trains what is missing."""
    only: tuple[str, ...] = ()
    """Figure 4: train only these points, as smollm2/10%/qsft, smollm2/10% or */qsft."""
    publish: bool = False
    """Figure 4: copy the run's finished points to results/<preset>/figure4, and draw it there."""
    results: OmitArgPrefixes[Results] = Results()

    def run(self) -> None:
        from qsft_bench.reproduce import make_figure3, make_figure4

        chosen = self.results
        if self.number == 3 and (self.only or self.publish):
            raise BenchError(
                "--only and --publish are of figure 4; the curves of figure 3 are put beside the results by themselves"
            )
        with progressing(make_pipeline(chosen.where, source=chosen.source, publishes=self.publish)) as running:
            if self.number == 3:
                found = make_figure3(running, chosen.preset, chosen.agents, chosen.seeds)
                found = found.groupby(["agent", "column"], sort=False).tail(1).drop(columns="step")
            else:
                found = make_figure4(running, chosen.preset, chosen.agents, chosen.seeds, self.only)
        print(found.to_string(index=False, float_format="%.3f"))


STANDS_IN = "In place of the pretrained models that the preset names; a folder without weights will do, but for gradient steps."


@dataclass(frozen=True)
class PlanVerb:
    """Print what a preset costs: stages, sizes, weights, memory, disk and time of every cell; or measure what that rests on."""

    preset: str = "paper"
    """Sizes."""
    env: tuple[str, ...] = ()
    """Only these environments."""
    agent: tuple[str, ...] = ()
    """Only these agents, and what they start from."""
    tier: tuple[str, ...] = ()
    """Only these data recipes."""
    model: Annotated[str, arg(help=STANDS_IN)] = ""
    tflops: float = 100.0
    """TFLOP/s that a GPU is taken to train with."""
    markdown: bool = False
    """Print a table for a page."""
    measure: bool = False
    """Play some episodes of every environment and time this machine, into --measured, in place of printing a plan."""
    episodes: int = 32
    """How many to play."""
    measured: Path = Path("qsft_bench/measured.json")
    """File to measure into; plans read the one that is installed."""

    def run(self) -> None:
        from rich.table import Table

        from qsft_bench import plan

        if self.measure:
            plan.measure(self.preset, self.env, self.episodes, self.measured, self.model)
            return
        made = plan.make_plan(self.preset, self.env, self.agent, self.tier, self.model)
        rows, notes = plan.render(made, self.tflops), plan.notes(made, self.tflops)
        if self.markdown:
            print(plan.markdown(rows), *notes, sep="\n\n")
            return
        table = Table(*rows[0], box=None)
        for row in rows[1:]:
            table.add_row(*row)
        show(table)
        print(*notes, sep="\n")


@dataclass(frozen=True)
class Check:
    """Take one gradient step and one action of every cell at a preset's shapes, or on the meta device what memory denies."""

    preset: str = "paper"
    """Sizes."""
    env: tuple[str, ...] = ()
    """Only these environments."""
    agent: tuple[str, ...] = ()
    """Only these agents, and what they start from."""
    model: Annotated[str, arg(help=STANDS_IN)] = ""
    memory: float = 0.0
    """GiB that a step may take; what is free if 0."""

    def run(self) -> None:
        from qsft_bench.check import check

        for found in check(self.preset, self.env, self.agent, self.memory * 2**30, self.model):
            size = f", {found.weights / 1e6:,.1f} M weights" if found.weights else ""
            print(f"{found.cell}{size}: {found.did}" + (f"; {found.not_done}" if found.not_done else ""), flush=True)
