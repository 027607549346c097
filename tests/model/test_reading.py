"""Hidden states at some tokens are those that the whole network has there."""

from __future__ import annotations

import pytest
import torch

from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.model.reading import hidden_at


@pytest.mark.parametrize("model", ["nano", "mini"])  # one layer and plain attention; four, whose masks the library makes
def test_reading_some_tokens_is_reading_all_and_choosing(model: str) -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig(model, 50, 16, {"policy": Head(50)})).double()
    ids = torch.randint(4, 50, (5, 11))
    ids[1, 6:] = 0  # padding
    position = torch.tensor([0, 3, 10, 11, 14, 33, 43, 44, 49])[torch.randperm(9)]  # none of row 2
    whole = network.hidden(ids).flatten(0, 1)[position]
    some = hidden_at(network.backbone, network.backbone.wte(ids), position, ids > 0)
    assert some.shape == (9, network.width) and torch.allclose(whole, some, atol=1e-6)

    def gradients(hidden: torch.Tensor) -> list[torch.Tensor]:
        loss = network.read(hidden)["policy"].log_softmax(-1)[:, 7].sum()
        return list(torch.autograd.grad(loss, list(network.parameters())))

    for one, other in zip(gradients(whole), gradients(some), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
