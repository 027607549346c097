"""Network: a causal transformer of the transformers library with named heads, read where a loss needs them only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from qsft_bench.errors import BenchError, did_you_mean
from qsft_bench.model.reading import hidden_at
from qsft_bench.tokens import Slots, TokenBatch

SIZES: Mapping[str, Mapping[str, int]] = {
    # name: width, layers, attention heads, width of the hidden layer of a block
    "nano": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_inner": 64},
    "tiny": {"n_embd": 160, "n_layer": 1, "n_head": 8, "n_inner": 448},
    "mini": {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_inner": 1024},
    "base": {"n_embd": 512, "n_layer": 8, "n_head": 8, "n_inner": 2048},
    "gpt2-medium-random": {"n_embd": 1024, "n_layer": 24, "n_head": 16, "n_inner": 4096},
}
# Channels of the image stem's convolutions, each of which halves the image. These sizes read all places out (`ReadOut`),
# larger ones have the last and pool by attention (`TokenLearner`).
SMALL_STEMS: Mapping[str, Sequence[int]] = {"nano": (8, 16), "tiny": (16, 32, 64), "mini": (32, 64, 128)}
LARGE_STEM = (64, 128, 256, 512)
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
        slots: what rows hold beside ids (`Codec.slots`), or None.
    """

    model: str
    vocabulary: int
    context: int
    heads: Mapping[str, Head] = field(default_factory=dict)
    slots: Slots | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkConfig:
        heads = {name: Head(**head) for name, head in value["heads"].items()}
        slots = value.get("slots")
        if slots is not None:
            slots = Slots(**{**slots, "image": tuple(slots["image"])})
        return cls(value["model"], value["vocabulary"], value["context"], heads, slots)


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
        if config.slots is not None:
            self.stem = Stem(config.model, width, config.slots)
        self.heads = nn.ModuleDict({name: _head(width, head) for name, head in config.heads.items()})

    @property
    def width(self) -> int:
        """Size of the hidden state."""
        return self.backbone.config.n_embd

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def hidden(
        self, ids: torch.Tensor, images: torch.Tensor | None = None, numbers: torch.Tensor | None = None, **options: Any
    ) -> torch.Tensor:
        """Hidden states (B, T, D) of rows (B, T); padding stands at the right, where a causal model cannot see it.

        Args:
            images: (N, height, width, 3) uint8 and numbers: (N, P), which fill the slots of `ids` from left to right, row by
                row; None where there are none.
        """
        return self.backbone(inputs_embeds=self._embedded(ids, images, numbers), **options).last_hidden_state

    def _embedded(self, ids: torch.Tensor, images: torch.Tensor | None, numbers: torch.Tensor | None) -> torch.Tensor:
        embedded = self.backbone.wte(ids)
        if images is not None and numbers is not None:
            for slot, found in self.stem(images, numbers).items():
                embedded = embedded.masked_scatter((ids == slot)[..., None], found.to(embedded.dtype))
        return embedded

    def forward(self, batch: TokenBatch, position: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Every head's output (P, outputs) at `position` (P,), or (K, outputs) at the action tokens of a batch.

        Args:
            position: indices into the flattened (B * T) tokens; `batch.position` if not given.
        """
        embedded = self._embedded(batch.ids, batch.images, batch.numbers)
        chosen = batch.position if position is None else position
        return self.read(hidden_at(self.backbone, embedded, chosen, batch.mask))

    def read(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every head's output on hidden states (..., D); not in mixed precision, since values are differences of logits."""
        with torch.autocast(hidden.device.type, enabled=False):
            dtype = next(self.heads.parameters()).dtype
            return {name: head(hidden.to(dtype)) for name, head in self.heads.items()}


class Stem(nn.Module):
    """Images and numbers to tokens.

    ```
    image (H, W, 3) -> convolutions -> features (places, C) -> pooling -> (image_tokens, D)
    numbers (P,)    -> perceptron                                      -> (1, D)
    ```

    Args:
        model: name of the size.
        width: D.
        slots: shapes, and how many tokens an image becomes.
    """

    def __init__(self, model: str, width: int, slots: Slots) -> None:
        super().__init__()
        self.slots = slots
        channels = SMALL_STEMS.get(model, LARGE_STEM)
        layers: list[nn.Module] = []
        before, (height, across, _) = 3, slots.image
        for index, after in enumerate(channels):
            kernel = 5 if index == 0 else 3
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2), nn.GroupNorm(8, after), nn.GELU()]
            before, height, across = after, -(-height // 2), -(-across // 2)
        self.features = nn.Sequential(*layers)
        pooling = ReadOut if model in SMALL_STEMS else TokenLearner
        self.pool = pooling(before, height * across, slots.image_tokens, width)
        self.numbers = nn.Sequential(nn.Linear(slots.numbers, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, images: torch.Tensor, numbers: torch.Tensor) -> dict[int, torch.Tensor]:
        """Tokens by the id whose places they take: (N * image_tokens, D) and (N, D).

        Args:
            images: (N, height, width, 3) uint8; numbers: (N, P).
        """
        if self.slots.sees == "image":
            numbers = torch.zeros_like(numbers)
        elif self.slots.sees == "numbers":
            images = torch.zeros_like(images)
        dtype = next(self.parameters()).dtype
        pixels = images.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1  # channels last in memory already
        tokens = self.pool(self.features(pixels).flatten(2).transpose(1, 2))
        return {self.slots.image_id: tokens.flatten(0, 1), self.slots.numbers_id: self.numbers(numbers.to(dtype))}


class ReadOut(nn.Module):
    """Every token a linear function of all features at all places: what a few thousand episodes suffice to learn places from.

    Args:
        channels, places: of the features; tokens: how many; width: of each.
    """

    def __init__(self, channels: int, places: int, tokens: int, width: int) -> None:
        super().__init__()
        few, narrow = 16, width // 4  # features a place, and numbers a token before it is widened
        self.reduce = nn.Sequential(nn.Linear(channels, few), nn.GELU(), nn.Flatten(), nn.Linear(few * places, tokens * narrow))
        self.widen = nn.Sequential(
            nn.Unflatten(1, (tokens, narrow)), nn.Linear(narrow, width), nn.LayerNorm(width), nn.Linear(width, width)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, tokens, width) from features (N, places, channels)."""
        return self.widen(self.reduce(features))


class TokenLearner(nn.Module):
    """Every token a mean of the features, weighed by a map of its own over the places (Ryoo et al. 2021), as in RT-1.

    Args:
        channels, places: of the features; tokens: how many; width: of each.
    """

    def __init__(self, channels: int, places: int, tokens: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels, width)
        self.place = nn.Parameter(0.02 * torch.randn(places, width))
        self.maps = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, tokens))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, tokens, width) from features (N, places, channels)."""
        features = self.enter(features) + self.place
        return self.leave(self.maps(features).softmax(1).transpose(1, 2) @ features)


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
