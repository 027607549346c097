"""Who collects the data of drawer-grasp: a script that knows the state."""

from __future__ import annotations

import math

import numpy as np

from envs._manipulation.behaviour import ABOVE, ALIGNED, Array, Plan, Scripted, beside, grasp, holding, towards
from envs._manipulation.layout import CABINET, Facts

HANDLE = np.array([CABINET[0] - 0.1375, CABINET[1], 0.047])  # the gap behind the handle's bar while the drawer is shut
DRAWN_ENOUGH = 0.14


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
