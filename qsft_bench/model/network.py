"""Network: a causal transformer of the transformers library with named heads, read where a loss needs them only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from qsft_bench.codec import Slots
from qsft_bench.errors import BenchError
from qsft_bench.model.pretrained import LowRankTwin, Tuning, build
from qsft_bench.model.reading import hidden_at
from qsft_bench.model.vision import Eyes
from qsft_bench.tokens import TokenBatch

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
    """A map from the hidden state to `outputs` numbers: linear, or with one hidden layer of `hidden` ReLUs.

    Attributes:
        twin: the head of the same network that it starts as a copy of (`Network.copy_head`), if any; of a pretrained model's
            own head it stays one, but for a map of low rank.
    """

    outputs: int
    hidden: int = 0
    twin: str = ""


@dataclass(frozen=True)
class NetworkConfig:
    """All that is needed to build a network again.

    Attributes:
        model: a size name (`SIZES`): a GPT-2 from random weights; else a pretrained model (`qsft_bench.weights`).
        vocabulary: number of token ids.
        context: most tokens of a row.
        heads: name -> head; a head called `policy` gives next-token logits. A pretrained model's is its own: no new weights.
        slots: what rows hold beside ids (`Codec.slots`), or None.
        tuning: of a pretrained model, which weights are the network's own (`Tuning.parse`).
        weights: SHA-256 of the pretrained weights; empty for whatever is there, and for random ones.
    """

    model: str
    vocabulary: int
    context: int
    heads: Mapping[str, Head] = field(default_factory=dict)
    slots: Slots | None = None
    tuning: str = "full"
    weights: str = ""

    @property
    def pretrained(self) -> bool:
        return self.model not in SIZES

    def to_json(self) -> dict[str, Any]:
        """Read back by `from_json`; what only pretrained models have stands only there."""
        found = asdict(self)
        if not self.pretrained:
            del found["tuning"], found["weights"]
        for head in found["heads"].values():
            if not head["twin"]:
                del head["twin"]
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkConfig:
        heads = {name: Head(**head) for name, head in value["heads"].items()}
        slots = value.get("slots")
        if slots is not None:
            slots = Slots(**{**slots, "image": tuple(slots["image"])})
        rest = {name: value[name] for name in ("tuning", "weights") if name in value}
        return cls(value["model"], value["vocabulary"], value["context"], heads, slots, **rest)


class Network(nn.Module):
    """A backbone with heads.

    Its `state_dict` holds what is its own: not the frozen weights of a pretrained model, nor a tied matrix a second time.

    Args:
        config: its shape; weights that are not pretrained are drawn from torch's global generator (seed it first).

    Raises:
        BenchError: unknown model name, or a pretrained model that is not there or does not fit.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self._base: Any = None
        self._shared: frozenset[int] = frozenset()
        self.stem: Stem | Eyes
        if config.pretrained:
            self._pretrained(config)
        else:
            self.config = config
            self.backbone = _random_backbone(config)
            if config.slots is not None:
                self.stem = Stem(config.model, self.width, config.slots)
            self.heads = nn.ModuleDict({name: _head(self.width, head) for name, head in config.heads.items()})
        self._left_out = self._doubles()
        if self._left_out:
            self.register_load_state_dict_pre_hook(_refuse)
            self.register_state_dict_post_hook(_leave_out)
            self.register_load_state_dict_post_hook(_do_not_miss)

    def _pretrained(self, config: NetworkConfig) -> None:
        parts = build(config.model, Tuning.parse(config.tuning), config.context, config.weights)
        size = cast(torch.Tensor, parts.head.linear.weight).shape[0]
        if size != config.vocabulary:
            raise BenchError(
                f"{config.model} has {size:,} ids, these tokens are made for {config.vocabulary:,}; use its own tokenizer"
            )
        if config.slots is not None:
            if parts.eyes is None or parts.eyes.image_id != config.slots.image_id:
                raise BenchError(
                    f"{config.model} reads text, not images (or its folder holds no processor); choose a vision-language model "
                    f"or one of the sizes {', '.join(SIZES)}"
                )
            self.stem = parts.eyes
        self.config = replace(config, weights=parts.sha256)
        self._base, self._shared = parts.base, parts.shared
        self.backbone = Pretrained(parts.backbone)
        heads: dict[str, nn.Module] = {}
        for name, head in config.heads.items():
            if name == "policy":
                heads[name] = parts.head
            elif head.twin == "policy":
                heads[name] = LowRankTwin(self.width, head.outputs)
            else:
                heads[name] = _head(self.width, head)
        self.heads = nn.ModuleDict(heads)

    def _doubles(self) -> frozenset[str]:
        """Names under which tensors stand that are the base's, or stand under another name already."""
        seen, found = set(self._shared), set()
        for name, tensor in (*self.named_parameters(remove_duplicate=False), *self.named_buffers(remove_duplicate=False)):
            if id(tensor) in seen:
                found.add(name)
            seen.add(id(tensor))
        return frozenset(found)

    def own_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Its parameters by name, but for those that it shares with other networks, which stay as they are."""
        return ((name, parameter) for name, parameter in self.named_parameters() if id(parameter) not in self._shared)

    def recompute_activations(self) -> None:
        """From now on the backbone keeps its layers' inputs alone, and computes the rest again in the backward pass."""
        model: Any = self.backbone.model if self.config.pretrained else self.backbone
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()  # else frozen layers below the trained ones would be gone through backwards

    @torch.no_grad()
    def copy_head(self, source: str, to: str, shift: float = 0.0) -> None:
        """Make the head `to`, linear and declared as the twin of `source`, equal to it, but for `shift` on every output."""
        head = self.heads[to]
        if isinstance(head, LowRankTwin):
            nn.init.zeros_(head.up.weight)
            nn.init.constant_(head.up.bias, shift)
        else:
            head.load_state_dict(self.heads[source].state_dict())
            cast(nn.Linear, head).bias.add_(shift)

    @property
    def width(self) -> int:
        """Size of the hidden state."""
        return self.backbone.config.get_text_config().hidden_size

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def hidden(
        self,
        ids: torch.Tensor,
        images: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
        frame: torch.Tensor | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """Hidden states (B, T, D) of rows (B, T); padding stands at the right, where a causal model cannot see it.

        Args:
            images, numbers, frame: of the observations in the rows (`TokenBatch`), which fill the slots of `ids` from left to
                right, row by row; None where there are none.
        """
        if self._base is not None and self._base.trunk is not None:
            self._base.trunk.enter(None if options else (ids, images, frame))
        if self.config.pretrained and images is None:
            return self.backbone(input_ids=ids, **options).last_hidden_state
        return self.backbone(inputs_embeds=self._embedded(ids, images, numbers, frame), **options).last_hidden_state

    def _embedded(
        self,
        ids: torch.Tensor,
        images: torch.Tensor | None,
        numbers: torch.Tensor | None,
        frame: torch.Tensor | None,
    ) -> torch.Tensor:
        embedded = self.backbone.get_input_embeddings()(ids)
        if images is not None:
            for slot, found in self.stem(images, numbers, frame).items():
                embedded = embedded.masked_scatter((ids == slot)[..., None], found.to(embedded.dtype))
        return embedded

    def forward(self, batch: TokenBatch, position: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Every head's output (P, outputs) at `position` (P,), or (K, outputs) at the action tokens of a batch; see `at`."""
        return self.read(self.at(batch, position))

    def at(self, batch: TokenBatch, position: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states (P, D) of a batch, which `read` reads, all at once or some rows at a time.

        Args:
            position: (P,) indices into the flattened (B * T) tokens; `batch.position`, the action tokens, if not given.
        """
        chosen = batch.position if position is None else position
        if self.config.pretrained:
            return self.hidden(batch.ids, batch.images, batch.numbers, batch.frame).flatten(0, 1)[chosen]
        embedded = self._embedded(batch.ids, batch.images, batch.numbers, batch.frame)
        return hidden_at(self.backbone, embedded, chosen, batch.mask)

    def read(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every head's output on hidden states (..., D); not in mixed precision, since values are differences of logits."""
        return self.whole(self.parts(hidden))

    def parts(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """What `whole` makes the outputs from, by head, of the same shapes: whoever goes over them in blocks adds up there."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.through_heads(hidden.to(next(self.heads.parameters()).dtype))

    def whole(self, parts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs (..., V) from `parts`, or from some rows of them: a `LowRankTwin` says what it adds to the head `policy`."""
        twins = {name for name, head in self.heads.items() if isinstance(head, LowRankTwin)}
        return {name: part + parts["policy"] if name in twins else part for name, part in parts.items()}

    def read_one(self, name: str, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """One output a row (K,) of the head `name`, that of `ids` (K,), on hidden states (K, D): `read` without all the others.

        The head is a linear map, or ends in one.
        """
        head = self.heads[name]
        last = cast(nn.Linear, head[-1] if isinstance(head, nn.Sequential) else head)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(last.weight.dtype)
            inner = head[:-1](hidden) if isinstance(head, nn.Sequential) else hidden
            return (inner * last.weight[ids]).sum(-1) + last.bias[ids]

    def through_heads(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """`parts` in whatever precision is set, on any device."""
        return {name: head(hidden) for name, head in self.heads.items()}


class Pretrained(nn.Module):
    """A pretrained backbone.

    Args:
        model: of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def config(self) -> Any:
        return self.model.config

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)


def _random_backbone(config: NetworkConfig) -> Any:
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(
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


def _refuse(network: Any, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """What others stand on is never overwritten."""
    for name in network._left_out:
        if prefix + name in state:
            raise RuntimeError(f"{name} is no weight of this network's own")


def _leave_out(network: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in network._left_out:
        state.pop(prefix + name, None)


def _do_not_miss(network: Any, keys: Any) -> None:
    """`load_state_dict` of a network, or of what it is a part of, does not miss what `state_dict` leaves out."""
    endings = tuple("." + name for name in network._left_out)
    keys.missing_keys[:] = [key for key in keys.missing_keys if key not in network._left_out and not key.endswith(endings)]


class Stem(nn.Module):
    """Images and numbers to tokens.

    ```
    image (H, W, 3) -> convolutions -> features (places, C) -> pooling -> (image_tokens, D)
    numbers (P,)    -> perceptron, where there are any                 -> (1, D)
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
        if slots.numbers:
            self.numbers = nn.Sequential(nn.Linear(slots.numbers, width), nn.GELU(), nn.Linear(width, width))

    def forward(
        self, images: torch.Tensor, numbers: torch.Tensor | None = None, frame: torch.Tensor | None = None
    ) -> dict[int, torch.Tensor]:
        """Tokens by the id whose places they take: (N * image_tokens, D) and, where there are numbers, (N, D).

        Args:
            images, numbers, frame: see `TokenBatch`; an image that several observations show is looked at once.
        """
        dtype = next(self.parameters()).dtype
        seen = torch.zeros_like(images) if self.slots.sees == "numbers" else images
        pixels = seen.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1  # channels last in memory already
        tokens = self.pool(self.features(pixels).flatten(2).transpose(1, 2))
        found = {self.slots.image_id: (tokens if frame is None else tokens[frame]).flatten(0, 1)}
        if numbers is not None:
            measured = torch.zeros_like(numbers) if self.slots.sees == "image" else numbers
            found[self.slots.numbers_id] = self.numbers(measured.to(dtype))
        return found


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
    """target <- (1 - rate) target + rate source, parameter by parameter (Algorithm 1, line 9); what both share stays."""
    pairs = [(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True) if a is not b]
    torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], rate)


def frozen_copy(network: Network) -> Network:
    """A copy without gradients, to be moved by `polyak`."""
    copy = Network(network.config)
    copy.load_state_dict(network.state_dict())
    return copy.requires_grad_(False)
