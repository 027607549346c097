"""Caches of keys and values for wide rows: to append copies what is new alone, and some rows can be fed while others wait.

The library's own copies all that it holds with every token: of 64 games with SmolLM2 a gigabyte. For narrow models that
is faster all the same. (transformers is imported late.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from qsft_bench.model.network import Network

LEAST_ROOM = 64  # columns that a buffer has at least beyond what is in it when it is made


def empty_cache(network: Network, wide: bool) -> Any:
    """A `DynamicCache` for a network, the library's own or, where it can be, one for wide rows."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=network.backbone.config)
    if wide:
        cache.layers = [_row_layer()() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def feeds_rows(network: Network) -> bool:
    """Whether some rows of its cache can be fed by themselves: not where a layer sees a part of the past alone."""
    return all(isinstance(layer, _row_layer()) for layer in empty_cache(network, wide=True).layers)


def feed_next(cache: Any, rows: torch.Tensor | None) -> None:
    """Say which rows (n,) of a wide cache are fed from now on; None for all. What others have there is to be masked."""
    for layer in cache.layers:
        layer.rows = rows


@lru_cache(maxsize=1)
def _row_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class RowLayer(DynamicLayer):
        """Keys and values (B, H, T, D) at the front of buffers with room for more columns."""

        keys: torch.Tensor
        values: torch.Tensor
        rows: torch.Tensor | None = None
        _buffers: tuple[torch.Tensor, ...] = ()

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Append the states of `rows`, zeros in the others, and return those of `rows`."""
            before = self.get_seq_length()
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            new, held = (key_states, value_states), (self.keys, self.values)
            after = before + key_states.shape[-2]
            # What is held is no part of the buffers where rows were dropped since.
            if not self._buffers or self.keys.data_ptr() != self._buffers[0].data_ptr() or after > self._buffers[0].shape[-2]:
                self._buffers = tuple(_with_room(*pair) for pair in zip(held, new, strict=True))
            for buffer, states in zip(self._buffers, new, strict=True):
                place = buffer[..., before:after, :]
                if self.rows is None:
                    place.copy_(states)
                else:
                    place.zero_().index_copy_(0, self.rows, states)
            self.keys, self.values = (buffer[..., :after, :] for buffer in self._buffers)
            return (self.keys, self.values) if self.rows is None else (self.keys[self.rows], self.values[self.rows])

    return RowLayer


def _with_room(held: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """A buffer that begins with the columns `held` (B, H, T, D), or nothing at first, and has room for more than `states`."""
    held = held if held.numel() else states[..., :0, :]
    rows, heads, columns, width = held.shape
    least = columns + states.shape[-2]
    buffer = states.new_empty(rows, heads, least + max(LEAST_ROOM, least // 2), width)
    buffer[..., :columns, :] = held
    return buffer
