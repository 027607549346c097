"""Measure every number of the tiers: the mixture weights that give the paper's mean return, and the reference scores.

```
python -m envs.twenty_questions.calibrate        # five minutes of one core; what it prints stands in __init__.py
```
"""

from __future__ import annotations

import statistics

from envs.twenty_questions.behaviour import Mixture, Player, Solver
from envs.twenty_questions.env import TwentyQuestions
from qsft_bench.rollout import rollout

TARGET = -17.3  # mean return of the paper's data
HABITS = {"base": 0.0, "habit": 0.3}  # tier -> probability of the habit
TEMPERATURES = (1.0, 0.85, 0.7, 0.5, 0.0)  # 1 is the behaviour, 0 its mode
EPISODES = 50_000
SEARCH_EPISODES = 10_000


def returns(player: Player, episodes: int = EPISODES) -> tuple[float, float]:
    """Mean return of `player` and its standard error, over the same hidden objects and the same noise for every player."""
    played = rollout(player, TwentyQuestions, range(2**32, 2**32 + episodes), name="twenty_questions", batch_size=256)
    values = [episode.total_return for episode in played]
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def calibrate(habit: float) -> float:
    """`informed`, to two decimals, with which the mean return is `TARGET`, by bisection (it rises with `informed`)."""
    low, high = 0.0, 1.0 - habit
    while high - low > 5e-3:
        middle = (low + high) / 2
        mean, _ = returns(Mixture(informed=middle, habit=habit), SEARCH_EPISODES)
        low, high = (middle, high) if mean < TARGET else (low, middle)
    return round((low + high) / 2, 2)


def main() -> None:
    """Print mean return and standard error of every reference player, by tier."""
    players: list[tuple[str, Player]] = [("random", Mixture()), ("ceiling: Solver()", Solver())]
    for tier, habit in HABITS.items():
        informed = calibrate(habit)
        for temperature in TEMPERATURES:
            name = f"{tier}: informed={informed} habit={habit} temperature={temperature}"
            players.append((name, Mixture(informed=informed, habit=habit, temperature=temperature)))
    for name, player in players:
        mean, error = returns(player)
        print(f"{mean:7.3f} +- {error:.3f}  {name}", flush=True)


if __name__ == "__main__":
    main()
