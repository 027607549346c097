"""The one loop: what an episode holds depends on its seed and the agent alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.wordle.behaviour import Mixture
from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.registry import env_spec, make_env
from qsft_bench.rollout import play_episodes, rollout
from tests.examples import BOUND

SEEDS = [7, 3, 11, 2, 29, 5, 13]


class Countdown(gymnasium.Env[str, str]):
    """Lasts as many turns as its seed says, modulo 4, plus 1."""

    observation_space, action_space = spaces.Text(9), spaces.Text(9)
    closed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        assert seed is not None
        self.left = seed % 4 + 1
        return f"go {seed}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over = self.left == 0
        return f"{action}!", 1.0, over and action != "cut", over and action == "cut", {"success": True, "scores": {"A": 2.0}}

    def close(self) -> None:
        Countdown.closed += 1


class Notes(Agent):
    """Says how many actions came before, and writes down who was asked and who was forgotten."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.forgotten: list[int] = []

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        self.asked.append([episode.seed for episode in episodes])
        return [str(episode.length) for episode in episodes]

    def forget(self, episodes: Sequence[Episode]) -> None:
        self.forgotten += [episode.seed for episode in episodes]

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> np.ndarray:
        return np.array([-float(episode.length) for episode in episodes])


def test_the_loop_by_hand() -> None:
    notes, made = Notes(), [0]
    Countdown.closed = 0

    def make() -> Countdown:
        made[0] += 1
        return Countdown()

    played = list(rollout(notes, make, [5, 4, 7], name="count", batch_size=2))
    assert [(one.env, one.seed, one.length) for one in played] == [("count", 5, 2), ("count", 4, 1), ("count", 7, 4)]
    assert notes.asked == [[5, 4], [5], [7], [7], [7], [7]]  # who ended leaves the batch
    assert notes.forgotten == [4, 5, 7]
    assert (made[0], Countdown.closed) == (2, 2)
    first = played[0]
    assert [turn.observation for turn in first.turns] == ["go 5", "0!", "1!"]
    assert [turn.action for turn in first.turns] == ["0", "1", None]
    assert [turn.log_likelihood for turn in first.turns] == [0.0, -1.0, None]
    assert (first.terminated, first.success, first.scores, first.total_return) == (True, True, {"A": 2.0}, 2.0)


def test_several_players_of_each_seed_share_the_batches() -> None:
    notes = Notes()
    played = list(rollout(notes, Countdown, [5, 4], name="count", batch_size=3, players=2))
    assert [(one.player, one.seed, one.length) for one in played] == [(0, 5, 2), (0, 4, 1), (1, 5, 2), (1, 4, 1)]
    assert notes.asked == [[5, 4, 5], [5, 5], [4]]


def test_environments_are_closed_when_an_agent_fails() -> None:
    class Fails(Notes):
        def act(self, episodes: Sequence[Episode]) -> list[Action]:
            raise RuntimeError("no idea")

    Countdown.closed = 0
    with pytest.raises(RuntimeError, match="no idea"):
        list(rollout(Fails(), Countdown, [1, 2], name="count"))
    assert Countdown.closed == 2


def test_no_seeds_no_episodes() -> None:
    assert list(rollout(Notes(), Countdown, [], name="count")) == []


class Knowing(Countdown):
    """A countdown that says how many turns are left to those who may know."""

    made: list[dict[str, Any]] = []  # noqa: RUF012 - the options of each

    def __init__(self, **options: Any) -> None:
        self.options = options
        Knowing.made.append(options)

    def reset(self, **arguments: Any) -> tuple[str, dict[str, Any]]:
        observation, info = super().reset(**arguments)
        return observation, {"facts": self.left} if self.options.get("privileged") else info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        *returned, info = super().step(action)
        return *returned, info | ({"facts": self.left} if self.options.get("privileged") else {})  # type: ignore[return-value]


@pytest.mark.parametrize("privileged", [False, True])
def test_who_may_know_is_told_what_the_simulator_knows(privileged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qsft_bench.rollout.make_env", lambda spec, **options: Knowing(**options))
    monkeypatch.setattr(Knowing, "made", [])
    agent = Notes()
    agent.privileged = privileged
    played = play_episodes(agent, replace(env_spec("wordle"), side_by_side=2), {"colour": "red"}, [7, 2, 5])
    assert Knowing.made == [{"colour": "red", "privileged": True} if privileged else {"colour": "red"}] * 2
    assert [[turn.facts for turn in one.turns] for one in played] == (
        [[4, 3, 2, 1, 0], [3, 2, 1, 0], [2, 1, 0]] if privileged else [[None] * 5, [None] * 4, [None] * 3]
    )
    assert len(play_episodes(agent, env_spec("wordle"), {}, range(4), batch_size=3)) == 4
    assert len(Knowing.made) == 2 + 3


@settings(max_examples=10)
@given(st.permutations(SEEDS), st.integers(1, 9))
def test_an_episode_does_not_depend_on_the_batch(seeds: list[int], batch_size: int) -> None:
    """A sampling policy in Wordle."""

    def play(seeds: Sequence[int], batch_size: int) -> dict[int, Episode]:
        agent = Mixture(**BOUND, consistent=0.4)  # type: ignore[arg-type]
        make = lambda: make_env(env_spec("wordle"), **BOUND)  # noqa: E731
        return {one.seed: one for one in rollout(agent, make, seeds, name="wordle", batch_size=batch_size)}

    assert play(seeds, batch_size) == play(SEEDS, 64)
