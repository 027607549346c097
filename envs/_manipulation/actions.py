"""What an action is: eight numbers from -1 to 1, each rounded to one of an odd number of bins before anything moves.

| index | name | 1 means |
|---|---|---|
| 0, 1, 2 | x, y, z | move by 6 cm |
| 3, 4, 5 | roll, pitch, yaw | turn by 0.2, 0.2, 0.35 rad |
| 6 | gripper | open it; -1 closes it; between -0.5 and 0.5 it stays as it is |
| 7 | neutral | above 0.5: go to the neutral pose, whatever 0 to 5 say |

Moves and turns start from the measured pose, never from an earlier target: what an action does depends on the state alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsft_bench.control import dequantise, quantise
from qsft_bench.errors import BenchError

NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper", "neutral")
SIZE = len(NAMES)
GRIPPER, NEUTRAL = NAMES.index("gripper"), NAMES.index("neutral")
MOVE = 0.06  # metres
TURN = (0.2, 0.2, 0.35)  # radians
SWITCH = 0.5  # gripper and neutral react beyond it
BINS = 33


def read_action(action: object, bins: int) -> NDArray[np.float32]:
    """`action` as it is stepped: clipped to [-1, 1] and rounded to its bins, shape (8,).

    Raises:
        BenchError: it is not eight finite numbers.
    """
    try:
        values = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        raise BenchError(f"an action is {SIZE} numbers ({', '.join(NAMES)}), not {type(action).__name__} {action!r}") from None
    if values.shape != (SIZE,):
        raise BenchError(f"an action has shape ({SIZE},): {', '.join(NAMES)}; this one has shape {values.shape}")
    if not np.isfinite(values).all():
        named = ", ".join(f"{name}={value}" for name, value in zip(NAMES, values, strict=True) if not np.isfinite(value))
        raise BenchError(f"an action must be finite, this one has {named}; clip or replace it before env.step")
    return dequantise(quantise(values, bins), bins)
