"""Where things stand, in metres and radians: x points from the arm across the counter, y to its left, z up from the counter.

Also what a scripted player may know of a state. Needs no simulator.
"""

from __future__ import annotations

from typing import NamedTuple

Vector = tuple[float, float, float]

# Where the point between the fingertips can be sent.
LOW: Vector = (0.24, -0.26, 0.014)
HIGH: Vector = (0.60, 0.30, 0.30)
# How far the gripper can be turned from pointing straight down, to either side.
TURNED: Vector = (0.5, 0.5, 1.2)
FINGER = 0.04  # how far a finger opens

TRAY: Vector = (0.46, 0.20, 0.0)
TRAY_HALF = 0.08  # inside the rim
LYING = 0.045  # the centre of no object that lies on the tray is as high
CABINET: Vector = (0.62, 0.0, 0.0)
OPENED = 0.12  # a drawer drawn this far is open
LIFTED = 0.08  # an object whose centre is this high, and near the gripper, is lifted
NEAR = 0.06

SHAPES = ("cube", "cylinder", "brick", "tower")
COLOURS = {
    "green": (0.10, 0.70, 0.20, 1.0),
    "yellow": (0.95, 0.85, 0.10, 1.0),
    "magenta": (0.85, 0.15, 0.70, 1.0),
    "cyan": (0.10, 0.80, 0.85, 1.0),
    "orange": (0.95, 0.50, 0.05, 1.0),
}


class Facts(NamedTuple):
    """What the simulator knows about a state.

    Attributes:
        gripper: the point between the fingertips.
        turned: roll, pitch and yaw of the gripper, 0 when it points straight down with the fingers left and right.
        open: whether the gripper was last told to open (or never told).
        fingers: how far the fingers are apart, of 0 to `2 * FINGER`.
        item: centre of the object.
        item_yaw: its turn about z.
        drawer: how far the drawer is drawn; 0 where there is none.
    """

    gripper: Vector
    turned: Vector
    open: bool
    fingers: float
    item: Vector
    item_yaw: float
    drawer: float
