"""The command line: `qsft-bench VERB`. Verbs only; what they do lives in the modules they call."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from qsft_bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from qsft_bench.evaluate import Cell
    from qsft_bench.pipeline import Pipeline
    from qsft_bench.spec import EnvSpec


@dataclass(frozen=True)
class Where:
    """Folders and machines."""

    root: Path = Path()
    """Folder that holds data/, runs/ and results/."""
    jobs: int = 1
    """Independent tasks at a time, one thread each: shards of data, cells, parts of an evaluation."""
    executor: Literal["process", "ray"] = "process"
    """Where they run: processes of this machine, or Ray (the extra `ray`). What comes out is the same."""
    address: str = ""
    """Ray cluster, e.g. ray://head:10001 or auto; one on this machine if empty. Its machines must share the folder `--root`."""
    device: str = "cpu"
    """Device of training and play: cpu, cuda, cuda:1, ..."""


@dataclass(frozen=True)
class Task:
    """What is played."""

    env: str
    """Environment, see `qsft-bench envs`."""
    tier: str = "base"
    """Data recipe: base is the paper's, habit has a low-entropy wrong habit."""
    preset: str = "small"
    """Sizes: smoke, small, standard or paper."""


# Verbs ----------------------------------------------------------------------------------------------------------------


def envs() -> None:
    """List the environments, their columns and what each needs."""
    from rich.table import Table

    from qsft_bench.registry import env_names, env_spec

    table = Table("environment", "columns", "tiers", "needs", "what it is", box=None)
    for name in env_names():
        spec = env_spec(name)
        extra = f"qsft-bench[{spec.extra}]" if spec.extra else "-"
        table.add_row(name, ", ".join(spec.columns), ", ".join(spec.tiers), extra, spec.summary)
    _print(table)


def agents() -> None:
    """List the agents and what each must be trained after."""
    from rich.table import Table

    from qsft_bench.registry import agent_class, agent_names

    table = Table("agent", "trained after", "what it is", box=None)
    for name in agent_names():
        cls = agent_class(name)
        table.add_row(name, ", ".join(cls.prerequisites) or "-", cls.summary)
    _print(table)


def doctor() -> None:
    """Say what is installed, what is missing, and the command that mends it."""
    from qsft_bench.doctor import checks, render

    found = checks(deep=True)
    _print(render(found))
    if any(not check.ok and check.required for check in found):
        raise SystemExit(1)


@dataclass(frozen=True)
class DataGenerate:
    """Generate a dataset of behaviour, or finish one that was cut off."""

    env: str = ""
    """Environment; every one if empty."""
    tier: str = "base"
    """Data recipe."""
    preset: str = "small"
    """Sizes."""
    episodes: int | None = None
    """Episodes, if not the preset's."""
    where: OmitArgPrefixes[Where] = Where()

    def run(self) -> None:
        from qsft_bench.evaluate import Cell
        from qsft_bench.registry import env_names, env_spec

        for name in [env_spec(self.env).name] if self.env else env_names():
            cell = Cell("behaviour", name, self.tier, self.preset)
            pipeline = _pipeline(self.where)
            if self.episodes is not None:
                pipeline = replace(pipeline, scales={name: replace(pipeline.scale(cell), dataset_episodes=self.episodes)})
            with _progress(pipeline) as running:
                manifest = running.dataset(cell).manifest
            size = f"{manifest.episodes:,} episodes, mean return {manifest.mean_return:.3f}"
            print(f"{name} {self.tier}: {size}, content {manifest.content[:12]}")


@dataclass(frozen=True)
class DataList:
    """List the datasets below data/."""

    where: OmitArgPrefixes[Where] = Where()

    def run(self) -> None:
        from rich.table import Table

        from qsft_bench.dataset.store import read_manifest

        table = Table("folder", "episodes", "mean return", "success", "content", box=None)
        for path in sorted((self.where.root / "data").glob("*/*/manifest.json")):
            found = read_manifest(path)
            table.add_row(
                str(path.parent),
                f"{found.episodes:,}",
                f"{found.mean_return:.3f}",
                f"{found.success_rate:.1%}",
                found.content[:12],
            )
        _print(table)


@dataclass(frozen=True)
class DataShow:
    """Print one dataset's recipe and some of its episodes."""

    path: Positional[Path]
    """Folder of the dataset."""
    episode: int = 0
    """The first episode to print."""
    count: int = 1
    """How many to print."""

    def run(self) -> None:
        from itertools import islice

        from qsft_bench.dataset.store import EpisodeDataset
        from qsft_bench.episode import brief

        dataset = EpisodeDataset(self.path)
        manifest = dataset.manifest
        if not 0 <= self.episode < manifest.episodes:
            raise BenchError(f"there is no episode {self.episode}: the dataset has 0 to {manifest.episodes - 1}")
        low, high = manifest.return_bounds
        print(f"{manifest.recipe}\n{manifest.episodes:,} episodes, mean return {manifest.mean_return:.3f}", end=" ")
        print(f"(sd {manifest.return_sd:.3f}, {low:g} to {high:g}), success {manifest.success_rate:.1%}")
        for number, episode in enumerate(islice(dataset.episodes(), self.episode, self.episode + self.count), self.episode):
            print(f"\nepisode {number}, seed {episode.seed}, return {episode.total_return:g}")
            for turn in episode.turns:
                did = "" if turn.action is None else f", did {brief(turn.action)}, got {turn.reward:g}"
                print(f"  saw {brief(turn.observation)}{did}")


@dataclass(frozen=True)
class DataVerify:
    """Check every file of a dataset against its manifest."""

    path: Positional[Path]
    """Folder of the dataset."""

    def run(self) -> None:
        from qsft_bench.dataset.store import EpisodeDataset

        dataset = EpisodeDataset(self.path)
        dataset.verify()
        found = f"{len(dataset.manifest.shards)} shards, {dataset.manifest.episodes:,} episodes"
        print(f"{self.path}: {found}, all as the manifest says")


@dataclass(frozen=True)
class DataImport:
    """Read public files: another benchmark's data (`lmrl ENV PATH`), or what an environment is made of (`ENV PATH`)."""

    source: Positional[str]
    """Whose files: lmrl is LMRL-Gym (Wordle, Twenty Questions, chess); else an environment that has public files (webshop)."""
    what: Positional[tuple[str, ...]]
    """After lmrl the environment that it is data of, and the file (JSON lines or one JSON list, plain or gzipped); else the
    file or folder."""
    out: Path | None = None
    """Folder of the dataset; <root>/data/imported/<env> if not given. For lmrl."""
    strict: bool = False
    """Stop at the first bad record, in place of skipping it."""
    where: OmitArgPrefixes[Where] = Where()

    def run(self) -> None:
        from qsft_bench.registry import attribute, env_spec

        if self.source == "lmrl":
            if len(self.what) != 2:
                raise BenchError("say `qsft-bench data import lmrl ENV PATH`")
            self._lmrl(env_spec(self.what[0]), Path(self.what[1]))
            return
        spec = env_spec(self.source)
        if not spec.importer:
            raise BenchError(f"{spec.name} has no public files; LMRL-Gym's data of it: `data import lmrl {spec.name} PATH`")
        if len(self.what) != 1:
            raise BenchError(f"say `qsft-bench data import {spec.name} PATH`")
        try:
            read = attribute(spec.importer)
        except ImportError as error:
            raise BenchError(f"{spec.name} cannot import: {error}; `qsft-bench doctor` says how to install it") from error
        print(read(Path(self.what[0]), self._report(Path(self.what[0])), self.strict))

    def _report(self, path: Path) -> Callable[[str, str], None]:
        def report(place: str, reason: str) -> None:
            print(f"{path}, {place}: {reason}", file=sys.stderr)

        return report

    def _lmrl(self, spec: EnvSpec, path: Path) -> None:
        from qsft_bench.dataset.lmrl import import_lmrl

        out = self.out or self.where.root / "data" / "imported" / spec.name
        imported = import_lmrl(path, spec, out, strict=self.strict, report=self._report(path))
        manifest = imported.dataset.manifest
        found = f"{manifest.episodes:,} episodes, {imported.skipped:,} skipped as bad"
        print(f"{out}: {found}, mean return {manifest.mean_return:.3f}, content {manifest.content[:12]}")


@dataclass(frozen=True)
class DataExport:
    """Write a dataset in the format of another tool."""

    format: Positional[Literal["minari", "hf"]]
    """minari is Minari's (HDF5), hf the Hugging Face layout (Parquet with a card)."""
    path: Positional[Path]
    """Folder of the dataset."""
    out: Positional[Path]
    """Folder to write: the dataset's own for hf, one of Minari datasets for minari."""
    episodes: int | None = None
    """Only the first so many; minari alone, which takes 20 kB and some milliseconds an episode."""

    def run(self) -> None:
        from qsft_bench.dataset.export import export_hf, export_minari
        from qsft_bench.dataset.store import EpisodeDataset
        from qsft_bench.progress import ProgressDisplay

        dataset = EpisodeDataset(self.path)
        if self.format == "hf":
            if self.episodes is not None:
                raise BenchError("hf exports whole shards; leave out --episodes")
            export_hf(dataset, self.out)
            print(f"{self.out}: open it with datasets.load_dataset({str(self.out)!r})")
            return
        with ProgressDisplay() as progress:
            name = export_minari(
                dataset,
                self.out,
                episodes=self.episodes,
                progress=lambda done, total: progress("export", done, total, "episodes"),
            )
        print(f"{self.out / name}: open it with minari.load_dataset({name!r}), under MINARI_DATASETS_PATH={self.out}")


def train(options: Any) -> None:
    """Train one agent (and first whatever it starts from); under `accelerate launch` or `torchrun`, by all their processes."""
    from qsft_bench import ranks
    from qsft_bench.registry import agent_class
    from qsft_bench.token_agent import TokenAgent

    pipeline, cell = _cell(options)
    if not issubclass(agent_class(cell.agent), TokenAgent):
        raise BenchError(
            f"{cell.agent} has nothing to train; play it with `qsft-bench eval --agent {cell.agent} --env {cell.env}`"
        )
    ranks.join(pipeline.device)
    with _progress(pipeline) as running:
        directory = running.checkpoint(cell)
        if options.publish:
            directory = ranks.main_does(lambda: running.publish(cell))
    if ranks.is_main():
        print(f"{cell}: {directory}")


def evaluate(options: Any) -> None:
    """Evaluate one agent in one environment on the fixed test seeds; makes first what is missing."""
    from qsft_bench.registry import env_spec
    from qsft_bench.stats import clusters_of
    from qsft_bench.stats import interval as interval_of

    pipeline, cell = _cell(options)
    spec = env_spec(cell.env)
    with _progress(pipeline) as running:
        records = running.records(cell, options.episodes)
    for column, found in records.groupby("column"):
        interval = interval_of(found, binary=spec.metric == "success", clusters=clusters_of(found))
        unit = "mean return" if spec.metric == "return" else "success rate"
        print(
            f"{cell.agent} on {column} ({cell.preset}): {unit} {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
            end=" ",
        )
        tasks = f" of {interval.clusters} tasks" if interval.clusters else ""
        print(f"(95% over {interval.over}, n={interval.n}{tasks})")


def inspect(options: Any) -> None:
    """Play one test episode and show the value of every token and what the agent weighed instead."""
    from qsft_bench.files import write_text
    from qsft_bench.registry import env_spec
    from qsft_bench.report.inspect import decisions, page, terminal
    from qsft_bench.rollout import play_episodes
    from qsft_bench.token_agent import TokenAgent

    pipeline, cell = _cell(options)
    spec = env_spec(cell.env)
    seed = _test_seed(spec, options.episode)
    with _progress(pipeline) as running:
        agent, origin = running.player(cell)
    if not isinstance(agent, TokenAgent):
        raise BenchError(f"{cell.agent} chooses whole actions and weighs no tokens; inspect a learned agent")
    (episode,) = play_episodes(agent, spec, origin.options, [seed])
    found = list(decisions(agent, episode))
    _print(terminal(episode, found))
    if options.html is not None:
        write_text(options.html, page(f"{cell}, test episode {options.episode}", episode, found))
        print(f"written to {options.html}")


def watch(options: Any) -> None:
    """Film an agent at one test episode: what the environment draws beside the agent's value of every step."""
    from qsft_bench.registry import env_spec
    from qsft_bench.watch import check_draws, check_film, film, pictures, write_film

    spec = env_spec(options.task.env)
    check_draws(spec)
    check_film(options.out)
    seed = _test_seed(spec, options.episode)
    pipeline, cell = _cell(options)
    with _progress(pipeline) as running:
        agent, origin = running.player(cell)
    shot = film(agent, spec, origin.options, seed)
    write_film(options.out, pictures(shot, f"{cell.agent}\n{cell.task}, test episode {options.episode}"), shot.fps)
    verdict = "success" if shot.episode.success else "no success"
    print(f"{options.out}: {shot.episode.length} steps, {verdict}, return {shot.episode.total_return:g}")


def _test_seed(spec: EnvSpec, episode: int) -> int:
    if not 0 <= episode < len(spec.test_seeds):
        raise BenchError(f"{spec.name} has test episodes 0 to {len(spec.test_seeds) - 1}, not {episode}")
    return spec.test_seeds[episode]


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
    where: OmitArgPrefixes[Where] = Where()


@dataclass(frozen=True)
class TableResults(Results):
    """How tables are made."""

    publish: bool = False
    """Copy this run's checkpoints to results/<preset>/checkpoints."""

    def make(self, make: Callable[[Pipeline], Any]) -> None:
        """Run `make` with a pipeline and print the table that it returns."""
        from qsft_bench.tables import render

        with _progress(_pipeline(self.where, source=self.source, publishes=self.publish)) as running:
            table = make(running)
        _print(render(table, _console().width if sys.stdout.isatty() else None))


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
        with _progress(_pipeline(chosen.where, source=chosen.source)) as running:
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
        with _progress(_pipeline(chosen.where, source=chosen.source, publishes=self.publish)) as running:
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
        _print(table)
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


@dataclass(frozen=True)
class Calibrate:
    """Measure what scripted players score in an environment, beside what its tiers declare; or find a behaviour's setting."""

    env: str
    """Environment."""
    tier: tuple[str, ...] = ()
    """Only these tiers."""
    preset: str = "small"
    """Whose environment options the players get."""
    episodes: int = 1_000
    """Dataset seeds that each of them plays, the first ones."""
    temperatures: tuple[float, ...] = ()
    """Temperatures at which the exact behaviour plays besides: what its imitation could reach at best."""
    find: str = ""
    """Find the value of this setting of the behaviour, one tier's, with which the data score `--target` on average."""
    target: float = 0.0
    """A mean score."""
    between: tuple[float, float] = (0.0, 1.0)
    """Where to look for it."""

    def run(self) -> None:
        from rich.table import Table

        from qsft_bench.calibrate import calibrated, measure
        from qsft_bench.preset import scale
        from qsft_bench.registry import env_spec

        spec = env_spec(self.env)
        options, tiers = scale(self.preset, spec).options, self.tier or tuple(spec.tiers)
        if not 1 <= self.episodes <= len(spec.dataset_seeds):
            raise BenchError(f"--episodes {self.episodes} must be at least 1")
        if self.find:
            if len(tiers) != 1:
                raise BenchError(f"--find needs one tier: --tier {' or '.join(tiers)}")
            found = calibrated(spec, tiers[0], options, self.find, self.target, self.between, self.episodes)
            print(f"{spec.name}, {tiers[0]}: {self.find}={found:.4f} scores {self.target:g}")
            return
        table = Table("Tier", "Column", "Player")
        for title in ("Score", "Standard error", "Episodes", "Declared"):
            table.add_column(title, justify="right")
        for each in measure(spec, tiers, options, self.episodes, self.temperatures):
            declared = "" if each.declared is None else f"{each.declared:.3f}{' (differs)' if each.differs else ''}"
            row = (each.tier, each.column, each.player, f"{each.mean:.3f}", f"{each.error:.3f}", str(each.episodes), declared)
            table.add_row(*row)
        _print(table)


@dataclass(frozen=True)
class Play:
    """Play an environment yourself, in the terminal; where it can be drawn, a picture of every turn is saved."""

    env: Positional[str]
    """Environment."""
    seed: int | None = None
    """Episode seed; a fresh one if not given."""
    swap: bool = False
    """The environment's solver plays, and you answer it in the environment's place (`done` when it has won)."""
    pictures: Path | None = None
    """Folder for the pictures; runs/play/<environment>-<seed> if not given."""

    def run(self) -> None:
        import random

        from gymnasium import spaces

        from qsft_bench.play import Person, PersonsWorld, Pictured
        from qsft_bench.registry import agent_class, env_spec, make_env
        from qsft_bench.rollout import play

        spec = env_spec(self.env)
        seed = self.seed if self.seed is not None else random.randrange(2**31)
        print(f"{spec.name}: {spec.summary}. Ctrl-C stops. (seed {seed})")
        env: Any = make_env(spec, **({} if self.swap else spec.play))
        player: Any = Person()
        if self.swap:
            player = agent_class("solver").create(spec, "base", {})
            env = PersonsWorld(env.reset(seed=seed)[0], spec.horizon)
        elif "rgb_array" in env.metadata.get("render_modes", ()) and isinstance(env.action_space, spaces.Text):
            folder = self.pictures or Path("runs") / "play" / f"{spec.name}-{seed}"
            env = Pictured(make_env(spec, render_mode="rgb_array"), folder)
        try:
            (episode,) = play(player, [env], [seed], spec.name)
        except (KeyboardInterrupt, EOFError):
            print("\nstopped")
            return
        if not self.swap:
            print(episode.turns[-1].observation, end="")
        print(f"{'won' if episode.success else 'lost'}: return {episode.total_return:g}")


PLAY = "Choose the decoding and draw the learning curve; --no-play trains where the environment is not installed."
SHARDED = "Share the weights out among the processes of `accelerate launch` (FSDP), where one device cannot hold them."

# Options that depend on the agent ---------------------------------------------------------------------------------------


def _agent_options(verb: str, prog: str, summary: str, arguments: Sequence[str]) -> Any:
    """Parse `train` or `eval`: the agent's own dataclasses give `--config.*` and `--decoding.*`, the preset `--scale.*`."""
    from qsft_bench.preset import scale
    from qsft_bench.registry import agent_class, env_spec

    asks_help = "-h" in arguments or "--help" in arguments
    first, _ = tyro.cli(_Choice, args=[word for word in arguments if word not in ("-h", "--help")], return_unknown_args=True)
    if not (first.agent and first.env):
        if asks_help:
            tyro.cli(_Choice, args=["--help"], prog=prog, description=f"{summary} Name both to see all that can be set.")
        raise BenchError(f"say who plays what: `{prog} --agent AGENT --env ENV`; see `qsft-bench agents` and `qsft-bench envs`")
    cls: Any = agent_class(first.agent)
    spec = env_spec(first.env)
    sizes = scale(first.preset, spec)
    sizes = replace(sizes, options={**sizes.options, **_own_defaults(spec, sizes.options, arguments)})
    fields: list[Any] = [
        ("agent", str),
        ("task", OmitArgPrefixes[Task]),
        ("training_seed", int, 0),
        ("where", OmitArgPrefixes[Where], Where()),
        ("scale", type(sizes), sizes),
        ("data", Path | None, None),
        (
            "model",
            Annotated[
                str,
                arg(
                    help="Short for --scale.model: size name, pretrained folder, hub name, pip:<package>; random:<one of them>."
                ),
            ],
            "",
        ),
    ]
    if hasattr(cls, "config_for"):
        config = cls.config_for(spec.name, first.agent.partition("@")[2])
        fields.append(("config", type(config), config))
    if verb == "train":
        fields += [
            ("play", Annotated[bool, arg(help=PLAY)], True),
            ("trackers", tuple[str, ...], ()),
            ("publish", bool, False),
            ("sharded", Annotated[bool, arg(help=SHARDED)], False),
        ]
    else:
        fields += [("train", bool, True)]
        number = ("episode", Annotated[int, arg(help="Which of the test episodes, from 0.")], 0)
        own: dict[str, list[Any]] = {
            "eval": [("episodes", int | None, None)],
            "inspect": [number, ("html", Annotated[Path | None, arg(help="Also write a page to look at in a browser.")], None)],
            "watch": [number, ("out", Annotated[Path, arg(help="Film to write: .gif or .mp4.")], Path("episode.gif"))],
        }
        fields += own[verb]
        if any(word.startswith("--decoding.") for word in arguments):
            fields.append(("decoding", cls.decoding_type, cls.default_decoding or cls.decoding_type()))
    return _parse(make_dataclass(verb, fields, frozen=True), prog, arguments, summary)


def _own_defaults(spec: EnvSpec, options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """What the environment's options are that `arguments` set and the preset's `options` lack: only these become the cell's."""
    prefix = "--scale.options."
    names = {word.removeprefix(prefix).partition("=")[0].replace("-", "_") for word in arguments if word.startswith(prefix)}
    if names <= options.keys():
        return {}
    from qsft_bench.registry import env_defaults

    return {name: value for name, value in env_defaults(spec).items() if name in names - options.keys() and value is not None}


@dataclass(frozen=True)
class _Choice:
    """What decides which further options there are."""

    agent: str = ""
    """Agent, see `qsft-bench agents`."""
    env: str = ""
    """Environment, see `qsft-bench envs`."""
    preset: str = "small"
    """Sizes: smoke, small, standard or paper."""


def _parse(options: Any, prog: str, arguments: Sequence[str], description: str | None = None) -> Any:
    """An instance of the dataclass `options` (or the result of the function) from the command line.

    Raises:
        BenchError: an option that it does not have; the nearest are named.
    """
    parsed, unknown = tyro.cli(options, args=list(arguments), prog=prog, description=description, return_unknown_args=True)
    if unknown:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            tyro.cli(options, args=["--help"], prog=prog)
        word = unknown[0].partition("=")[0]
        known = dict.fromkeys(re.findall(r"--[a-z][\w.-]*", shown.getvalue()))
        raise BenchError(f"unknown option {word!r}{did_you_mean(word, known)}")
    return parsed


def _cell(options: Any) -> tuple[Pipeline, Cell]:
    from qsft_bench import ranks
    from qsft_bench.dataset.store import EpisodeDataset
    from qsft_bench.evaluate import Cell
    from qsft_bench.registry import env_spec

    task, sizes, tier, datasets = options.task, options.scale, options.task.tier, {}
    if options.model:
        sizes = replace(sizes, model=options.model)
    env = env_spec(task.env).name
    if options.data is not None:  # its own name for what it holds, and the options under which play speaks its language
        made = EpisodeDataset(options.data).manifest.recipe
        if made.env != env:
            raise BenchError(f"{options.data} is data of {made.env}, not of {env}")
        sizes, tier, datasets = replace(sizes, options=dict(made.options)), made.tier, {env: options.data}
    pipeline = _pipeline(
        options.where,
        train=getattr(options, "train", True),
        play=getattr(options, "play", True),
        scales={env: sizes},
        datasets=datasets,
        configs={options.agent: options.config} if hasattr(options, "config") else {},
        decodings={options.agent: options.decoding} if hasattr(options, "decoding") else {},
        trackers=getattr(options, "trackers", ()),
        sharded=getattr(options, "sharded", False),
    )
    cell = Cell(options.agent, env, tier, task.preset, options.training_seed)
    missing = pipeline.missing(cell) if pipeline.train else []
    if missing and ranks.is_main():
        print(f"to make first: {', '.join(missing)}; each is kept, and goes on from where it was stopped", file=sys.stderr)
    return pipeline, cell


def _pipeline(where: Where, **options: Any) -> Pipeline:
    from qsft_bench.pipeline import Pipeline

    return Pipeline(
        root=where.root, jobs=where.jobs, executor=where.executor, address=where.address, device=where.device, **options
    )


class _progress:  # noqa: N801 - used as a function
    """The pipeline with a progress display for as long as the block lasts."""

    def __init__(self, pipeline: Pipeline) -> None:
        from qsft_bench.progress import ProgressDisplay

        self.pipeline = pipeline
        self.display = ProgressDisplay()

    def __enter__(self) -> Pipeline:
        from qsft_bench import ranks

        progress = self.display.__enter__()
        return replace(self.pipeline, progress=progress) if ranks.is_main() else self.pipeline

    def __exit__(self, *exception: Any) -> None:
        self.display.__exit__(*exception)


def _print(renderable: Any) -> None:
    """Show it whole: on more columns than the terminal has, if it takes them, for a number that is cut off is none."""
    console = _console()
    needed = console.measure(renderable, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, needed)
    console.print(renderable)


def _console() -> Any:
    from rich.console import Console

    return Console()


@dataclass(frozen=True)
class Verb:
    """A word after `qsft-bench`: a dataclass with `run`, a function without options, or more verbs."""

    summary: str
    run: Callable[[str, Sequence[str]], None]


def _plain(function: Callable[[], None]) -> Verb:
    def run(prog: str, arguments: Sequence[str]) -> None:
        _parse(_Nothing, prog, arguments, function.__doc__)
        function()

    return Verb(_first_line(function), run)


@dataclass(frozen=True)
class _Nothing:
    """The options of a verb that has none."""


def _options_class(cls: Any) -> Verb:
    def run(prog: str, arguments: Sequence[str]) -> None:
        _parse(cls, prog, arguments).run()

    return Verb(_first_line(cls), run)


def _agent_verb(name: str, function: Callable[[Any], None]) -> Verb:
    def run(prog: str, arguments: Sequence[str]) -> None:
        function(_agent_options(name, prog, _first_line(function), arguments))

    return Verb(_first_line(function), run)


def _group(summary: str, verbs: dict[str, Verb]) -> Verb:
    return Verb(summary, lambda prog, arguments: _dispatch(prog, summary, verbs, arguments))


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _dispatch(prog: str, summary: str, verbs: dict[str, Verb], arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, verbs))
        listing = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in verbs.items())
        print(f"usage: {prog} VERB [options]\n\n{summary}\n\n{listing}\n\n`{prog} VERB --help` shows a verb's options.")
        return
    if arguments[0] == "--version":
        from qsft_bench import __version__

        print(__version__)
        return
    if arguments[0] not in verbs:
        raise BenchError(f"unknown verb {arguments[0]!r}{did_you_mean(arguments[0], verbs)}")
    if arguments[0] != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BenchError(f"only `train` is for several processes of one launch; call `{prog} {arguments[0]}` by itself")
    verbs[arguments[0]].run(f"{prog} {arguments[0]}", arguments[1:])


VERBS = {
    "envs": _plain(envs),
    "agents": _plain(agents),
    "data": _group(
        "Datasets of behaviour.",
        {
            "generate": _options_class(DataGenerate),
            "list": _options_class(DataList),
            "show": _options_class(DataShow),
            "verify": _options_class(DataVerify),
            "import": _options_class(DataImport),
            "export": _options_class(DataExport),
        },
    ),
    "train": _agent_verb("train", train),
    "eval": _agent_verb("eval", evaluate),
    "inspect": _agent_verb("inspect", inspect),
    "watch": _agent_verb("watch", watch),
    "table": _options_class(TableVerb),
    "separation": _options_class(Separation),
    "ablation": _options_class(Ablation),
    "stability": _options_class(Stability),
    "figure": _options_class(FigureVerb),
    "plan": _options_class(PlanVerb),
    "check": _options_class(Check),
    "calibrate": _options_class(Calibrate),
    "play": _options_class(Play),
    "doctor": _plain(doctor),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `qsft-bench`."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: independent work runs side by side instead
    try:
        _dispatch(
            "qsft-bench",
            "An offline-RL benchmark suite built around Q-SFT.",
            VERBS,
            sys.argv[1:] if arguments is None else arguments,
        )
    except BenchError as error:
        print(f"qsft-bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nqsft-bench: stopped; finished work is kept, the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
