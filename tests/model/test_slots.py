"""Images and numbers in a row: each fills its own row's slots, in training and in play alike."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from qsft_bench.codec import ControlCodec
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Episode, Turn
from qsft_bench.model.decoder import Decoder
from qsft_bench.model.network import Head, Network, NetworkConfig
from tests.examples import control_data, control_episode


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    episodes = [control_episode(1 + seed % 3, seed, success=seed % 2 == 0) for seed in range(8)]
    return control_data(tmp_path_factory.mktemp("control"), episodes)


@pytest.fixture(scope="module")
def network(data: TokenDataset) -> Network:
    torch.manual_seed(0)
    heads = {"policy": Head(data.codec.outputs)}
    return Network(NetworkConfig("nano", data.codec.size, 16, heads, data.codec.slots)).double().eval().requires_grad_(False)


def test_an_image_changes_its_own_row_alone(data: TokenDataset, network: Network) -> None:
    batch = data.batch(np.arange(4))
    assert batch.images is not None and batch.numbers is not None
    before = network(batch)["policy"]
    row = batch.position // batch.ids.shape[1]
    for change in (batch.images, batch.numbers):
        kept = change.clone()
        change[2] = change[2].flip(0)
        after = network(batch)["policy"]
        assert torch.equal((before != after).any(-1), row == 2)
        change.copy_(kept)


def test_a_row_does_not_know_its_place_in_the_batch(data: TokenDataset, network: Network) -> None:
    batch = data.batch(np.arange(4))
    assert batch.images is not None and batch.numbers is not None
    order = torch.randperm(len(batch.ids), generator=torch.Generator().manual_seed(1))
    hidden = network.hidden(batch.ids, batch.images, batch.numbers)
    shuffled = network.hidden(batch.ids[order], batch.images[order], batch.numbers[order])
    torch.testing.assert_close(shuffled, hidden[order])


def test_a_configuration_comes_back() -> None:
    codec = ControlCodec(5, 2, (12, 12, 3), 3)
    config = NetworkConfig("nano", codec.size, 16, {"policy": Head(codec.outputs)}, codec.slots)
    assert NetworkConfig.from_json(asdict(config)) == config
    assert NetworkConfig.from_json({**asdict(config), "slots": None}).slots is None


@pytest.mark.parametrize("turns", [1, 3])
def test_cached_decoding_is_decoding(data: TokenDataset, network: Network, turns: int) -> None:
    """Action tokens chosen with the cache, turn after turn, are those that whole rows give; company changes nothing."""
    decoder = Decoder({"policy": network}, data.codec, 16, "observation")
    playing = [Episode("toy", seed, control_episode(turns, 40 + seed).turns[:1]) for seed in range(5)]
    for turn in range(turns):
        chosen = decoder.decode(playing, lambda outputs: outputs["policy"]["policy"], greedy=True)
        assert [len(ids) for ids in chosen] == [2] * 5
        for index, episode in enumerate(playing):
            begun: list[int] = []
            for token in chosen[index]:
                scores = decoder.peek([episode], [begun])["policy"]["policy"][0]
                assert int(scores.masked_fill(~torch.from_numpy(data.codec.playable), -torch.inf).argmax()) == token
                begun.append(token)
        alone = Decoder({"policy": network}, data.codec, 16, "observation")
        assert alone.decode(playing[2:3], lambda outputs: outputs["policy"]["policy"], greedy=True) == chosen[2:3]
        for episode, ids in zip(playing, chosen, strict=True):
            episode.turns[-1].action = data.codec.decode(ids)
            episode.turns.append(Turn(control_episode(1, 90 + episode.seed + turn).turns[0].observation))
