"""The walk: a gate, a hall, out. What each door pays, and which one is right where."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium import spaces

DOORS = ("red", "green", "blue", "white")
GATES = ("oak", "iron", "stone", "ivy", "brass", "rope")
HALLS = ("long", "dark", "round", "cold", "bright", "low")

# Probability that a door pays 1: at the gate, in the hall. Any other door pays nothing.
RIGHT = (0.6, 1.0)
DECOY = (0.2, 0.2)

OUTSIDE = "outside\n"
NOT_A_DOOR = "not one of the doors red, green, blue, white"


def _places() -> dict[str, tuple[int, int, int]]:
    gates = {f"{name} gate\n": (0, k % 4, (k + 1) % 4) for k, name in enumerate(GATES)}
    halls = {f"{name} hall\n": (1, (k + 2) % 4, (k + 1) % 4) for k, name in enumerate(HALLS)}
    return gates | halls


PLACES: Mapping[str, tuple[int, int, int]] = _places()
"""Observation -> leg (0 at a gate, 1 in a hall), index of the right door, index of the decoy."""


def read_door(action: object) -> int | None:
    """Index of the door that `action` names, or None."""
    name = action.strip() if isinstance(action, str) else ""
    return DOORS.index(name) if name in DOORS else None


def write_door(door: int) -> str:
    """The action that names a door."""
    return f"{DOORS[door]}\n"


def payment(observation: str, door: int | None) -> float:
    """Probability that `door` pays 1 where `observation` is seen."""
    leg, right, decoy = PLACES[observation]
    return RIGHT[leg] if door == right else DECOY[leg] if door == decoy else 0.0


class Stitching(gymnasium.Env[str, str]):
    """One walk of two choices; the observation names the place.

    A string that names no door pays nothing and walks on; `info["invalid"]` says why. At the end `info["success"]` says
    whether both doors were right.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self) -> None:
        longest = max(map(len, PLACES))
        self.observation_space = spaces.Text(longest, charset=string.ascii_lowercase + " \n")
        self.action_space = spaces.Text(max(map(len, DOORS)) + 1, charset=string.ascii_lowercase + "\n")
        self._walk: list[str] = []
        self._luck: list[float] = []
        self._all_right = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Draw a gate, a hall and the luck of both choices from `self.np_random`."""
        super().reset(seed=seed)
        gate, hall = (str(self.np_random.choice(names)) for names in (GATES, HALLS))
        self._walk = [f"{gate} gate\n", f"{hall} hall\n", OUTSIDE]
        self._luck = self.np_random.random(2).tolist()
        self._all_right = True
        return self._walk[0], {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Go through a door.

        Raises:
            gymnasium.error.ResetNeeded: the walk is over or never began.
        """
        if len(self._walk) < 2:
            raise gymnasium.error.ResetNeeded("stitching: the walk is over; call reset()")
        place, door = self._walk.pop(0), read_door(action)
        reward = float(self._luck.pop(0) < payment(place, door))
        self._all_right &= door == PLACES[place][1]
        info: dict[str, Any] = {}
        if door is None:
            info["invalid"] = NOT_A_DOOR if isinstance(action, str) else f"{type(action).__name__} is not text"
        over = len(self._walk) == 1
        if over:
            info["success"] = self._all_right
        return self._walk[0], reward, over, False, info
