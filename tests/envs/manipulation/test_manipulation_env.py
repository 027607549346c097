"""The two tasks: what every action does, when an event happens, and that an episode is the same wherever it is played."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import drawer_grasp, pick_place
from envs._manipulation.actions import NAMES, SIZE
from envs._manipulation.layout import LYING, TRAY, Facts
from qsft_bench.errors import BenchError
from qsft_bench.registry import make_env
from qsft_bench.spec import EnvSpec

pytest.importorskip("pybullet")

from envs._manipulation import world
from envs._manipulation.behaviour import holding, towards
from envs._manipulation.env import lifted
from envs.drawer_grasp.env import DrawerGrasp
from envs.pick_place.behaviour import PickPlaceScript
from envs.pick_place.env import PickPlace, placed
from tests.envs.manipulation.plays import TASKS, fingerprint, fingerprints, play

REPOSITORY = Path(__file__).parents[3]
SPECS = (pick_place.SPEC, drawer_grasp.SPEC)
STILL = np.zeros(SIZE, dtype=np.float32)


def one(name: str, value: float) -> np.ndarray:
    """An action that is 0 but for the dimension `name`."""
    action = STILL.copy()
    action[NAMES.index(name)] = value
    return action


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_gymnasium_accepts_it(spec: EnvSpec) -> None:
    env = make_env(spec, render_mode="rgb_array", render_size=64)
    check_env(env)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (8,), np.float32)
    observation, info = env.reset(seed=3)
    assert observation["image"].shape == (48, 48, 3) and observation["image"].dtype == np.uint8
    assert observation["proprio"].shape == (8,) and observation["proprio"].dtype == np.float32
    assert info == {} and env.horizon == spec.horizon
    env.close()


@pytest.mark.parametrize("size", [1, 48, 64, 200])
def test_it_renders_at_any_size(size: int) -> None:
    env = PickPlace(render_mode="rgb_array", render_size=size, image_size=size)
    seen = env.reset(seed=0)[0]["image"]
    drawn = env.render()
    assert drawn is not None and drawn.shape == (size, size, 3) and (drawn == seen).all()
    assert PickPlace().render() is None


def test_the_object_its_colour_and_the_furniture_are_in_the_picture() -> None:
    env = PickPlace(image_size=96)
    images = [env.reset(seed=seed)[0]["image"].astype(int) for seed in range(12)]
    blue = [((image[..., 2] > image[..., 0] + 60) & (image[..., 2] > image[..., 1] + 40)).sum() for image in images]
    assert min(blue) > 400  # the tray
    assert len({image.tobytes() for image in images}) == 12
    vivid = [(image.max(2) - image.min(2) > 60).sum() - seen for image, seen in zip(images, blue, strict=True)]
    assert min(vivid) > 20  # the object


@pytest.mark.parametrize(
    ("name", "fact", "index", "by"),
    [
        ("x", "gripper", 0, 0.06),
        ("y", "gripper", 1, 0.06),
        ("z", "gripper", 2, 0.06),
        ("roll", "turned", 0, 0.2),
        ("pitch", "turned", 1, 0.2),
        ("yaw", "turned", 2, 0.35),
    ],
)
def test_moves_and_turns_do_what_they_say_and_nothing_else(name: str, fact: str, index: int, by: float) -> None:
    env = PickPlace(privileged=True)
    for value in (-1.0, 0.5):
        before = env.reset(seed=0)[1]["facts"]
        after = env.step(one(name, value))[-1]["facts"]
        for group, most in (("gripper", 0.012), ("turned", 0.04)):
            change = np.subtract(getattr(after, group), getattr(before, group))
            if group == fact:
                assert change[index] == pytest.approx(value * by, rel=0.25)
                change[index] = 0
            assert np.abs(change).max() < most
        assert after.open


def test_the_gripper_closes_and_opens_and_otherwise_stays() -> None:
    env = PickPlace(privileged=True)
    env.reset(seed=0)
    for value, is_open in ((0.5, True), (-0.5, True), (-0.5625, False), (0.5, False), (0, False), (0.5625, True)):
        facts = env.step(one("gripper", value))[-1]["facts"]
        assert facts.open == is_open and facts.fingers == pytest.approx(0.08 if is_open else 0.0, abs=0.005)


def test_neutral_goes_back_whatever_the_rest_says() -> None:
    env = PickPlace(privileged=True)
    start = env.reset(seed=0)[1]["facts"]
    for _ in range(3):
        env.step(np.array([-1, -1, -0.5, 1, 1, 1, 0, 0.5], dtype=np.float32))
    away = env.step(STILL)[-1]["facts"]
    assert np.linalg.norm(np.subtract(away.gripper, start.gripper)) > 0.15
    back = env.step(np.array([-1, -1, -1, 1, 1, 1, 0, 1], dtype=np.float32))[-1]["facts"]
    assert np.allclose(back.gripper, start.gripper, atol=0.01) and np.allclose(back.turned, start.turned, atol=0.03)


def test_it_stands_still_and_stays_in_its_workspace() -> None:
    env = PickPlace(privileged=True)
    start = env.reset(seed=0)[1]["facts"]
    for _ in range(10):
        facts = env.step(STILL)[-1]["facts"]
    assert np.allclose(facts.gripper, start.gripper, atol=0.003)
    observation, *_ = env.reset(seed=1)
    for _ in range(20):
        observation, *_ = env.step(one("z", -1))
    assert env.observation_space.contains(observation)


def test_actions_are_rounded_to_bins_before_anything_moves() -> None:
    coarse = PickPlace(bins=5, privileged=True)
    ends = []
    for value in (0.3, 0.5, 0.7, 0.8):
        coarse.reset(seed=0)
        ends.append(coarse.step(one("x", value))[-1]["facts"])
    assert ends[0] == ends[1] == ends[2] != ends[3]
    coarse.reset(seed=0)
    assert coarse.step(one("x", 7.0))[-1]["facts"] == (coarse.reset(seed=0), coarse.step(one("x", 1.0)))[1][-1]["facts"]


@pytest.mark.parametrize("action", [np.full(8, np.nan), np.zeros(3), "go"])
def test_a_bad_action_is_named_and_changes_nothing(action: object) -> None:
    env = PickPlace(privileged=True)
    before = env.reset(seed=0)[1]["facts"]
    with pytest.raises(BenchError, match="action"):
        env.step(action)  # type: ignore[arg-type]
    assert env._world is not None and env._world.facts() == before


@pytest.mark.parametrize("options", [{"bins": 32}, {"image_size": 0}, {"render_size": 2.5}, {"render_mode": "human"}])
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        PickPlace(**options)  # type: ignore[arg-type]


def test_an_episode_must_have_begun_and_not_be_over() -> None:
    env = PickPlace()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(STILL)
    env.reset(seed=0)
    for turn in range(30):
        _, reward, terminated, truncated, info = env.step(STILL)
        assert (reward, terminated, truncated) == (0.0, False, turn == 29)
    assert info == {"success": False, "scores": {"Pick Object": 0.0, "Place Object Near Target": 0.0}}
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(STILL)
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(STILL)


def test_placed_needs_an_open_gripper() -> None:
    lies = Facts(TRAY, (0, 0, 0), True, 0.08, (TRAY[0], TRAY[1], 0.03), 0.0, 0.0)
    assert placed(lies) and not placed(lies._replace(open=False))
    assert not placed(lies._replace(item=(TRAY[0] + 0.09, TRAY[1], 0.03)))
    assert not placed(lies._replace(item=(TRAY[0], TRAY[1], LYING + 0.02)))
    env, script = PickPlace(privileged=True), PickPlaceScript()
    facts = env.reset(seed=5)[1]["facts"]
    while not (holding(facts) and np.hypot(*np.subtract(facts.gripper, TRAY)[:2]) < 0.02):
        facts = env.step(script.choose(5, 0, facts))[-1]["facts"]
    for _ in range(4):  # down into the tray, closed
        _, reward, terminated, _, info = env.step(towards(facts, [*TRAY[:2], 0.03]))
        facts = info["facts"]
        assert reward == 0 and not terminated
    assert placed(facts._replace(open=True))
    _, reward, terminated, _, info = env.step(one("gripper", 1.0))
    assert reward == 1 and terminated and info["success"]
    assert info["scores"] == {"Pick Object": 1.0, "Place Object Near Target": 1.0}


def test_picking_counts_though_the_object_is_dropped_again() -> None:
    env, script = PickPlace(privileged=True), PickPlaceScript()
    facts = env.reset(seed=5)[1]["facts"]
    while not lifted(facts):
        facts = env.step(script.choose(5, 0, facts))[-1]["facts"]
    over = False
    while not over:
        *_, over, info = env.step(one("gripper", 1.0))
    assert info["scores"] == {"Pick Object": 1.0, "Place Object Near Target": 0.0} and not info["success"]


def test_the_drawer_hides_its_object_until_it_is_drawn() -> None:
    env, script = DrawerGrasp(privileged=True), TASKS["drawer_grasp"][1]()
    steps = list(play(env, script, 3))
    start, end = steps[0][-1]["facts"], steps[-1][-1]["facts"]
    assert start.drawer == pytest.approx(0, abs=0.002) and end.drawer > 0.12 and lifted(end)
    assert steps[-1][-1]["scores"] == {"Drawer Grasp": 1.0} and steps[-1][1:4] == (1.0, True, False)
    facts = env.reset(seed=3)[1]["facts"]  # from above, through the roof, it cannot be had
    for _ in range(20):
        facts = env.step(towards(facts, facts.item))[-1]["facts"]
    assert facts.gripper[2] > 0.09 and not lifted(facts)


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_episode_in_any_order_side_by_side_and_in_any_process(task: str) -> None:
    here = fingerprints(task, [1, 2, 3])
    assert len(set(here.values())) == 3
    assert fingerprints(task, [3, 1]) == {seed: here[seed] for seed in (3, 1)}
    make_env, script = TASKS[task]
    player = script(noise=0.3)  # type: ignore[call-arg]
    turns = list(zip_longest(*(play(make_env(privileged=True), player, seed) for seed in (2, 3))))
    for seed, steps in zip((2, 3), zip(*turns, strict=True), strict=True):
        assert fingerprint([step for step in steps if step is not None]) == here[seed]
    command = [sys.executable, "-m", "tests.envs.manipulation.plays", task, "2"]
    other = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert f"2 {here[2]}" in other


def resident() -> float:
    """Memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("resets", [100, pytest.param(2_000, marks=pytest.mark.nightly)])
def test_resets_and_new_environments_do_not_leak(resets: int) -> None:
    env = DrawerGrasp()

    def reset_often() -> None:
        for seed in range(resets):
            env.reset(seed=seed)
            if seed % 10 == 0:
                with_own = PickPlace()
                with_own.reset(seed=seed)
                with_own.close()

    reset_often()
    gc.collect()
    before = resident()
    reset_often()
    gc.collect()
    assert resident() - before < 4


def test_an_environment_that_nobody_closed_leaves_its_simulator_too() -> None:
    world._idle.clear()
    env = PickPlace()
    env.reset(seed=0)
    assert not world._idle
    del env
    gc.collect()
    assert len(world._idle) == 1


def test_without_pybullet_everything_but_playing_works() -> None:
    program = """
import sys
sys.modules["pybullet"] = None
from envs.drawer_grasp import behaviour
from qsft_bench.registry import env_spec, make_env
try:
    make_env(env_spec("pick_place"))
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert said.startswith("BenchError pick_place cannot start: it needs pybullet") and "qsft-bench[manipulation]" in said
