"""The players: the one that collects the data, and the uniformly random one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.stitching.env import DOORS, PLACES, read_door, write_door
from qsft_bench.agent import KnownPolicy
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError


class Player(KnownPolicy):
    """A known distribution over the four doors, given the episode so far."""

    actions = tuple(write_door(door) for door in range(len(DOORS)))


class Uniform(Player):
    """Any door."""

    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        return np.full((len(episodes), len(DOORS)), 1 / len(DOORS))


class NeverTwice(Player):
    """Never the right door twice in an episode.

    ```
    pi(right) = gate                          at the gate
                hall                          in the hall after a wrong door at the gate
                0                             in the hall after the right one
    pi(decoy) = (1 - noise) (1 - pi(right)),  the other two doors noise / 2 (1 - pi(right)) each
    ```

    Args:
        gate, hall, noise: see above.

    Raises:
        BenchError: one of them is not a probability.
    """

    def __init__(self, *, gate: float, hall: float, noise: float) -> None:
        if not all(0 <= value <= 1 for value in (gate, hall, noise)):
            raise BenchError(f"stitching: gate={gate}, hall={hall} and noise={noise} must be probabilities")
        self.gate = gate
        self.hall = hall
        self.noise = noise

    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        found = np.empty((len(episodes), len(DOORS)))
        for row, episode in enumerate(episodes):
            leg, right, decoy = PLACES[str(episode.turns[-1].observation)]
            share = self.gate
            if leg:
                before = episode.turns[-2]
                share = 0.0 if read_door(before.action) == PLACES[str(before.observation)][1] else self.hall
            found[row] = (1 - share) * self.noise / (len(DOORS) - 2)
            found[row, right] = share
            found[row, decoy] = (1 - share) * (1 - self.noise)
        return found
