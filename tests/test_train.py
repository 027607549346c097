"""The training loop: exact resume, the schedule, accumulation, and what it refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.ilql import ILQL, ILQLConfig
from baselines.sft import SFT, SFTConfig
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.token_agent import TokenAgent
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run, Training, learning_rate, make_optimizers
from tests.examples import TINY

SCALE = replace(TINY, context=160, steps=8)
EXACT = Training(precision="no")


def weights(agent: TokenAgent) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in agent.networks.state_dict().items()}


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def fit(data: TokenDataset, directory: Path, training: Training, make: Any = SFT, **options: Any) -> Any:
    agent = make(SFTConfig(training=training)) if make is SFT else make(training)
    agent.fit(data, Run(directory, SCALE, **options))
    return agent


@pytest.fixture(scope="module")
def sft(smoke_tokens: TokenDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved SFT checkpoint."""
    directory = tmp_path_factory.mktemp("sft") / "sft"
    fit(smoke_tokens, directory, EXACT).save(directory)
    return directory


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def stops_at(step: int) -> Callable[[int], None]:
    def watch(done: int) -> None:
        if done == step:
            raise StoppedError

    return watch


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("agent", ["sft", "ilql"])
def test_a_training_that_was_cut_off_ends_in_the_same_weights(
    smoke_tokens: TokenDataset, sft: Path, tmp_path: Path, optimizer: Any, agent: str
) -> None:
    """Bit for bit, with target networks and the moments of either optimiser."""
    training = replace(EXACT, optimizer=optimizer)
    make = SFT if agent == "sft" else lambda training: ILQL(ILQLConfig(training=training))
    options: dict[str, Any] = {"seed": 3, "prerequisite": lambda name: SFT.load(sft), "checkpoint_seconds": -1.0}
    whole = fit(smoke_tokens, tmp_path / "whole", training, make, **options)
    with pytest.raises(StoppedError):
        fit(smoke_tokens, tmp_path / "cut", training, make, **options, watch=stops_at(5), watch_every=1)
    torch.manual_seed(99)  # another process has other random state
    steps: list[int] = []
    resumed = fit(smoke_tokens, tmp_path / "cut", training, make, **options, watch=steps.append, watch_every=1)
    assert steps == [5, 6, 7, 8]  # the state of step 4 was the last one written
    assert equal(weights(resumed), weights(whole))
    entries = resumed.meta["training"]["history"]
    assert [entry["step"] for entry in entries] == list(range(1, 9))
    assert entries[-1]["loss"] == whole.meta["training"]["history"][-1]["loss"]


def test_seeds_are_honoured(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    one, again, other = (fit(smoke_tokens, tmp_path / name, EXACT, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert equal(weights(one), weights(again))
    assert not equal(weights(one), weights(other))


def test_the_state_of_another_configuration_is_refused(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"checkpoint_seconds": -1.0, "watch_every": 1}
    with pytest.raises(StoppedError):
        fit(smoke_tokens, tmp_path, EXACT, **options, watch=stops_at(3))
    for change, seed in ((replace(EXACT, learning_rate=0.1), 0), (EXACT, 1)):
        with pytest.raises(
            BenchError, match="is the state of another configuration; remove it, or train in another run folder"
        ):
            fit(smoke_tokens, tmp_path, change, seed=seed)


def test_a_damaged_state_is_named(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        fit(smoke_tokens, tmp_path, EXACT, checkpoint_seconds=-1.0, watch_every=1, watch=stops_at(3))
    (path,) = (tmp_path / "state").iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BenchError, match=rf"{path} is damaged .*; delete it to train from the start"):
        fit(smoke_tokens, tmp_path, EXACT)


def test_a_full_disk_keeps_the_last_state(smoke_tokens: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(smoke_tokens, tmp_path / "whole", EXACT)
    real, calls = os.fsync, [0]

    def fills_up(handle: int) -> None:
        calls[0] += 1
        if calls[0] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr("qsft_bench.files.os.fsync", fills_up)
    with pytest.raises(BenchError, match="No space left on device"):
        fit(smoke_tokens, tmp_path / "full", EXACT, checkpoint_seconds=-1.0)
    monkeypatch.undo()
    steps: list[int] = []
    resumed = fit(smoke_tokens, tmp_path / "full", EXACT, watch=steps.append, watch_every=1)
    assert steps == [4, 5, 6, 7, 8]
    assert equal(weights(resumed), weights(whole))


def test_accumulated_micro_batches_are_one_larger_batch(
    smoke_tokens: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under plain gradient descent, and with rows of different length: a mean over tokens is not a mean of means."""

    def descent(
        named: dict[str, torch.nn.Parameter], training: Training, peak: float, device: str
    ) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD([{"params": list(named.values()), "peak": 1.0}], lr=1.0)]

    monkeypatch.setattr("qsft_bench.train.make_optimizers", descent)
    training = replace(EXACT, steps=0.25, clip=1e9, warmup=0.0)
    whole = fit(smoke_tokens, tmp_path / "1", training)
    for accumulate in (4, 16):
        parts = fit(smoke_tokens, tmp_path / str(accumulate), replace(training, accumulate=accumulate))
        for key, value in weights(whole).items():
            torch.testing.assert_close(weights(parts)[key], value, rtol=1e-5, atol=1e-6)


def test_a_batch_that_does_not_divide_is_refused(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="a batch of 16 does not divide by 1 processes x 3 micro-batches"):
        fit(smoke_tokens, tmp_path, replace(EXACT, accumulate=3))


def test_the_schedule() -> None:
    training = Training(warmup=0.1, final=0.2)
    rates = [learning_rate(training, step, 40, 10.0) for step in range(41)]
    assert rates[:5] == [2.5, 5.0, 7.5, 10.0, 10.0]  # 4 steps up, then the top of the cosine
    assert rates[22] == pytest.approx(10 * (0.2 + 0.8 * 0.5))  # half-way down
    assert rates[40] == pytest.approx(2.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate(Training(warmup=0.0), 0, 1, 3.0) == 3.0


def test_which_weights_muon_moves() -> None:
    from qsft_bench.model.network import Head, Network, NetworkConfig

    network = Network(NetworkConfig("nano", 40, 16, {"policy": Head(40)}))
    named = {f"policy.{name}": parameter for name, parameter in network.named_parameters()}
    names = {parameter: name for name, parameter in named.items()}
    adamw, muon = make_optimizers(named, Training(optimizer="muon", muon_rate=4.0), 0.5)
    moved = [names[p] for group in muon.param_groups for p in group["params"]]
    assert {name.split(".", 4)[4] for name in moved} == {
        "attn.c_attn.weight",
        "attn.c_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    }
    assert [group["peak"] for group in muon.param_groups] == [2.0]
    rest = [names[p] for group in adamw.param_groups for p in group["params"]]
    assert sorted(rest + moved) == sorted(named)
    decayed, plain = adamw.param_groups
    assert all(p.ndim > 1 for p in decayed["params"]) and decayed["weight_decay"] == 0.01
    assert all(p.ndim == 1 for p in plain["params"]) and plain["weight_decay"] == 0
    (alone,) = make_optimizers(named, Training(optimizer="adamw"), 0.5)
    assert sum(len(group["params"]) for group in alone.param_groups) == len(named)


def test_one_process_trains_at_several_precisions(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    half = replace(EXACT, precision="bf16")
    exact, coarse, again = (
        fit(smoke_tokens, tmp_path / name, training) for name, training in (("a", EXACT), ("b", half), ("c", EXACT))
    )
    assert equal(weights(exact), weights(again))
    assert not equal(weights(exact), weights(coarse))


class Diverging(SFT):
    """Loses its mind at the fourth batch."""

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.calls = getattr(self, "calls", 0) + 1
        loss, metrics = super().loss(batch)
        return loss * (float("nan") if self.calls == 4 else 1.0), metrics


def test_a_loss_that_is_no_number_ends_the_training(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"training diverged at step 4: .*nan.*; lower the learning rate"):
        Diverging(SFTConfig(training=EXACT)).fit(smoke_tokens, Run(tmp_path, SCALE))


class TooLarge(SFT):
    """Needs more memory than there is."""

    error: Exception = torch.OutOfMemoryError("CUDA out of memory")

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        raise self.error


def test_out_of_memory_says_what_would_fit(smoke_tokens: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(scale: Any) -> str:
        with pytest.raises(BenchError, match="out of memory with 16 rows at a time") as caught:
            TooLarge(SFTConfig(training=EXACT)).fit(smoke_tokens, Run(tmp_path, scale))
        return str(caught.value)

    first = told(SCALE)
    assert first.index("--scale.checkpointing") < first.index("--config.training.accumulate 2 (8 rows at a time")
    assert "--scale.tuning lora:16" in first and "--scale.context below 160" in first
    assert "--scale.checkpointing" not in told(replace(SCALE, checkpointing=True))
    monkeypatch.setattr(TooLarge, "error", RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
    told(SCALE)
    monkeypatch.setattr(TooLarge, "error", RuntimeError("an illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal"):
        TooLarge(SFTConfig(training=EXACT)).fit(smoke_tokens, Run(tmp_path, SCALE))


def test_training_lowers_the_loss(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    history = fit(smoke_tokens, tmp_path, replace(EXACT, steps=4.0)).meta["training"]["history"]
    assert history[-1]["loss"] < history[0]["loss"] - 0.5


def test_a_missing_prerequisite_is_named(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="this run has no trained 'sft' to start from; train it first"):
        ILQL(ILQLConfig(training=EXACT)).fit(smoke_tokens, Run(tmp_path, SCALE))
