"""`qsft-bench data`: datasets of behaviour."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import OmitArgPrefixes, Positional

from qsft_bench.cli.shared import HERE, Where, make_pipeline, progressing, show
from qsft_bench.errors import BenchError

if TYPE_CHECKING:
    from qsft_bench.spec import EnvSpec


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
    where: OmitArgPrefixes[Where] = HERE

    def run(self) -> None:
        from qsft_bench.evaluate import Cell
        from qsft_bench.registry import env_names, env_spec

        for name in [env_spec(self.env).name] if self.env else env_names():
            cell = Cell("behaviour", name, self.tier, self.preset)
            pipeline = make_pipeline(self.where)
            if self.episodes is not None:
                pipeline = replace(pipeline, scales={name: replace(pipeline.scale(cell), dataset_episodes=self.episodes)})
            with progressing(pipeline) as running:
                manifest = running.dataset(cell).manifest
            size = f"{manifest.episodes:,} episodes, mean return {manifest.mean_return:.3f}"
            print(f"{name} {self.tier}: {size}, content {manifest.content[:12]}")


@dataclass(frozen=True)
class DataList:
    """List the datasets below data/."""

    where: OmitArgPrefixes[Where] = HERE

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
        show(table)


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
    where: OmitArgPrefixes[Where] = HERE

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
