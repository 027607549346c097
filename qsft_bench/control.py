"""Control vectors as bins: what an environment steps is exactly what a dataset stores and a model's tokens say.

```
bin      0 ...  half - 1     half    half + 1  ...  bins - 1        half = bins // 2
value   -1 ...  -1 / half       0    1 / half  ...         1
```
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsft_bench.errors import BenchError


def check_bins(bins: int) -> int:
    """`bins`, if it can be the number of bins of a dimension.

    Raises:
        BenchError: it is not an odd number of at least 3. Between an even number of bins there is none for 0, and nothing
            that is controlled could stand still.
    """
    if not isinstance(bins, int) or bins < 3 or bins % 2 == 0:
        raise BenchError(f"bins={bins!r} must be an odd number of at least 3, so that one bin is exactly 0")
    return bins


def quantise(values: ArrayLike, bins: int) -> NDArray[np.int64]:
    """The nearest bins, 0 to `bins` - 1, of values that are clipped to [-1, 1]; same shape."""
    half = bins // 2
    return np.rint(np.clip(np.asarray(values, dtype=np.float64), -1, 1) * half).astype(np.int64) + half


def dequantise(indices: ArrayLike, bins: int) -> NDArray[np.float32]:
    """The values in [-1, 1] that bins stand for; the middle bin is exactly 0, `quantise` takes them back to their bins."""
    half = bins // 2
    return ((np.asarray(indices) - half) / half).astype(np.float32)
