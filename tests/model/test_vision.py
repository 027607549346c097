"""A vision-language model: exactly transformers' own forward pass, its tower looked through once an image, and its errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.qsft import QSFT
from baselines.sft import SFT, SFTConfig
from qsft_bench import weights
from qsft_bench.codec import PretrainedCodec, codec_from_config
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.model import vision
from qsft_bench.model.decoder import Decoder, Outputs
from qsft_bench.model.network import Head, Network, NetworkConfig, Networks, frozen_copy
from qsft_bench.model.vision import Eyes
from qsft_bench.sharding import shard
from qsft_bench.tokens import TokenBatch, prompt
from qsft_bench.train import Training
from tests.baselines import toys
from tests.examples import dataset_of, picture_episode
from tests.pretrained import save_model, save_vision_model

TUNINGS = ("full", "lora:4", "last:1")
CONTEXT = 150


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vision_model(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return dataset_of(tmp_path_factory.mktemp("data"), [picture_episode(2 + seed % 4, seed) for seed in range(40)])


def tokens(episodes: EpisodeDataset, model: Path, folder: Path) -> TokenDataset:
    return tokenise(episodes, folder, codec=f"pretrained:{model}", context=CONTEXT, state="transcript", discount=1.0)


def sizes(model: Path, tuning: str, steps: int = 4, rate: float = 1e-3) -> Any:
    return replace(toys.SCALE, model=str(model), tuning=tuning, context=CONTEXT, steps=steps, batch_size=8, learning_rate=rate)


def network_of(data: TokenDataset, model: Path, tuning: str = "full") -> Network:
    heads = {"policy": Head(data.codec.outputs)}
    return Network(NetworkConfig(str(model), data.codec.size, CONTEXT, heads, data.codec.slots, tuning)).eval()


def transformers_logits(model: Path, ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """What transformers says of rows (B, T) with the images of their observations, one row after another: (B, T, V)."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    language: Any = AutoModelForImageTextToText.from_pretrained(model).eval()
    processor: Any = AutoProcessor.from_pretrained(model)
    pixels = processor.image_processor(list(images.numpy()), return_tensors="pt")
    with torch.no_grad():
        return language(input_ids=ids, pixel_values=pixels["pixel_values"], image_sizes=pixels["image_sizes"]).logits


def shown(batch: TokenBatch) -> torch.Tensor:
    assert batch.images is not None and batch.frame is not None
    return batch.images[batch.frame]


# The model itself -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_forward_pass_is_transformers_own(model: Path, episodes: EpisodeDataset, tuning: str, tmp_path: Path) -> None:
    data = tokens(episodes, model, tmp_path)
    assert data.codec.slots is not None and data.codec.slots.image_tokens == 10
    batch = data.batch(np.arange(12))
    network = network_of(data, model, tuning)
    with torch.no_grad():
        found = network(batch)["policy"]
        wanted = transformers_logits(model, batch.ids, shown(batch)).flatten(0, 1)[batch.position]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        loss = torch.nn.functional.cross_entropy(found, batch.action)
        assert float(loss) == pytest.approx(float(torch.nn.functional.cross_entropy(wanted, batch.action)), abs=1e-6)
        batch.images = 255 - shown(batch)
        batch.frame = None
        assert (network(batch)["policy"] - found).abs().max() > 0.1  # and pictures matter


@pytest.mark.parametrize("tuning", TUNINGS)
def test_sft_and_qsft_start_from_exactly_its_distribution(
    model: Path, episodes: EpisodeDataset, tuning: str, tmp_path: Path
) -> None:
    data = tokens(episodes, model, tmp_path)
    scale = sizes(model, tuning, steps=1, rate=0.0)  # an SFT checkpoint that learned nothing
    agent = SFT(SFTConfig(training=Training(weight_decay=0.0)))
    agent.fit(data, toys.run_in(tmp_path, scale, agent="sft"))
    agent.save(tmp_path / "sft")
    qsft = QSFT()
    qsft.codec, qsft.meta = data.codec, {}
    qsft.build(data, toys.run_in(tmp_path, scale, agent="qsft"))
    batch = data.batch(np.arange(8))
    wanted = transformers_logits(model, batch.ids, shown(batch)).flatten(0, 1)[batch.position].log_softmax(-1)
    with torch.no_grad():
        log_pi, q = toys.log_pi_and_q(qsft, batch)
    torch.testing.assert_close(log_pi, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(q, torch.full_like(q, data.normalise(data.mean_return)), atol=1e-5, rtol=0)


def test_generation_through_the_cache(model: Path, episodes: EpisodeDataset, tmp_path: Path) -> None:
    """Greedy actions are those of whole forward passes of transformers, turn after turn, old turns dropped."""
    data = tokens(episodes, model, tmp_path)
    codec = data.codec
    network = network_of(data, model)
    decoder, dropped = Decoder({"policy": network}, codec, CONTEXT, "transcript"), 0

    def policy(outputs: Outputs) -> torch.Tensor:
        return outputs["policy"]["policy"]

    def expected(episode: Episode, begun: Sequence[int]) -> int:
        row = prompt(codec, episode, episode.length, CONTEXT, "transcript")
        images = torch.from_numpy(np.stack([episode.turns[turn].observation["image"] for turn in row.shown]))
        logits = transformers_logits(model, torch.tensor([[*row.ids, *begun]]), images)[0, -1]
        return int(logits.masked_fill(~torch.from_numpy(codec.playable), -torch.inf).argmax())

    playing = [Episode("toy", seed, [Turn(picture_episode(1, seed).turns[0].observation)]) for seed in range(3)]
    for turn in range(12):
        for episode, ids in zip(playing, decoder.decode(playing, policy, greedy=True), strict=True):
            assert ids[0] == expected(episode, []) and ids[-1] == expected(episode, ids[:-1])
            dropped += len(prompt(codec, episode, turn, CONTEXT, "transcript").shown) < turn + 1
            picture = picture_episode(1, 10 * turn + episode.seed).turns[0].observation
            episode.step(("go\n", "stop now\n")[turn % 2], picture, 0.0, False, False, {})
    assert dropped


# What is held and what is looked at -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", TUNINGS)
def test_what_it_sees_with_is_frozen_held_once_and_never_saved(
    model: Path, episodes: EpisodeDataset, tuning: str, tmp_path: Path
) -> None:
    data = tokens(episodes, model, tmp_path)
    first, second = network_of(data, model, tuning), network_of(data, model, tuning)
    third = frozen_copy(first)
    assert first.stem is second.stem is third.stem and isinstance(first.stem, Eyes)
    own = {name for name, _ in first.own_parameters()}
    assert own and not any(name.startswith("stem") for name in own)
    assert set(first.state_dict()) == own
    held = sum({p.data_ptr(): p.numel() for network in (first, second, third) for p in network.parameters()}.values())
    mine = sum(p.numel() for _, p in first.own_parameters())
    assert held == sum(p.numel() for p in first.parameters()) + 2 * mine


def test_every_image_is_looked_at_once(
    model: Path, episodes: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tokens(episodes, model, tmp_path)
    network, other = network_of(data, model), network_of(data, model)
    looked: list[int] = []
    real = Eyes.look

    def look(eyes: Eyes, images: torch.Tensor) -> torch.Tensor:
        looked.append(len(images))
        return real(eyes, images)

    monkeypatch.setattr(Eyes, "look", look)
    assert isinstance(network.stem, Eyes)
    network.stem._known.clear()
    batch = data.batch(np.arange(12))
    with torch.inference_mode():
        network(batch)
    network(batch)["policy"].sum().backward()  # what was looked at in play serves in training
    other(batch)
    assert batch.images is not None and sum(looked) == len(batch.images) == 4
    monkeypatch.setattr(vision, "REMEMBERED", 1)
    images = torch.arange(4 * 432).remainder(255).to(torch.uint8).view(4, 12, 12, 3)
    for image in images:
        network.stem(image[None])
    assert len(network.stem._known) == 1


@pytest.mark.parametrize("tuning", TUNINGS)
def test_trains_saves_and_plays_as_before(model: Path, episodes: EpisodeDataset, tuning: str, tmp_path: Path) -> None:
    data = tokens(episodes, model, tmp_path)
    before = network_of(data, model).stem.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    for name in ("sft", "qsft"):
        agent = toys.trained(name, data, tmp_path, sizes(model, tuning, steps=6))
        loaded = type(agent).load(tmp_path / name)
        starts = [Episode("toy", seed, [Turn(picture_episode(1, seed).turns[0].observation)]) for seed in range(5)]
        assert agent.act(starts) == loaded.act(starts)
        for key, network in agent.networks.items():
            after = network.stem.state_dict()
            assert all(torch.equal(after[part], before[part]) for part in before)
            pairs = zip(network.parameters(), loaded.networks[key].parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_from_pictures(model: Path, tmp_path: Path) -> None:
    """One turn whose right action depends on the picture alone."""

    def one(seed: int) -> Episode:
        episode = picture_episode(1, seed, pictures=2)
        image = episode.turns[0].observation["image"]
        known = [np.random.default_rng(index).integers(0, 256, (12, 12, 3), np.uint8) for index in range(2)]
        episode.turns[0].action = "go\n" if np.array_equal(image, known[0]) else "stop now\n"
        return episode

    dataset = dataset_of(tmp_path / "data", [one(seed) for seed in range(200)])
    data = tokens(dataset, model, tmp_path)
    agent = toys.trained("sft", data, tmp_path, sizes(model, "full", steps=40, rate=3e-3))
    tested = [one(1000 + seed) for seed in range(20)]
    asked = [Episode("toy", episode.seed, [Turn(episode.turns[0].observation)]) for episode in tested]
    greedy = agent.with_decoding(replace(agent.decoding, greedy=True))
    assert greedy.act(asked) == [episode.turns[0].action for episode in tested]


# The codec, and what is refused -----------------------------------------------------------------------------------------


def test_the_codec_comes_back_by_hash(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    codec = PretrainedCodec.learn(str(folder), ["go\n"], (12, 12, 3))
    again = codec_from_config(json.loads(json.dumps(codec.config())))
    assert again.sha256 == codec.sha256 and again.slots == codec.slots
    assert not codec.playable[codec.slots.image_id] and codec.dummy != codec.slots.image_id  # type: ignore[union-attr]
    assert codec.slots.image_id not in codec.action("<image>\n")  # type: ignore[union-attr]
    changed = json.loads((folder / "processor_config.json").read_text())
    changed["image_processor"]["image_mean"] = [0.0, 0.0, 0.0]
    (folder / "processor_config.json").write_text(json.dumps(changed))
    with pytest.raises(BenchError, match="has a processor of SHA-256"):
        codec_from_config(codec.config())


def test_without_images_it_is_a_language_model(model: Path) -> None:
    codec = PretrainedCodec.learn(str(model), ["go\n"])
    assert codec.slots is None and list(codec.config()) == ["codec", "model", "tokenizer", "action_limit"]
    network = Network(NetworkConfig(str(model), codec.size, CONTEXT, {"policy": Head(codec.size)})).eval()
    ids = torch.tensor([codec.observation("Is it an animal?\n")])
    from transformers import AutoModelForImageTextToText

    with torch.no_grad():
        wanted = AutoModelForImageTextToText.from_pretrained(model).eval()(input_ids=ids).logits
        torch.testing.assert_close(network.read(network.hidden(ids))["policy"], wanted, atol=1e-5, rtol=0)
    assert not hasattr(network, "stem")


def test_a_model_of_text_given_images(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "text")
    with pytest.raises(BenchError, match="reads text, not images; choose a vision-language model, as llava-hf/"):
        PretrainedCodec.learn(str(folder), ["go\n"], (12, 12, 3))
    size = PretrainedCodec(str(folder), 1).size
    slots = codec_slots(size)
    with pytest.raises(BenchError, match="reads text, not images"):
        Network(NetworkConfig(str(folder), size, 32, {"policy": Head(size)}, slots))


def codec_slots(size: int) -> Any:
    from qsft_bench.codec import Slots

    return Slots((12, 12, 3), 10, 0, size - 1, -1)


def test_a_vision_model_without_its_processor(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (folder / "processor_config.json").unlink()
    with pytest.raises(BenchError, match=r"holds no processor \(processor_config.json or preprocessor_config.json\)"):
        PretrainedCodec.learn(str(folder), ["go\n"], (12, 12, 3))
    with pytest.raises(BenchError, match="holds no processor"):
        weights.processor(folder)


def test_it_is_not_sharded(model: Path, episodes: EpisodeDataset, tmp_path: Path) -> None:
    networks = Networks({"policy": network_of(tokens(episodes, model, tmp_path), model)})
    with pytest.raises(BenchError, match="leave out --sharded"):
        shard(networks, networks)


def test_a_context_too_short_for_an_image(model: Path, episodes: EpisodeDataset, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="a context of 24 has no room for images of 10 tokens"):
        tokenise(episodes, tmp_path, codec=f"pretrained:{model}", context=24, state="transcript", discount=1.0)
