"""Constrained decoding: only what is listed is said, with the probabilities that remain, cached or not."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from qsft_bench import noise
from qsft_bench.codec import TextCodec
from qsft_bench.episode import Episode, Turn
from qsft_bench.model import network as network_module
from qsft_bench.model.decoder import Decoder, Outputs
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.tokens import prompt

CODEC = TextCodec("characters", ["\n", "a", "b", "c", "d", "e", " "], action_pieces=4, action_limit=4)
CONTEXT = 90
EVERYTHING = ["".join(letters) for count in range(4) for letters in itertools.product("abc", repeat=count)]


@pytest.fixture(scope="module")
def networks() -> Iterator[dict[str, Network]]:
    patch = pytest.MonkeyPatch()
    patch.setitem(network_module.SIZES, "two", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64})
    torch.manual_seed(0)
    network = Network(NetworkConfig("two", CODEC.size, CONTEXT, {"policy": Head(CODEC.outputs)})).double()
    for parameter in network.parameters():
        parameter.data.mul_(2.0)
    yield {"policy": network.eval().requires_grad_(False)}
    patch.undo()


def policy(outputs: Outputs) -> torch.Tensor:
    return outputs["policy"]["policy"]


def listed(seed: int, turn: int) -> list[str]:
    """Some of everything, other at every turn."""
    return [text for index, text in enumerate(EVERYTHING) if noise.uniform(seed, turn, index) < 0.2] or ["ab"]


def play(decoder: Decoder, seeds: Sequence[int], greedy: bool = False) -> dict[int, list[str]]:
    said: dict[int, list[str]] = {seed: [] for seed in seeds}
    episodes = [Episode("talk", seed, [Turn("de"[: seed % 3], choices=listed(seed, 0))]) for seed in seeds]
    for turn in range(1, 4):
        for episode, ids in zip(episodes, decoder.decode(episodes, policy, greedy), strict=True):
            said[episode.seed].append(CODEC.decode(ids))
            info = {"admissible": listed(episode.seed, turn)}
            episode.step(said[episode.seed][-1], " e", 0.0, False, False, info)
    return said


@pytest.mark.parametrize("greedy", [False, True])
def test_only_what_is_listed_is_said(networks: dict[str, Network], greedy: bool) -> None:
    said = play(Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True), range(40), greedy)
    assert all(text.removesuffix("\n") in listed(seed, turn) for seed, texts in said.items() for turn, text in enumerate(texts))
    free = play(Decoder(networks, CODEC, CONTEXT, "transcript"), range(40), greedy)
    assert any(
        text.removesuffix("\n") not in listed(seed, turn) for seed, texts in free.items() for turn, text in enumerate(texts)
    )


def test_cached_is_uncached_and_alone_is_together(networks: dict[str, Network]) -> None:
    together = play(Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True), range(12))
    for seed, texts in together.items():
        assert play(Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True), [seed])[seed] == texts
    fresh: dict[int, list[str]] = {}
    for seed, texts in together.items():
        turns = [Turn("de"[: seed % 3], choices=listed(seed, 0))]
        fresh[seed] = []
        for turn, text in enumerate(texts, 1):
            decoder = Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True)
            fresh[seed].append(CODEC.decode(decoder.decode([Episode("talk", seed, turns)], policy, False)[0]))
            turns = [*turns[:-1], Turn(turns[-1].observation, text), Turn(" e", choices=listed(seed, turn))]
    assert fresh == together


def test_where_everything_is_listed_or_nothing_it_is_free(networks: dict[str, Network]) -> None:
    """Everything but what would run into the limit without an end."""
    free, bound = (
        Decoder(networks, CODEC, CONTEXT, "transcript"),
        Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True),
    )
    for choices in (EVERYTHING, None, ["d", "never ends"]):  # what cannot be spelt is no choice
        begun = [Episode("talk", seed, [Turn("d", choices=choices)]) for seed in range(60)]
        ends = [ids for ids in free.decode(begun, policy, False) if CODEC.ends[ids[-1]]]
        kept = [ids for ids, other in zip(bound.decode(begun, policy, False), free.decode(begun, policy, False), strict=True)
                if CODEC.ends[other[-1]]]  # fmt: skip
        assert len(ends) > 10 and kept == ends


def test_it_draws_in_proportion_among_what_remains(networks: dict[str, Network]) -> None:
    """P(token) proportional to the free one among the tokens that lead on, token by token."""
    decoder, choices = Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True), ["a", "ab", "c"]
    begun = [Episode("talk", seed, [Turn("d", choices=choices)]) for seed in range(3_000)]
    counts = Counter(CODEC.decode(ids) for ids in decoder.decode(begun, policy, False))
    network, start = networks["policy"], prompt(CODEC, begun[0], 0, CONTEXT, "transcript").ids

    def chance(text: str, *others: str) -> float:
        """Of the last letter of `text` against `others` in its place."""
        ids = CODEC.action(text)
        scores = network.read(network.hidden(torch.tensor([[*start, *ids[:-1]]]))[:, -1])["policy"][0]
        kept = torch.tensor([ids[-1], *(CODEC.action(other)[0] for other in others)])
        return float(scores[kept].softmax(-1)[0])

    a, b = chance("a", "c"), chance("ab", "\n")
    expected = {"a\n": a * (1 - b), "ab\n": a * b, "c\n": 1 - a}
    assert {text: count / 3_000 for text, count in counts.items()} == pytest.approx(expected, abs=0.04)


def test_what_is_weighed_is_what_is_drawn_from(networks: dict[str, Network]) -> None:
    decoder = Decoder(networks, CODEC, CONTEXT, "transcript", constrained=True)
    episode = Episode("talk", 1, [Turn("d", choices=["ab", "c", "d"])])
    a, b, c = (CODEC.action(letter)[0] for letter in "abc")
    assert np.flatnonzero(decoder.allowed([episode])[0]).tolist() == sorted([a, c])
    assert np.flatnonzero(decoder.allowed([episode], [[a]])[0]).tolist() == [b]


def test_a_text_is_spelt_exactly_or_not_at_all() -> None:
    words = TextCodec.learn("words", {"go fridge1\n": 3, "look\n": 1, " fridge1": 2}, ["go fridge1\n", "look\n"])
    spelt = words.spell("go fridge1")
    assert spelt is not None and words.decode(spelt) == "go fridge1\n" and spelt == words.spell("go fridge1\n")
    assert words.spell("go fridge2") is None and words.spell("go fridge1 look") is None and words.spell("") is None
