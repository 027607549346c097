"""The one training loop: any TokenAgent, exact resume, accelerate for devices, mixed precision, ranks and trackers.

Under `accelerate launch` each rank takes its share of every batch. Gradients and metrics are means over the tokens of the whole
batch, so that any number of ranks takes the same steps, and goes on from any other number's state. The first rank alone writes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from qsft_bench import ranks
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.files import json_sha256, write_tensors
from qsft_bench.model.network import Networks
from qsft_bench.model.precision import computes_bfloat16
from qsft_bench.muon import Float32Muon
from qsft_bench.preset import Scale
from qsft_bench.sharding import gather, gathered, part_like, shard, whole
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
        checkpoint_seconds: how often the state is written; more rarely where writing it takes over a twentieth of this.
        trackers: accelerate's tracker names (`tensorboard`, `wandb`, ...).
        sharded: whether the ranks of a launch share the weights out (FSDP) in place of each holding them all (DDP).
        watch: called as `watch(step)` before the first step, every `watch_every` steps and after the last (learning curves);
            0 for never.
    """

    directory: Path
    scale: Scale
    seed: int = 0
    device: str = "cpu"
    prerequisite: Callable[[str], Agent] = _no_prerequisite
    progress: Callable[[int, int, Mapping[str, float]], None] = lambda done, total, metrics: None
    checkpoint_seconds: float = 60.0
    trackers: tuple[str, ...] = ()
    sharded: bool = False
    watch: Callable[[int], None] = lambda step: None
    watch_every: int = 0


@dataclass(frozen=True)
class Training:
    """Hyperparameters of the loop itself; steps, batch and learning rate are multiples of the preset's.

    Attributes:
        steps: gradient steps, as a multiple of the preset's.
        learning_rate: peak, as a multiple of the preset's; warmed up linearly over `warmup` of the steps, then down a cosine
            to `final` of it.
        accumulate: micro-batches a gradient step.
        optimizer: `adamw`, or `muon` (Jordan et al. 2024, as `torch.optim.Muon`) for the matrices inside the blocks of a
            backbone from random weights and AdamW for embeddings, heads, gains and biases, and for all of a pretrained model.
        muon_rate: Muon's learning rate as a multiple of AdamW's.
        weight_decay: on matrices only.
        beta2: AdamW's second-moment decay.
        clip: greatest gradient norm.
        precision: of the backbone (accelerate's mixed precision); `auto` is bf16 where the device computes it natively. In bf16
            a pretrained model's heads round what they multiply (`rounded_products`), others do not.
    """

    steps: float = 1.0
    learning_rate: float = 1.0
    accumulate: int = 1
    optimizer: Literal["adamw", "muon"] = "muon"
    muon_rate: float = 4.0
    warmup: float = 0.05
    final: float = 0.02
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip: float = 1.0
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"

    def gradient_steps(self, scale: Scale) -> int:
        """Gradient steps at `scale`."""
        return max(1, round(self.steps * scale.steps))


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


def mixed_precision(wanted: str, device: str) -> str:
    """accelerate's name of the precision `wanted` (`Training.precision`) on `device`."""
    if wanted != "auto":
        return wanted
    return "bf16" if computes_bfloat16(device) else "no"


def make_optimizers(
    named: Mapping[str, nn.Parameter], training: Training, peak: float, device: str = "cpu"
) -> list[torch.optim.Optimizer]:
    """The optimisers of these parameters, which will be on `device`; each group's `peak` is what the schedule scales."""
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
        kind = torch.optim.Muon if computes_bfloat16(device) else Float32Muon
        optimizers.append(kind(muon, lr=rate, weight_decay=training.weight_decay, momentum=0.95, adjust_lr_fn="original"))
    return optimizers


def train(learner: Learner, data: TokenDataset, run: Run, training: Training, identity: Mapping[str, Any]) -> History:
    """Minimise `learner.loss` on `data.training`, in place; a call that was cut off goes on where it stopped.

    Args:
        identity: what the training follows from (config, dataset hash, prerequisite hashes); a state of another
            identity is refused.

    Raises:
        BenchError: the state in `run.directory` belongs to another configuration, or the loss is no longer finite, or the
            batch does not divide by the ranks.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    steps = training.gradient_steps(run.scale)
    batch_size = run.scale.batch_size
    peak = training.learning_rate * run.scale.learning_rate
    state = _State(run.directory / "state", json_sha256(dict(identity)))
    if run.device.startswith("cuda:"):
        torch.cuda.set_device(run.device)  # accelerate takes the current device
    ranks.join(run.device)
    AcceleratorState._reset_state()  # accelerate remembers the precision of the first training in the process
    accelerator = Accelerator(
        cpu=run.device == "cpu",
        mixed_precision=mixed_precision(training.precision, run.device),
        log_with=list(run.trackers) or None,
        project_dir=str(run.directory) if run.trackers else None,
        # A variant's loss may leave a head unused; the networks have no buffers that change.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
    )
    if run.trackers:
        accelerator.init_trackers("qsft-bench", config=json.loads(json.dumps(identity, default=str)))
    rank, world, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    share = batch_size // (world * training.accumulate)
    if share * world * training.accumulate != batch_size:
        raise BenchError(f"a batch of {batch_size} does not divide by {world} processes x {training.accumulate} micro-batches")
    module = _LossModule(learner)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in _named(learner).values():
        parameter.requires_grad_(True)
    found = state.read()
    if found is not None:
        learner.networks.load_state_dict(found.networks)
    module.to(accelerator.device)
    for name in learner.trained() if run.scale.checkpointing else []:
        learner.networks[name].recompute_activations()
    sharded = run.sharded and world > 1
    if sharded:
        shard(module, learner.networks)
    named = _named(learner)
    optimizers = make_optimizers(named, training, peak, run.device)
    start, history = (0, History()) if found is None else found.restore(optimizers, named)
    optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers]
    wrapped = module if sharded else accelerator.prepare(module)
    train_data = data.training
    progress = run.progress if main else lambda done, total, metrics: None
    progress(start, steps, {})
    if run.watch_every and not start:
        module.eval()
        with gathered(learner.networks):
            if main:
                run.watch(0)
        module.train()
    began = saved = time.monotonic()
    pause = run.checkpoint_seconds
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
        batches = [train_data.batch(order[(micro * world + rank) * share :][:share]) for micro in range(training.accumulate)]
        tokens = [int(batch.learn.sum()) for batch in batches]
        due = main and time.monotonic() - saved > pause and step + 1 < steps
        total, save = ranks.totals([sum(tokens), due])
        means: dict[str, torch.Tensor] = {}
        with _told_what_fits(run.scale, training, share, named):
            for batch, count in zip(batches, tokens, strict=True):
                with accelerator.autocast():
                    loss, metrics = wrapped(batch.to(accelerator.device))
                # A mean over the tokens of all ranks, not of means; the gradients of ranks are averaged, hence their number.
                accelerator.backward(loss * (count * world / total))
                for key, value in {"loss": loss.detach(), **metrics}.items():
                    means[key] = means.get(key, 0.0) + torch.as_tensor(value) * (count / total)
        norm = accelerator.clip_grad_norm_(list(named.values()), training.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        learner.after_step(step, steps)
        recent.append({**means, "gradient_norm": whole(norm) / world})
        history.seconds = before + time.monotonic() - began
        if (step + 1) % log_every == 0 or step + 1 == steps:
            own = [float(torch.stack([torch.as_tensor(entry[key]) for entry in recent]).mean()) for key in recent[0]]
            values = {"step": float(step + 1), **dict(zip(recent[0], ranks.totals(own), strict=True))}
            recent.clear()
            if not all(math.isfinite(value) for value in values.values()):
                raise BenchError(f"training diverged at step {step + 1}: {values}; lower the learning rate")
            if (step + 1) % (10 * log_every) == 0 or step + 1 == steps:
                with gathered(learner.networks), accelerator.autocast():
                    values |= learner.diagnose(data) if main else {}
            history.entries.append(values)
            if run.trackers:
                accelerator.log(values, step=step + 1)
            progress(step + 1, steps, values)
        if run.watch_every and ((step + 1) % run.watch_every == 0 or step + 1 == steps):
            paused = time.monotonic()
            module.eval()
            with gathered(learner.networks):
                if main:
                    run.watch(step + 1)
            module.train()
            began += time.monotonic() - paused  # watching is not training
        if save:
            paused = time.monotonic()
            state.save(learner.networks, optimizers, named, step + 1, history)
            saved = time.monotonic()
            pause = max(pause, 20 * (saved - paused)) if pause > 0 else pause
    gather(learner.networks)
    if run.trackers:
        accelerator.end_training()
    return history


@contextmanager
def _told_what_fits(scale: Scale, training: Training, rows: int, named: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Memory that runs out in the block is an error that names the option to try next, the cheapest first.

    Args:
        rows: of a micro-batch.
        named: the parameters that are trained.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError: "... DefaultCPUAllocator: can't allocate memory: you tried ..."
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        options = []
        if not scale.checkpointing:
            options.append("--scale.checkpointing (activations are computed again: about a third more time)")
        if rows > 1:
            options.append(
                f"--config.training.accumulate {2 * training.accumulate} ({rows // 2 or 1} rows at a time in place of {rows})"
            )
        if scale.tuning == "full":
            size = 16 * sum(parameter.numel() for parameter in named.values()) / 2**30
            options.append(
                f"with a pretrained model --scale.tuning lora:16 (weights, gradients and moments of all of it are "
                f"{size:.2f} GiB, and a target network comes on top)"
            )
        options.append(f"--scale.context below {scale.context}")
        raise BenchError(f"out of memory with {rows} rows at a time; in this order, try: " + "; ".join(options)) from error


def _named(learner: Learner) -> dict[str, nn.Parameter]:
    """The parameters that the optimiser moves."""
    return {
        f"{name}.{key}": parameter for name in learner.trained() for key, parameter in learner.networks[name].own_parameters()
    }


@dataclass
class _Found:
    """What a state file holds."""

    networks: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    random: dict[str, torch.Tensor]
    step: int
    history: History

    def restore(self, optimizers: Sequence[torch.optim.Optimizer], named: Mapping[str, nn.Parameter]) -> tuple[int, History]:
        """Give optimisers and random generators back their state; steps done before, and their history."""
        owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        for key, moment in self.moments.items():
            name, _, parameter = key.partition("/")
            target = named[parameter]
            owner[target].state[target][name] = moment if name == "step" else part_like(moment, target)
        torch.set_rng_state(self.random["cpu"])
        if "cuda" in self.random and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.random["cuda"])
        return self.step, self.history


class _State:
    """Networks, optimiser moments and random state in one safetensors file, the rest as JSON in its header: whole or absent.

    It is the same file from any number of ranks, sharded or not.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        self.path = directory / "state.safetensors"
        self.identity = identity

    def save(
        self,
        networks: Networks,
        optimizers: Sequence[torch.optim.Optimizer],
        named: Mapping[str, nn.Parameter],
        step: int,
        history: History,
    ) -> None:
        """Write it, in the first rank; every rank must call."""
        tensors = {f"network/{key}": value for key, value in networks.state_dict().items()}
        for name, parameter in named.items():
            for optimizer in optimizers:
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
        tensors["random/cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random/cuda"] = torch.cuda.get_rng_state()
        rest = {"identity": self.identity, "step": step, "seconds": history.seconds, "entries": history.entries}
        values = {key: whole(value.detach()).cpu().contiguous() for key, value in tensors.items()}
        if ranks.is_main():
            write_tensors(self.path, values, {"state": json.dumps(rest)})

    def read(self) -> _Found | None:
        """What was saved, or None where nothing was."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                value = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError, ValueError) as error:
            raise BenchError(f"{self.path} is damaged ({error}); delete it to train from the start") from error
        if value["identity"] != self.identity:
            raise BenchError(f"{self.path} is the state of another configuration; remove it, or train in another run folder")

        def those(kind: str) -> dict[str, torch.Tensor]:
            return {key.removeprefix(kind): tensor for key, tensor in tensors.items() if key.startswith(kind)}

        history = History(value["entries"], value["seconds"])
        return _Found(those("network/"), those("optimizer/"), those("random/"), value["step"], history)
