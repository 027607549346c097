"""Measure the numbers of WebShop's tiers and how hard the generated catalogue is.

```
python -m envs.webshop.calibrate        # two minutes of one core; what it prints stands in envs/webshop/__init__.py
```
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from typing import Any

from envs.webshop import SPEC
from envs.webshop.behaviour import RandomShopper, Reader, Shopper, Solver
from envs.webshop.catalogue import Goal, Product, load_catalogue
from envs.webshop.env import WebShop
from envs.webshop.reward import reward
from qsft_bench.codec import TextCodec
from qsft_bench.episode import Episode
from qsft_bench.rollout import rollout

OPTIONS: dict[str, Any] = dict(SPEC.scales["small"]["options"])
TEMPERATURES = (0.7, 0.5, 0.25, 0.0)  # 1 is the behaviour, 0 its mode
EPISODES = 5_000
CATALOGUE_GOALS = 2_000


def play(player: Reader, episodes: int = EPISODES) -> list[Episode]:
    """Visits of the same customers for every player."""
    seeds = range(2**32, 2**32 + episodes)
    return list(rollout(player, lambda: WebShop(**OPTIONS), seeds, name="webshop", batch_size=256))


def best(product: Product, goal: Goal) -> float:
    """What the product is worth with the options that suit the goal best."""
    return max(reward(product, chosen, goal).total for chosen in itertools.product(*product.options.values()))


def error(values: list[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5


def tokens(episodes: Iterable[Episode]) -> list[int]:
    """Lengths of the episodes in words of the codec, ascending."""
    return sorted(
        sum(len(TextCodec.pieces("words", f"{turn.observation}{turn.action or ''}")) for turn in episode.turns)
        for episode in episodes
    )


def main() -> None:
    """Print how hard the catalogue is, then score, its standard error, spread and lengths of every reference player."""
    shop = load_catalogue()
    first, first_set, ten = [], [], []
    for goal in shop.goals[shop.test + shop.validation :][:CATALOGUE_GOALS]:
        found = [shop.products[number] for number in shop.search.top(goal.instruction, 10)]
        first.append(reward(found[0], (), goal).total)
        worth = [best(product, goal) for product in found]
        first_set.append(worth[0])
        ten.append(max(worth))
    print(f"the instruction as the query: {statistics.fmean(first):.3f} the first result without options,", end=" ")
    print(f"{statistics.fmean(first_set):.3f} with the right ones, {statistics.fmean(ten):.3f} the best of the top ten")
    players: list[tuple[str, Reader]] = [("random", RandomShopper(**OPTIONS)), ("ceiling: Solver", Solver(**OPTIONS))]
    for name, tier in SPEC.tiers.items():
        players.append((name, Shopper(**OPTIONS, **tier.behaviour)))
        for temperature in TEMPERATURES:
            named = f"{name}, temperature {temperature}"
            players.append((named, Shopper(**OPTIONS, **tier.behaviour, temperature=temperature)))
    for name, player in players:
        played = play(player)
        values = [episode.total_return for episode in played]
        lengths = tokens(played)
        turns = [episode.length for episode in played]
        spread = " ".join(f"{sum(low / 5 <= value < (low + 1) / 5 for value in values) / len(values):.0%}" for low in range(5))
        print(
            f"{statistics.fmean(values):.3f} +- {error(values):.3f}  success {statistics.fmean(v == 1 for v in values):.1%}, "
            f"by fifths {spread}, turns {statistics.fmean(turns):.1f} (most {max(turns)}), tokens "
            f"{statistics.fmean(lengths):.0f} (99% up to {lengths[len(lengths) * 99 // 100]}, most {lengths[-1]})  {name}",
            flush=True,
        )


if __name__ == "__main__":
    main()
