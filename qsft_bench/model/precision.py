"""In how many digits matrices are multiplied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def computes_bfloat16(device: str) -> bool:
    """Whether `device` computes in bfloat16 natively; else it is far slower than float32."""
    return torch.cuda.is_bf16_supported() if device != "cpu" else torch.cpu._is_avx512_bf16_supported()


@contextmanager
def rounded_products(wanted: bool) -> Iterator[None]:
    """Within, products of matrices in single precision round what they multiply, and sum in single precision; or do not round.

    To bfloat16 on a CPU that computes in it natively (with AMX three times as fast), to TF32 on CUDA, elsewhere not at all.
    What comes out is not rounded, as it is in mixed precision: the difference of two logits with a large part in common, a
    head's and its `LowRankTwin`'s, is as good as the twin's own part.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if wanted else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
