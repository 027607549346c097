"""Noise is a function of (seed, turn, token), uniform, and independent across each of the three."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qsft_bench.noise import episode_seeds, logarithms, uniform

WORDS = st.integers(0, 2**64 - 1)


def test_splitmix64_known_answer() -> None:
    """The finaliser is SplitMix64's: with seed 1234567 that generator's first word is 6457827717110365317."""
    from qsft_bench.noise import _GOLDEN, _mix

    with np.errstate(over="ignore"):
        assert int(_mix(np.asarray(1234567, np.uint64) + _GOLDEN)) == 6457827717110365317


@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_draw_depends_on_its_own_key_alone(seeds: list[int], turn: int, token: int) -> None:
    together = uniform(seeds, turn, token)
    assert ((together >= 0) & (together < 1)).all()
    assert together.tolist() == [float(uniform(seed, turn, token)) for seed in seeds]
    assert together.tolist() == uniform(np.array(seeds, np.uint64), [turn] * len(seeds), [token] * len(seeds)).tolist()


def test_uniform_along_every_axis() -> None:
    count = 4000
    for draws in (uniform(np.arange(count), 0, 0), uniform(3, np.arange(count), 0), uniform(3, 0, np.arange(count))):
        assert stats.kstest(draws, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.06
    turn_and_token = uniform(9, np.arange(60)[:, None], np.arange(60))
    assert len(np.unique(turn_and_token)) == 3600  # (turn 1, token 2) is not (turn 2, token 1)


@given(st.integers(0, 2**32), st.integers(0, 1000), st.integers(0, 20), st.integers(0, 20))
def test_episode_seeds_do_not_depend_on_how_they_are_split(seed: int, first: int, left: int, right: int) -> None:
    whole = episode_seeds(seed, first, left + right, 2**32, 2**63)
    assert whole == episode_seeds(seed, first, left, 2**32, 2**63) + episode_seeds(seed, first + left, right, 2**32, 2**63)
    assert all(2**32 <= value < 2**63 for value in whole)


def test_logarithms_are_the_c_librarys() -> None:
    """A dataset's content holds them: numpy's own differ in the last bit between processors."""
    chances = np.random.default_rng(0).random(20_000)
    assert logarithms(chances).tolist() == [math.log(chance) for chance in chances.tolist()]
    assert logarithms([0.0, 1.0]).tolist() == [-math.inf, 0.0] and len(logarithms([])) == 0
