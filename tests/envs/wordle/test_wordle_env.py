"""The game: rewards and endings by hand, Gymnasium's own checks, and that nothing a model can say breaks it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.wordle import SPEC
from envs.wordle.env import Wordle
from envs.wordle.feedback import read_guess, write_guess
from envs.wordle.words import word_list
from qsft_bench import registry
from qsft_bench.errors import BenchError


def test_a_won_game_by_hand() -> None:
    env = Wordle()
    assert env.reset(seed=0, options={"word": "level"}) == ("Wordle:\n", {})
    assert env.step("a b o v e\n") == ("b b b y y\n", -1.0, False, False, {})
    assert env.step("l e a r n\n") == ("g g b b b\n", -1.0, False, False, {})
    assert env.step("l e v e l\n") == ("g g g g g\n", 0.0, True, False, {"success": True})


def test_rules_and_formats_by_hand() -> None:
    env = Wordle(rules="official", observation="bound", action="word")
    env.reset(seed=0, options={"word": "event"})
    assert env.step("there\n")[0] == "1ty 2hb 3eg 4rb 5ey\n"
    env.reset(seed=0, options={"word": "clear"})
    assert env.step("there\n")[0] == "1tb 2hb 3eg 4ry 5eb\n"
    env = Wordle(rules="lmrl", observation="bound", action="word")
    env.reset(seed=0, options={"word": "clear"})
    assert env.step("there\n")[0] == "1tb 2hb 3eg 4ry 5ey\n"


def test_a_lost_game_terminates_after_six_tries() -> None:
    env = Wordle(privileged=True)
    assert env.reset(seed=0, options={"word": "level"})[1] == {"word": "level"}
    for _ in range(5):
        assert env.step("about\n")[1:] == (-1.0, False, False, {"word": "level"})
    assert env.step("about\n")[1:] == (-1.0, True, False, {"word": "level", "success": False})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("about\n")


def test_right_on_the_sixth_try() -> None:
    env = Wordle()
    env.reset(seed=0, options={"word": "level"})
    rewards = [env.step(guess)[1] for guess in ["about"] * 5 + ["level"]]
    assert rewards == [-1, -1, -1, -1, -1, 0]


def test_no_word_costs_a_try_and_tells_nothing() -> None:
    env = Wordle()
    env.reset(seed=0, options={"word": "level"})
    for _ in range(5):
        assert env.step("zzzzz\n") == ("\n", -1.0, False, False, {"invalid": "not a word of the list"})
    assert env.step("")[1:4] == (-1.0, True, False)


ANYTHING = st.one_of(st.text(), st.characters().map(lambda c: c * 1_000_000), st.none(), st.integers(), st.lists(st.text()))


@settings(max_examples=200, deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=6))
def test_no_action_raises(actions: list) -> None:
    env = Wordle()
    env.reset(seed=1)
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        assert observation in env.observation_space
        assert reward in (-1.0, 0.0) and not truncated
        assert ("invalid" in info) == (observation == "\n") == (read_guess(action) is None)
        if terminated:
            break


def test_million_characters_and_lone_surrogates() -> None:
    env = Wordle()
    env.reset(seed=1)
    for action in (" " * 1_000_000, "about" * 200_000, "\ud800", "\x00", np.str_("é"), np.zeros(8)):
        assert env.step(action)[0] == "\n"  # type: ignore[arg-type]


def test_same_seed_same_episode() -> None:
    def play(seed: int) -> list:
        env = Wordle(privileged=True)
        return [env.reset(seed=seed), *(env.step(word) for word in ("those", "crazy", "zzzzz"))]

    assert play(2**63 - 1) == play(2**63 - 1)
    assert len({Wordle(privileged=True).reset(seed=seed)[1]["word"] for seed in range(50)}) > 40


def test_every_word_is_hidden_equally_often() -> None:
    env = Wordle(privileged=True)
    words = [env.reset(seed=seed)[1]["word"] for seed in range(8_000)]
    counts = np.array([words.count(word) for word in word_list()])
    chi_square = ((counts - 20) ** 2 / 20).sum()
    assert chi_square < 399 + 4 * (2 * 399) ** 0.5


@pytest.mark.parametrize("options", [{}, {"observation": "bound", "action": "word", "rules": "official"}])
def test_gymnasium_finds_nothing_to_say(options: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"envs.wordle:{SPEC.id}", **options).unwrapped)
        env = gymnasium.make(SPEC.id, **options)
        env.reset(seed=0)
        while not env.step(env.action_space.sample())[2]:
            pass


@pytest.mark.parametrize("observation", ["lmrl", "bound"])
@pytest.mark.parametrize("action", ["lmrl", "word"])
def test_spaces_hold_what_is_said(observation: Any, action: Any) -> None:
    env = Wordle(observation=observation, action=action)
    assert env.reset(seed=3)[0] in env.observation_space
    for word in word_list()[:5]:
        assert write_guess(word, action) in env.action_space
        assert env.step(write_guess(word, action))[0] in env.observation_space


def test_wrong_options_are_named() -> None:
    with pytest.raises(BenchError, match="rules='british' does not exist; known: lmrl, official"):
        Wordle(rules="british")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="'zzzzz' cannot be hidden"):
        Wordle().reset(options={"word": "zzzzz"})
    with pytest.raises(BenchError, match="does not take these options"):
        registry.make_env(SPEC, colour="blue")


def test_found_through_the_registry() -> None:
    assert "wordle" in registry.env_names()
    spec = registry.env_spec("wordle")
    assert spec is SPEC
    assert isinstance(registry.make_env(spec, **spec.scales["small"]["options"]), Wordle)


def test_registering_twice_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.register(SPEC.id, "envs.wordle.env:Wordle")


def test_declaration_is_readable_without_gymnasium_or_numpy() -> None:
    code = "import sys; sys.modules['gymnasium'] = sys.modules['numpy'] = None; import envs.wordle as w; print(w.SPEC.name)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "wordle\n"
