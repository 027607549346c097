"""CONTRIBUTING.md keeps its word: its code, as printed there, adds an agent and an environment."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import baselines
import envs
from qsft_bench.calibrate import calibrated
from qsft_bench.cli import main
from qsft_bench.evaluate import Cell, read_records
from qsft_bench.pipeline import Pipeline
from qsft_bench.registry import agent_class, agent_names, attribute, env_names, env_spec, make_env
from qsft_bench.rollout import play_episodes
from qsft_bench.tables import build_table, markdown, write_columns

BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # a fence that names a file
FILES = dict(BLOCK.findall(Path(__file__).parents[1].joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")))
AGENT, ENV = "advantage_weighted", "hot_cold"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def forgets(tmp_path: Path) -> Iterator[None]:
    """Unloads, when the test ends, what it imported from its own folder and what that registered."""
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
            for env_id, spec in list(gymnasium.registry.items()):
                if str(spec.entry_point).startswith(f"{name}."):
                    del gymnasium.registry[env_id]
    importlib.invalidate_caches()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets: None) -> Path:
    """An empty working directory, while the page's files stand in `baselines/` and `envs/`."""
    write(tmp_path / "code", {name: text for name, text in FILES.items() if name.endswith(".py")})
    for package in (baselines, envs):
        folders = [*package.__path__, str(tmp_path / "code" / package.__name__)]
        monkeypatch.setattr(package, "__path__", folders)
        monkeypatch.setattr(package.__spec__, "submodule_search_locations", folders)
    importlib.invalidate_caches()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_agent_is_one_file(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [name for name in FILES if name.startswith("baselines/")] == [f"baselines/{AGENT}.py"]
    main(["agents"])
    assert AGENT in capsys.readouterr().out
    main(["eval", "--agent", AGENT, "--env", "wordle", "--preset", "smoke", "--config.temperature", "0.2"])
    assert f"{AGENT} on Wordle (smoke): mean return -" in capsys.readouterr().out

    (path,) = (checkout / "runs/smoke/wordle/records").glob(f"{AGENT}-seed0-????????.parquet")
    records = read_records(path)
    table = build_table(1, records, "smoke")
    (cell,) = [cell for cell in table.cells if cell.agent == AGENT and cell.interval]
    assert cell.column == "Wordle"
    assert cell.interval is not None and cell.interval.mean == pytest.approx(records["return"].mean())
    assert re.search(rf"^\| {AGENT} \|.*{cell.interval.mean:.2f}", markdown(table), re.MULTILINE)

    agent = agent_class(AGENT).load(checkout / f"runs/smoke/wordle/seed0/{AGENT}")
    assert agent.config.temperature == 0.2  # type: ignore[attr-defined]
    history = agent.meta["training"]["history"]  # type: ignore[attr-defined]
    assert history[-1]["loss_v"] < history[0]["loss_v"]


def test_an_environment_is_one_folder(checkout: Path) -> None:
    spec = env_spec(ENV)
    assert ENV in env_names()
    check_env(make_env(spec), skip_render_check=True)

    cell = Cell(AGENT, ENV, preset="smoke")
    pipeline = Pipeline()
    data = pipeline.dataset(cell)
    data.verify()
    assert data.manifest.success_rate > 0.5
    records = pipeline.records(cell, 20)
    assert len(records) == 20
    assert records["return"].between(*spec.return_range).all()
    (path, _) = write_columns(records, spec.columns, checkout / "results", ENV, preset="smoke")
    assert re.search(rf"^\| {AGENT} \| -\d", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_its_players(checkout: Path) -> None:
    spec = env_spec(ENV)
    always, never = (attribute(spec.behaviour)(knowing=knowing) for knowing in (1.0, 0.0))
    seeds = spec.validation_seeds[:300]
    informed, random = (play_episodes(player, spec, {}, seeds) for player in (always, never))
    assert np.mean([episode.total_return for episode in informed]) > np.mean([episode.total_return for episode in random]) + 0.5
    assert [turn.log_likelihood for turn in random[0].turns[:-1]] == pytest.approx([np.log(1 / 9)] * random[0].length)
    assert 0 < calibrated(spec, "base", {}, "knowing", -2.5, (0.0, 1.0), 100) < 1
    for episode in informed:
        for turn, following in zip(episode.turns, episode.turns[1:], strict=False):
            hot = following.observation == "hot\n"  # so a number that fits is at most 2 away
            if following.action is not None:
                assert (abs(int(str(following.action)) - int(str(turn.action))) <= 2) == hot


@pytest.mark.parametrize("action", ["", "10\n", "0\n", "5", "five\n", "\n", "\ufffd", "5\n5\n"])
def test_any_string_is_an_action(checkout: Path, action: str) -> None:
    env = make_env(env_spec(ENV))
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(action)
    assert (observation, reward, terminated, truncated) == ("cold\n", -1.0, False, False)
    assert info["invalid"]


def test_another_package_ships_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets: None) -> None:
    """An installed package, as pip leaves it: modules, and a `.dist-info` with pyproject.toml's entry points."""
    own = {name.partition("/")[2]: text for name, text in FILES.items() if name.endswith(".py")}
    for name, text in own.items():
        own[name] = text.replace("envs.hot_cold", "my_agents.hot_cold").replace("qsft_bench/HotCold-v0", "my_agents/HotCold-v0")
    write(tmp_path / "my_agents", {"__init__.py": "", **own})
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    write(tmp_path / "my_agents-0.1.0.dist-info", {"METADATA": about, "entry_points.txt": "\n".join(groups) + "\n"})
    monkeypatch.syspath_prepend(tmp_path)

    assert AGENT in agent_names()
    assert agent_class(AGENT).__module__ == f"my_agents.{AGENT}"
    assert ENV in env_names()
    spec = env_spec(ENV)
    assert spec.id == "my_agents/HotCold-v0"
    check_env(make_env(spec), skip_render_check=True)
    assert type(attribute(spec.behaviour)()).__module__ == "my_agents.hot_cold.behaviour"
