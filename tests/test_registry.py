"""Names to classes: the repository's own files, other packages' entry points, and what is said when a name is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import pytest

from qsft_bench import registry
from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.registry import agent_class, agent_names, attribute, env_names, env_spec, make_env
from qsft_bench.spec import EnvSpec


class Stubborn(Agent):
    """Always says the same."""

    def act(self, episodes: list[Episode]) -> list[Action]:  # type: ignore[override]
        return ["crane\n"] * len(episodes)


@pytest.fixture
def other_package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An installed distribution with a module `otherpack`; its entry points are what `register` adds."""
    module = ModuleType("otherpack")
    module.Stubborn = Stubborn  # type: ignore[attr-defined]
    module.SPEC = env_spec("wordle")  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "otherpack", module)
    return module


@pytest.fixture
def agent_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files stand in `baselines/` for the length of a test."""
    import baselines

    known = set(sys.modules)
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    monkeypatch.setattr(baselines.__spec__, "submodule_search_locations", list(baselines.__path__))
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("baselines."):
            del sys.modules[name]


def register(monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str) -> None:
    entries = EntryPoints([EntryPoint(name, value, group)])
    monkeypatch.setattr(registry, "entry_points", lambda group: entries.select(group=group))


def test_names_come_from_the_folders() -> None:
    assert {"sft", "qsft", "ilql", "random", "behaviour", "sft_greedy"} <= set(agent_names())
    assert "wordle" in env_names()
    assert all(issubclass(agent_class(name), Agent) for name in agent_names())
    assert all(isinstance(env_spec(name), EnvSpec) for name in env_names())
    assert all(agent_class(name).summary for name in agent_names())


def test_naming_them_imports_nothing(agent_folder: Path) -> None:
    (agent_folder / "explosive.py").write_text("raise RuntimeError('imported')")
    assert "explosive" in agent_names()


def test_a_new_file_is_a_new_agent(agent_folder: Path) -> None:
    (agent_folder / "first_word.py").write_text(
        "from baselines.behaviour import Behaviour\n"
        "from qsft_bench.agent import Agent\n\n"
        "class _Helper(Agent):\n    def act(self, episodes): ...\n\n"
        "class FirstWord(Agent):\n    def act(self, episodes):\n        return ['aback\\n'] * len(episodes)\n"
    )
    assert "first_word" in agent_names()
    assert agent_class("first_word").__name__ == "FirstWord"


@pytest.mark.parametrize("count", [0, 2])
def test_a_file_defines_exactly_one_agent(agent_folder: Path, count: int) -> None:
    classes = "".join(f"class A{k}(Agent):\n    def act(self, e): ...\n" for k in range(count))
    (agent_folder / "several.py").write_text(f"from qsft_bench.agent import Agent\n{classes}")
    with pytest.raises(BenchError, match=rf"baselines\.several must define exactly one Agent, it defines {count}"):
        agent_class("several")


def test_another_package_adds_an_agent_and_an_environment(other_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "qsft_bench.agents", "stubborn", "otherpack:Stubborn")
    assert "stubborn" in agent_names()
    assert agent_class("stubborn") is Stubborn
    register(monkeypatch, "qsft_bench.envs", "gridland", "otherpack:SPEC")
    assert "gridland" in env_names()
    assert env_spec("gridland") is env_spec("wordle")
    register(monkeypatch, "qsft_bench.envs", "gridland", "otherpack")
    assert env_spec("gridland") is env_spec("wordle")


def test_an_environment_answers_to_its_aliases(other_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_package, "SPEC", replace(env_spec("wordle"), aliases=("letters",)))
    entries = [
        EntryPoint(name, value, "qsft_bench.envs") for name, value in (("broken", "nopack:SPEC"), ("gridland", "otherpack"))
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(entries).select(group=group))
    assert env_spec("letters") is env_spec("gridland")
    assert "letters" not in env_names()


def test_two_packages_may_not_share_a_name(other_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "qsft_bench.agents", "sft", "otherpack:Stubborn")
    with pytest.raises(BenchError, match=r"two packages register 'sft' .*baselines\.sft and otherpack:Stubborn"):
        agent_names()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("otherpack:number", "agent 'odd' is 3, which is not a subclass of qsft_bench.agent.Agent"),
        ("otherpack:missing", "agent 'odd': otherpack:missing does not exist in that module"),
        ("nopack:Agent", "agent 'odd' cannot be imported from nopack:Agent: No module named 'nopack'"),
    ],
)
def test_a_broken_entry_point_is_named(
    other_package: ModuleType, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    register(monkeypatch, "qsft_bench.agents", "odd", value)
    with pytest.raises(BenchError, match=message):
        agent_class("odd")


def test_an_environment_must_be_a_spec(other_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "qsft_bench.envs", "odd", "otherpack:number")
    with pytest.raises(BenchError, match=r"environment 'odd' is 3, which is not a qsft_bench\.spec\.EnvSpec"):
        env_spec("odd")


@pytest.mark.parametrize(
    ("call", "name", "message"),
    [
        (agent_class, "qstf", r"^unknown agent 'qstf'; did you mean .*qsft"),
        (env_spec, "wordl", r"^unknown environment 'wordl'; did you mean wordle or alfworld\?$"),
        (env_spec, "zzzz", r"^unknown environment 'zzzz'; known: .*wordle"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(call: object, name: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        call(name)  # type: ignore[operator]


def test_an_environment_refuses_options_it_does_not_know() -> None:
    with pytest.raises(BenchError, match=r"wordle does not take these options.*colour"):
        make_env(env_spec("wordle"), colour="red")


def test_an_environment_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium

    def fails(*arguments: object, **options: object) -> None:
        raise ImportError("No module named 'chess'")

    monkeypatch.setattr(gymnasium, "make", fails)
    with pytest.raises(BenchError, match=r"^wordle cannot start: No module named 'chess'; .*(doctor|pip install)"):
        make_env(replace(env_spec("wordle"), extra="chess"))


def test_attribute() -> None:
    assert attribute("math:pi") == 3.141592653589793
    assert attribute("math").__name__ == "math"
