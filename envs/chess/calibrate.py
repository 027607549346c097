"""Measure every number of chess's tier: mean returns with their intervals, who spends the time, and how long a row is.

```
python -m envs.chess.calibrate        # nine minutes of one core; what it prints stands in envs/chess/__init__.py
```
"""

from __future__ import annotations

import resource
import statistics
import time
from collections import Counter
from typing import Any

from envs.chess import SPEC, engine
from envs.chess.behaviour import BestOrAny, Levels, Player
from envs.chess.env import Chess
from qsft_bench.codec import TextCodec
from qsft_bench.episode import Episode
from qsft_bench.rollout import rollout

OPTIONS = SPEC.scales["small"]["options"]
SEEDS = 2**32


def play(player: Player, episodes: int, env: type[Chess] = Chess, **options: Any) -> list[Episode]:
    """Play, and print mean return and half its 95% interval, wins, draws and losses, and turns a game."""
    played = list(rollout(player, lambda: env(**options), range(SEEDS, SEEDS + episodes), name="chess", batch_size=256))
    values = [episode.total_return for episode in played]
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5
    outcomes = Counter(round(episode.total_return) + episode.invalid_actions for episode in played)
    shares = "/".join(f"{outcomes[outcome] / len(played):.1%}" for outcome in (1, 0, -1))
    turns = statistics.fmean(episode.length for episode in played)
    print(f"{statistics.fmean(values):7.3f} +- {half:.3f}  {shares} won/drawn/lost, {turns:.1f} turns ", end="", flush=True)
    return played


def cost(player: Player, episodes: int, env: type[Chess] = Chess, **options: Any) -> list[Episode]:
    """`play`, and print games a second of processor time, and the part of it that is not the engine's."""
    engine.close()
    children, own = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
    played = play(player, episodes, env, **options)
    engine.close()  # counts as a child once it has ended
    own = time.process_time() - own
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    its = ended.ru_utime + ended.ru_stime - children.ru_utime - children.ru_stime
    print(f"({episodes / (own + its):.1f} games/s, {own / (own + its):.0%} ours) ", end="")
    return played


def rows(played: list[Episode]) -> str:
    """Tokens of a row, <bos> and action included: the mean and the most."""
    sizes = [
        1 + sum(len(TextCodec.pieces("words", str(text))) for text in (turn.observation, turn.action))
        for episode in played
        for turn in episode.turns[: episode.length]
    ]
    return f"a row has {statistics.fmean(sizes):.1f} tokens on average, {max(sizes)} at most"


def main() -> None:
    """Print everything."""
    played = cost(Levels(**OPTIONS, **SPEC.tier("base").behaviour), 3_000, **OPTIONS)
    print(f" behaviour; {rows(played)}", flush=True)
    play(BestOrAny(**OPTIONS), 1_000, **OPTIONS)
    print(" random", flush=True)
    play(BestOrAny(**OPTIONS, best=1, depth=8), 200, **OPTIONS)
    print(" ceiling: BestOrAny(best=1, depth=8)", flush=True)


if __name__ == "__main__":
    main()
