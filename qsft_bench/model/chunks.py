"""Functions of single rows, some rows at a time: what they hold in between is never there for all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

LOGITS = 7 * 2**20  # numbers in one (rows, V) tensor: 28 MiB; from 32 on, glibc maps and clears new memory for every tensor
CACHED = 2**19  # numbers in a (rows, V) tensor, 2 MiB, of which a few stay in a processor's cache from one use to the next


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
    rows = _rows(width, limit)
    if len(columns[0]) <= rows:
        return function(*columns)
    again = torch.is_grad_enabled()
    parts = [
        checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) if again else function(*part)
        for part in _split(rows, *columns)
    ]
    return tuple(map(torch.cat, zip(*parts, strict=True)))


def weighted_sum(
    read: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    function: Callable[..., torch.Tensor],
    weight: torch.Tensor,
    parameters: Iterable[nn.Parameter],
    hidden: torch.Tensor,
    *columns: torch.Tensor,
    width: int,
    limit: int | None = None,
) -> torch.Tensor:
    """sum_k weight_k function(read(hidden), *columns)_k, for as few rows at a time as `in_chunks`.

    The weights being known, each chunk's gradient is taken when its value is: nothing is computed once more on the way back.

    Args:
        read: from hidden states (k, D) to outputs (k, V) by name.
        function: of these and the columns (k, ...) to losses (k,), row by row.
        weight: (K,).
        parameters: what `read` uses; those that are trained get their gradient.
        hidden: (K, D); the columns (K, ...) get no gradient.
        width, limit: see `in_chunks`.
    """
    rows = _rows(width, limit)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if len(weight) <= rows or not torch.is_grad_enabled() or not (trained or hidden.requires_grad):
        (loss,) = in_chunks(lambda part, *rest: (function(read(part), *rest),), hidden, *columns, width=width, limit=limit)
        return (weight * loss).sum()
    return _WeightedSum.apply(read, function, rows, weight, columns, hidden, *trained)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, read: Any, function: Any, rows: int, weight: Any, columns: Any, hidden: Any, *parameters: Any
    ) -> Any:
        total = weight.new_zeros(())
        gradients: list[Any] = [torch.empty_like(hidden), *([None] * len(parameters))]
        for at_hidden, part, *rest in _split(rows, gradients[0], hidden, weight, *columns):
            with torch.enable_grad():
                leaf = part.detach().requires_grad_()
                outputs = read(leaf)
            memory = [output.detach() for output in outputs.values()]
            for block in _split(_rows(memory[0].shape[-1], cached(part.device)), *memory, *rest):
                total += _to_gradients(function, dict(zip(outputs, block, strict=False)), *block[len(outputs) :])
            with torch.autocast(part.device.type, enabled=False):  # as on any other way back
                into_hidden, *found = torch.autograd.grad(
                    tuple(outputs.values()), (leaf, *parameters), memory, allow_unused=True
                )
            at_hidden.copy_(into_hidden)
            for index, gradient in enumerate(found, 1):
                if gradient is not None:
                    gradients[index] = gradient if gradients[index] is None else gradients[index].add_(gradient)
        context.gradients = gradients
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: torch.Tensor) -> Any:
        gradients, context.gradients = context.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of a weighted sum can be asked for once")
        return None, None, None, None, None, *(None if gradient is None else gradient.mul_(upstream) for gradient in gradients)


def _to_gradients(
    function: Callable[..., torch.Tensor], outputs: dict[str, torch.Tensor], weight: torch.Tensor, *columns: torch.Tensor
) -> torch.Tensor:
    """The weighted sum of losses; the outputs' memory holds their gradients from then on, so that none is asked for."""
    with torch.enable_grad():
        leaves = {name: output.detach().requires_grad_() for name, output in outputs.items()}
        loss = (weight * function(leaves, *columns)).sum()
    gradients = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
    for output, gradient in zip(outputs.values(), gradients, strict=True):
        output.zero_() if gradient is None else output.copy_(gradient)
    return loss.detach()


def cached(device: torch.device) -> int:
    """A limit for what goes over its rows several times: on a processor so few that they wait for memory once.

    Any other device gets as many as may be held.
    """
    return CACHED if device.type == "cpu" else LOGITS


def _split(rows: int, *columns: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Columns (K, ...), so many rows at a time."""
    return zip(*(column.split(rows) for column in columns), strict=True)


def _rows(width: int, limit: int | None) -> int:
    return max(1, (LOGITS if limit is None else limit) // width)
