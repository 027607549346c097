"""One gradient step of every cell at a preset's shapes, for machines that could never run the preset itself.

Each learner is built, takes one step on a few windows of data in the preset's format, and chooses one action. Where its
weights, gradients and moments do not fit into memory, its networks are passed forward and back on the meta device, which
checks shapes alone. What was done and what was not is said of each.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell
from qsft_bench.pipeline import Pipeline
from qsft_bench.plan import GIB, Constants, cells, held_weights, measure_env, outline, sizes_of, train_stage
from qsft_bench.registry import agent_class, env_names, env_spec
from qsft_bench.rollout import env_for
from qsft_bench.train import Run

EPISODES, WINDOWS = 8, 2  # of data, and in the step's batch


@dataclass(frozen=True)
class Checked:
    """What was found of one cell."""

    cell: str
    weights: int
    did: str
    not_done: str = ""


def check(
    preset: str, envs: Sequence[str] = (), agents: Sequence[str] = (), memory: float = 0.0, model: str = ""
) -> Iterator[Checked]:
    """Every cell, or those of the named environments and agents, one after another.

    Args:
        memory: bytes that a step may take; what is free now if 0.
        model: see `sizes_of`.
    """
    for name in [env_spec(env).name for env in envs] or env_names():
        spec = env_spec(name)
        try:
            constants = measure_env(spec, preset, EPISODES, model)
        except BenchError as error:
            yield Checked(name, 0, "nothing", str(error))
            continue
        with tempfile.TemporaryDirectory(prefix="qsft-bench-") as folder:
            for cell in cells(spec, "base", preset, agents):
                yield _check(cell, constants, Path(folder), memory, model)


def _check(cell: Cell, constants: Constants, folder: Path, memory: float, model: str) -> Checked:
    spec = env_spec(cell.env)
    sizes = replace(sizes_of(cell.preset, spec, model), dataset_episodes=EPISODES, steps=1, batch_size=WINDOWS)
    cls: Any = agent_class(cell.agent)
    try:
        shapes = outline(cell, sizes, constants)
    except BenchError as error:
        return Checked(str(cell), 0, "nothing", str(error))
    held = held_weights(shapes)
    if cls.reuses:
        return Checked(str(cell), held, f"nothing: it plays the checkpoint of {cls.reuses}")
    stage = train_stage(cell, shapes, sizes, constants)
    needs = stage.memory + (WINDOWS - 1) * stage.memory_window
    if needs > (memory or _free()):
        pass_on_meta(shapes, constants, sizes.context)
        needed = f"a step takes about {needs / GIB:.1f} GiB, {(memory or _free()) / GIB:.1f} are free"
        return Checked(str(cell), held, "forward and backward on the meta device", f"no step: {needed}")
    pipeline = Pipeline(root=folder, scales={cell.env: sizes})
    began = time.monotonic()
    agent = cls(replace(pipeline.config(cell), training=replace(pipeline.config(cell).training, steps=1.0, accumulate=1)))
    run = Run(
        pipeline.run_checkpoint(cell),
        sizes,
        prerequisite=lambda name: agent_class(name).load(pipeline.run_checkpoint(replace(cell, agent=name))),
        checkpoint_seconds=math.inf,
    )
    agent.fit(pipeline.tokens(cell), run)
    agent.save(run.directory)
    loss = agent.meta["training"]["history"][-1]["loss"]
    env = env_for(agent, spec, dict(sizes.options))
    observation, info = env.reset(seed=spec.test_seeds[0])
    agent.act([Episode(spec.name, spec.test_seeds[0], [Turn(observation, facts=info.get("facts"))])])
    env.close()
    return Checked(str(cell), held, f"one step (loss {loss:.3f}) and one action in {time.monotonic() - began:.0f} s")


def pass_on_meta(agent: Any, constants: Constants, context: int) -> None:
    """Each network's own passes over full rows; a loss cannot be had there, since its masks depend on data."""
    for name, network in agent.networks.items():
        images = numbers = None
        for _, parameter in network.own_parameters():
            parameter.requires_grad_(name in agent.trained())
        with torch.device("meta"):
            if constants.slots is not None:
                images = torch.zeros(WINDOWS, *constants.slots["image"], dtype=torch.uint8)
                numbers = torch.zeros(WINDOWS, constants.slots["numbers"]) if constants.slots["numbers"] else None
            ids = torch.zeros(WINDOWS, context, dtype=torch.long)
            whole = torch.ones(WINDOWS, 1, context, context, dtype=torch.bool)  # said, or it is looked for in the data
            hidden = network.hidden(ids, images, numbers, attention_mask=whole).flatten(0, 1)
            total = torch.stack([found.float().square().mean() for found in network.through_heads(hidden).values()]).sum()
        if name in agent.trained():
            total.backward()


def _free() -> float:
    """Bytes of memory that a process may still take."""
    import psutil

    return float(psutil.virtual_memory().available)
