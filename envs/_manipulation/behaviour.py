"""What the players share: scripts that know the state and collect the data, and the uniformly random one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from envs._manipulation.actions import BINS, GRIPPER, MOVE, NEUTRAL, SIZE, TURN
from envs._manipulation.layout import LOW, Facts
from qsft_bench.agent import Agent
from qsft_bench.control import check_bins, dequantise, quantise
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.noise import uniform

Array = NDArray[np.float64]

ABOVE = 0.14  # metres over the counter, where the gripper hovers before it goes down
ALIGNED = 0.018  # this near, seen from above, it may go down


class Plan(NamedTuple):
    """What is drawn for an episode before it begins: how far beside its two way-points it goes, metres, each of shape (2,)."""

    first: Array
    second: Array


class Player(Agent):
    """Knows the newest state, as far as the environment tells it.

    Args:
        bins, image_size: the environment's options.
    """

    def __init__(self, bins: int = BINS, image_size: int = 0) -> None:
        self.bins = check_bins(bins)

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return [self.choose(episode.seed, episode.length, episode.turns[-1].facts) for episode in episodes]

    @abstractmethod
    def choose(self, seed: int, turn: int, facts: Facts | None) -> NDArray[np.float32]:
        """The action at `turn` of the episode with `seed`, shape (8,)."""


class Uniform(Player):
    """Every bin of every dimension alike."""

    def choose(self, seed: int, turn: int, facts: Facts | None) -> NDArray[np.float32]:
        return dequantise((uniform(seed, turn, range(SIZE)) * self.bins).astype(np.int64), self.bins)


class Scripted(Player):
    """A script that looks at nothing but the state, with Gaussian noise on every dimension, random way-points and a habit.

    ```
    action = neutral                          with probability `habit`, where it stands over its target, about to go down
             script(state, plan) + noise * z  else, z standard normal
    ```

    rounded to the environment's bins. The plan of an episode has random way-points with probability `stray`, else none. The
    habit is one and the same action, without noise, and leads back to where the episode began: unless `habit` is small, the
    likeliest action of those states, and for ever a wrong one.

    Needs an environment made with `privileged=True`.

    Args:
        bins, image_size: the environment's options.
        noise: standard deviation, in units of an action.
        stray: share of the episodes with random way-points.
        habit: see above.

    Raises:
        BenchError: `noise` is negative, or the others are not probabilities.
    """

    privileged = True
    _EVENT, _PLAN = SIZE, SIZE + 1  # what the draws of a turn are for, after one for each dimension

    def __init__(
        self, bins: int = BINS, image_size: int = 0, *, noise: float = 0.0, stray: float = 0.0, habit: float = 0.0
    ) -> None:
        if noise < 0 or not (0 <= stray <= 1 and 0 <= habit <= 1):
            raise BenchError(f"manipulation: noise={noise} must be >= 0, stray={stray} and habit={habit} probabilities")
        super().__init__(bins, image_size)
        self.noise = noise
        self.stray = stray
        self.habit = habit

    def choose(self, seed: int, turn: int, facts: Facts | None) -> NDArray[np.float32]:
        """The action at `turn` of the episode with `seed`, shape (8,).

        Raises:
            BenchError: the environment does not tell the state.
        """
        if facts is None:
            raise BenchError("manipulation: a script must know the state; make its environment with privileged=True")
        draws = uniform(seed, turn, range(self._PLAN))
        action, ready = self.script(facts, self.plan(seed))
        if ready and draws[self._EVENT] < self.habit:
            action = np.zeros(SIZE)
            action[NEUTRAL] = 1.0
        elif self.noise:
            action = action + self.noise * ndtri(draws[:SIZE])
        return dequantise(quantise(action, self.bins), self.bins)

    def plan(self, seed: int) -> Plan:
        """What is drawn for the episode with `seed`."""
        stray, *where = uniform(seed, 0, range(self._PLAN, self._PLAN + 6)).tolist()
        return self._stray(np.array(where)) if stray < self.stray else Plan(np.zeros(2), np.zeros(2))

    @abstractmethod
    def script(self, facts: Facts, plan: Plan) -> tuple[Array, bool]:
        """The action without noise, shape (8,), and whether the gripper stands over its target, about to go down."""

    @abstractmethod
    def _stray(self, draws: Array) -> Plan:
        """Random way-points from five draws of [0, 1)."""


def grasp(facts: Facts, aim: Array, above: float, turn: float) -> tuple[Array, bool]:
    """The action that leads to `aim` beside the object, along its sides, and closes there; and whether it is about to go down.

    A gripper that closed on nothing opens and goes up.

    Args:
        above: height over which it moves sideways.
        turn: how far it may turn to either side, radians.
    """
    yaw = min(max(math.remainder(facts.item_yaw, math.pi), -turn), turn)
    x, y = facts.item[:2] + aim
    if not facts.open:
        return towards(facts, [*facts.gripper[:2], above], yaw, gripper=1.0), False
    low = max(facts.item[2] - 0.004, LOW[2] + 0.006)
    away = math.hypot(x - facts.gripper[0], y - facts.gripper[1])
    height = facts.gripper[2] - low
    ready = away < ALIGNED and height > 0.03
    if away < ALIGNED and height < 0.014:
        return towards(facts, [x, y, low], yaw, gripper=-1.0), False
    down = away < ALIGNED or (away < 0.03 and height < 0.05)
    return towards(facts, [x, y, low if down else above], yaw), ready


def towards(facts: Facts, place: Sequence[float] | Array, yaw: float = 0.0, gripper: float = 0.0) -> Array:
    """The action that moves the gripper to `place`, (x, y, z), turns it to `yaw` and points it straight down."""
    action = np.zeros(SIZE)
    action[:3] = np.subtract(place, facts.gripper) / MOVE
    action[3:6] = np.subtract((0, 0, yaw), facts.turned) / TURN
    action[GRIPPER] = gripper
    return action.clip(-1, 1)


def holding(facts: Facts) -> bool:
    """Whether the gripper is closed on the object."""
    return not facts.open and facts.fingers > 0.012 and math.dist(facts.item, facts.gripper) < 0.04


def beside(draws: Array) -> Array:
    """A place that misses the object: 3 to 9 cm off on both axes, from four draws of [0, 1), shape (2,)."""
    return np.where(draws[:2] < 0.5, -1, 1) * (0.03 + 0.06 * draws[2:])
