"""Playing episodes directly, and fingerprints of them that two processes can compare."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from envs._manipulation.behaviour import Player
from envs._manipulation.env import Manipulation
from envs.drawer_grasp.behaviour import DrawerGraspScript
from envs.drawer_grasp.env import DrawerGrasp
from envs.pick_place.behaviour import PickPlaceScript
from envs.pick_place.env import PickPlace

TASKS: dict[str, tuple[type[Manipulation], type[Player]]] = {
    "pick_place": (PickPlace, PickPlaceScript),
    "drawer_grasp": (DrawerGrasp, DrawerGraspScript),
}
Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def play(env: Manipulation, player: Player, seed: int) -> Iterator[Step]:
    """What `reset` and every `step` of one episode return; `env` is privileged."""
    observation, info = env.reset(seed=seed)
    yield observation, 0.0, False, False, info
    turn, over = 0, False
    while not over:
        step = env.step(player.choose(seed, turn, info["facts"]))
        yield step
        info = step[-1]
        turn, over = turn + 1, step[2] or step[3]


def scores(env: Manipulation, player: Player, seed: int) -> dict[str, float]:
    """The scores of one episode."""
    return dict(list(play(env, player, seed))[-1][-1]["scores"])


def fingerprint(steps: list[Step]) -> str:
    """A hash of every pixel, every bit of the proprioception, and the rewards."""
    digest = hashlib.sha256()
    for observation, reward, terminated, truncated, _ in steps:
        digest.update(observation["image"].tobytes() + observation["proprio"].tobytes())
        digest.update(np.array([reward, terminated, truncated]).tobytes())
    return digest.hexdigest()


def fingerprints(task: str, seeds: list[int]) -> dict[int, str]:
    """Seed -> fingerprint of a noisy script's episode, played one after another."""
    make_env, script = TASKS[task]
    env = make_env(privileged=True)
    player = script(noise=0.3)  # type: ignore[call-arg]
    found = {seed: fingerprint(list(play(env, player, seed))) for seed in seeds}
    env.close()
    return found


if __name__ == "__main__":
    for name, value in fingerprints(sys.argv[1], [int(seed) for seed in sys.argv[2:]]).items():
        print(name, value)
