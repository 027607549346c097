"""Pretrained language models as backbones: loaded from safetensors, tuned whole, by adapters or in their last layers.

`Tuning` says which weights a network has for itself. Those that stay as they are, are held once in the process, whatever number
of networks (behaviour, theta, its target) stand on them:

```
full       every network has all weights; a tied output matrix stays tied
lora:16    base (frozen, one for all)  +  adapters of rank 16 on every linear map, per network
last:4     base (frozen, one for all), but for the last 4 layers and the final norm, per network
```

Of a vision-language model the language model is tuned so; what it sees with stays frozen (`qsft_bench.model.vision`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from weakref import WeakValueDictionary

import torch
from torch import nn

from qsft_bench import weights
from qsft_bench.errors import BenchError
from qsft_bench.model.vision import Eyes, check_hands_over

KINDS = ("full", "lora", "last")
TWIN_RANK = 64  # of the difference between a model's own output matrix and its twin


@dataclass(frozen=True)
class Tuning:
    """Which weights are a network's own: all (`full`), adapters of rank `size` (`lora`), the last `size` layers (`last`)."""

    kind: Literal["full", "lora", "last"] = "full"
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> Tuning:
        """From `full`, `lora:<rank>` or `last:<layers>`.

        Raises:
            BenchError: it is none of them.
        """
        kind, _, size = text.partition(":")
        if text == "full":
            return cls()
        if kind not in ("lora", "last") or not size.isdecimal() or not int(size):
            raise BenchError(f"tuning {text!r} is none of full, lora:<rank> (as lora:16) and last:<layers> (as last:4)")
        return cls(cast(Any, kind), int(size))


class LanguageHead(nn.Module):
    """A language model's own output map: a matrix, and for some models a soft limit.

    Args:
        linear: (D,) to (V,); often tied to the embedding.
        softcap: logits are limit * tanh(logits / limit); None for no limit.
    """

    def __init__(self, linear: nn.Module, softcap: float | None) -> None:
        super().__init__()
        self.linear = linear
        self.softcap = softcap

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.linear(hidden)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


class LowRankTwin(nn.Module):
    """What a head adds to the logits of the model's own: a map of low rank and a constant, that start as nothing.

    Args:
        width, outputs: D and V.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, TWIN_RANK, bias=False)
        self.up = nn.Linear(TWIN_RANK, outputs)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """What it adds (..., V), from hidden states (..., D)."""
        return self.up(self.down(hidden))


class Trunk:
    """The frozen first layers under several networks: run once where the same rows go through several of them in turn.

    Args:
        layers: they are changed to ask this first.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self._rows: tuple[torch.Tensor | None, ...] | None = None
        self._result: torch.Tensor | None = None
        self._replays = self._records = False
        for index, layer in enumerate(layers):
            layer.forward = self._remembering(layer.forward, index == len(layers) - 1)

    def enter(self, rows: tuple[torch.Tensor | None, ...] | None) -> None:
        """Called before the layers run on `rows`, ids and images (the same objects: the same rows).

        Args:
            rows: None where they are not to be remembered.
        """
        known = rows is not None and self._rows is not None and all(a is b for a, b in zip(rows, self._rows, strict=True))
        self._replays = known and self._result is not None
        self._records = rows is not None and not torch.is_inference_mode_enabled()
        if not self._replays:
            self._rows, self._result = (rows, None) if self._records else (None, None)

    def _remembering(self, forward: Any, last: bool) -> Any:
        wrapped = False

        def run(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal wrapped
            if self._replays:
                found = self._result if last else hidden
                return (found,) if wrapped else found
            found = forward(hidden, *args, **kwargs)
            wrapped = isinstance(found, tuple)
            if last and self._records:
                self._result = found[0] if wrapped else found
            return found

        return run


@dataclass(eq=False)
class Base:
    """A pretrained model, held once.

    Attributes:
        backbone: without its head.
        head: the model's own.
        sha256: of its weights.
        eyes: what it takes images with, or None.
        trunk: of its first layers where they are shared (`last`).
    """

    backbone: Any
    head: LanguageHead
    sha256: str
    eyes: Eyes | None = None
    trunk: Trunk | None = None

    def tensors(self) -> Iterator[torch.Tensor]:
        """All its weights."""
        for module in (self.backbone, self.head, *([self.eyes] if self.eyes else [])):
            yield from module.parameters()
            yield from module.buffers()


_BASES: WeakValueDictionary[tuple[str, str], Base] = WeakValueDictionary()
_EYES: WeakValueDictionary[str, Eyes] = WeakValueDictionary()  # of the models whose networks have all other weights


@dataclass(frozen=True)
class Parts:
    """A network's backbone and head, and the base whose weights some of theirs are.

    Attributes:
        shared: identities of the tensors that belong to the base.
    """

    backbone: Any
    head: LanguageHead
    sha256: str
    base: Base | None
    shared: frozenset[int]
    eyes: Eyes | None


def build(model: str, tuning: Tuning, context: int, sha256: str = "") -> Parts:
    """A backbone with the model's own head; within `torch.device("meta")` its shapes alone, for which its weights are not read.

    Args:
        model: folder, name on the hub, or `pip:` and a package; or `random:` and one of these.
        tuning: which weights are the network's own.
        context: most tokens of a row.
        sha256: that the model's weights must have; empty for any.

    Raises:
        BenchError: the model is not there, is another one, or cannot be used so.
    """
    if model.startswith(weights.RANDOM) and tuning.kind != "full":
        raise BenchError(f"the weights of {model} are random, and to keep some of them frozen makes no sense; use full tuning")
    path = weights.folder(model, whole=not _on_meta())
    found = f"shapes of {path}" if _on_meta() else weights.weights_sha256(path)
    if sha256 and found != sha256:
        raise BenchError(
            f"{model} has weights of SHA-256 {found}, this was trained on {sha256}; put that model back in its place"
        )
    if tuning.kind == "full":
        base = _load(path, model, found)
        _check_context(base, model, context)
        eyes = base.eyes and _EYES.setdefault(found, base.eyes)
        return Parts(base.backbone, base.head, found, None, frozenset(map(id, _tensors(eyes))), eyes)
    key = (found, "" if tuning.kind == "lora" else str(tuning.size))
    base = _BASES.get(key) or _load(path, model, found)
    _check_context(base, model, context)
    if key not in _BASES:
        for tensor in base.tensors():
            tensor.requires_grad_(False)
        if tuning.kind == "last":
            base.trunk = Trunk(_frozen_layers(base, model, tuning.size))
        _BASES[key] = base
    backbone, head = _adapted(base, model, tuning) if tuning.kind == "lora" else _last_layers(base, tuning.size)
    return Parts(backbone, head, found, base, frozenset(map(id, base.tensors())), base.eyes)


def _on_meta() -> bool:
    return torch.get_default_device().type == "meta"


def _load(path: Path, model: str, sha256: str) -> Base:
    """Read a model, without dropout, in single precision, and find its parts.

    That of `random:` has the architecture, and weights as its own code draws them, from torch's global generator.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging

    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
        sees = hasattr(config, "vision_config")
        for part in (config, config.get_text_config(), *([config.vision_config] if sees else [])):
            for name, value in vars(part).items():
                if ("drop" in name) and isinstance(value, float):
                    setattr(part, name, 0.0)  # what is drawn at random would be another start, and another model each time
        config.use_cache = config.get_text_config().use_cache = False
        language: Any
        missing: list[str] = []
        kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        if _on_meta() or model.startswith(weights.RANDOM):
            language = kind.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()
        else:
            language, info = kind.from_pretrained(
                path,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
            missing = sorted(info["missing_keys"])
    except weights.LOAD_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchError(
            f"{model} cannot be loaded as a causal language model: {reason} (a model that writes text is needed, whose code "
            "is part of transformers)"
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
    if missing:
        raise BenchError(
            f"{model} lacks weights ({', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}): it is a model without "
            "its language-model head, or a part of one; use the whole causal model"
        )
    whole, linear = getattr(language, language.base_model_prefix), language.get_output_embeddings()
    backbone = language.get_decoder() if sees else whole
    text = config.get_text_config()
    base = Base(backbone, LanguageHead(linear, getattr(text, "final_logit_softcapping", None)), sha256)
    if not _on_meta():
        _check_head(language, base, model)
    if sees:
        base.eyes = _take_eyes(whole, backbone, path, model)
    return base


def _take_eyes(whole: Any, backbone: Any, path: Path, model: str) -> Eyes | None:
    """What a vision-language model sees with, taken out of it; None where its folder does not say how images are read."""
    if not weights.has_processor(path):
        return None
    eyes = Eyes(whole, weights.processor(path), whole.config.image_token_id)
    if not _on_meta():
        check_hands_over(whole, backbone, eyes, model)
    (name,) = (name for name, child in whole.named_children() if child is backbone)
    setattr(whole, name, None)
    return eyes


def _tensors(module: nn.Module | None) -> Iterator[torch.Tensor]:
    for each in [] if module is None else [module]:
        yield from each.parameters()
        yield from each.buffers()


@torch.no_grad()
def _check_head(language: Any, base: Base, model: str) -> None:
    """Some models do more to their logits than a matrix and a limit; then what is trained here would not be that model."""
    ids = torch.arange(4)[None]
    wanted = language(input_ids=ids).logits
    found = base.head(base.backbone(input_ids=ids).last_hidden_state)
    if found.shape != wanted.shape or not torch.allclose(found, wanted, atol=1e-3, rtol=1e-3):
        raise BenchError(f"{model} computes its logits in a way that is not built in here ({type(language).__name__})")


def _check_context(base: Base, model: str, context: int) -> None:
    limit = getattr(base.backbone.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and context > limit:
        raise BenchError(f"{model} reads at most {limit} tokens; set --scale.context {limit} or less (now {context})")


def _adapted(base: Base, model: str, tuning: Tuning) -> tuple[Any, LanguageHead]:
    """A tree of modules of its own on the base's weights, with adapters."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise BenchError("tuning by adapters needs peft; `pip install 'qsft-bench[lora]'`") from error
    from transformers.pytorch_utils import Conv1D

    shared: dict[int, Any] = {id(tensor): tensor for tensor in base.tensors()}
    backbone, head = copy.deepcopy((base.backbone, base.head), shared)
    transposed = any(isinstance(module, Conv1D) for module in backbone.modules())  # GPT-2's maps
    config = LoraConfig(
        r=tuning.size, lora_alpha=2 * tuning.size, lora_dropout=0.0, target_modules="all-linear", fan_in_fan_out=transposed
    )
    try:
        inject_adapter_in_model(config, backbone)
    except ValueError as error:
        raise BenchError(f"{model} has no maps that adapters fit on ({error}); use --scale.tuning last:4 or full") from error
    return backbone, head


def _layers(base: Base) -> nn.ModuleList:
    """The backbone's layers: its longest list of modules."""
    return max((found for found in base.backbone.modules() if isinstance(found, nn.ModuleList)), key=len)


def _frozen_layers(base: Base, model: str, size: int) -> list[nn.Module]:
    layers = _layers(base)
    if size >= len(layers):
        raise BenchError(f"{model} has {len(layers)} layers; tune at most the last {len(layers) - 1}, or all of it (full)")
    return list(layers)[: len(layers) - size]


def _last_layers(base: Base, size: int) -> tuple[Any, LanguageHead]:
    """A tree whose last layers, and what follows them, are copies; everything else is the base's own."""
    layers = _layers(base)
    (parent,) = (found for found in base.backbone.modules() if any(child is layers for child in found.children()))
    children = list(parent.children())
    own = [*list(layers)[len(layers) - size :], *children[children.index(layers) + 1 :]]
    copied = {id(tensor) for module in own for tensor in (*module.parameters(), *module.buffers())}
    shared: dict[int, Any] = {id(tensor): tensor for tensor in base.tensors() if id(tensor) not in copied}
    shared |= {id(layer): layer for layer in list(layers)[: len(layers) - size]}
    backbone, head = copy.deepcopy((base.backbone, base.head), shared)
    return backbone, head
