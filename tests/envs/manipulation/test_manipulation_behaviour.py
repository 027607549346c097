"""The players: how often scripts succeed, what their noise, random way-points and habit do, and that they repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest

from envs import drawer_grasp, pick_place
from envs._manipulation.actions import NEUTRAL, SIZE
from envs._manipulation.behaviour import Player, Scripted, Uniform
from envs._manipulation.layout import Facts
from envs.drawer_grasp.behaviour import DrawerGraspScript
from envs.pick_place.behaviour import PickPlaceScript
from qsft_bench.control import dequantise, quantise
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.registry import attribute
from qsft_bench.spec import EnvSpec

SCRIPTS = (PickPlaceScript, DrawerGraspScript)
SPECS = (pick_place.SPEC, drawer_grasp.SPEC)
OVER = {  # over the object, about to go down; over the gap behind the handle
    PickPlaceScript: Facts((0.45, -0.1, 0.14), (0, 0, 0), True, 0.08, (0.45, -0.1, 0.02), 0.0, 0.0),
    DrawerGraspScript: Facts((0.4825, 0.0, 0.14), (0, 0, 0), True, 0.08, (0.58, 0.0, 0.03), 0.0, 0.0),
}


@pytest.mark.parametrize(("task", "least"), [("pick_place", 38), ("drawer_grasp", 36)])
def test_the_script_without_noise_succeeds(task: str, least: int) -> None:
    pytest.importorskip("pybullet")
    from tests.envs.manipulation.plays import TASKS, scores

    make_env, script = TASKS[task]
    env = make_env(image_size=1, privileged=True)
    won = [list(scores(env, script(), seed).values()) for seed in range(40)]
    assert np.sum(won, axis=0).min() >= least


@pytest.mark.parametrize("task", ["pick_place", "drawer_grasp"])
def test_random_way_points_and_the_mode_of_the_habit_fail(task: str) -> None:
    pytest.importorskip("pybullet")
    from tests.envs.manipulation.plays import TASKS, scores

    make_env, script = TASKS[task]
    env = make_env(image_size=1, privileged=True)
    for options in ({"stray": 1.0, "noise": 0.1}, {"habit": 1.0}):
        player = script(**options)  # type: ignore[arg-type]
        assert sum(list(scores(env, player, seed).values())[-1] for seed in range(10)) <= 1
    assert sum(sum(scores(env, Uniform(), seed).values()) for seed in range(5)) == 0


@pytest.mark.parametrize("make", SCRIPTS)
def test_noise_is_gaussian_around_the_script(make: type[Scripted]) -> None:
    facts = OVER[make]._replace(gripper=(*OVER[make].gripper[:2], 0.25))
    exact = make().choose(1, 0, facts)
    drawn = np.array([make(bins=1025, noise=0.1).choose(seed, 3, facts) for seed in range(2_000)])
    free = np.abs(exact) < 0.6  # six standard deviations from the ends
    assert free.sum() >= 5
    assert drawn.mean(axis=0)[free] == pytest.approx(exact[free], abs=0.012)
    assert drawn.std(axis=0)[free] == pytest.approx(0.1, abs=0.006)
    assert np.abs(np.corrcoef(drawn[:, free].T) - np.eye(free.sum())).max() < 0.1


@pytest.mark.parametrize("make", SCRIPTS)
def test_the_habit_is_one_action_where_it_is_about_to_go_down(make: type[Scripted]) -> None:
    player = make(noise=0.1, habit=0.6)
    home = np.eye(SIZE, dtype=np.float32)[NEUTRAL]
    over = [player.choose(seed, 4, OVER[make]) for seed in range(1_000)]
    assert np.mean([(action == home).all() for action in over]) == pytest.approx(0.6, abs=0.05)
    assert sum(action[NEUTRAL] > 0.5 for action in over) == sum((action == home).all() for action in over)
    elsewhere = OVER[make]._replace(gripper=(0.35, 0.2, 0.2))
    assert not any((player.choose(seed, 4, elsewhere) == home).all() for seed in range(200))


@pytest.mark.parametrize("make", SCRIPTS)
def test_a_share_of_the_episodes_has_random_way_points(make: type[Scripted]) -> None:
    plans = [make(stray=0.3).plan(seed) for seed in range(2_000)]
    off = np.array([np.hypot(*plan.first) + np.hypot(*plan.second) for plan in plans])
    assert (off > 0).mean() == pytest.approx(0.3, abs=0.04)
    assert off[off > 0].min() > 0.04
    assert 0.3 < np.mean([np.any(plan.first) for plan in plans if np.any(plan.first) or np.any(plan.second)]) < 0.7


@pytest.mark.parametrize("make", SCRIPTS)
@pytest.mark.parametrize("bins", [5, 33, 257])
def test_players_write_bins_and_repeat_themselves(make: type[Scripted], bins: int) -> None:
    for player in (Uniform(bins=bins), make(bins=bins, noise=0.1, stray=0.5, habit=0.3)):
        actions = [player.choose(seed, 2, OVER[make]) for seed in range(50)]
        assert all((dequantise(quantise(action, bins), bins) == action).all() for action in actions)
        assert all((player.choose(seed, 2, OVER[make]) == action).all() for seed, action in enumerate(actions))
        assert len({action.tobytes() for action in actions}) > 10
    assert not np.array_equal(Uniform().choose(1, 0, None), Uniform().choose(1, 1, None))


def test_every_bin_is_as_likely_to_the_random_player() -> None:
    drawn = quantise(np.array([Uniform(bins=5).choose(seed, 0, None) for seed in range(2_000)]), 5)
    for dimension in range(SIZE):
        assert np.bincount(drawn[:, dimension], minlength=5) / 2_000 == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("make", SCRIPTS)
def test_a_script_that_is_not_told_the_state_says_what_to_do(make: type[Scripted]) -> None:
    episode = Episode("pick_place", 0, [Turn({"proprio": np.zeros(8)})])
    with pytest.raises(BenchError, match="privileged=True"):
        make().act([episode])
    assert Uniform().act([episode])[0].shape == (SIZE,)  # type: ignore[union-attr]


@pytest.mark.parametrize("options", [{"noise": -1}, {"stray": 2}, {"habit": -0.1}, {"bins": 4}])
def test_bad_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        PickPlaceScript(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_declared_players_take_what_the_declaration_gives(spec: EnvSpec) -> None:
    for tier in spec.tiers.values():
        player: Player = attribute(spec.behaviour)(bins=33, **tier.behaviour)
        assert player.choose(0, 0, OVER[type(player)]).shape == (SIZE,)  # type: ignore[index]
        assert abs(tier.references_of(spec.columns[-1])["behaviour"] - 0.40) <= 0.03
    assert isinstance(attribute(spec.random)(), Uniform)
