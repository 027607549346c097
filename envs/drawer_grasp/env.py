"""Open the drawer and grasp the object inside."""

from __future__ import annotations

from envs._manipulation.env import Manipulation, lifted
from envs._manipulation.layout import CABINET, OPENED, Facts, Vector


class DrawerGrasp(Manipulation):
    """A shut drawer stands on the counter with an object in it; see `Manipulation`.

    `Drawer Grasp` is reached, which is success, when the drawer is open and the object lifted.
    """

    horizon = 40

    def _furniture(self) -> tuple[str, Vector]:
        return "drawer", CABINET

    def _pose(self) -> tuple[Vector, float]:
        x, y, yaw = self.np_random.uniform((-0.045, -0.05, -0.3), (-0.015, 0.05, 0.3)).tolist()
        return (CABINET[0] + x, CABINET[1] + y, 0.042), yaw

    def _events(self, facts: Facts) -> dict[str, bool]:
        return {"Drawer Grasp": facts.drawer > OPENED and lifted(facts)}
