"""Ranks: the processes of one training under `accelerate launch` or `torchrun`. All train; the first does everything else.

```python
found = main_does(lambda: make_the_dataset())   # by the first rank; the others wait, and are told what it returned
tokens, = totals([len(my_tokens)])              # the sum over the ranks, to every rank
```
Every rank must come by the same calls in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

Found = TypeVar("Found")
PATIENCE = timedelta(days=30)  # of ranks that wait while the first makes a dataset, plays or tunes


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the first of them, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def join(device: str) -> None:
    """Meet the other ranks; nothing to do where there are none.

    Args:
        device: that all train on.
    """
    if world_size() > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu", timeout=PATIENCE)


def main_does(function: Callable[[], Found]) -> Found:
    """What `function` returns in the first rank, to every rank. Where it raises, the launcher ends the other ranks."""
    if world_size() == 1:
        return function()
    from torch.distributed import broadcast_object_list

    found: list[Any] = [function() if is_main() else None]
    broadcast_object_list(found, group=_group())
    return found[0]


def totals(values: Sequence[float]) -> list[float]:
    """The sums over the ranks."""
    if world_size() == 1:
        return list(values)
    import torch

    summed = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(summed, group=_group())
    return summed.tolist()


@cache
def _group() -> Any:
    """Of all ranks, on the CPU: what is exchanged here does not wait for a GPU."""
    from torch.distributed import new_group

    return new_group(backend="gloo", timeout=PATIENCE)
