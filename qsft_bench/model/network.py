"""Network: a causal transformer of the transformers library with named heads, read at action positions only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from qsft_bench.errors import BenchError, did_you_mean

SIZES: Mapping[str, Mapping[str, int]] = {
    # name: width, layers, attention heads, width of the hidden layer of a block
    "nano": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_inner": 64},
    "tiny": {"n_embd": 160, "n_layer": 1, "n_head": 8, "n_inner": 448},
    "mini": {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_inner": 1024},
    "base": {"n_embd": 512, "n_layer": 8, "n_head": 8, "n_inner": 2048},
    "gpt2-medium-random": {"n_embd": 1024, "n_layer": 24, "n_head": 16, "n_inner": 4096},
}
EAGER_WIDTH = 256  # up to this width plain attention is faster than the fused kernel on a CPU, twice so in bfloat16


@dataclass(frozen=True)
class Head:
    """A map from the hidden state to `outputs` numbers: linear, or with one hidden layer of `hidden` ReLUs."""

    outputs: int
    hidden: int = 0


@dataclass(frozen=True)
class NetworkConfig:
    """All that is needed to build a network again.

    Attributes:
        model: a size name (`SIZES`): a GPT-2 from random weights.
        vocabulary: number of token ids.
        context: most tokens of a row.
        heads: name -> head; a head called `policy` gives next-token logits.
    """

    model: str
    vocabulary: int
    context: int
    heads: Mapping[str, Head] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkConfig:
        heads = {name: Head(**head) for name, head in value["heads"].items()}
        return cls(value["model"], value["vocabulary"], value["context"], heads)


class Network(nn.Module):
    """A backbone with heads.

    Args:
        config: its shape; weights are drawn from torch's global generator (seed it first).

    Raises:
        BenchError: unknown model name.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        if config.model not in SIZES:
            raise BenchError(f"unknown model {config.model!r}{did_you_mean(config.model, SIZES)}")
        self.config = config
        self.backbone = GPT2Model(
            GPT2Config(
                vocab_size=config.vocabulary,
                n_positions=config.context,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                resid_pdrop=0.0,
                bos_token_id=None,
                eos_token_id=None,
                use_cache=False,
                activation_function="gelu",
                attn_implementation="eager" if SIZES[config.model]["n_embd"] <= EAGER_WIDTH else "sdpa",
                **SIZES[config.model],
            )
        )
        width = self.backbone.config.n_embd
        self.heads = nn.ModuleDict({name: _head(width, head) for name, head in config.heads.items()})

    @property
    def width(self) -> int:
        """Size of the hidden state."""
        return self.backbone.config.n_embd

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def hidden(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        """Hidden states (B, T, D) of rows (B, T); padding stands at the right, where a causal model cannot see it."""
        return self.backbone(input_ids=ids, **options).last_hidden_state

    def forward(self, ids: torch.Tensor, position: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every head's output (K, outputs) at the flat positions (K,) of rows (B, T)."""
        return self.read(self.hidden(ids).flatten(0, 1)[position])

    def read(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every head's output on hidden states (..., D); not in mixed precision, since values are differences of logits."""
        with torch.autocast(hidden.device.type, enabled=False):
            dtype = next(self.heads.parameters()).dtype
            return {name: head(hidden.to(dtype)) for name, head in self.heads.items()}


class Networks(nn.ModuleDict):
    """Networks by name."""

    def __getitem__(self, name: str) -> Network:
        return cast(Network, super().__getitem__(name))


def _head(width: int, head: Head) -> nn.Module:
    if not head.hidden:
        linear = nn.Linear(width, head.outputs)
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        return linear
    return nn.Sequential(nn.Linear(width, head.hidden), nn.ReLU(), nn.Linear(head.hidden, head.outputs))


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate source, parameter by parameter (Algorithm 1, line 9)."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)


def frozen_copy(network: Network) -> Network:
    """A copy without gradients, to be moved by `polyak`."""
    copy = Network(network.config)
    copy.load_state_dict(network.state_dict())
    return copy.requires_grad_(False)
