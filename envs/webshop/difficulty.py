"""Measure how hard the generated catalogue is: what the first results are worth when the instruction itself is the query.

```
python -m envs.webshop.difficulty        # half a minute of one core
```
"""

from __future__ import annotations

import itertools
import statistics

from envs.webshop.catalogue import Goal, Product, load_catalogue
from envs.webshop.reward import reward

GOALS = 2_000


def best(product: Product, goal: Goal) -> float:
    """What the product is worth with the options that suit the goal best."""
    return max(reward(product, chosen, goal).total for chosen in itertools.product(*product.options.values()))


def main() -> None:
    """Print the mean over instructions that are neither tested nor validated on."""
    shop = load_catalogue()
    first, first_set, ten = [], [], []
    for goal in shop.goals[shop.test + shop.validation :][:GOALS]:
        found = [shop.products[number] for number in shop.search.top(goal.instruction, 10)]
        first.append(reward(found[0], (), goal).total)
        worth = [best(product, goal) for product in found]
        first_set.append(worth[0])
        ten.append(max(worth))
    print(f"the first result {statistics.fmean(first):.3f}, with the right options {statistics.fmean(first_set):.3f}")
    print(f"the best of the first ten {statistics.fmean(ten):.3f}")


if __name__ == "__main__":
    main()
