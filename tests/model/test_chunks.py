"""Losses over large vocabularies some rows at a time: the same numbers and gradients, less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from baselines.ilql import ILQL
from baselines.qsft import QSFT, QSFTConfig
from baselines.sft import SFT
from qsft_bench.codec import TextCodec
from qsft_bench.model import chunks
from qsft_bench.model.chunks import in_chunks, weighted_sum
from qsft_bench.model.network import Head, Network, NetworkConfig
from tests.baselines import toys

VOCABULARY = 50_000
CODEC = TextCodec("words", [f"w{k}\n" for k in range(VOCABULARY - 24)], VOCABULARY - 24, 4)


def network(**heads: Head) -> Network:
    torch.manual_seed(0)
    made = Network(NetworkConfig("nano", CODEC.size, 8, heads))
    with torch.no_grad():
        for parameter in made.heads.parameters():
            parameter.normal_(0, 0.5)
    return made


def learner(name: str) -> Any:
    head = Head(CODEC.outputs)
    made: Any
    if name == "sft":
        made = SFT()
        made.networks["policy"] = network(policy=head)
    elif name == "ilql":
        made = ILQL()
        for key in ("value", "value_target"):
            made.networks[key] = network(q1=head, q2=head, v=Head(1))
    else:
        made = QSFT(QSFTConfig(leftover=name, warm_start="none", support=1e-6))  # type: ignore[arg-type]
        for key in ("value", "value_target"):
            made.networks[key] = network(policy=head, **({"shadow": head} if name == "shadow" else {}))
        if name != "shadow":
            made.networks["behaviour"] = network(policy=head)
    made.codec = CODEC
    return made


def batch(rows: int) -> Any:
    draws = np.random.default_rng(0)
    state, action = (draws.integers(24, VOCABULARY, rows).tolist() for _ in range(2))
    return toys.batch(
        state, action, draws.uniform(0, 0.5, rows).tolist(), [*range(1, rows), -1], to_go=0.5, dtype=torch.float32
    )


@pytest.mark.parametrize("name", ["sft", "ilql", "shadow", "dummy", "uniform"])
def test_chunked_losses_are_the_plain_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = learner(name), batch(40)
    found = []
    for limit in (10**9, 7 * VOCABULARY):  # all 40 at once, and seven at a time
        monkeypatch.setattr(chunks, "LOGITS", limit)
        made.networks.zero_grad()
        loss, metrics = made.loss(data)
        loss.backward()
        gradients = {key: p.grad.clone() for key, p in made.networks.named_parameters() if p.grad is not None}
        found.append((loss.detach(), metrics, gradients))
    (plain, numbers, gradients), (chunked, others, same) = found
    torch.testing.assert_close(chunked, plain, rtol=1e-5, atol=1e-5)
    assert numbers.keys() == others.keys() and gradients.keys() == same.keys() and gradients
    for key, value in numbers.items():
        torch.testing.assert_close(others[key], value, rtol=1e-5, atol=1e-5)
    for key, value in gradients.items():
        torch.testing.assert_close(same[key], value, rtol=1e-4, atol=1e-5)


def test_one_output_a_row_is_the_one_among_all() -> None:
    made = network(plain=Head(9), deep=Head(9, hidden=16))
    hidden, ids = torch.randn(5, made.width), torch.tensor([0, 8, 3, 3, 1])
    whole = made.read(hidden)
    for name in ("plain", "deep"):
        torch.testing.assert_close(made.read_one(name, hidden, ids), whole[name].gather(-1, ids[:, None]).squeeze(-1))


def test_no_more_rows_are_held_than_fit() -> None:
    seen: list[int] = []

    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(x))
        return x.square().sum(-1), x[:, 0]

    x = torch.randn(10, 3, requires_grad=True)
    total, first = in_chunks(function, x, width=100, limit=399)
    assert seen == [3, 3, 3, 1]
    assert torch.equal(total, x.square().sum(-1)) and torch.equal(first, x[:, 0])
    total.sum().backward()
    assert seen == [3, 3, 3, 1, 1, 3, 3, 3]  # once more on the way back, last first
    assert x.grad is not None and torch.equal(x.grad, 2 * x.detach())
    seen.clear()
    in_chunks(function, x, width=100, limit=1000)
    in_chunks(function, x, width=100, limit=1)  # a row that is too large by itself is still computed
    assert seen == [10] + [1] * 10


def test_a_weighted_sum_reads_every_chunk_once_and_has_the_gradient_of_the_plain_one() -> None:
    drawn = torch.Generator().manual_seed(0)
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(3, 50) for name in ("a", "b", "unused")})
    hidden = torch.randn(10, 3, generator=drawn, requires_grad=True)
    weight, column = torch.rand(10, generator=drawn), torch.randint(50, (10,), generator=drawn)
    seen: list[int] = []

    def read(hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(len(hidden))
        return {name: head(hidden) for name, head in heads.items()}

    def function(out: dict[str, torch.Tensor], column: torch.Tensor) -> torch.Tensor:
        return out["a"].logsumexp(-1) - out["b"].gather(-1, column[:, None]).squeeze(-1)

    inputs = [hidden, *heads["a"].parameters(), *heads["b"].parameters()]
    plain = (weight * function(read(hidden), column)).sum()
    wanted = torch.autograd.grad(3 * plain, inputs)
    seen.clear()
    found = weighted_sum(read, function, weight, heads.parameters(), hidden, column, width=50, limit=150)
    torch.testing.assert_close(found, plain)
    for ours, theirs in zip(torch.autograd.grad(3 * found, inputs, retain_graph=True), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert seen == [3, 3, 3, 1]
    with pytest.raises(RuntimeError, match="can be asked for once"):
        torch.autograd.grad(found, inputs)
    with torch.no_grad():
        torch.testing.assert_close(weighted_sum(read, function, weight, (), hidden, column, width=50, limit=150), plain)


def test_a_head_that_needs_its_output_on_the_way_back_is_an_error_and_no_wrong_gradient() -> None:
    hidden = torch.randn(10, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        weighted_sum(lambda h: {"p": h.exp()}, lambda out: out["p"].sum(-1), torch.ones(10), (), hidden, width=3, limit=9)
