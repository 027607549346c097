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
from qsft_bench.model.chunks import in_chunks
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
