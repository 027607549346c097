"""What a preset costs before it is run: sizes, memory, disk and time of every cell, from measurements and counted weights.

Measured (`qsft-bench plan --preset PRESET --measure`, kept in `measured.json` with the machine they were measured on): how
many episodes of behaviour one core plays in a second, what an episode takes on disk and in tokens, and how many floating-point
operations (FLOP) one core trains with in a second. Counted: weights, by building every network without memory for them.

```
forward pass of one network over a row:   F = 2 (weights of its blocks) (tokens) + 4 (layers) (width) (tokens)^2 + its heads
a gradient step:                          3 F of what is trained and F of what is not (targets, borrowed), times rows
memory of a step: 4 bytes a weight, and of a trained one 4 for its gradient and 8 (Muon: 4) for its moments, and a row's
                  activations, 34 (tokens) (width) (layers) bytes in half precision (Korthikanti et al. 2023, attention fused);
                  with `checkpointing` the layers' inputs and one layer, (2 (layers) + 34) (tokens) (width)
play:             F of what plays over an episode's tokens, and the environment's time
```

Play is counted as if a whole row were read at once, so its time is a lower bound: decoding one token at a time is slower.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from qsft_bench.codec import Slots
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell
from qsft_bench.files import write_json
from qsft_bench.model.network import SIZES, Network, NetworkConfig
from qsft_bench.pipeline import Pipeline, commit, hardware, learns, prerequisites
from qsft_bench.preset import Scale, scale
from qsft_bench.registry import agent_class, env_names, env_spec
from qsft_bench.spec import EnvSpec
from qsft_bench.train import Run

MEASURED = "measured.json"
GIB, HOUR = 2**30, 3600.0
GPU_TFLOPS = 100.0  # that a GPU is taken to train with in a second, unless said otherwise; none was measured


@dataclass(frozen=True)
class Constants:
    """What was measured of an environment at a preset, per episode of its behaviour.

    Attributes:
        episodes: that were measured.
        seconds: processor time, of programs that the environment starts too.
        turns: actions.
        stored: bytes of the dataset; cached: of its tokens.
        windows: units of which a batch holds so many; rows: in a window; tokens: in a row; actions: those with loss, in a row.
        vocabulary, outputs, slots: of the codec.
        commit: of the code that measured it; empty where it is that of the file.
    """

    episodes: int
    seconds: float
    turns: float
    stored: float
    cached: float
    windows: float
    rows: float
    tokens: float
    actions: float
    vocabulary: int
    outputs: int
    slots: dict[str, Any] | None
    commit: str = ""

    @property
    def codec(self) -> Any:
        """What networks are built from, in a codec's place."""
        slots = None if self.slots is None else Slots(**{**self.slots, "image": tuple(self.slots["image"])})
        return SimpleNamespace(size=self.vocabulary, outputs=self.outputs, slots=slots, sha256="")


@dataclass(frozen=True)
class Stage:
    """One line of a plan.

    Attributes:
        what: `data`, `train` or `play`, of which cell.
        size: how much of it, in words.
        weights: of all networks that it holds, and how many of them are trained.
        memory: bytes that a gradient step takes with one window, and of each further one; 0 where nothing is trained.
        disk: bytes it leaves.
        work: processor seconds of the environment, on the cores that were measured.
        flop: of networks.
    """

    what: str
    size: str
    weights: int = 0
    trained: int = 0
    memory: float = 0.0
    memory_window: float = 0.0
    disk: float = 0.0
    work: float = 0.0
    flop: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The stages of a preset, and the speeds that turn their work into time."""

    preset: str
    measured: dict[str, Any]
    stages: list[Stage]
    missing: list[str]

    def core_hours(self, stage: Stage) -> float:
        """On the cores that were measured, GPU or not."""
        return (stage.work + stage.flop / self.measured["flop_per_second"]) / HOUR

    def gpu_hours(self, stage: Stage, tflops: float) -> float:
        """Of networks alone, at `tflops`."""
        return stage.flop / (tflops * 1e12) / HOUR


def render(plan: Plan, tflops: float) -> list[list[str]]:
    """The plan as rows of text, the first of which names the columns and the last sums up."""
    rows = [["stage", "size", "weights", "trained", "memory", "a window", "disk", "core-hours", "GPU-hours"]]
    total = [0.0, 0.0, 0.0]
    for stage in plan.stages:
        cores, gpus = plan.core_hours(stage), plan.gpu_hours(stage, tflops)
        total = [total[0] + stage.disk, total[1] + cores, total[2] + gpus]
        rows.append(
            [
                stage.what,
                stage.size,
                _millions(stage.weights),
                _millions(stage.trained),
                _gib(stage.memory),
                _gib(stage.memory_window),
                _gib(stage.disk),
                _hours(cores),
                _hours(gpus),
            ]
        )
    rows.append(["all", "", "", "", "", "", _gib(total[0]), _hours(total[1]), _hours(total[2])])
    return rows


def notes(plan: Plan, tflops: float) -> list[str]:
    """What the numbers rest on, and what is left out."""
    made = plan.measured
    lines = [
        f"Measured by `{made['command']}` on {made['hardware']} at {made['load']} (commit {made['commit']}): episodes and "
        f"bytes of every environment{_later(made)}; one core trains with {made['flop_per_second'] / 1e9:.1f} GFLOP/s.",
        f"Core-hours: everything on such cores. GPU-hours: the networks' FLOP at {tflops:g} TFLOP/s, which is assumed, not "
        f"measured (--tflops); the environments' core-hours come on top. Play is a lower bound.",
        "Memory: of a gradient step with one window, and of each further one, in half precision; --config.training.accumulate "
        "divides a batch that does not fit.",
    ]
    return lines + [f"Not planned: {text}" for text in plan.missing]


def _later(made: Mapping[str, Any]) -> str:
    """Which constants were measured after the others, and by which code."""
    found = {
        f"{name} (preset {preset}) later, at {constants['commit']}"
        for preset, envs in made["environments"].items()
        for name, constants in envs.items()
        if constants.get("commit")
    }
    return "".join(f"; {text}" for text in sorted(found))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for a page."""
    rule = ["---", "---", *("---:" for _ in rows[0][2:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _millions(count: float) -> str:
    return f"{count / 1e6:,.2f} M" if count else ""


def _gib(count: float) -> str:
    return f"{count / GIB:,.2f} GiB" if count else ""


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours else ""


def read_measured() -> dict[str, Any]:
    """The committed constants."""
    return json.loads((files("qsft_bench") / MEASURED).read_text(encoding="utf-8"))


def sizes_of(preset: str, spec: EnvSpec, model: str = "") -> Scale:
    """The preset's sizes, with `model` in the place of a pretrained one; of that a folder without weights will do."""
    found = scale(preset, spec)
    return replace(found, model=model) if model and found.model not in SIZES else found


def make_plan(
    preset: str, envs: Sequence[str] = (), agents: Sequence[str] = (), tiers: Sequence[str] = (), model: str = ""
) -> Plan:
    """Every cell of what is registered, or of the named environments, agents and tiers, with what it needs first.

    Args:
        model: stands in for a pretrained model that the preset names (`sizes_of`).
    """
    measured = read_measured()
    known = measured["environments"].get(preset, {})
    stages: list[Stage] = []
    missing: list[str] = []
    for name in [env_spec(env).name for env in envs] or env_names():
        spec, sizes = env_spec(name), sizes_of(preset, env_spec(name), model)
        if name not in known:
            missing.append(f"{name} (`qsft-bench plan --preset {preset} --env {name} --measure` measures it)")
            continue
        constants = Constants(**known[name])
        for tier in [tier for tier in sizes.tiers or spec.tiers if not tiers or tier in tiers]:
            stages.append(_data_stage(Cell("behaviour", name, tier, preset), sizes, constants))
            for cell in cells(spec, tier, preset, agents):
                try:
                    stages += _agent_stages(cell, sizes, constants)
                except BenchError as error:
                    missing.append(f"{cell} ({error})")
    return Plan(preset, measured, stages, missing)


def cells(spec: EnvSpec, tier: str, preset: str, agents: Sequence[str]) -> list[Cell]:
    """Those that the environment's table runs and that learn, and what they are trained after."""
    ordered: list[Cell] = []
    for agent in agents or spec.agents_of(tier):
        if learns(agent):
            cell = Cell(agent, spec.name, tier, preset)
            ordered += [needed for needed in (*prerequisites(cell), cell) if needed not in ordered]
    return ordered


def _data_stage(cell: Cell, sizes: Scale, constants: Constants) -> Stage:
    count = sizes.dataset_episodes
    tokens = count * constants.windows * constants.rows * constants.tokens
    size = f"{count:,} episodes, {tokens / 1e6:,.1f} M tokens"
    disk = count * (constants.stored + constants.cached)
    return Stage(f"data {cell.task}", size, disk=disk, work=count * constants.seconds)


def _agent_stages(cell: Cell, sizes: Scale, constants: Constants) -> Iterator[Stage]:
    agent = outline(cell, sizes, constants)
    cls: Any = type(agent)
    if not agent.reuses:
        yield train_stage(cell, agent, sizes, constants)
    tried = len(cls.grid_for(cell.variant)) * sizes.validation_episodes
    games = sizes.training_seeds * (tried + sizes.evaluation_episodes)
    yield Stage(
        f"play {cell}",
        f"{tried:,} + {sizes.evaluation_episodes:,} episodes",
        held_weights(agent),
        work=games * constants.seconds,
        flop=games * _played_flop(agent, constants),
    )


def train_stage(cell: Cell, agent: Any, sizes: Scale, constants: Constants) -> Stage:
    """Training, and the learning curve that is played meanwhile.

    Args:
        agent: the cell's `outline`.
    """
    trained = set(agent.trained())
    forward = {name: constants.rows * forward_flop(network, constants) for name, network in agent.networks.items()}
    held = held_weights(agent)
    own = {name: sum(each.numel() for _, each in network.own_parameters()) for name, network in agent.networks.items()}
    moved = sum(own[name] for name in trained)
    training, seeds = agent.config.training, sizes.training_seeds
    steps = training.gradient_steps(sizes)
    step = sum((3 if name in trained else 1) * value for name, value in forward.items()) * sizes.batch_size
    watched = sizes.curve_points * sizes.curve_episodes * max(1, len(agent.watched))
    window = constants.rows * max(_row_bytes(agent.networks[name], constants, sizes.checkpointing) for name in trained)
    return Stage(
        f"train {cell}",
        f"{steps:,} steps of {sizes.batch_size} windows" + (f", {seeds} trainings" if seeds > 1 else ""),
        held,
        moved,
        memory=4 * held + (4 + (4 if training.optimizer == "muon" else 8)) * moved + window,
        memory_window=window,
        disk=seeds * 4.0 * sum(own.values()),
        work=seeds * watched * constants.seconds,
        flop=seeds * (steps * step + watched * _played_flop(agent, constants)),
    )


def _played_flop(agent: Any, constants: Constants) -> float:
    """Of one episode."""
    rows = constants.windows * constants.rows
    return rows * sum(forward_flop(agent.networks[name], constants) for name in agent.played())


def outline(cell: Cell, sizes: Scale, constants: Constants) -> Any:
    """The cell's agent with its networks as training has them, on the meta device: shapes without memory.

    Raises:
        BenchError: the model is not at hand.
    """
    cls: Any = agent_class(cell.agent)
    agent = cls(cls.config_for(cell.env, cell.variant))
    agent.codec = constants.codec
    agent.meta["files"] = _AnyHash()
    data: Any = SimpleNamespace(
        codec=agent.codec,
        env=cell.env,
        meta={"recipe": {"context": sizes.context}, "env": cell.env},
        returns=np.zeros(1),
        mean_return=0.5,
        normalise=lambda value: value,
    )
    needed = {other.agent: outline(other, sizes, constants) for other in prerequisites(cell)}
    run = Run(Path(), sizes, prerequisite=lambda name: needed[name])
    with torch.device("meta"):
        if agent.reuses:
            agent.networks.update(needed[agent.reuses].networks)
        else:
            agent.build(data, run)
    return agent


class _AnyHash(dict[str, str]):
    """Stands for the hashes of a checkpoint that there is not."""

    def __missing__(self, key: str) -> str:
        return ""


def held_weights(agent: Any) -> int:
    """Weights of all its networks; those that several share count once."""
    return _weights(agent.networks)


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shape(network: Network) -> tuple[int, int]:
    """Layers and width of a backbone."""
    config = network.backbone.config
    return int(config.num_hidden_layers), int(config.hidden_size)


def forward_flop(network: Network, constants: Constants) -> float:
    """F of a mean row (the module's docstring); embeddings are looked up, not multiplied."""
    layers, width = _shape(network)
    embedded = sum(_weights(part) for part in network.backbone.modules() if isinstance(part, torch.nn.Embedding))
    heads = _weights(network.heads)
    blocks = _weights(network) - embedded - heads
    return 2 * blocks * constants.tokens + 4 * layers * width * constants.tokens**2 + 2 * heads * constants.actions


def _row_bytes(network: Network, constants: Constants, checkpointing: bool) -> float:
    layers, width = _shape(network)
    return (2 * layers + 34 if checkpointing else 34 * layers) * constants.tokens * width


# Measuring ----------------------------------------------------------------------------------------------------------------


def measure(preset: str, envs: Sequence[str], episodes: int, path: Path, model: str = "") -> dict[str, Any]:
    """Measure the named environments, or all that can start, and the machine unless it was, and write both into `path`.

    Args:
        episodes: of behaviour that are played in each environment.
        model: see `sizes_of`.
    """
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"environments": {}}
    if found.get("hardware") != hardware():
        load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
        command = f"qsft-bench plan --preset {preset} --measure --episodes {episodes}"
        machine = {"command": command, "hardware": hardware(), "commit": commit(), "load": load}
        found = {"environments": {}, **machine, "flop_per_second": measure_flop()}
    for name in [env_spec(env).name for env in envs] or env_names():
        try:
            constants = measure_env(env_spec(name), preset, episodes, model)
        except BenchError as error:
            print(f"{name}: not measured: {error}")
            continue
        made = commit()
        later = replace(constants, commit=made if made != found["commit"] else "")
        found["environments"].setdefault(preset, {})[name] = asdict(later)
        print(f"{name}: {1 / constants.seconds:,.1f} episodes/s a core, {constants.tokens:,.0f} tokens a row")
        write_json(path, found)
    write_json(path, found)
    return found


def measure_env(spec: EnvSpec, preset: str, episodes: int, model: str = "") -> Constants:
    """Generate and tokenise `episodes` of the base tier."""
    sizes = replace(sizes_of(preset, spec, model), dataset_episodes=episodes)
    cell = Cell("behaviour", spec.name, preset=preset)
    with tempfile.TemporaryDirectory(prefix="qsft-bench-") as folder:
        first = {spec.name: replace(sizes, dataset_episodes=2)}  # what an environment prepares once is not an episode's cost
        Pipeline(root=Path(folder) / "first", scales=first).dataset(cell)
        pipeline = Pipeline(root=Path(folder), scales={spec.name: sizes})
        before = _cpu_seconds()
        dataset = pipeline.dataset(cell)
        seconds = _cpu_seconds() - before
        data = pipeline.tokens(cell)
        batch = data.batch(np.arange(len(data.windows)))
        rows = len(batch.ids)
        return Constants(
            episodes=episodes,
            seconds=seconds / episodes,
            turns=sum(shard.turns for shard in dataset.manifest.shards) / episodes,
            stored=_bytes(dataset.directory) / episodes,
            cached=_bytes(pipeline.runs(cell) / "tokens") / episodes,
            windows=len(data.windows) / episodes,
            rows=rows / len(data.windows),
            tokens=float(batch.mask.sum()) / rows,
            actions=float(batch.learn.sum()) / rows,
            vocabulary=data.codec.size,
            outputs=data.codec.outputs,
            slots=None if data.codec.slots is None else asdict(data.codec.slots),
        )


def measure_flop(model: str = "gpt2-medium-random", layers: int = 2, tokens: int = 512, repeats: int = 3) -> float:
    """Floating-point operations a second with which one core trains: the first blocks of `model` on one row, in float32."""
    network = Network(NetworkConfig(model, 64, tokens))
    network.backbone.h = network.backbone.h[:layers]
    weights = _weights(network.backbone.h)
    width = network.width
    ids = torch.zeros(1, tokens, dtype=torch.long)
    times = []
    for _ in range(repeats):
        began = time.process_time()
        network.hidden(ids).square().mean().backward()
        times.append(time.process_time() - began)
    return 3 * (2 * weights * tokens + 4 * layers * width * tokens**2) / sorted(times)[len(times) // 2]


def _cpu_seconds() -> float:
    """Processor time of this process and of those it started, ended or not."""
    import psutil

    living = psutil.Process().children(recursive=True)
    times = os.times()
    return sum(times[:4]) + sum(sum(child.cpu_times()[:2]) for child in living)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
