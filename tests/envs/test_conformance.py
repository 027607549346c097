"""What every environment must keep to, whatever it is: its rules for any action, its spaces, its seeds."""

from __future__ import annotations

import functools
import os
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

from qsft_bench.errors import BenchError
from qsft_bench.preset import scale
from qsft_bench.registry import attribute, env_names, env_spec, make_env
from qsft_bench.rollout import play_episodes
from qsft_bench.spec import EnvSpec

EXAMPLES = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 200
PRESETS = ("small", "paper")  # two formats of the same rules


@functools.cache
def made(name: str, preset: str) -> gymnasium.Env:
    """One environment for all examples; skips where what it needs is missing."""
    spec = env_spec(name)
    try:
        env = make_env(spec, **scale(preset, spec).options)
        env.reset(seed=0)
    except BenchError as error:
        pytest.skip(str(error))
    return env


@functools.cache
def ordinary_actions(name: str, preset: str) -> tuple[str, ...]:
    """What the random player says in a few episodes."""
    spec, options = env_spec(name), scale(preset, env_spec(name)).options
    episodes = play_episodes(attribute(spec.random)(**options), spec, options, range(3))
    return tuple(dict.fromkeys(turn.action for episode in episodes for turn in episode.turns if isinstance(turn.action, str)))


def any_string(name: str, preset: str) -> st.SearchStrategy[str]:
    """Anything, and ordinary actions as they are, cut, doubled, or with something between their letters."""
    ordinary = st.sampled_from(ordinary_actions(name, preset))
    spoiled = st.builds(lambda action, cut, more: action[:cut] + more + action[cut:], ordinary, st.integers(0, 8), st.text())
    return st.one_of(st.text(), ordinary, spoiled)


def any_vector(space: spaces.Box) -> st.SearchStrategy[np.ndarray]:
    """Any numbers, some beyond the bounds."""
    (size,) = space.shape
    return st.lists(st.floats(-2, 2, width=32), min_size=size, max_size=size).map(lambda row: np.array(row, dtype=np.float32))


def returns_in_range(spec: EnvSpec, total: float) -> bool:
    return spec.return_range[0] <= total <= spec.return_range[1]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", env_names())
def test_any_string_or_vector_is_an_action(name: str, preset: str) -> None:
    spec, env = env_spec(name), made(name, preset)
    space = env.action_space
    tells = str if isinstance(env.observation_space, spaces.Text) else dict
    examples = EXAMPLES if spec.side_by_side > 8 else EXAMPLES // 10  # a simulator is slow
    any_action: st.SearchStrategy[Any] = any_vector(space) if isinstance(space, spaces.Box) else any_string(name, preset)

    @settings(max_examples=examples)
    @given(st.integers(0, 2**32), st.lists(any_action, min_size=1, max_size=6))
    def check(seed: int, actions: list[Any]) -> None:
        observation, _ = env.reset(seed=seed)
        assert observation in env.observation_space
        total = 0.0
        for number, action in enumerate(actions, 1):
            observation, reward, terminated, truncated, info = env.step(action)
            total += reward
            assert isinstance(observation, tells) and observation in env.observation_space
            assert isinstance(terminated, bool) and isinstance(truncated, bool)
            assert isinstance(info.get("invalid", ""), str)
            assert returns_in_range(spec, total) and number <= spec.horizon
            if terminated or truncated:
                assert isinstance(info["success"], bool)
                with pytest.raises(gymnasium.error.ResetNeeded):
                    env.step(action)
                return

    check()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", env_names())
def test_players_end_their_episodes_by_the_rules(name: str, preset: str) -> None:
    """Every scripted player, on every tier, in both formats: valid actions, returns in range, the same again."""
    spec = env_spec(name)
    made(name, preset)
    options = scale(preset, spec).options
    players = [attribute(spec.random)(**options)]
    players += [attribute(spec.behaviour)(**options, **tier.behaviour) for tier in spec.tiers.values()]
    players += [attribute(spec.solver)(**options)] if spec.solver else []
    for player in players:
        first, again = (play_episodes(player, spec, options, range(4), batch_size=size) for size in (4, 1))
        for episode, repeated in zip(first, again, strict=True):
            for turn, same in zip(episode.turns, repeated.turns, strict=True):
                assert data_equivalence((turn.observation, turn.action), (same.observation, same.action), exact=True)
                assert turn.reward == same.reward
            assert episode.done and episode.length <= spec.horizon and returns_in_range(spec, episode.total_return)
            assert getattr(player, "illegal", 0) or not episode.invalid_actions


@pytest.mark.parametrize("name", env_names())
def test_gymnasium_accepts_it(name: str) -> None:
    env = made(name, "paper")
    assert isinstance(env.action_space, spaces.Text | spaces.Box)
    assert isinstance(env.observation_space, spaces.Text | spaces.Dict)
    check_env(env, skip_render_check=True)
