"""The walk: its rules by hand, Gymnasium's own checks, and that nothing a model can say breaks it."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.stitching import SPEC
from envs.stitching.behaviour import NeverTwice, Uniform
from envs.stitching.env import DECOY, DOORS, GATES, HALLS, OUTSIDE, PLACES, RIGHT, Stitching, payment, read_door, write_door
from qsft_bench import registry
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout


def test_a_walk_by_hand() -> None:
    env = Stitching()
    gate, info = env.reset(seed=0)
    assert PLACES[gate][0] == 0 and info == {}
    hall, reward, terminated, truncated, info = env.step(write_door(PLACES[gate][1]))
    assert PLACES[hall][0] == 1 and reward in (0.0, 1.0) and (terminated, truncated, info) == (False, False, {})
    assert env.step(write_door(PLACES[hall][1])) == (OUTSIDE, 1.0, True, False, {"success": True})  # the right door always pays
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("red\n")


def test_the_hall_does_not_tell_which_door_led_to_it() -> None:
    def hall(action: str) -> str:
        env = Stitching()
        env.reset(seed=5)
        return env.step(action)[0]

    assert len({hall(action) for action in (*map(write_door, range(4)), "nothing")}) == 1


def test_doors_pay_as_declared() -> None:
    env, paid = Stitching(), dict[tuple[int, str], list[float]]()
    for seed in range(6000):
        place, _ = env.reset(seed=seed)
        for _ in range(2):
            leg, right, decoy = PLACES[place]
            door = seed % 4
            kind = "right" if door == right else "decoy" if door == decoy else "other"
            place, reward, *_ = env.step(write_door(door))
            paid.setdefault((leg, kind), []).append(reward)
    for leg in (0, 1):
        assert np.mean(paid[leg, "right"]) == pytest.approx(RIGHT[leg], abs=0.04)
        assert np.mean(paid[leg, "decoy"]) == pytest.approx(DECOY[leg], abs=0.04)
        assert np.mean(paid[leg, "other"]) == 0


def test_every_place_has_a_right_door_and_another_decoy() -> None:
    assert len(PLACES) == len(GATES) + len(HALLS)
    assert all(right != decoy and {right, decoy} <= set(range(len(DOORS))) for _, right, decoy in PLACES.values())
    for leg in (0, 1):  # no door is right everywhere
        assert {right for where, right, _ in PLACES.values() if where == leg} == set(range(len(DOORS)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from(DOORS), st.none(), st.integers()), min_size=2, max_size=2))
def test_no_action_raises(actions: list) -> None:
    env = Stitching()
    env.reset(seed=1)
    for action in actions:
        observation, reward, _, truncated, info = env.step(action)
        assert observation in env.observation_space and not truncated
        assert ("invalid" in info) == (read_door(action) is None)
        assert reward == 0 or read_door(action) is not None


def test_same_seed_same_walk() -> None:
    def walk(seed: int) -> list:
        env = Stitching()
        return [env.reset(seed=seed), env.step("red\n"), env.step("blue\n")]

    assert all(walk(seed) == walk(seed) for seed in (0, 1, 2**63 - 1))
    starts = [Stitching().reset(seed=seed)[0] for seed in range(200)]
    assert {place.split()[0] for place in starts} == set(GATES)


def test_gymnasium_finds_nothing_to_say() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"envs.stitching:{SPEC.id}").unwrapped)
    assert all(write_door(door) in Stitching().action_space for door in range(4))
    assert {*PLACES, OUTSIDE} <= {place for place in (*PLACES, OUTSIDE) if place in Stitching().observation_space}


def test_found_through_the_registry() -> None:
    assert registry.env_spec("stitching") is SPEC
    assert isinstance(registry.make_env(SPEC), Stitching)
    assert SPEC.table == 0 and SPEC.column("Stitching", "base") == "Stitching"


def test_declaration_is_readable_without_gymnasium_or_numpy() -> None:
    code = "import sys; sys.modules['gymnasium'] = sys.modules['numpy'] = None; import envs.stitching as s; print(s.SPEC.name)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "stitching\n"


def at_the_hall(first: str) -> Episode:
    episode = Episode("stitching", 7, [Turn("oak gate\n")])
    episode.step(first, "long hall\n", 0.0, False, False, {})
    return episode


def test_behaviour_by_hand() -> None:
    # At the oak gate red is right and green the decoy; in the long hall blue is right and green the decoy.
    player = NeverTwice(gate=0.35, hall=0.65, noise=0.1)
    episodes = [Episode("stitching", 7, [Turn("oak gate\n")]), at_the_hall("red\n"), at_the_hall("green\n"), at_the_hall("?")]
    after_wrong = [0.35 * 0.05, 0.35 * 0.9, 0.65, 0.35 * 0.05]
    expected = [[0.35, 0.65 * 0.9, 0.65 * 0.05, 0.65 * 0.05], [0.05, 0.9, 0.0, 0.05], after_wrong, after_wrong]
    assert player.probabilities(episodes) == pytest.approx(np.array(expected))
    likelihoods = player.log_likelihood(episodes, ["red\n", "blue\n", "blue\n", "blue"])
    assert likelihoods == pytest.approx([np.log(0.35), -np.inf, np.log(0.65), -np.inf])
    assert Uniform().probabilities(episodes) == pytest.approx(np.full((4, 4), 0.25))
    with pytest.raises(BenchError, match="hall=2 and noise=0 must be probabilities"):
        NeverTwice(gate=0.5, hall=2, noise=0)


def test_no_episode_takes_the_right_door_twice_and_the_likelihood_is_exact() -> None:
    player = NeverTwice(**SPEC.tier("base").behaviour)
    episodes = list(rollout(player, Stitching, range(2**33, 2**33 + 4000), name="stitching", batch_size=256))
    assert not any(episode.success for episode in episodes)
    assert {episode.total_return for episode in episodes} == {0.0, 1.0, 2.0}  # by luck the data span the whole range
    gates = [episode.turns[0] for episode in episodes]
    entropy = -sum(p * np.log(p) for p in (0.35, 0.585, 0.0325, 0.0325))
    assert -np.mean([turn.log_likelihood for turn in gates]) == pytest.approx(entropy, abs=0.03)
    assert np.mean([payment(str(turn.observation), read_door(turn.action)) == RIGHT[0] for turn in gates]) == pytest.approx(
        0.35, abs=0.03
    )
