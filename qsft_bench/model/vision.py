"""What a vision-language model sees with: its own vision tower and projector, from pixels to embeddings in its tokens' places.

They are frozen whatever is tuned, and held once for all networks of a process. The processor's work (resizing, cutting into
patches, `image_sizes`) and the tower's are done anew in every process, but once an image as long as it is remembered, however
often it comes in rows, epochs and networks: nothing of them is stored.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, Self

import torch
from torch import nn

from qsft_bench.errors import BenchError
from qsft_bench.model.precision import rounded_products

REMEMBERED = 2**30  # bytes of embeddings, those asked for last
AT_ONCE = 8  # images through the tower


class Eyes(nn.Module):
    """Images to the embeddings that stand in the places of a model's image tokens.

    Args:
        model: of transformers, with `get_image_features`; its language model is not needed.
        processor: its own.
        image_id: the id of its image token.
    """

    def __init__(self, model: Any, processor: Any, image_id: int) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.image_id = image_id
        self.requires_grad_(False).eval()
        self._known: OrderedDict[bytes, torch.Tensor] = OrderedDict()  # digest of an image -> (image_tokens, D)

    def train(self, mode: bool = True) -> Self:
        """Stays as it is: nothing here is drawn at random."""
        return super().train(False)

    def forward(
        self, images: torch.Tensor, numbers: torch.Tensor | None = None, frame: torch.Tensor | None = None
    ) -> dict[int, torch.Tensor]:
        """Embeddings (N * image_tokens, D) by the id whose places they take.

        Args:
            images, frame: see `TokenBatch`; there are no numbers.
        """
        if images.is_meta:  # shapes alone: where the embeddings go to has them already
            return {self.image_id: next(self.model.parameters()).new_empty(0)}
        digests = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images.cpu()]
        found = {digest: self._known[digest] for digest in digests if digest in self._known}
        unknown = {digest: image for digest, image in zip(digests, images, strict=True) if digest not in found}
        for start in range(0, len(unknown), AT_ONCE):
            part = list(unknown)[start : start + AT_ONCE]
            found |= dict(zip(part, self.look(torch.stack([unknown[digest] for digest in part])), strict=True))
        self._remember(found)
        embedded = torch.stack([found[digest].to(images.device) for digest in digests])
        return {self.image_id: (embedded if frame is None else embedded[frame]).flatten(0, 1)}

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (U, image_tokens, D) of images (U, height, width, 3) uint8, in single precision whoever asks."""
        first = next(self.model.parameters())
        single = torch.autocast(first.device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), single, rounded_products(False):
            inputs = processed(self.processor, images)
            pixels = {name: value.to(first.device) for name, value in inputs.items() if name not in TEXT}
            pixels["pixel_values"] = pixels["pixel_values"].to(first.dtype)
            features = self.model.get_image_features(**pixels, return_dict=True).pooler_output
            return torch.stack([each.flatten(0, -2) for each in features])

    def _remember(self, found: dict[bytes, torch.Tensor]) -> None:
        for digest, embedded in found.items():
            self._known[digest] = embedded
            self._known.move_to_end(digest)
        size = sum(each.nbytes for each in found.values()) // len(found)
        while len(self._known) > max(len(found), REMEMBERED // size):
            self._known.popitem(last=False)


TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")  # what a processor says of the text


def processed(processor: Any, images: torch.Tensor) -> Any:
    """What a processor makes of images (U, height, width, 3) uint8, each beside a text that is an image token alone."""
    text = [processor.image_token] * len(images)
    return processor(images=list(images.cpu().numpy()), text=text, return_tensors="pt", input_data_format="channels_last")


def check_hands_over(model: Any, language: nn.Module, eyes: Eyes, name: str) -> None:
    """Some models tell their language model more of an image than its embeddings, such as places in two dimensions.

    Args:
        model: of transformers, with vision and language; language: the part that reads embeddings.

    Raises:
        BenchError: this one does; then what is trained here would not be that model.
    """
    images = (torch.arange(32 * 32 * 3) % 251).to(torch.uint8).view(1, 32, 32, 3)
    handed: dict[str, Any] = {}

    def record(**inputs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        handed.update(inputs)
        return BaseModelOutputWithPast(last_hidden_state=inputs["inputs_embeds"])

    language.forward = record
    try:
        with torch.no_grad():
            inputs = processed(eyes.processor, images)
            model(**{name: value for name, value in inputs.items() if name != "attention_mask"})
    finally:
        del language.forward
    ids, places, mask = inputs["input_ids"], handed.get("position_ids"), handed.get("attention_mask")
    with torch.no_grad():
        ours = language.get_input_embeddings()(ids)  # type: ignore[operator]
        ours = ours.masked_scatter((ids == eyes.image_id)[..., None], eyes(images)[eyes.image_id])
    alike = handed["inputs_embeds"].shape == ours.shape and torch.allclose(handed["inputs_embeds"], ours, atol=1e-4)
    in_order = places is None or (places.dim() < 3 and bool((places == torch.arange(ids.shape[1])).all()))
    causal = mask is None or (isinstance(mask, torch.Tensor) and bool((mask == 1).all()))
    if not (alike and in_order and causal):
        raise BenchError(f"{name} reads images in a way that is not built in here ({type(model).__name__})")
