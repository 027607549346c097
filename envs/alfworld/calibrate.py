"""Measure every number of the tiers: what the data and the reference players score, over the same games and noise.

```
python -m envs.alfworld.calibrate              # five minutes of one core; what it prints stands in __init__.py
python -m envs.alfworld.calibrate --episodes 600 --split train       # slower: a game of its own for every episode
```

Success falls with `errors`, about as (1 - errors * p) for each step of a task, and with `habit`.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from functools import partial
from typing import get_args

from envs.alfworld import SPEC
from envs.alfworld.behaviour import Erring, Expert, Player, Uniform
from envs.alfworld.env import ALFWorld
from envs.alfworld.games import COLUMNS, Split
from qsft_bench.rollout import rollout

FIRST_SEED = 2**32


def measure(player: Player, episodes: int, split: Split) -> dict[str, tuple[float, int]]:
    """Column -> success rate and number of episodes; `all` for all of them."""
    make = partial(ALFWorld, games="generated", split=split, privileged=True)
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for episode in rollout(player, make, range(FIRST_SEED, FIRST_SEED + episodes), name="alfworld", batch_size=8):
        ((column, score),) = episode.scores.items()
        scores[column].append(score)
        scores["all"].append(score)
    return {column: (math.fsum(values) / len(values), len(values)) for column, values in scores.items()}


def main() -> None:
    """Print the score of every player in every column, with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1_200)
    parser.add_argument("--split", choices=get_args(Split), default="valid_seen")
    arguments = parser.parse_args()
    players: dict[str, Player] = {f"{name}: {tier.behaviour}": Erring(**tier.behaviour) for name, tier in SPEC.tiers.items()}
    for name, tier in SPEC.tiers.items():
        players[f"the mode of {name}"] = Erring(**tier.behaviour, temperature=0.0)
    players["random"] = Uniform()
    players["ceiling"] = Expert()
    for name, player in players.items():
        found = measure(player, arguments.episodes, arguments.split)
        shown = ", ".join(
            f"{column} {100 * mean:.1f} +- {100 * math.sqrt(mean * (1 - mean) / count):.1f}"
            for column in ("all", *COLUMNS.values())
            for mean, count in [found.get(column, (math.nan, 1))]
        )
        print(f"{name}\n    {shown}", flush=True)


if __name__ == "__main__":
    main()
