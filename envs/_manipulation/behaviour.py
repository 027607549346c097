"""The players: scripts that know the state and collect the data, and the uniformly random one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from envs._manipulation.actions import BINS, GRIPPER, MOVE, NEUTRAL, SIZE, TURN, check_bins, dequantise, quantise
from envs._manipulation.layout import CABINET, LOW, TRAY, Facts
from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.noise import uniform

Array = NDArray[np.float64]

HANDLE = np.array([CABINET[0] - 0.1375, CABINET[1], 0.047])  # the gap behind the handle's bar while the drawer is shut
DRAWN_ENOUGH = 0.14
ABOVE = 0.14  # metres over the counter, where the gripper hovers before it goes down
RELEASE = 0.085  # where it lets go over the tray
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
        return [self.choose(episode.seed, episode.length, getattr(episode.turns[-1], "facts", None)) for episode in episodes]

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

    privileged: ClassVar[bool] = True
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


class PickPlaceScript(Scripted):
    """Over the object, down, close, up, over the tray, down, open; random way-points are beside the object or the tray."""

    def script(self, facts: Facts, plan: Plan) -> tuple[Array, bool]:
        if holding(facts):
            here, over = np.array(facts.gripper[:2]), TRAY[:2] + plan.second
            away = math.dist(here, over)
            there = away < 0.03 and facts.gripper[2] < RELEASE + 0.03
            if away > 0.05 and facts.gripper[2] < 0.1:  # up first
                over = here + 0.3 * (over - here)
            return towards(facts, [*over, RELEASE if away < 0.05 else ABOVE + 0.03], gripper=float(there)), False
        return grasp(facts, plan.first, ABOVE, turn=1.0)

    def _stray(self, draws: Array) -> Plan:
        if draws[0] < 0.4:
            return Plan(np.zeros(2), np.array([-0.02, -0.32]) + draws[1:3] * [0.12, 0.18])
        return Plan(beside(draws[1:]), np.zeros(2))


class DrawerGraspScript(Scripted):
    """Over the gap behind the handle, down, pull, up, over the object, down, close, up; random way-points are beside the handle
    or the object."""

    def script(self, facts: Facts, plan: Plan) -> tuple[Array, bool]:
        x, y, z = facts.gripper
        gap = HANDLE - [facts.drawer, 0, 0]
        in_gap = abs(x - gap[0]) < 0.045 and z - gap[2] < 0.035
        if facts.drawer > DRAWN_ENOUGH:
            if holding(facts):
                return towards(facts, [x, y, 0.3]), False
            if in_gap and facts.open:  # leave it without a touch
                return towards(facts, [gap[0], y, 0.3]), False
            return grasp(facts, plan.second, ABOVE + 0.02, turn=0.35)
        if not facts.open:
            return towards(facts, [x, y, ABOVE + 0.02], gripper=1.0), False
        gap[:2] += plan.first
        if in_gap and abs(y - gap[1]) < 0.045:  # pull
            return towards(facts, [x - 0.03, gap[1], gap[2]]), False
        away = math.dist((x, y), gap[:2])
        ready = away < ALIGNED
        if z < 0.13 and away > 0.04:  # up first
            return towards(facts, [x, y, ABOVE + 0.02]), False
        return towards(facts, gap if ready else [gap[0], gap[1], ABOVE + 0.01]), ready

    def _stray(self, draws: Array) -> Plan:
        if draws[0] < 0.5:
            return Plan(np.zeros(2), beside(draws[1:]))
        side = 1 if draws[1] < 0.5 else -1
        return Plan(np.array([-0.06 * draws[2], side * (0.12 + 0.06 * draws[3])]), np.zeros(2))


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
