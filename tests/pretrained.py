"""Language models of a few thousand random weights, saved as pretrained ones are: config, safetensors, tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

TEXTS = ["one\n", "two\n", "three\n", "end\n", "go\n", "stop\n", "Is it an animal?\n", "Yes.\n", "No.\n", "Questions:\n"]


def save_tokenizer(folder: Path, special: tuple[str, ...] = ("<|endoftext|>", "<|unused|>")) -> int:
    """A byte-level BPE in `folder`; the first of `special` begins and ends a text. Returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    names = {"bos_token": special[0], "eos_token": special[0]} if special else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def save_model(
    folder: Path,
    kind: Literal["llama", "gpt2"] = "llama",
    *,
    layers: int = 3,
    positions: int = 64,
    spare: int = 5,
    **options: Any,
) -> Path:
    """A model in `folder`, with `spare` ids more than its tokenizer has."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    size = save_tokenizer(folder) + spare
    config: Any
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            initializer_range=0.2,
            **{"tie_word_embeddings": True, **options},
        )
    else:  # with dropout, as GPT-2 was published
        config = GPT2Config(
            vocab_size=size, n_positions=positions, n_embd=32, n_layer=layers, n_head=4, initializer_range=0.2, **options
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = (LlamaForCausalLM if kind == "llama" else GPT2LMHeadModel)(config)
    model.save_pretrained(folder)
    return folder


PINPOINTS = [[8, 16], [16, 8]]  # an image is seen whole, 2 x 2 patches, and once more at twice the width or height


def save_vision_model(folder: Path, positions: int = 512, spare: int = 5, **options: Any) -> Path:
    """A LLaVA-NeXT with its processor in `folder`; a square image takes 4 + 2 x (2 + 1) places."""
    import torch
    from transformers import (
        AutoTokenizer,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextProcessor,
    )
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    size = save_tokenizer(folder, ("<|endoftext|>", "<image>", "<|unused|>")) + spare
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    sizes: Any = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "image_grid_pinpoints": PINPOINTS}
    LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(**sizes),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    config: Any = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            image_size=8,
            patch_size=4,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            projection_dim=16,
            attention_dropout=0.1,
            initializer_range=1.0,
            initializer_factor=20.0,
        ),
        text_config=LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            initializer_range=0.2,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
        initializer_range=0.2,
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlavaNextForConditionalGeneration(config)
    model.save_pretrained(folder)
    return folder
