"""Muon in float32 takes the steps that torch's takes in bfloat16."""

from __future__ import annotations

import pytest
import torch

from qsft_bench.muon import Float32Muon, orthogonalise

COEFFICIENTS = (3.4445, -4.775, 2.0315)


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((6, 20), (20, 6)):
        found = orthogonalise(torch.randn(shape), COEFFICIENTS, 5, 1e-7)
        assert found.shape == shape
        assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.35  # the coefficients' own spread


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_steps_are_torchs(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    start, gradients = torch.randn(shape), torch.randn(5, *shape)
    options = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9, "adjust_lr_fn": "original"}
    ends = []
    for kind in (torch.optim.Muon, Float32Muon):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = kind([parameter], **options)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        assert list(optimizer.state[parameter]) == ["momentum_buffer"]
        ends.append(parameter.detach())
    assert (ends[0] - ends[1]).abs().max() < 0.02 < (ends[0] - start).abs().max()  # bfloat16 has three digits
