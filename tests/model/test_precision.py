"""Products with rounded factors: set back afterwards, and harmless to the difference between a head and its twin."""

from __future__ import annotations

import pytest
import torch

from qsft_bench.model.precision import rounded_products
from qsft_bench.model.pretrained import LowRankTwin


def test_rounding_ends_with_the_block_that_wants_it() -> None:
    before = torch.get_float32_matmul_precision()
    with rounded_products(True):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError, match="on the way"), rounded_products(True):
        raise ValueError("on the way")
    assert torch.get_float32_matmul_precision() == before
    with rounded_products(True), rounded_products(False):
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_twins_logits_differ_from_its_heads_by_what_it_adds_however_large_they_are() -> None:
    torch.manual_seed(0)
    width, outputs = 64, 4096
    hidden, head, twin = torch.randn(200, width), torch.nn.Linear(width, outputs), LowRankTwin(width, outputs)
    torch.nn.init.normal_(head.weight, std=2.0)  # logits of some 16
    torch.nn.init.normal_(twin.up.weight, std=0.1)
    with torch.no_grad():
        added = twin(hidden)
        with rounded_products(True):
            logits = head(hidden)
            found = (twin(hidden) + logits) - logits
    assert logits.std() > 10
    torch.testing.assert_close(found, added, atol=0.02 * float(added.std()), rtol=0.02)
