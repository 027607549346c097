"""Measure every number of the arm's tiers: what the data and the reference players score, over the same scenes and noise.

```
python -m envs._manipulation.calibrate pick_place     # or drawer_grasp; four minutes of one core; it stands in __init__.py
```

Success falls about as 1 - `stray` in the base tier and with `habit` in the other: try shares until the data reach 40%.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from envs._manipulation.behaviour import Player
from qsft_bench.registry import attribute, env_spec
from qsft_bench.rollout import play_episodes

EPISODES = 1_000
FIRST_SEED = 2**32
OPTIONS = {"image_size": 1}  # nobody looks


def main() -> None:
    """Print the score of every player in every column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("pick_place", "drawer_grasp"))
    spec = env_spec(parser.parse_args().task)
    script = attribute(spec.behaviour)
    players: dict[str, Player] = {
        **{f"{name}: {tier.behaviour}": script(**tier.behaviour) for name, tier in spec.tiers.items()},
        "random": attribute(spec.random)(),
        "ceiling, and the mode of base: the script without noise": script(),
        "the mode of habit: it always goes home": script(habit=1.0),
    }
    for name, player in players.items():
        played = play_episodes(player, spec, OPTIONS, range(FIRST_SEED, FIRST_SEED + EPISODES))
        for column in spec.columns:
            score = float(np.mean([episode.scores[column] for episode in played]))
            print(f"{score:6.3f} +- {math.sqrt(score * (1 - score) / EPISODES):.3f}  {column}, {name}", flush=True)


if __name__ == "__main__":
    main()
