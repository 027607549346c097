"""Actions: what is stepped is what is stored, and what is no action is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs._manipulation.actions import read_action
from qsft_bench.errors import BenchError

ODD = st.integers(1, 256).map(lambda half: 2 * half + 1)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8), ODD)
def test_a_value_moves_by_at_most_half_a_bin_and_then_no_more(values: list[float], bins: int) -> None:
    stepped = read_action(values, bins)
    assert np.abs(stepped - values).max() <= 1 / (bins - 1) + 1e-6
    assert (read_action(stepped, bins) == stepped).all()


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
