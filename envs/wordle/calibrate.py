"""Measure every number of Wordle's tiers: the mixture weights that give the paper's mean return, and the reference scores.

```
python -m envs.wordle.calibrate        # six minutes of one core; what it prints stands in envs/wordle/__init__.py
```
"""

from __future__ import annotations

import statistics

from envs.wordle.behaviour import Entropy, Mixture, Player
from envs.wordle.env import Wordle
from qsft_bench.rollout import rollout

TARGET = -4.12  # mean return of the paper's data
HABITS = {"base": 0.0, "habit": 0.3}  # tier -> probability of the habit
TEMPERATURES = (1.0, 0.85, 0.7, 0.5, 0.35, 0.25, 0.1, 0.0)  # 1 is the behaviour, 0 its mode
EPISODES = 200_000
SEARCH_EPISODES = 50_000


def returns(player: Player, episodes: int = EPISODES) -> tuple[float, float]:
    """Mean return of `player` and its standard error, over the same hidden words and the same noise for every player."""
    played = rollout(player, Wordle, range(2**32, 2**32 + episodes), name="wordle", batch_size=128)
    values = [episode.total_return for episode in played]
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def calibrate(habit: float) -> float:
    """`consistent`, to three decimals, with which the mean return is `TARGET`, by bisection (it rises with `consistent`)."""
    low, high = 0.0, 1.0 - habit
    while high - low > 5e-4:
        middle = (low + high) / 2
        mean, _ = returns(Mixture(consistent=middle, habit=habit), SEARCH_EPISODES)
        low, high = (middle, high) if mean < TARGET else (low, middle)
    return round((low + high) / 2, 3)


def main() -> None:
    """Print mean return and standard error of every reference player, by tier."""
    players: list[tuple[str, Player]] = [("random", Mixture()), ("ceiling: Entropy()", Entropy())]
    for tier, habit in HABITS.items():
        consistent = calibrate(habit)
        for temperature in TEMPERATURES:
            name = f"{tier}: consistent={consistent} habit={habit} temperature={temperature}"
            players.append((name, Mixture(consistent=consistent, habit=habit, temperature=temperature)))
    for name, player in players:
        mean, error = returns(player)
        print(f"{mean:7.3f} +- {error:.3f}  {name}", flush=True)


if __name__ == "__main__":
    main()
