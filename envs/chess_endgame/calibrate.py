"""Measure every number of the endings' tiers: `best` of the base tier, the reference scores, and how many positions there are.

```
python -m envs.chess_endgame.calibrate        # seven minutes of one core; what it prints stands in __init__.py
```
"""

from __future__ import annotations

import statistics

from envs.chess.behaviour import BestOrAny
from envs.chess.calibrate import SEEDS, cost, play, rows
from envs.chess_endgame import SPEC
from envs.chess_endgame.env import ChessEndgame
from qsft_bench.rollout import rollout

OPTIONS = SPEC.scales["small"]["options"]
EPISODES = 1_500
TEMPERATURES = (0.7, 0.5, 0.35, 0.0)  # 0 is the mode


def base_for(mean: float) -> float:
    """`best`, to two decimals, with which a player without habit has this mean return, by bisection (it rises with `best`)."""
    low, high = 0.0, 1.0
    while high - low > 1e-2:
        middle = (low + high) / 2
        player = BestOrAny(**OPTIONS, best=middle)
        played = rollout(
            player, lambda: ChessEndgame(**OPTIONS), range(SEEDS, SEEDS + EPISODES), name="chess_endgame", batch_size=256
        )
        low, high = (middle, high) if statistics.fmean(episode.total_return for episode in played) < mean else (low, middle)
    return round((low + high) / 2, 2)


def main() -> None:
    """Print everything."""
    habit = SPEC.tier("habit").behaviour
    played = cost(BestOrAny(**OPTIONS, **habit), EPISODES, ChessEndgame, **OPTIONS)
    print(f" habit: behaviour; {rows(played)}", flush=True)
    mean = statistics.fmean(episode.total_return for episode in played)
    print(f"base: best={base_for(mean)} has the same mean return", flush=True)
    for tier in SPEC.tiers:
        for temperature in (1.0, *TEMPERATURES):
            play(BestOrAny(**OPTIONS, **SPEC.tier(tier).behaviour, temperature=temperature), EPISODES, ChessEndgame, **OPTIONS)
            print(f" {tier}: temperature {temperature}", flush=True)
    play(BestOrAny(**OPTIONS), EPISODES, ChessEndgame, **OPTIONS)
    print(" random", flush=True)
    play(BestOrAny(**OPTIONS, best=1, depth=9), 100, ChessEndgame, **OPTIONS)
    print(" ceiling: BestOrAny(best=1, depth=9)", flush=True)


if __name__ == "__main__":
    main()
