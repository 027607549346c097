"""Caches of keys and values of which some rows can be fed by themselves, while others wait. (transformers is imported late.)"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from qsft_bench.model.network import Network


def empty_cache(network: Network) -> Any:
    """A `DynamicCache` for a network."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=network.backbone.config)
    cache.layers = [_row_layer()() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def feeds_rows(network: Network) -> bool:
    """Whether some rows of its cache can be fed by themselves: not where a layer sees a part of the past alone."""
    return all(isinstance(layer, _row_layer()) for layer in empty_cache(network).layers)


def feed_next(cache: Any, rows: torch.Tensor | None) -> None:
    """Say which rows (n,) of a cache are fed from now on; None for all. What others have at these columns is to be masked."""
    for layer in cache.layers:
        layer.rows = rows


@lru_cache(maxsize=1)
def _row_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class RowLayer(DynamicLayer):
        rows: torch.Tensor | None = None

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Append the states of `rows`, zeros in the others, and return those of `rows`."""
            if self.rows is None:
                return super().update(key_states, value_states)
            keys, values = super().update(self._widened(key_states), self._widened(value_states))
            return keys[self.rows], values[self.rows]

        def _widened(self, states: torch.Tensor) -> torch.Tensor:
            assert self.keys is not None and self.rows is not None
            return states.new_zeros(len(self.keys), *states.shape[1:]).index_copy_(0, self.rows, states)

    return RowLayer
