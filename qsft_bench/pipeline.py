"""How a number comes about: dataset -> tokens -> checkpoint -> decoding -> records, each made only if it is missing.

```
data/<preset>/<task>/                          shards and manifest          (task = `wordle`, `wordle-habit`)
runs/<preset>/<task>/tokens/                   token cache
runs/<preset>/<task>/seed0/<agent>/            checkpoint; `state/` while it trains
runs/<preset>/<task>/curves/<agent>-seed0.parquet                      learning curve, recorded while it trains
runs/<preset>/<task>/records/<agent>-seed0-<configuration>.parquet
results/<preset>/checkpoints/<task>/<agent>/   published checkpoints, used before anything is trained
results/<preset>/                              tables, figures, and the records they were made from
```

Every stage is keyed by what it follows from; a stage that was cut off goes on where it stopped.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from qsft_bench import ranks
from qsft_bench.curves import Curve, read_curve
from qsft_bench.dataset.generate import generate, recipe
from qsft_bench.dataset.store import EpisodeDataset, Recipe
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, Origin, Played, evaluate, mean_score, play_chunk, task_name
from qsft_bench.files import atomic_directory, copy_file, json_sha256, read_json
from qsft_bench.preset import Scale, scale
from qsft_bench.registry import agent_class, env_spec
from qsft_bench.rollout import stream
from qsft_bench.workers import Executor, Workers, workers

Progress = Callable[[str, int, int, str], None]  # stage, done, total, note
Source = Literal["published", "scratch"]


def silent(stage: str, done: int, total: int, note: str) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class Pipeline:
    """Makes what is asked for, and first whatever that needs.

    Attributes:
        root: holds `data`, `runs` and `results`.
        source: `published` uses published checkpoints where there are some, `scratch` trains every one.
        train: whether missing checkpoints may be trained; else they are an error.
        play: whether a trained agent chooses its decoding, and its learning curve is drawn: both take the environment. Without,
            weights are made where only the data and torch are, and the decoding is chosen where they are next asked for.
        device: of training and play.
        jobs: how much independent work is done at a time.
        executor, address: where, see `qsft_bench.workers`; nothing that is made depends on it.
        progress: told about every stage.
        scales: environment name -> `Scale` that stands in for the preset's (`--scale.*`).
        configs: agent name -> training configuration that stands in for its default.
        decodings: agent name -> decoding that stands in for the tuned one.
        trackers: accelerate's trackers for training.
        datasets: environment name -> folder of a dataset that stands in for the generated one (`--data`).
        sharded: whether the ranks of a training share its weights out, see `qsft_bench.ranks`.
        publishes: whether the checkpoints behind a table are copied to `results`.
        part: folder below the preset's for work at other sizes, as `figure4/tiny/10%`; its datasets are told apart by hash.
    """

    root: Path = Path()
    source: Source = "published"
    train: bool = True
    play: bool = True
    device: str = "cpu"
    jobs: int = 1
    executor: Executor = "process"
    address: str = ""
    progress: Progress = silent
    scales: Mapping[str, Scale] = field(default_factory=dict)
    configs: Mapping[str, Any] = field(default_factory=dict)
    decodings: Mapping[str, Any] = field(default_factory=dict)
    trackers: tuple[str, ...] = ()
    sharded: bool = False
    datasets: Mapping[str, Path] = field(default_factory=dict)
    publishes: bool = False
    part: str = ""

    def scale(self, cell: Cell) -> Scale:
        return self.scales.get(cell.env) or scale(cell.preset, env_spec(cell.env))

    def runs(self, cell: Cell) -> Path:
        return self.root / "runs" / cell.preset / self.part / cell.task

    def data(self, cell: Cell) -> Path:
        name = f"{cell.task}-{self.recipe(cell).sha256[:8]}" if self.part else cell.task
        return self.root / "data" / cell.preset / name

    def results(self, preset: str) -> Path:
        return self.root / "results" / preset / self.part

    def workers(self, learning: bool = False) -> Workers:
        """Where work goes that is independent; with a GPU for each task where it is `learning` or play on one."""
        return workers(self.executor, self.jobs, self.address, gpus=int(learning and self.device.startswith("cuda")))

    def _worker(self, progress: Progress = silent) -> Pipeline:
        """The pipeline as a task has it, wherever that is: it does all its work by itself."""
        datasets = {env: path.absolute() for env, path in self.datasets.items()}
        here: dict[str, Any] = {"jobs": 1, "executor": "process", "address": ""}
        return replace(self, root=self.root.absolute(), datasets=datasets, progress=progress, **here)

    # Data -----------------------------------------------------------------------------------------------------------

    def recipe(self, cell: Cell) -> Recipe:
        """What the cell's data follow from."""
        if cell.env in self.datasets:
            return EpisodeDataset(self.datasets[cell.env]).manifest.recipe
        return recipe(env_spec(cell.env), cell.tier, self.scale(cell))

    def dataset(self, cell: Cell) -> EpisodeDataset:
        """The behaviour data of the cell's task, generated if it is missing."""
        if cell.env in self.datasets:
            return EpisodeDataset(self.datasets[cell.env])
        wanted = self.recipe(cell)
        stage = f"data {cell.task}"
        return generate(
            self.data(cell),
            wanted,
            workers=self.workers(),
            progress=lambda done, total: self.progress(stage, done, total, "episodes"),
        )

    def codec(self, cell: Cell) -> str:
        """How its episodes become tokens: as the preset says, or by the pretrained model's own tokenizer."""
        from qsft_bench.model.network import SIZES

        sizes = self.scale(cell)
        if sizes.model in SIZES:
            return sizes.codec
        return f"{'chat' if sizes.codec == 'chat' else 'pretrained'}:{sizes.model}"

    def tokens(self, cell: Cell) -> TokenDataset:
        """The same data as tokens."""
        spec, sizes = env_spec(cell.env), self.scale(cell)
        return tokenise(
            self.dataset(cell),
            self.runs(cell) / "tokens",
            codec=self.codec(cell),
            context=sizes.context,
            state=spec.state,
            discount=spec.discount,
            return_bounds=spec.value_range,
            progress=lambda done, total: self.progress(f"tokens {cell.task}", done, total, "shards"),
        )

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def checkpoint(self, cell: Cell) -> Path:
        """Folder of the cell's checkpoint: the run's own, else the published one, else trained now.

        Raises:
            BenchError: it is missing and training is off, or what is there belongs to another configuration.
        """
        found = ranks.main_does(lambda: self.finished(cell))
        if found is not None:
            return found
        own, published = self.run_checkpoint(cell), self.published_checkpoint(cell)
        if not self.train:
            raise BenchError(f"there is no checkpoint of {cell} in {own} or {published}; leave out --no-train to make one")
        self.fit(cell)
        return own

    def finished(self, cell: Cell) -> Path | None:
        """Folder of a checkpoint that is there and fits: the run's own, else the published one.

        Raises:
            BenchError: the run's own belongs to another task or configuration.
        """
        from qsft_bench.token_agent import completed

        cls: Any = agent_class(cell.agent)
        wanted = self.identity(cell)
        own = self.run_checkpoint(cell)
        if (own / "config.json").exists():
            meta = read_json(own / "config.json")["meta"]
            if (meta["env"], meta["tier"]) != (cell.env, cell.tier):
                there = task_name(meta["env"], meta["tier"])
                raise BenchError(f"{own} holds a checkpoint trained on {there}, not on {cell.task}; remove it")
            found = completed(cls, meta["identity"], own)
            if found != wanted:
                raise BenchError(f"{own} holds a checkpoint of another configuration ({_difference(found, wanted)}); remove it")
            if self._tuned(own, cell):
                return own
        published = self.published_checkpoint(cell)
        if self._trained_elsewhere(cell, say=True) and self._tuned(published, cell):
            return published
        return None

    def _trained(self, cell: Cell) -> bool:
        """Whether there are weights, here or published, for which a decoding may still have to be chosen."""
        return (self.run_checkpoint(cell) / "config.json").exists() or self._trained_elsewhere(cell)

    def _trained_elsewhere(self, cell: Cell, say: bool = False) -> bool:
        """Whether the published checkpoint is of the cell's training."""
        from qsft_bench.token_agent import completed

        published, wanted = self.published_checkpoint(cell), self.identity(cell)
        if self.source != "published" or cell.training_seed or not (published / "config.json").exists():
            return False
        found = completed(agent_class(cell.agent), read_json(published / "config.json")["meta"]["identity"], published)  # type: ignore[arg-type]
        if found != wanted and say:
            self.progress(
                f"train {cell}", 0, 1, f"the published checkpoint is of another configuration ({_difference(found, wanted)})"
            )
        return found == wanted

    def missing(self, cell: Cell) -> list[str]:
        """What must be made before the cell can be played, in order, for people."""
        if not learns(cell.agent) or self.finished(cell) is not None:
            return []
        if self._trained(cell):
            return [f"{cell.agent}'s decoding"]
        sizes, cls, steps = self.scale(cell), agent_class(cell.agent), []
        if cell.env not in self.datasets and not (self.data(cell) / "manifest.json").exists():
            steps.append(f"{sizes.dataset_episodes:,} episodes of data")
        for needed in prerequisites(cell):
            steps += self.missing(needed)
        trains = "" if cls.reuses else f" ({self.steps(cell):,} gradient steps)"  # type: ignore[attr-defined]
        return list(dict.fromkeys([*steps, cell.agent + trains]))

    def config(self, cell: Cell) -> Any:
        """The training configuration of the cell's agent."""
        cls: Any = agent_class(cell.agent)
        return self.configs.get(cell.agent) or cls.config_for(cell.env, cell.variant)

    def run_checkpoint(self, cell: Cell) -> Path:
        return self.runs(cell) / f"seed{cell.training_seed}" / cell.agent

    def published_checkpoint(self, cell: Cell) -> Path:
        return self.results(cell.preset) / "checkpoints" / cell.task / cell.agent

    def _tuned(self, directory: Path, cell: Cell) -> bool:
        """Whether its decoding was chosen, if there is a choice to make, among the actions that the scale allows now."""
        cls: Any = agent_class(cell.agent)
        if not self.play or not cls.grid_for(cell.variant):
            return True
        meta = read_json(directory / "config.json")["meta"]
        return "tuning" in meta and meta.get("constrained", False) == self.scale(cell).constrained

    def fit(self, cell: Cell) -> None:
        """Train the cell's agent (and first its prerequisites), choose its decoding on validation seeds, save it."""
        import torch

        from qsft_bench.train import Run

        cls: Any = agent_class(cell.agent)
        own, sizes = self.run_checkpoint(cell), self.scale(cell)
        dtype = torch.float16 if sizes.publishes else torch.float32
        untrained = ranks.main_does(lambda: not (own / "config.json").exists())
        if untrained:
            for prerequisite in prerequisites(cell):
                self._bring(self.checkpoint(prerequisite), prerequisite)
        if untrained and ranks.main_does(lambda: self._trained_elsewhere(cell)):  # and tuned for other play
            self._bring(self.published_checkpoint(cell), cell)
        elif untrained:
            agent = cls(self.config(cell))
            curve = self._curve(cell)
            run = Run(
                directory=own,
                scale=sizes,
                seed=cell.training_seed,
                device=self.device,
                prerequisite=lambda name: agent_class(name).load(self.run_checkpoint(replace(cell, agent=name))),
                progress=lambda done, total, values: self.progress(f"train {cell}", done, total, _brief(values)),
                trackers=self.trackers,
                sharded=self.sharded,
                watch=lambda step: curve.add(agent, step),
                watch_every=-(-self.steps(cell) // sizes.curve_points) if sizes.curve_points and self.play else 0,
            )
            ranks.main_does(lambda: self.tokens(cell).env)  # made once: the others then find them
            agent.fit(self.tokens(cell), run)
            if not cls.reuses:
                agent.meta["training"] |= {"hardware": hardware(), "commit": commit()}
            ranks.main_does(lambda: agent.save(own, dtype))
        ranks.main_does(lambda: self._finish(cell, dtype))

    def _bring(self, path: Path, cell: Cell) -> None:
        """Copy a published checkpoint to where the run's own stand: what borrows from it looks beside itself."""
        own = self.run_checkpoint(cell)
        if path != own and ranks.is_main():
            with atomic_directory(own) as temporary:
                shutil.copytree(path, temporary, dirs_exist_ok=True)

    def _finish(self, cell: Cell, dtype: Any) -> None:
        """Choose the decoding of a trained agent, and drop what only its training needed."""
        cls: Any = agent_class(cell.agent)
        own = self.run_checkpoint(cell)
        shutil.rmtree(own / "state", ignore_errors=True)
        if self.play and cls.grid_for(cell.variant):
            self.tune(cls.load(own, self.device), cell).save(own, dtype)

    def identity(self, cell: Cell) -> dict[str, Any]:
        """What the cell's training follows from, as its checkpoint has it (`token_agent.identity`)."""
        from qsft_bench.token_agent import identity

        cls: Any = agent_class(cell.agent)
        return identity(cls, self.config(cell), self.scale(cell), self.recipe(cell).sha256, cell.training_seed)

    def steps(self, cell: Cell) -> int:
        """Gradient steps of the cell's training, those of its prerequisites not counted."""
        return self.config(cell).training.gradient_steps(self.scale(cell))

    def curve_path(self, cell: Cell) -> Path:
        return self.runs(cell) / "curves" / f"{cell.agent}-seed{cell.training_seed}.parquet"

    def _curve(self, cell: Cell) -> Curve:
        spec, sizes = env_spec(cell.env), self.scale(cell)
        seeds = spec.validation_seeds[: sizes.curve_episodes]
        before = sum(self.steps(needed) for needed in prerequisites(cell))
        return Curve(self.curve_path(cell), cell, spec, sizes.options, seeds, before, commit())

    def curves(self, cells: Sequence[Cell]) -> pd.DataFrame:
        """The learning curves of many cells, trained if they are missing, `jobs` of them side by side.

        Raises:
            BenchError: a checkpoint is there whose training was not watched.
        """
        self._carry_out(cells, played=())
        return pd.concat([read_curve(self.curve_path(cell), self.steps(cell)) for cell in cells], ignore_index=True)

    def tune(self, agent: Any, cell: Cell) -> Any:
        """The agent under the decoding of its grid with the best mean on validation seeds."""
        spec, grid = env_spec(cell.env), agent.grid_for(cell.variant)
        agent.meta["constrained"] = self.scale(cell).constrained
        plays = list(self.validate(agent, cell, grid, "tune"))
        scores = [mean_score(play, spec) for play in plays]
        best = scores.index(max(scores))
        tried = [{"decoding": asdict(decoding), "score": score} for decoding, score in zip(grid, scores, strict=True)]
        tuned = agent.with_decoding(grid[best])
        tuned.meta = {**agent.meta, "tuning": {"episodes": len(plays[best]), "tried": tried}}
        note = grid[best].describe()
        value = tuned.start_value(plays[best])
        if value is not None:  # does the agent know how well it plays?
            played = tuned.normalise(sum(episode.total_return for episode in plays[best]) / len(plays[best]))
            tuned.meta["start_value"] = {"estimated": value, "played": played}
            note += f"; value at the start {value:.3f}, played {played:.3f}"
        self.progress(f"tune {cell}", len(grid), len(grid), note)
        return tuned

    def validate(self, agent: Any, cell: Cell, decodings: Sequence[Any], stage: str) -> Iterator[list[Episode]]:
        """The agent's play on the validation seeds under each of `decodings`, side by side as far as the environment allows."""
        spec, sizes = env_spec(cell.env), self.scale(cell)
        seeds = spec.validation_seeds[: sizes.validation_episodes]
        play = stream(agent.with_decodings(decodings), spec, sizes.options, seeds, players=len(decodings))
        with closing(play) as episodes:
            for index, decoding in enumerate(decodings):
                self.progress(f"{stage} {cell}", index, len(decodings), decoding.describe())
                yield list(islice(episodes, len(seeds)))

    # Records ----------------------------------------------------------------------------------------------------------

    def player(self, cell: Cell) -> tuple[Any, Origin]:
        """The cell's agent, ready to play, and where it came from."""
        from qsft_bench.token_agent import TokenAgent, checkpoint_hash

        cls, sizes = agent_class(cell.agent), self.scale(cell)
        if not issubclass(cls, TokenAgent):
            behaviour = recipe(env_spec(cell.env), cell.tier, sizes).behaviour
            options = cls.env_options(dict(sizes.options))
            player = cls.create(env_spec(cell.env), cell.tier, options)
            identity = [player.identity] if player.identity else []
            return player, Origin("", json_sha256([cell.agent, behaviour, *identity]), commit(), options)
        directory = self.checkpoint(cell)
        agent = cls.load(directory, self.device)
        if (agent.meta["env"], agent.meta["tier"]) != (cell.env, cell.tier):
            raise BenchError(
                f"{directory} was trained on {agent.meta['env']} ({agent.meta['tier']}), not on {cell.env} ({cell.tier})"
            )
        identity_hash = checkpoint_hash(directory)
        if cell.agent in self.decodings:
            agent = agent.with_decoding(self.decodings[cell.agent])
            identity_hash = json_sha256([identity_hash, asdict(agent.decoding)])
        agent.meta["constrained"] = sizes.constrained  # as the scale says now, whatever it said in training
        if sizes.constrained:
            identity_hash = json_sha256([identity_hash, "constrained"])
        return agent, Origin(agent.meta["dataset"], identity_hash, commit(), dict(sizes.options))

    def records(self, cell: Cell, episodes: int | None = None, player: tuple[Any, Origin] | None = None) -> pd.DataFrame:
        """The cell's evaluation records, played if they are missing.

        Args:
            episodes: test episodes; as many as the scale says if not given.
            player: what `player` returned, where it was asked already.
        """
        spec = env_spec(cell.env)
        agent, origin = player or self.player(cell)
        path = self.records_path(cell, origin)
        count = self.scale(cell).evaluation_episodes if episodes is None else episodes

        def shown(done: int, total: int) -> None:
            self.progress(f"eval {cell}", done, total, agent.note() or "episodes")

        play = partial(self._play_apart, cell) if agent.apart and (self.jobs > 1 or self.executor != "process") else None
        return evaluate(agent, cell, spec, origin, count, path, shown, play, self.jobs)

    def _play_apart(self, cell: Cell, chunks: Sequence[Sequence[int]]) -> Iterator[Played]:
        """The play of the cell's agent on each chunk of seeds, by the workers."""
        if not chunks:
            return
        with self.workers(learning=True) as pool:
            worker = replace(self._worker(), train=False)
            for chunk in chunks:
                pool.submit(f"{cell} from seed {chunk[0]}", worker._play, cell, chunk)
            for _, played in pool.results():
                yield played

    def _play(self, cell: Cell, seeds: Sequence[int]) -> Played:
        agent, origin = self.player(cell)
        return play_chunk(agent, env_spec(cell.env), origin, seeds)

    def records_path(self, cell: Cell, origin: Origin) -> Path:
        """The file of the cell's records; those of another checkpoint or decoding have their own: never mixed, never lost."""
        name = f"{cell.agent}-seed{cell.training_seed}-{origin.config_hash(cell)[:8]}.parquet"
        return self.runs(cell) / "records" / name

    def all_records(self, cells: Sequence[Cell]) -> pd.DataFrame:
        """The records of many cells, `jobs` of them side by side, prerequisites first."""
        began = time.monotonic()
        found = self._carry_out(cells, played=cells)
        self.progress("records", len(cells), len(cells), f"{time.monotonic() - began:.0f} s")
        return pd.concat([found[cell] for cell in cells], ignore_index=True) if cells else pd.DataFrame()

    def _carry_out(self, cells: Sequence[Cell], played: Sequence[Cell]) -> dict[Cell, pd.DataFrame]:
        """Make the checkpoints of `cells` and whatever they need, and the records of those that are `played`."""
        ordered = self._in_order(cells)
        if self.train:
            for cell in {cell.task: cell for cell in ordered if self._to_train(cell) and not self._trained(cell)}.values():
                self.tokens(cell)  # once, before workers ask for it
        return self._side_by_side(ordered, played)

    def _to_train(self, cell: Cell) -> bool:
        return learns(cell.agent) and self.finished(cell) is None

    def _in_order(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells and whatever must be trained for them, each after its prerequisites."""
        ordered: list[Cell] = []

        def add(cell: Cell) -> None:
            to_train = self._to_train(cell)
            for needed in prerequisites(cell):
                if to_train or needed in cells:
                    add(needed)
            if cell not in ordered:
                ordered.append(cell)

        for cell in cells:
            add(cell)
        return ordered

    def _work(self, cell: Cell, play: bool) -> pd.DataFrame:
        """The records of a cell, or only its checkpoint where nobody asked for records."""
        if play:
            return self.records(cell)
        self.checkpoint(cell)
        return pd.DataFrame()

    def _side_by_side(self, cells: Sequence[Cell], played: Sequence[Cell]) -> dict[Cell, pd.DataFrame]:
        with self.workers(learning=True) as pool:
            worker = self._worker(pool.calling(self.progress))
            tasks = {cell: (worker._work, (cell, cell in played)) for cell in cells}
            return dict(pool.in_order(tasks, {cell: prerequisites(cell) for cell in cells}))

    # Publishing -------------------------------------------------------------------------------------------------------

    def publish(self, cell: Cell) -> Path:
        """Copy what play needs of a cell's checkpoint, and of those it borrows from, to the results folder.

        Raises:
            BenchError: the preset does not publish: its checkpoints are not in half precision, and would play otherwise.
        """
        if not self.scale(cell).publishes:
            raise BenchError(f"preset {cell.preset} does not publish checkpoints; set `publishes` in its scale before training")
        own, target = self.run_checkpoint(cell), self.published_checkpoint(cell)
        cls: Any = agent_class(cell.agent)
        agent = cls.load(own)
        for name in sorted({agent.borrowed[network]["agent"] for network in agent.played() if network in agent.borrowed}):
            self.publish(replace(cell, agent=name))
        agent.publish(target)
        return target

    def copy_records(self, cells: Iterable[Cell]) -> None:
        """Put the records behind a table beside it."""
        for cell in cells:
            path = self.records_path(cell, self.player(cell)[1])
            target = self.results(cell.preset) / "records" / cell.task / f"{cell.agent}-seed{cell.training_seed}.parquet"
            for suffix in (".parquet", ".transcripts.parquet"):
                copy_file(path.with_suffix(suffix), target.with_suffix(suffix))


def prerequisites(cell: Cell) -> list[Cell]:
    """The cells that must be trained before this one."""
    return [replace(cell, agent=name) for name in agent_class(cell.agent).prerequisites]


def learns(agent: str) -> bool:
    """Whether an agent is trained, and has a checkpoint."""
    from qsft_bench.token_agent import TokenAgent

    return issubclass(agent_class(agent), TokenAgent)


def _brief(values: Mapping[str, float]) -> str:
    names = ("loss", "gap_closed", "start_value", "start_return", "weight_at_1")
    return " ".join(f"{name} {values[name]:.3f}" for name in names if name in values)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> str:
    """`key: found, wanted` for the first few leaves that differ."""
    parts = []
    for key in {**found, **wanted}:
        left, right = found.get(key), wanted.get(key)
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            parts.append(_difference(left, right, f"{prefix}{key}."))
        else:
            parts.append(f"{prefix}{key} is {left!r}, wanted {right!r}")
    return "; ".join(parts[:4])


def commit() -> str:
    """QSFT_BENCH_COMMIT, else the git commit of the working tree, with `+` where it has changes; empty outside git."""
    if found := os.environ.get("QSFT_BENCH_COMMIT"):
        return found
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "*.py", "*.toml"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head[:12] + ("+" if changed else "")


def hardware() -> str:
    """One line that says what the numbers were made on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    line = f"{os.cpu_count()} x {model}"
    import torch

    if torch.cuda.is_available():
        line += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return line


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("qsft-bench", "torch", "transformers", "numpy", "gymnasium"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
