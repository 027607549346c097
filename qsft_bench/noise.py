"""Counter-based noise: every random draw in play is a pure function of (episode seed, turn, token).

An answer therefore depends on the episode and the weights alone, never on who shares the batch, on a cache, or on how
many processes play.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seeds: ArrayLike, turn: ArrayLike, token: ArrayLike = 0) -> NDArray[np.float64]:
    """Independent draws from [0, 1), one for each broadcast (seed, turn, token).

    Args:
        seeds: episode seeds, non-negative integers below 2**64.
        turn: the turn of the episode, from 0.
        token: the draw within that turn, from 0.
    """
    with np.errstate(over="ignore"):
        x = _mix(np.asarray(seeds, dtype=np.uint64) + _GOLDEN)
        x = _mix(x + (np.asarray(turn, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)
        x = _mix(x + (np.asarray(token, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def logarithms(numbers: ArrayLike) -> NDArray[np.float64]:
    """Natural logarithms of numbers from 0 on (N,), -inf for 0; the same bits on every machine, for datasets rest on them.

    numpy's own logarithm differs in the last bit between processors with and without AVX-512; the C library's does not.
    """
    return np.array([math.log(number) if number > 0 else -math.inf for number in np.asarray(numbers, np.float64).tolist()])


def episode_seeds(seed: int, first: int, count: int, low: int, high: int) -> list[int]:
    """Seeds of dataset episodes `first` to `first + count - 1`: episode i is drawn from SeedSequence(seed, (i,)).

    Args:
        seed: the dataset's seed.
        low, high: the half-open range the episode seeds lie in (`EnvSpec.dataset_seeds`).
    """
    span = high - low
    states = (np.random.SeedSequence(seed, spawn_key=(i,)).generate_state(1, np.uint64)[0] for i in range(first, first + count))
    return [low + int(state) % span for state in states]
