"""Sharding: every rank holds a part of each weight (PyTorch's `fully_shard`, FSDP2), for models that one device cannot hold.

Only the gradient step knows of it. Whatever else looks at networks (learning curves, diagnoses, checkpoints) sees them whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from qsft_bench import ranks
from qsft_bench.errors import BenchError
from qsft_bench.model.network import Network, Networks
from qsft_bench.model.vision import Eyes


def shard(module: nn.Module, networks: Networks) -> None:
    """Divide the weights of `module`, which holds `networks` and runs them, among the ranks, in place.

    Each block of a transformer is gathered by itself when it is its turn. The last one (`model.reading` runs it in pieces) and
    what stands outside of blocks are gathered with `module`.

    Raises:
        BenchError: a network sees with a vision-language model's tower, of which all processes need the whole.
    """
    from torch.distributed.fsdp import fully_shard

    if any(isinstance(part, Eyes) for part in networks.modules()):
        raise BenchError(
            "a vision-language model that reads images is not shared out; leave out --sharded (lora:<rank> is small)"
        )
    for network in networks.values():
        blocks = set(getattr(network.backbone, "_no_split_modules", None) or ())
        for part in [part for part in network.modules() if type(part).__name__ in blocks][:-1]:
            fully_shard(part)
    fully_shard(module)


def whole(value: torch.Tensor) -> torch.Tensor:
    """The tensor of which `value` may be this rank's part. Every rank must ask."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def part_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This rank's part of `value`, divided as `parameter` is, and on its device."""
    value = value.to(parameter.device)
    if not hasattr(parameter, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


@contextmanager
def gathered(networks: Networks) -> Iterator[None]:
    """For as long as the block lasts, `networks` holds whole networks in the first rank. Every rank must enter.

    Nothing happens where they are not sharded.
    """
    parts = dict(networks.items())
    gather(networks, everywhere=False)
    try:
        yield
    finally:
        for name, part in parts.items():
            networks[name] = part


def gather(networks: Networks, everywhere: bool = True) -> None:
    """Put whole networks, without gradients, in the place of sharded ones, in every rank or in the first."""
    for name, part in list(networks.items()):
        if any(hasattr(parameter, "full_tensor") for parameter in part.parameters()):
            values = {key: whole(value) for key, value in part.state_dict().items()}
            if everywhere or ranks.is_main():
                with torch.random.fork_rng(devices=[]):
                    network = Network(networks[name].config)
                network.load_state_dict(values)
                networks[name] = network.requires_grad_(False).to(next(iter(values.values())).device)
