"""Muon (Jordan et al. 2024) for machines without bfloat16, where `torch.optim.Muon` takes most of the time of a training."""

from __future__ import annotations

import math
from typing import Any

import torch


class Float32Muon(torch.optim.Muon):
    """`torch.optim.Muon` with `adjust_lr_fn="original"`, its iteration in float32: fifty times faster without native bfloat16.

    State and hyperparameters are torch's, so that a training may go on on another machine.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step.

        Raises:
            ValueError: a closure is given.
        """
        if closure is not None:
            raise ValueError("Float32Muon takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                moment = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                moment.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(moment, group["momentum"]) if group["nesterov"] else moment
                update = orthogonalise(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))


def orthogonalise(matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
    """Newton-Schulz iteration: `matrix` (R, C) with its singular values near 1."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix).float()
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found.T if tall else found).to(matrix.dtype)
