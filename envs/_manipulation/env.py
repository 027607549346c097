"""What both tasks are: an episode at the counter, observed as an image and proprioception. Success pays 1 and ends it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs._manipulation.actions import BINS, SIZE, read_action
from envs._manipulation.layout import COLOURS, FINGER, HIGH, LIFTED, LOW, NEAR, SHAPES, TURNED, Facts, Vector
from envs._manipulation.world import Item, World
from qsft_bench.control import check_bins
from qsft_bench.errors import BenchError

IMAGE_SIZE = 48

Observation = dict[str, Any]


class Manipulation(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One episode at the counter.

    An observation is an `image`, RGB of shape (size, size, 3), and `proprio`, float32 of shape (8,): position of the gripper
    (3), its turns (3), distance of its fingers and whether it was last told to open, each scaled to [-1, 1].

    An action is eight numbers from -1 to 1, described in `actions`; values beyond are clipped, all are rounded to `bins` bins.
    Success terminates the episode, the horizon truncates it. At the end `info["success"]` says which, and `info["scores"]` has
    1 or 0 for each of the task's columns.

    Args:
        bins: an odd number, see `control.check_bins`.
        image_size: pixels a side of the observation's image.
        render_mode: `rgb_array` or None.
        render_size: pixels a side of what `render` gives.
        privileged: put what the simulator knows, a `layout.Facts`, into `info["facts"]`.

    Raises:
        BenchError: an option has no such value.
        ImportError: PyBullet is missing.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 - Gymnasium's own declaration
    horizon: ClassVar[int]

    def __init__(
        self,
        bins: int = BINS,
        image_size: int = IMAGE_SIZE,
        render_mode: str | None = None,
        render_size: int = 256,
        privileged: bool = False,
    ) -> None:
        self._bins = check_bins(bins)
        for name, value in (("image_size", image_size), ("render_size", render_size)):
            if not isinstance(value, int) or value < 1:
                raise BenchError(f"{name}={value!r} must be a number of pixels, at least 1")
        if render_mode not in (None, "rgb_array"):
            raise BenchError(f"render_mode={render_mode!r} must be 'rgb_array' or None")
        self.render_mode = render_mode
        self._image_size = image_size
        self._render_size = render_size
        self._privileged = privileged
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        proprio = spaces.Box(-1, 1, (len(_PROPRIO_LOW),), np.float32)
        self.observation_space = spaces.Dict({"image": image, "proprio": proprio})
        self.action_space = spaces.Box(-1, 1, (SIZE,), np.float32)
        self._world: World | None = None
        self._left = 0  # actions
        self._reached: dict[str, bool] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Draw shape, colour, place and turn of the object from `self.np_random`."""
        super().reset(seed=seed)
        if self._world is None:
            self._world = World()
        shape, colour = (str(self.np_random.choice(names)) for names in (SHAPES, list(COLOURS)))
        self._world.load(self._furniture(), Item(shape, colour, *self._pose()))
        self._left = self.horizon
        self._reached = {}
        facts = self._world.facts()
        return self._observe(self._world, facts), self._info(facts)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act.

        Raises:
            BenchError: `action` is not eight finite numbers.
            gymnasium.error.ResetNeeded: the episode is over or never began.
        """
        if self._world is None or self._left == 0:
            raise gymnasium.error.ResetNeeded(f"{type(self).__name__}: the episode is over; call reset()")
        self._world.step(read_action(action, self._bins))
        facts = self._world.facts()
        events = self._events(facts)
        self._reached = {column: happens or self._reached.get(column, False) for column, happens in events.items()}
        success = list(events.values())[-1]
        self._left = 0 if success else self._left - 1
        info = self._info(facts)
        if self._left == 0:
            info["success"] = success
            info["scores"] = {column: float(reached) for column, reached in self._reached.items()}
        return self._observe(self._world, facts), float(success), success, self._left == 0 and not success, info

    def render(self) -> NDArray[np.uint8] | None:
        """The scene as RGB of shape (render_size, render_size, 3), or None without a render mode.

        Raises:
            gymnasium.error.ResetNeeded: there was no reset yet.
        """
        if self.render_mode is None:
            return None
        if self._world is None:
            raise gymnasium.error.ResetNeeded(f"{type(self).__name__}: nothing to draw; call reset()")
        return self._world.image(self._render_size)

    def close(self) -> None:
        """Leave the simulator to others."""
        if self._world is not None:
            self._world.close()
            self._world = None
            self._left = 0

    @abstractmethod
    def _furniture(self) -> tuple[str, Vector]:
        """What stands on the counter, and where."""

    @abstractmethod
    def _pose(self) -> tuple[Vector, float]:
        """A place for the object and its turn about z, drawn from `self.np_random`."""

    @abstractmethod
    def _events(self, facts: Facts) -> dict[str, bool]:
        """Column -> whether its event happens now; the last one is success."""

    def _observe(self, world: World, facts: Facts) -> Observation:
        measured = np.array([*facts.gripper, *facts.turned, facts.fingers, facts.open])
        proprio = 2 * (measured - _PROPRIO_LOW) / (_PROPRIO_HIGH - _PROPRIO_LOW) - 1
        return {"image": world.image(self._image_size), "proprio": np.clip(proprio, -1, 1).astype(np.float32)}

    def _info(self, facts: Facts) -> dict[str, Any]:
        return {"facts": facts} if self._privileged else {}


_PROPRIO_LOW = np.array([*LOW, *(-limit for limit in TURNED), 0.0, 0.0])
_PROPRIO_HIGH = np.array([*HIGH, *TURNED, 2 * FINGER, 1.0])


def lifted(facts: Facts) -> bool:
    """Whether the object is in the air, and at the gripper."""
    distance = np.linalg.norm(np.subtract(facts.item, facts.gripper))
    return bool(facts.item[2] > LIFTED and distance < NEAR)
