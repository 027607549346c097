"""Pick an object from the counter and place it on the tray."""

from __future__ import annotations

from envs._manipulation.env import Manipulation, lifted
from envs._manipulation.layout import LYING, TRAY, TRAY_HALF, Facts, Vector


class PickPlace(Manipulation):
    """A tray stands on the counter and an object beside it; see `Manipulation`.

    `Pick Object` is reached when the object is lifted, at any time; `Place Object Near Target` when it lies on the tray with
    the gripper open, which is success.
    """

    horizon = 30

    def _furniture(self) -> tuple[str, Vector]:
        return "tray", TRAY

    def _pose(self) -> tuple[Vector, float]:
        x, y, yaw = self.np_random.uniform((0.36, -0.18, -0.7), (0.54, 0.03, 0.7)).tolist()
        return (x, y, 0.03), yaw

    def _events(self, facts: Facts) -> dict[str, bool]:
        return {"Pick Object": lifted(facts), "Place Object Near Target": placed(facts)}


def placed(facts: Facts) -> bool:
    """Whether the object lies within the tray's rim and the gripper is open."""
    x, y = (abs(at - middle) for at, middle in zip(facts.item[:2], TRAY[:2], strict=True))
    return bool(x < TRAY_HALF and y < TRAY_HALF and facts.item[2] < LYING and facts.open)
