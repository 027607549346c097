"""Bins: what is stepped is what is stored, and 0 is 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs._manipulation.actions import check_bins, dequantise, quantise, read_action
from qsft_bench.errors import BenchError

ODD = st.integers(1, 256).map(lambda half: 2 * half + 1)


@given(ODD)
def test_every_bin_comes_back_from_its_value(bins: int) -> None:
    indices = np.arange(bins)
    values = dequantise(indices, bins)
    assert (quantise(values, bins) == indices).all()
    assert values[0] == -1 and values[bins // 2] == 0 and values[-1] == 1


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8), ODD)
def test_a_value_moves_by_at_most_half_a_bin_and_then_no_more(values: list[float], bins: int) -> None:
    stepped = read_action(values, bins)
    assert np.abs(stepped - values).max() <= 1 / (bins - 1) + 1e-6
    assert (read_action(stepped, bins) == stepped).all()


def test_33_bins_by_hand() -> None:
    assert quantise([-1, -0.95, 0, 0.03, 0.0313, 2]).tolist() == [0, 1, 16, 16, 17, 32]
    assert dequantise([0, 12, 16, 17, 32]).tolist() == [-1, -0.25, 0, 0.0625, 1]


@pytest.mark.parametrize("bins", [0, 1, 32, 256, -3, 33.0])
def test_bins_without_a_zero_are_refused(bins: int) -> None:
    with pytest.raises(BenchError, match="odd"):
        check_bins(bins)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (np.zeros(7), r"shape \(7,\)"),
        (np.zeros((1, 8)), r"shape \(1, 8\)"),
        (0.5, r"shape \(\)"),
        ("close the gripper", "not str"),
        (None, r"shape \(\)|NoneType"),
        ([0, 0, 0, 0, 0, 0, np.nan, 0], "gripper=nan"),
        ([np.inf, 0, 0, 0, 0, 0, 0, -np.inf], "x=inf, neutral=-inf"),
    ],
)
def test_bad_actions_are_named(action: object, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        read_action(action, 33)


def test_values_beyond_are_clipped() -> None:
    assert read_action([9, -9, 1e300, 0, 0, 0, 0, 0], 33).tolist() == [1, -1, 1, 0, 0, 0, 0, 0]
