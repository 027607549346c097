"""Measure every number of the arm's tiers: the shares that give 40% success in the data, and the reference scores.

```
python -m envs._manipulation.calibrate pick-place     # or drawer; five minutes of one core each; it stands in declared.py
```
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from envs._manipulation.behaviour import DrawerGraspScript, PickPlaceScript, Player, Scripted, Uniform
from envs._manipulation.env import DrawerGrasp, Manipulation, PickPlace

TARGET = 0.40  # success rate of the paper's data
NOISE = 0.1  # as in COG's scripts
STRAY = 0.2  # of the habit tier, whose success is set by its habit
EPISODES = 1_000
SEARCH_EPISODES = 300
FIRST_SEED = 2**32
TASKS: dict[str, tuple[type[Manipulation], type[Scripted]]] = {
    "pick-place": (PickPlace, PickPlaceScript),
    "drawer": (DrawerGrasp, DrawerGraspScript),
}


def scores(env: Manipulation, player: Player, episodes: int = EPISODES) -> dict[str, float]:
    """Mean of every column, success last, over the same scenes and the same noise for every player."""
    found: list[dict[str, float]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        info = env.reset(seed=seed)[1]
        turn, over = 0, False
        while not over:
            _, _, terminated, truncated, info = env.step(player.choose(seed, turn, info["facts"]))
            turn, over = turn + 1, terminated or truncated
        found.append(info["scores"])
    return {column: float(np.mean([score[column] for score in found])) for column in found[0]}


def search(env: Manipulation, player: Callable[[float], Player]) -> float:
    """The share, to two decimals, with which `player(share)` succeeds in `TARGET` of its episodes; success falls with it."""
    low, high = 0.0, 1.0
    while high - low > 0.01:
        middle = (low + high) / 2
        success = list(scores(env, player(middle), SEARCH_EPISODES).values())[-1]
        low, high = (middle, high) if success > TARGET else (low, middle)
    return round((low + high) / 2, 2)


def main() -> None:
    """Print the scores of every reference player, by tier."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    make_env, script = TASKS[parser.parse_args().task]
    env = make_env(image_size=1, privileged=True)  # nobody looks
    stray = search(env, lambda share: script(noise=NOISE, stray=share))
    habit = search(env, lambda share: script(noise=NOISE, stray=STRAY, habit=share))
    players: dict[str, Player] = {
        "random": Uniform(),
        "ceiling: the script without noise": script(),
        f"base: noise={NOISE} stray={stray}": script(noise=NOISE, stray=stray),
        f"habit: noise={NOISE} stray={STRAY} habit={habit}": script(noise=NOISE, stray=STRAY, habit=habit),
        "the mode of habit": script(habit=1.0),
    }
    for name, player in players.items():
        for column, score in scores(env, player).items():
            print(f"{score:6.3f} +- {math.sqrt(score * (1 - score) / EPISODES):.3f}  {column}, {name}", flush=True)


if __name__ == "__main__":
    main()
