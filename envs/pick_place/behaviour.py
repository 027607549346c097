"""Who collects the data of pick-place: a script that knows the state."""

from __future__ import annotations

import math

import numpy as np

from envs._manipulation.behaviour import ABOVE, Array, Plan, Scripted, beside, grasp, holding, towards
from envs._manipulation.layout import TRAY, Facts

RELEASE = 0.085  # where it lets go over the tray


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
