"""Functions of single rows, some rows at a time: what they hold in between is never there for all rows at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

LOGITS = 7 * 2**20  # numbers in one (rows, V) tensor: 28 MiB; from 32 on, glibc maps and clears new memory for every tensor


def in_chunks(
    function: Callable[..., tuple[torch.Tensor, ...]], *columns: torch.Tensor, width: int, limit: int | None = None
) -> tuple[torch.Tensor, ...]:
    """`function(*columns)`, computed for so few rows at a time that (rows, width) stays below `limit` numbers.

    In the backward pass each chunk is computed once more. With few enough rows in all it is a plain call.

    Args:
        function: of the columns (k, ...) to a tuple of (k, ...), row by row.
        columns: (K, ...) each.
        width: V, the numbers that the function holds for a row.
        limit: `LOGITS` if not given.
    """
    rows = max(1, (LOGITS if limit is None else limit) // width)
    if len(columns[0]) <= rows:
        return function(*columns)
    again = torch.is_grad_enabled()
    parts = [
        checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) if again else function(*part)
        for part in zip(*(column.split(rows) for column in columns), strict=True)
    ]
    return tuple(map(torch.cat, zip(*parts, strict=True)))
