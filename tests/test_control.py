"""Bins: a value comes back from its bin, 0 is 0, and the nearest bin is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.control import check_bins, dequantise, quantise
from qsft_bench.errors import BenchError

ODD = st.integers(1, 256).map(lambda half: 2 * half + 1)


@given(ODD)
def test_every_bin_comes_back_from_its_value(bins: int) -> None:
    indices = np.arange(bins)
    values = dequantise(indices, bins)
    assert (quantise(values, bins) == indices).all()
    assert values[0] == -1 and values[bins // 2] == 0 and values[-1] == 1


@given(st.floats(-1, 1), ODD)
def test_a_value_moves_by_at_most_half_a_bin(value: float, bins: int) -> None:
    assert abs(dequantise(quantise(value, bins), bins) - value) <= 1 / (bins - 1) + 1e-6


def test_33_bins_by_hand() -> None:
    assert quantise([-1, -0.95, 0, 0.03, 0.0313, 2], 33).tolist() == [0, 1, 16, 16, 17, 32]
    assert dequantise([0, 12, 16, 17, 32], 33).tolist() == [-1, -0.25, 0, 0.0625, 1]


def test_the_shape_is_kept() -> None:
    values = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    assert quantise(values, 5).shape == dequantise(quantise(values, 5), 5).shape == (2, 3, 4)


@pytest.mark.parametrize("bins", [3, 33, 257])
def test_odd_numbers_of_bins(bins: int) -> None:
    assert check_bins(bins) == bins


@pytest.mark.parametrize("bins", [0, 1, 32, 256, -3, 33.0])
def test_bins_without_a_zero_are_refused(bins: int) -> None:
    with pytest.raises(BenchError, match="odd"):
        check_bins(bins)
