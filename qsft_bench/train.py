"""The one training loop: any TokenAgent, exact resume, accelerate for devices, mixed precision and trackers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_directory, json_sha256, read_json
from qsft_bench.model.network import Networks
from qsft_bench.preset import Scale
from qsft_bench.tokens import TokenBatch

if TYPE_CHECKING:
    from qsft_bench.agent import Agent


def _no_prerequisite(name: str) -> Agent:
    raise BenchError(f"this run has no trained {name!r} to start from; train it first")


@dataclass
class Run:
    """Where and how large a training is.

    Attributes:
        directory: the folder of this agent's checkpoint; `state/` in it holds what resuming needs.
        scale: sizes.
        seed: of the weights and the data order.
        device: `cpu`, `cuda`, ...
        prerequisite: loads an agent trained before on the same data.
        progress: called with (steps done, steps in all, newest metrics).
        checkpoint_seconds: how often the state is written.
        trackers: accelerate's tracker names (`tensorboard`, `wandb`, ...).
        watch: called as `watch(step)` every `watch_every` steps and after the last (learning curves); 0 for never.
    """

    directory: Path
    scale: Scale
    seed: int = 0
    device: str = "cpu"
    prerequisite: Callable[[str], Agent] = _no_prerequisite
    progress: Callable[[int, int, Mapping[str, float]], None] = lambda done, total, metrics: None
    checkpoint_seconds: float = 60.0
    trackers: tuple[str, ...] = ()
    watch: Callable[[int], None] = lambda step: None
    watch_every: int = 0


@dataclass(frozen=True)
class Training:
    """Hyperparameters of the loop itself, the same for every learner; None takes the preset's value.

    Attributes:
        steps: gradient steps.
        batch_size: rows (windows) a gradient step, summed over micro-batches and processes.
        accumulate: micro-batches a gradient step.
        learning_rate: peak; warmed up linearly over `warmup` of the steps, then down a cosine to `final` of it.
        optimizer: `adamw`, or `muon` (Jordan et al. 2024, as `torch.optim.Muon`) for the matrices inside the backbone's
            blocks and AdamW for embeddings, heads, gains and biases.
        muon_rate: Muon's learning rate as a multiple of `learning_rate`.
        weight_decay: on matrices only.
        beta2: AdamW's second-moment decay.
        clip: greatest gradient norm.
        precision: `no`, `bf16` or `fp16` (accelerate's mixed precision).
    """

    steps: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    learning_rate: float | None = None
    optimizer: Literal["adamw", "muon"] = "muon"
    muon_rate: float = 4.0
    warmup: float = 0.05
    final: float = 0.02
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip: float = 1.0
    precision: Literal["no", "bf16", "fp16"] = "no"


class Learner(Protocol):
    """What the loop needs of an agent."""

    networks: Networks

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...
    def trained(self) -> list[str]: ...
    def after_step(self, step: int, steps: int) -> None: ...
    def before_step(self, step: int, steps: int) -> None: ...
    def diagnose(self, data: TokenDataset) -> dict[str, float]: ...


class _LossModule(nn.Module):
    """The learner's loss as a module, so that DDP and FSDP see its forward pass."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.networks = learner.networks
        self._loss = learner.loss

    def forward(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self._loss(batch)


@dataclass
class History:
    """What a training printed: one entry a log point, kept with the checkpoint."""

    entries: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def learning_rate(training: Training, step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to `final` of the peak."""
    warmup = max(1, round(training.warmup * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (training.final + (1 - training.final) * 0.5 * (1 + math.cos(math.pi * share)))


def make_optimizers(named: Mapping[str, nn.Parameter], training: Training, peak: float) -> list[torch.optim.Optimizer]:
    """The optimisers of these parameters; each group's `peak` is what the schedule scales."""
    inner = [p for name, p in named.items() if training.optimizer == "muon" and p.ndim == 2 and ".backbone.h." in name]
    chosen = set(map(id, inner))
    rest = [p for p in named.values() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": training.weight_decay, "peak": peak},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "peak": peak},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=peak, betas=(0.9, training.beta2))]
    if inner:
        rate = peak * training.muon_rate
        muon = [{"params": inner, "peak": rate}]
        optimizers.append(
            torch.optim.Muon(muon, lr=rate, weight_decay=training.weight_decay, momentum=0.95, adjust_lr_fn="original")
        )
    return optimizers


def train(learner: Learner, data: TokenDataset, run: Run, training: Training, identity: Mapping[str, Any]) -> History:
    """Minimise `learner.loss` on `data.training`, in place; a call that was cut off goes on where it stopped.

    Args:
        identity: what the training follows from (config, dataset hash, prerequisite hashes); a state of another
            identity is refused.

    Raises:
        BenchError: the state in `run.directory` belongs to another configuration, or the loss is no longer finite.
    """
    from accelerate import Accelerator

    steps = training.steps or run.scale.steps
    batch_size = training.batch_size or run.scale.batch_size
    peak = training.learning_rate or run.scale.learning_rate
    state = _State(run.directory / "state", json_sha256(dict(identity)))
    accelerator = Accelerator(
        cpu=run.device == "cpu",
        mixed_precision=training.precision,
        log_with=list(run.trackers) or None,
        project_dir=str(run.directory) if run.trackers else None,
    )
    if run.trackers:
        accelerator.init_trackers("qsft-bench", config=json.loads(json.dumps(identity, default=str)))
    module = _LossModule(learner)
    named = {
        f"{name}.{key}": parameter for name in learner.trained() for key, parameter in learner.networks[name].named_parameters()
    }
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in named.values():
        parameter.requires_grad_(True)
    optimizers = make_optimizers(named, training, peak)
    module.to(accelerator.device)
    start, history = state.restore(learner.networks, optimizers, named)
    wrapped, *optimizers = accelerator.prepare(module, *optimizers)
    train_data = data.training
    rank, world = accelerator.process_index, accelerator.num_processes
    share = batch_size // (world * training.accumulate)
    if share * world * training.accumulate != batch_size:
        raise BenchError(f"a batch of {batch_size} does not divide by {world} processes x {training.accumulate} micro-batches")
    began = saved = time.monotonic()
    before = history.seconds
    log_every = max(1, steps // 50)
    recent: list[dict[str, torch.Tensor]] = []
    for step in range(start, steps):
        rate = learning_rate(training, step, steps, 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"]
        learner.before_step(step, steps)
        order = train_data.order(step, batch_size, run.seed)
        for micro in range(training.accumulate):
            part = order[(micro * world + rank) * share :][:share]
            batch = train_data.batch(part).to(accelerator.device)
            loss, metrics = wrapped(batch)
            accelerator.backward(loss / training.accumulate)
        norm = accelerator.clip_grad_norm_(list(named.values()), training.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        learner.after_step(step, steps)
        recent.append({"loss": loss.detach(), "gradient_norm": norm, **metrics})
        history.seconds = before + time.monotonic() - began
        if (step + 1) % log_every == 0 or step + 1 == steps:
            means = {key: float(torch.stack([torch.as_tensor(entry[key]) for entry in recent]).mean()) for key in recent[0]}
            values = {"step": float(step + 1), **means}
            recent.clear()
            if not all(math.isfinite(value) for value in values.values()):
                raise BenchError(f"training diverged at step {step + 1}: {values}; lower the learning rate")
            if (step + 1) % (10 * log_every) == 0 or step + 1 == steps:
                values |= learner.diagnose(data)
            history.entries.append(values)
            if run.trackers:
                accelerator.log(values, step=step + 1)
            run.progress(step + 1, steps, values)
        if run.watch_every and ((step + 1) % run.watch_every == 0 or step + 1 == steps):
            run.watch(step + 1)
        if time.monotonic() - saved > run.checkpoint_seconds and step + 1 < steps and accelerator.is_main_process:
            state.save(learner.networks, optimizers, named, step + 1, history)
            saved = time.monotonic()
    if run.trackers:
        accelerator.end_training()
    return history


class _State:
    """Networks, optimiser moments and random state as safetensors, the rest as JSON; replaced whole or not at all."""

    def __init__(self, directory: Path, identity: str) -> None:
        self.directory = directory
        self.identity = identity

    def save(
        self,
        networks: Networks,
        optimizers: Sequence[torch.optim.Optimizer],
        named: Mapping[str, nn.Parameter],
        step: int,
        history: History,
    ) -> None:
        moments = {}
        for name, parameter in named.items():
            for optimizer in optimizers:
                for key, value in optimizer.state.get(parameter, {}).items():
                    moments[f"{key}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        with atomic_directory(self.directory) as temporary:
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in networks.state_dict().items()},
                temporary / "networks.safetensors",
            )
            save_file(moments, temporary / "optimizer.safetensors")
            save_file(random, temporary / "random.safetensors")
            (temporary / "state.json").write_text(
                json.dumps({"identity": self.identity, "step": step, "seconds": history.seconds, "entries": history.entries})
            )

    def restore(
        self, networks: Networks, optimizers: Sequence[torch.optim.Optimizer], named: Mapping[str, nn.Parameter]
    ) -> tuple[int, History]:
        """Steps done before and their history; (0, empty) where there is no state."""
        if not (self.directory / "state.json").exists():
            return 0, History()
        value = read_json(self.directory / "state.json")
        if value["identity"] != self.identity:
            raise BenchError(
                f"{self.directory} is the state of another configuration; remove it, or train in another run folder"
            )
        networks.load_state_dict(load_file(self.directory / "networks.safetensors"))
        owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        for key, moment in load_file(self.directory / "optimizer.safetensors").items():
            name, _, parameter = key.partition("/")
            target = named[parameter]
            owner[target].state[target][name] = moment if name == "step" else moment.to(target.device)
        random = load_file(self.directory / "random.safetensors")
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
        return value["step"], History(value["entries"], value["seconds"])
