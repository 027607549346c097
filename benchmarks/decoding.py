"""The decoder's persistent cache beside `transformers`' own `generate`, which reads the transcript again every turn.

Games are in LMRL's format, where a guess is ten characters (`h o v e l` and a newline) and so is its answer. Answers are
drawn at random, so that every game takes all its turns whatever was guessed. Both play greedily, in turns, from the very
same transcripts, so that their tokens can be compared.

What a cache can save beside a batched `generate` is a property of the game: the tokens that `generate` reads again. That
ratio stands below each speed-up; six turns of Wordle allow 3.5, twenty turns 10.6.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from baselines.sft import SFT
from benchmarks.pretrained import found_model
from benchmarks.row import Row, Target, cpu_seconds
from qsft_bench.codec import PAD, Codec
from qsft_bench.episode import Episode, Turn
from qsft_bench.evaluate import Cell
from qsft_bench.model.decoder import Decoder, Outputs, Policy
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.pipeline import Pipeline
from qsft_bench.preset import scale
from qsft_bench.registry import env_spec
from qsft_bench.tokens import prompt

EPISODES = 64
CONTEXT = 448  # 20 turns of 20 tokens, and the opening
REPEATS = 5

Player = Callable[[Sequence[Episode]], list[list[int]]]


def measure(directory: Path) -> list[Row]:
    """64 games side by side: as long as Wordle and as Twenty Questions, and with `generate` given one game at a time.

    And a pretrained model: with a cache for wide rows beside the library's, its decodings side by side and in turn.
    """
    agent = _agent(directory)
    network, codec = agent.networks["policy"], agent.codec
    model = language_model(network, codec)

    def batched(episodes: Sequence[Episode]) -> list[list[int]]:
        return generate(model, codec, episodes)

    def one_by_one(episodes: Sequence[Episode]) -> list[list[int]]:
        return [action for episode in episodes for action in generate(model, codec, [episode])]

    rows: list[Row] = []
    for turns, repeats, rival, name, target in (
        (6, REPEATS, batched, "generate anew each turn, all games in a batch", Target("at least", 5)),
        (6, 1, one_by_one, "generate anew each turn, one game at a time", None),
        (20, 2, batched, "generate anew each turn, all games in a batch", None),
    ):
        found = [_compared(network, codec, turns, rival, seed) for seed in range(repeats)]
        cached, anew = (median(getattr(one, field) for one in found) for field in ("cached", "anew"))
        rows.append(
            Row(
                f"decoder, {EPISODES} games of {turns} turns: speed-up",
                f"{cached:.2f} s",
                f"{name}: {anew:.2f} s",
                median(one.anew / one.cached for one in found),
                target,
            )
        )
        if rival is batched:
            fed, read = found[0].fed, found[0].read
            rows.append(Row("... tokens fed to the network (bounds the speed-up)", f"{fed:,}", f"{read:,}", read / fed))
        same, actions = sum(one.same for one in found), len(found) * turns * EPISODES
        rows.append(
            Row("... actions with the same tokens", f"{same:,}", f"{actions:,} actions", same / actions, Target("at least", 1))
        )
    return [*rows, *_pretrained(directory)]


def _pretrained(directory: Path) -> list[Row]:
    """A pretrained model in Twenty Questions, asking at random: its cache, and its decodings side by side."""
    spec, name = env_spec("twenty_questions"), found_model(directory)
    sizes = replace(scale("smoke", spec), options={}, dataset_episodes=100, context=CONTEXT, model=name)
    codec = Pipeline(root=directory, scales={spec.name: sizes}).tokens(Cell("sft", spec.name, preset="smoke")).codec
    network = Network(NetworkConfig(name, codec.size, CONTEXT, {"policy": Head(codec.outputs)})).eval()
    played = [Policy(partial(_tempered, temperature=1 + number / 8), False) for number in range(8)]

    def talk(policies: Sequence[Policy], games: int, turns: int, wide: bool = True) -> float:
        decoder = Decoder({"policy": network}, codec, CONTEXT, "transcript")
        decoder.narrows = wide
        players = [player for player in range(len(policies)) for _ in range(games)]
        episodes = [
            Episode(spec.name, index % games, [Turn("Questions:\n")], player=player) for index, player in enumerate(players)
        ]

        def work() -> None:
            for turn in range(turns):
                found = decoder.decode_by(policies, episodes)
                for index, (episode, ids) in enumerate(zip(episodes, found, strict=True)):
                    answer = "Yes.\n" if (index + turn) % 3 else "No.\n"
                    episode.step(codec.decode(ids), answer, -1.0, turn == turns - 1, False, {})

        return cpu_seconds(work)

    wide, plain = talk(played[:1], 16, 8), talk(played[:1], 16, 8, wide=False)
    together, apart = talk(played, 4, 2), sum(talk([policy], 4, 2) for policy in played)
    name = Path(name).name
    return [
        Row(f"{name}, 16 games of 8 turns: speed-up", f"{wide:.1f} s", f"the library's cache: {plain:.1f} s", plain / wide),
        Row(
            f"{name}, 4 games of 2 turns under 8 decodings side by side: speed-up",
            f"{together:.1f} s",
            f"one decoding after another: {apart:.1f} s",
            apart / together,
        ),
    ]


def _tempered(outputs: Outputs, temperature: float) -> torch.Tensor:
    return outputs["policy"]["policy"] / temperature


@dataclass
class Compared:
    """Two players on the same transcripts.

    Attributes:
        cached, anew: processor seconds of the decoder and of its rival.
        fed, read: tokens that each put through the network, padding not counted.
        same: actions on which they agree, token by token.
    """

    cached: float = 0.0
    anew: float = 0.0
    fed: int = 0
    read: int = 0
    same: int = 0


def _compared(network: Network, codec: Codec, turns: int, rival: Player, seed: int) -> Compared:
    decoder = Decoder({"policy": network}, codec, CONTEXT, "transcript")
    episodes = [Episode("wordle", seed, [Turn("Wordle:\n")]) for seed in range(EPISODES)]
    answers = np.random.default_rng(seed).choice(list("byg"), size=(turns, EPISODES, 5))
    result = Compared()
    known = np.zeros(EPISODES, int)  # tokens in the decoder's cache
    for turn in range(turns):
        began = time.process_time()
        found = decoder.decode(episodes, lambda outputs: outputs["policy"]["policy"], greedy=True)
        between = time.process_time()
        expected = rival(episodes)
        result.anew += time.process_time() - between
        result.cached += between - began
        result.same += sum(mine == theirs for mine, theirs in zip(found, expected, strict=True))
        prompts = np.array([len(prompt(codec, episode, turn, CONTEXT, "transcript").ids) for episode in episodes])
        ends = prompts + [len(ids) - 1 for ids in found]  # the last token of an action is fed with the next prompt
        result.fed += int((ends - known).sum())
        result.read += int(ends.sum())
        known = ends
        for episode, ids, colours in zip(episodes, found, answers[turn], strict=True):
            episode.step(codec.decode(ids), " ".join(colours) + "\n", -1.0, turn == turns - 1, False, {})
    return result


def _agent(directory: Path) -> SFT:
    """A policy that has seen enough to write guesses of full length."""
    sizes = replace(
        scale("smoke", env_spec("wordle")),
        options={},
        codec="characters",
        model="tiny",
        context=CONTEXT,
        steps=60,
        batch_size=32,
    )
    cell = Cell("sft", "wordle", preset="smoke")
    return SFT.load(Pipeline(root=directory, scales={"wordle": sizes}).checkpoint(cell))


def language_model(network: Network, codec: Codec) -> GPT2LMHeadModel:
    """The same weights as one of the library's models; ids that nobody may play have probability 0."""
    config = network.backbone.config
    config = type(config).from_dict({**config.to_dict(), "use_cache": True, "tie_word_embeddings": False})
    config._attn_implementation = network.backbone.config._attn_implementation
    model = GPT2LMHeadModel(config).eval()
    model.transformer.load_state_dict(network.backbone.state_dict())
    head = network.heads["policy"]
    assert isinstance(head, nn.Linear)
    model.lm_head = nn.Linear(network.width, codec.size)
    with torch.no_grad():
        model.lm_head.weight.zero_()[: codec.outputs] = head.weight
        model.lm_head.bias.fill_(-torch.inf)[: codec.outputs] = torch.where(
            torch.from_numpy(codec.playable), head.bias, -torch.inf
        )
    return model


@torch.inference_mode()
def generate(model: GPT2LMHeadModel, codec: Codec, episodes: Sequence[Episode]) -> list[list[int]]:
    """One action for each episode, all in one padded batch, from the whole transcript."""
    prompts = [prompt(codec, episode, len(episode.turns) - 1, CONTEXT, "transcript").ids for episode in episodes]
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    ends = np.flatnonzero(codec.ends).tolist()
    found = model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=codec.action_limit,
        eos_token_id=ends,
        pad_token_id=PAD,
    )
    chosen = []
    for row in found[:, width:].tolist():
        stop = next((index for index, token in enumerate(row) if token in ends), len(row) - 1)
        chosen.append(row[: stop + 1])
    return chosen
