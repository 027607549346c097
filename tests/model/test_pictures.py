"""Transcripts of text and images: where an image has an effect, and the cached decoder against fresh forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qsft_bench import noise
from qsft_bench.codec import SPECIAL, ControlCodec, TextCodec, seen
from qsft_bench.episode import Episode, Turn
from qsft_bench.model import network as network_module
from qsft_bench.model.decoder import Decoder, Outputs
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.tokens import TokenArrays, prompt
from tests.examples import control_episode, picture_episode

CODEC = TextCodec(
    "words", ["go\n", "stop", " now\n", "see\n", "the", " task\n"], action_pieces=3, action_limit=2, image=(12, 12, 3)
)
CONTEXT = 90  # some six turns


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Of two layers, far from uniform, so that pictures matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network_module.SIZES, "two", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64})
        patch.setitem(network_module.SMALL_STEMS, "two", (8, 16))
        torch.manual_seed(0)
        made = Network(NetworkConfig("two", CODEC.size, CONTEXT, {"policy": Head(CODEC.outputs)}, CODEC.slots)).double()
        for parameter in made.parameters():
            parameter.data.mul_(2.0)
        yield made.eval().requires_grad_(False)


def policy(outputs: Outputs) -> torch.Tensor:
    return outputs["policy"]["policy"]


def goes(outputs: Outputs) -> torch.Tensor:
    """Always `go`, one token that ends an action."""
    (go,) = CODEC.action("go\n")
    return policy(outputs) + 1e6 * torch.nn.functional.one_hot(torch.tensor(go), CODEC.outputs)


def scores(network: Network, episode: Episode, turn: int, begun: Sequence[int]) -> torch.Tensor:
    """Next-token logits by one forward pass, without a decoder: images in the order of `Row.shown`."""
    row = prompt(CODEC, episode, turn, CONTEXT, "transcript")
    images = np.stack([seen(episode.turns[shown].observation)[0] for shown in row.shown])
    hidden = network.hidden(torch.tensor([[*row.ids, *begun]]), torch.from_numpy(images))
    found = network.read(hidden[0, -1])["policy"]
    return found.masked_fill(~torch.from_numpy(CODEC.playable), -torch.inf)


def answer(episode: Episode, ids: Sequence[int]) -> None:
    """The next observation says what they all say; its picture depends on what was done."""
    turn = episode.length
    picture = picture_episode(turn + 1, episode.seed + 7 * sum(ids)).turns[-1].observation
    episode.step(CODEC.decode(ids), {**picture, "text": "see\n"}, 0.0, turn + 1 >= 8 + episode.seed % 4, False, {})


def start(seed: int) -> Episode:
    return Episode("toy", seed, [Turn(picture_episode(1, seed).turns[0].observation)])


# Where an image has an effect -------------------------------------------------------------------------------------------


def test_an_image_changes_its_own_row_from_its_own_turn_on(network: Network) -> None:
    episodes = [picture_episode(4, seed) for seed in range(3)]
    settings: Any = {"context": CONTEXT, "state": "transcript", "discount": 0.9, "return_bounds": (0.0, 1.0)}
    arrays = TokenArrays.encode(episodes, CODEC, **settings)
    batch = arrays.batch(arrays.windows(), 0.9)
    assert batch.images is not None and batch.frame is not None and len(batch.images) == 4
    shared = network(batch)["policy"]
    batch.images, batch.frame = batch.images[batch.frame], None
    assert len(batch.images) == 12 and torch.equal(network(batch)["policy"], shared)
    before = network(batch)["policy"]
    row = batch.position // batch.ids.shape[1]
    for image in range(12):
        kept = batch.images[image].clone()
        batch.images[image] = 255 - kept
        changed = (network(batch)["policy"] != before).any(-1)
        assert torch.equal(changed, (row == image // 4) & (batch.turn >= image % 4))
        batch.images[image] = kept


# The cache --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("greedy", [True, False])
def test_cached_decoding_is_decoding(network: Network, greedy: bool) -> None:
    """Turn after turn, also where old turns are dropped; in company as alone."""
    decoder = Decoder({"policy": network}, CODEC, CONTEXT, "transcript")
    episodes = [start(seed) for seed in range(5)]
    dropped = 0
    while playing := [episode for episode in episodes if not episode.done]:
        chosen = decoder.decode(playing, policy, greedy)
        alone = Decoder({"policy": network}, CODEC, CONTEXT, "transcript").decode(playing[:1], policy, greedy)
        assert alone == chosen[:1]
        for episode, ids in zip(playing, chosen, strict=True):
            turn = episode.length
            dropped += len(prompt(CODEC, episode, turn, CONTEXT, "transcript").shown) < turn + 1
            for token, picked in enumerate(ids):
                wanted = scores(network, episode, turn, ids[:token])
                found = policy(decoder.peek([episode], [ids[:token]]))[0]
                torch.testing.assert_close(found.masked_fill(wanted.isinf(), -torch.inf), wanted, rtol=0, atol=1e-12)
                draw = float(noise.uniform(episode.seed, turn, token))
                assert picked == int(wanted.argmax() if greedy else (wanted.softmax(-1).cumsum(-1) > draw).nonzero()[0])
            answer(episode, ids)
        decoder.forget([episode for episode in playing if episode.done])
    assert dropped > 3


def test_only_new_images_are_looked_at(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, looked, real = Decoder({"policy": network}, CODEC, CONTEXT, "transcript"), [], network.hidden

    def hidden(ids: torch.Tensor, images: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
        looked.append(0 if images is None else len(images))
        return real(ids, images, **options)

    monkeypatch.setattr(network, "hidden", hidden)
    episodes = [start(seed) for seed in (1, 2)]
    for _ in range(3):
        for episode, ids in zip(episodes, decoder.decode(episodes, goes, True), strict=True):
            answer(episode, ids)
    assert [count for count in looked if count] == [2, 2, 2]


def test_a_past_that_looked_different_is_read_again(network: Network) -> None:
    """The ids of two pictures are equal: what the cache holds must be told by the pictures themselves."""
    decoder = Decoder({"policy": network}, CODEC, CONTEXT, "transcript")
    one, other = start(4), start(4)
    other.turns[0].observation = {**one.turns[0].observation, "image": 255 - one.turns[0].observation["image"]}
    decoder.decode([one], goes, True)
    for episode in (one, other):
        episode.step("go\n", picture_episode(1, 8).turns[0].observation, 0.0, False, False, {})
    found = []

    def noted(outputs: Outputs) -> torch.Tensor:
        found.append(policy(outputs)[0])
        return policy(outputs)

    decoder.decode([other], noted, True)
    wanted = scores(network, other, 1, [])
    torch.testing.assert_close(found[0].masked_fill(wanted.isinf(), -torch.inf), wanted, rtol=0, atol=1e-12)


def test_turns_that_say_the_same_are_told_apart_when_old_ones_are_dropped(network: Network) -> None:
    """Where every turn has equal ids, a prompt that dropped some looks like one that did not."""
    decoder, found = Decoder({"policy": network}, CODEC, CONTEXT, "transcript"), []

    def noted(outputs: Outputs) -> torch.Tensor:
        found.append(policy(outputs)[0])
        return goes(outputs)

    episode = start(3)
    for turn in range(12):
        assert decoder.decode([episode], noted, True) == [list(CODEC.action("go\n"))]
        wanted = scores(network, episode, turn, [])
        torch.testing.assert_close(found[-1].masked_fill(wanted.isinf(), -torch.inf), wanted, rtol=0, atol=1e-12)
        picture = picture_episode(1, 50 + turn, pictures=100).turns[0].observation
        episode.step("go\n", {**picture, "text": "see\n"}, 0.0, False, False, {})


def test_control_vectors_are_read_in_transcripts_as_well() -> None:
    codec = ControlCodec(5, 2, (12, 12, 3), 3)
    torch.manual_seed(0)
    network = Network(NetworkConfig("nano", codec.size, 64, {"policy": Head(codec.outputs)}, codec.slots)).double().eval()
    decoder = Decoder({"policy": network}, codec, 64, "transcript")
    episode = Episode("toy", 1, [Turn(control_episode(6).turns[0].observation)])
    for turn in range(6):
        (ids,) = decoder.decode([episode], policy, True)
        assert [len(SPECIAL) <= token < codec.outputs for token in ids] == [True] * 2
        outputs = policy(decoder.peek([episode]))[0].masked_fill(~torch.from_numpy(codec.playable), -torch.inf)
        assert ids[0] == int(outputs.argmax())
        episode.turns[-1].action = codec.decode(ids)
        episode.turns.append(Turn(control_episode(1, turn).turns[0].observation))
