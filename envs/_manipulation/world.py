"""The simulated world: an arm, a counter, what stands on it, and a camera. All physics and drawing are PyBullet's.

A world is loaded anew for every episode, which takes milliseconds and leaves nothing behind: the same scene and the same
actions give the same numbers bit for bit, whatever was simulated before. (Restored snapshots do not: they keep contacts.)

A simulator of PyBullet's costs 60 ms and 28 MB, so a world that is closed leaves its own to the next one: a process has as
many as it had worlds open at once.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs._manipulation.actions import GRIPPER, MOVE, NEUTRAL, SWITCH, TURN
from envs._manipulation.layout import COLOURS, FINGER, HIGH, LOW, TURNED, Facts, Vector

try:
    import pybullet
except ImportError as error:
    raise ImportError(
        "it needs pybullet, which has wheels for Python 3.11 and older: pip install 'qsft-bench[manipulation]' there",
        name="pybullet",
    ) from error

URDF = Path(__file__).parent / "urdf"

STEP = 1 / 240  # seconds
STEPS = 12  # simulated for an action
CLOSING, OPENING, GOING_NEUTRAL = 30, 20, 30  # for one that closes or opens the gripper, or goes to the neutral pose
SETTLING = 5  # after loading

ARM = range(7)  # joints of urdf/arm.urdf
FINGERS = (8, 9)
GRASP = 10  # the link between the fingertips
BASE: Vector = (-0.15, 0.0, 0.0)
NEUTRAL_POSE = (0.0, 0.1728, 0.0, -2.1004, 0.0, 2.2732, 0.7854)  # joint angles, radians: 22 cm above the middle
IK_DAMPING = (0.01,) * 9  # little: the seven joints and two fingers that inverse kinematics moves
DOWN = (1.0, 0.0, 0.0, 0.0)  # the gripper's orientation where it is turned by 0: half a turn about x

EYE: Vector = (0.92, 0.04, 0.60)
LOOKS_AT: Vector = (0.40, 0.04, 0.08)
FIELD_OF_VIEW = 40.0  # degrees
LIGHT: Vector = (1.0, 0.5, 2.0)
COUNTER: Vector = (0.40, 0.0, -0.02)
COUNTER_HALF: Vector = (0.5, 0.6, 0.02)
COUNTER_COLOUR = (0.75, 0.72, 0.66, 1.0)


class Simulator:
    """PyBullet's functions, bound to a simulator of their own."""

    def __init__(self) -> None:
        self._client = pybullet.connect(pybullet.DIRECT)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        bound = partial(getattr(pybullet, name), physicsClientId=self._client)
        setattr(self, name, bound)
        return bound


_idle: list[Simulator] = []  # of closed worlds


class Item(NamedTuple):
    """The object to grasp: name of its shape and colour, its centre and its turn about z."""

    shape: str
    colour: str
    position: Vector
    yaw: float


class World:
    """One world; `load` begins an episode."""

    def __init__(self) -> None:
        self._bullet = _idle.pop() if _idle else Simulator()
        self._give_back = weakref.finalize(self, _idle.append, self._bullet)
        self._arm = self._item = -1
        self._drawer: int | None = None
        self._open = True

    def close(self) -> None:
        """Leave the simulator to another world; this one must not be used again."""
        self._give_back()

    def load(self, furniture: tuple[str, Vector], item: Item) -> None:
        """Begin anew: the arm in its neutral pose, one piece of furniture (`tray` or `drawer`), an object."""
        b = self._bullet
        b.resetSimulation()
        b.setGravity(0, 0, -9.8)
        b.setPhysicsEngineParameter(fixedTimeStep=STEP, numSolverIterations=50, deterministicOverlappingPairs=1)
        counter = b.createMultiBody(
            0,
            b.createCollisionShape(pybullet.GEOM_BOX, halfExtents=COUNTER_HALF),
            b.createVisualShape(pybullet.GEOM_BOX, halfExtents=COUNTER_HALF, rgbaColor=COUNTER_COLOUR),
            COUNTER,
        )
        self._arm = self._urdf("arm", BASE, fixed=True)
        piece = self._urdf(*furniture, fixed=True)
        self._item = self._urdf(item.shape, item.position, b.getQuaternionFromEuler((0, 0, item.yaw)))
        b.changeVisualShape(self._item, -1, rgbaColor=COLOURS[item.colour])
        self._drawer = piece if furniture[0] == "drawer" else None
        if self._drawer is not None:  # friction of its rails, 12 N
            b.setJointMotorControl2(piece, 0, pybullet.VELOCITY_CONTROL, targetVelocity=0, force=12.0)
        for body in (counter, self._arm, piece, self._item):
            b.changeDynamics(body, -1, activationState=pybullet.ACTIVATION_STATE_DISABLE_SLEEPING)
        for joint, angle in zip(ARM, NEUTRAL_POSE, strict=True):
            b.resetJointState(self._arm, joint, angle)
        for joint in FINGERS:
            b.resetJointState(self._arm, joint, FINGER)
        self._open = True
        self._simulate(NEUTRAL_POSE, SETTLING)

    def step(self, action: NDArray[np.float32]) -> None:
        """Do what an action of `actions` says."""
        steps = STEPS
        if action[NEUTRAL] > SWITCH:
            steps = GOING_NEUTRAL
            pose: Sequence[float] = NEUTRAL_POSE
        else:
            pose = self._reach(action)
        if abs(action[GRIPPER]) > SWITCH and (action[GRIPPER] > 0) != self._open:
            self._open = not self._open
            steps = max(steps, OPENING if self._open else CLOSING)
        self._simulate(pose, steps)

    def facts(self) -> Facts:
        """What there is to know."""
        b = self._bullet
        gripper, turned = self._gripper()
        item, orientation = b.getBasePositionAndOrientation(self._item)
        drawer = 0.0 if self._drawer is None else b.getJointState(self._drawer, 0)[0]
        fingers = sum(state[0] for state in b.getJointStates(self._arm, FINGERS))
        return Facts(gripper, turned, self._open, fingers, item, b.getEulerFromQuaternion(orientation)[2], drawer)

    def image(self, size: int) -> NDArray[np.uint8]:
        """What the camera sees, RGB of shape (size, size, 3)."""
        drawn: Any = self._bullet.getCameraImage(
            size,
            size,
            pybullet.computeViewMatrix(EYE, LOOKS_AT, (0, 0, 1)),
            pybullet.computeProjectionMatrixFOV(FIELD_OF_VIEW, 1.0, 0.05, 2.5),
            shadow=0,
            lightDirection=LIGHT,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            renderer=pybullet.ER_TINY_RENDERER,
        )[2]
        return np.asarray(drawn, dtype=np.uint8).reshape(size, size, 4)[:, :, :3].copy()

    def _reach(self, action: NDArray[np.float32]) -> Sequence[float]:
        """Joint angles that move and turn the gripper from where it is measured to be."""
        b = self._bullet
        move: list[float] = action.tolist()
        gripper, turned = self._gripper()
        target = [min(max(at + MOVE * by, low), high) for at, by, low, high in zip(gripper, move[:3], LOW, HIGH, strict=True)]
        turn = [
            min(max(at + most * by, -limit), limit) for at, by, most, limit in zip(turned, move[3:6], TURN, TURNED, strict=True)
        ]
        orientation = b.multiplyTransforms((0, 0, 0), b.getQuaternionFromEuler(turn), (0, 0, 0), DOWN)[1]
        angles: Sequence[float] = b.calculateInverseKinematics(
            self._arm, GRASP, target, orientation, maxNumIterations=40, residualThreshold=1e-4, jointDamping=IK_DAMPING
        )
        return angles[: len(ARM)]

    def _gripper(self) -> tuple[Vector, Vector]:
        """Position of the point between the fingertips, and roll, pitch and yaw from pointing straight down."""
        b = self._bullet
        position, orientation = b.getLinkState(self._arm, GRASP)[4:6]
        undone = b.multiplyTransforms((0, 0, 0), orientation, (0, 0, 0), (-DOWN[0], 0, 0, 0))[1]
        roll, pitch, yaw = (math.remainder(angle, math.tau) for angle in b.getEulerFromQuaternion(undone))
        return position, (roll, pitch, yaw)

    def _simulate(self, pose: Sequence[float], steps: int) -> None:
        b = self._bullet
        b.setJointMotorControlArray(
            self._arm,
            ARM,
            pybullet.POSITION_CONTROL,
            targetPositions=pose,
            forces=[300.0] * len(ARM),
            positionGains=[0.2] * len(ARM),
            velocityGains=[1.0] * len(ARM),
        )
        opening = FINGER if self._open else 0.0
        b.setJointMotorControlArray(
            self._arm,
            FINGERS,
            pybullet.POSITION_CONTROL,
            targetPositions=[opening] * 2,
            forces=[40.0] * 2,
            positionGains=[0.2] * 2,
        )
        for _ in range(steps):
            b.stepSimulation()

    def _urdf(self, name: str, position: Vector, orientation: Sequence[float] = (0, 0, 0, 1), fixed: bool = False) -> int:
        body: int = self._bullet.loadURDF(str(URDF / f"{name}.urdf"), position, orientation, useFixedBase=fixed)
        return body
