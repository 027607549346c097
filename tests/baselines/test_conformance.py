"""What every registered learned agent must do, whoever wrote it: fit, save, load, act, go on after an interruption."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qsft_bench import registry
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.token_agent import Config, Decoding, TokenAgent
from qsft_bench.train import Run, Training
from tests.baselines import toys

NAMES = [name for name in registry.agent_names() if issubclass(registry.agent_class(name), TokenAgent)]
SMALL = dataclasses.replace(toys.SCALE, steps=8, batch_size=16)
every_agent = pytest.mark.parametrize("name", NAMES)
every_that_trains = pytest.mark.parametrize(
    "name", [name for name in NAMES if not getattr(registry.agent_class(name), "reuses", "")]
)
every_that_needs_another = pytest.mark.parametrize("name", [name for name in NAMES if registry.agent_class(name).prerequisites])


def with_prerequisites(name: str) -> list[str]:
    """The agents to train for `name`, itself last."""
    return [*dict.fromkeys(needed for p in registry.agent_class(name).prerequisites for needed in with_prerequisites(p)), name]


@pytest.fixture(scope="module", params=["transcript", "observation"])
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenDataset, Path]:
    """A tiny dataset, and every agent trained on it for a few steps and saved."""
    directory = tmp_path_factory.mktemp(request.param)
    data = toys.chain_data(directory / "data", episodes=120, state=request.param)
    for name in dict.fromkeys(needed for agent in NAMES for needed in with_prerequisites(agent)):
        toys.trained(name, data, directory, SMALL)
    return data, directory


def load(name: str, directory: Path) -> Any:
    return registry.agent_class(name).load(directory / name)


def waiting(count: int = 12) -> list[Episode]:
    """Episodes at different turns that await an action."""
    episodes = []
    for seed in range(count):
        episode = Episode("chain", 1000 + seed, [Turn(toys.CHAIN[0])])
        for place in toys.CHAIN[1 : 1 + seed % 3]:
            episode.step("go\n", place, 0.0, False, False, {})
        episodes.append(episode)
    return episodes


def played(agent: Any, seeds: Any = range(40), batch_size: int = 64) -> list[list]:
    return [[turn.action for turn in episode.turns] for episode in toys.walk(agent, seeds, batch_size)]


@every_agent
def test_class_says_what_it_is(name: str) -> None:
    cls: Any = registry.agent_class(name)
    assert cls.summary and "\n" not in cls.summary
    assert all(needed in registry.agent_names() for needed in cls.prerequisites)
    assert not cls.reuses or cls.reuses in cls.prerequisites
    for kind, base in ((cls.config_type, Config), (cls.decoding_type, Decoding)):
        assert issubclass(kind, base) and kind.__dataclass_params__.frozen
        assert all(
            entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
            for entry in dataclasses.fields(kind)
        )
        json.dumps(dataclasses.asdict(kind()), allow_nan=False)
    assert len(cls.grid) <= 8 and len(set(cls.grid)) == len(cls.grid)  # equal validation budgets
    for decoding in cls.grid:
        assert isinstance(decoding, cls.decoding_type) and decoding.temperature > 0 and decoding.describe()
    assert isinstance(cls().decoding, cls.decoding_type) and isinstance(cls.config_for("wordle"), cls.config_type)


@every_agent
def test_acts_with_one_text_an_episode(name: str, made: Any) -> None:
    _, directory = made
    actions = load(name, directory).act(waiting())
    assert len(actions) == 12 and all(isinstance(action, str) and action for action in actions)
    assert all("\ufffd" not in action for action in actions)  # special tokens are never said


@every_agent
def test_loads_as_it_was_saved(name: str, made: Any, tmp_path: Path) -> None:
    _, directory = made
    first = load(name, directory)
    for other in (name, *with_prerequisites(name)):
        load(other, directory).save(tmp_path / other)
    second = load(name, tmp_path)
    assert second.config == first.config and second.decoding == first.decoding and second.meta == first.meta
    assert played(first) == played(second)


@every_agent
def test_a_batch_changes_nothing(name: str, made: Any) -> None:
    _, directory = made
    agent, episodes = load(name, directory), waiting()
    together = agent.act(episodes)
    assert load(name, directory).act(episodes[::-1]) == together[::-1]
    assert [load(name, directory).act([episode])[0] for episode in episodes[:3]] == together[:3]
    assert played(load(name, directory), batch_size=3) == played(load(name, directory))


@every_agent
def test_forgetting_changes_nothing(name: str, made: Any) -> None:
    _, directory = made
    agent, episodes = load(name, directory), waiting()
    before = agent.act(episodes)
    agent.forget(episodes)
    agent.forget(episodes)  # twice is once
    assert agent.act(episodes) == before


@every_agent
def test_writes_no_pickle_and_no_networks_of_others(name: str, made: Any) -> None:
    _, directory = made
    files = {path.name for path in (directory / name).rglob("*") if path.is_file()}
    value = json.loads((directory / name / "config.json").read_text())
    own = set(value["networks"]) - set(value["borrowed"])
    assert files == {"config.json", *(f"{network}.safetensors" for network in own)}
    assert value["agent"] == name and set(value["played"]) <= set(value["networks"])


@every_agent
def test_published_checkpoint_plays_the_same(name: str, made: Any, tmp_path: Path) -> None:
    _, directory = made
    for other in with_prerequisites(name):
        load(other, directory).save(tmp_path / "run" / other, torch.float16)  # as the pipeline does where it publishes
        if load(other, directory).borrowed:
            toys.trained(other, made[0], tmp_path / "run", SMALL).save(tmp_path / "run" / other, torch.float16)
    for other in with_prerequisites(name):
        load(other, tmp_path / "run").publish(tmp_path / "published" / other)
    own, published = load(name, tmp_path / "run"), load(name, tmp_path / "published")
    assert set(published.networks) == set(own.played())
    assert played(own) == played(published)
    assert all(path.suffix in (".json", ".safetensors") for path in (tmp_path / "published").rglob("*.*"))


@every_that_trains
def test_goes_on_where_it_was_cut_off(name: str, made: Any, tmp_path: Path) -> None:
    data, directory = made
    cls: Any = registry.agent_class(name)
    for needed in with_prerequisites(name)[:-1]:
        load(needed, directory).save(tmp_path / needed)

    class CutError(Exception):
        pass

    def cut(done: int, total: int, values: Any) -> None:
        if done == 6:
            raise CutError

    with pytest.raises(CutError):
        cls(cls.config_type()).fit(data, toys.run_in(tmp_path, SMALL, agent=name, progress=cut, checkpoint_seconds=0.0))
    state = [path for path in (tmp_path / name / "state").rglob("*") if path.is_file()]
    assert state and all(path.suffix in (".json", ".safetensors") for path in state)
    seen: list[int] = []
    agent = cls(cls.config_type())
    agent.fit(data, toys.run_in(tmp_path, SMALL, agent=name, progress=lambda done, total, values: seen.append(done)))
    assert seen[0] > 1 and seen[-1] == SMALL.steps
    whole = load(name, directory)
    for network in agent.networks:
        for key, value in agent.networks[network].state_dict().items():
            assert torch.equal(value, whole.networks[network].state_dict()[key]), (network, key)
    assert [entry["loss"] for entry in agent.meta["training"]["history"]] == pytest.approx(
        [entry["loss"] for entry in whole.meta["training"]["history"]], rel=1e-6
    )


@every_that_trains
def test_refuses_the_state_of_another_configuration(name: str, made: Any, tmp_path: Path) -> None:
    data, directory = made
    cls: Any = registry.agent_class(name)

    def stop(done: int, total: int, values: Any) -> None:
        if done == 3:
            raise KeyboardInterrupt

    for needed in with_prerequisites(name)[:-1]:
        load(needed, directory).save(tmp_path / needed)
    with pytest.raises(KeyboardInterrupt):
        cls(cls.config_type()).fit(data, toys.run_in(tmp_path, SMALL, agent=name, progress=stop, checkpoint_seconds=0.0))
    other = cls(cls.config_type(training=Training(weight_decay=0.5)))
    with pytest.raises(BenchError, match="another configuration"):
        other.fit(data, toys.run_in(tmp_path, SMALL, agent=name))


@every_that_needs_another
def test_says_which_prerequisite_is_missing(name: str, made: Any, tmp_path: Path) -> None:
    data, _ = made
    cls: Any = registry.agent_class(name)
    with pytest.raises(BenchError, match=f"no trained {cls.prerequisites[0]!r}"):
        cls(cls.config_type()).fit(data, Run(tmp_path, SMALL))


@every_agent
def test_damage_is_named(name: str, made: Any, tmp_path: Path) -> None:
    _, directory = made
    for needed in with_prerequisites(name):
        load(needed, directory).save(tmp_path / needed)
    with pytest.raises(BenchError, match="is not trained yet"):
        registry.agent_class(name)().act(waiting(1))
    weights = sorted(tmp_path.rglob("*.safetensors"))
    used = [path for path in weights if path.parent.name == name] or weights
    used[0].write_bytes(used[0].read_bytes()[:-4])
    with pytest.raises(BenchError, match="SHA-256"):
        load(name, tmp_path)
    used[0].unlink()
    with pytest.raises(BenchError, match="is missing"):
        load(name, tmp_path)
    others = [other for other in NAMES if other != name]
    with pytest.raises(BenchError, match=f"checkpoint of {name!r}, not of {others[0]!r}"):
        registry.agent_class(others[0]).load(tmp_path / name)


@every_agent
def test_loss_and_diagnosis_are_numbers(name: str, made: Any) -> None:
    data, directory = made
    agent = load(name, directory)
    loss, metrics = agent.loss(data.batch(np.arange(20)))
    assert loss.ndim == 0 and loss.isfinite()
    assert all(torch.as_tensor(value).ndim == 0 for value in metrics.values())
    assert all(np.isfinite(value) for value in agent.diagnose(data).values())
