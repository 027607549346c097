"""How fast the behaviours that write the data of chess and of its endings play it, the engine's time included."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from benchmarks.row import Row, Target
from qsft_bench.preset import scale
from qsft_bench.registry import attribute, env_spec, make_env
from qsft_bench.rollout import rollout

GAMES_PER_SECOND = 8
OURS = 0.35


def measure(directory: Path) -> list[Row]:
    """Games a second of processor time, ours and the engine's together, and the part of it that is ours."""
    games, ours = _cost("chess", 150)
    endings, _ = _cost("chess_endgame", 300)
    return [
        Row(
            "chess: games of the behaviour, engine included",
            f"{games:.1f} games/s",
            f"{GAMES_PER_SECOND} games/s",
            games / GAMES_PER_SECOND,
            Target("at least", 1),
        ),
        Row("chess: processor time that is not the engine's", f"{ours:.0%}", "all of it", ours, Target("at most", OURS)),
        Row(
            "chess endings: games of the behaviour, nothing kept from before",
            f"{endings:.1f} games/s",
            f"chess: {games:.1f} games/s",
            endings / games,
        ),
    ]


def _cost(name: str, games: int) -> tuple[float, float]:
    from envs.chess import engine, skill

    spec = env_spec(name)
    options = scale("small", spec).options
    player = attribute(spec.behaviour)(**options, **spec.tier("base").behaviour)
    engine.close()
    skill.forget()
    before, own = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
    list(rollout(player, lambda: make_env(spec, **options), range(games), name=name, batch_size=256))
    engine.close()  # only then its time counts as a child's
    own = time.process_time() - own
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return games / total, own / total
