"""How fast Twenty Questions' behaviour plays it, in the formats of the `small` preset and of LMRL-Gym."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.row import Row, Target, cpu_seconds
from qsft_bench.episode import Episode
from qsft_bench.preset import scale
from qsft_bench.registry import attribute, env_spec, make_env
from qsft_bench.rollout import rollout

TURNS_PER_SECOND = 5_000
REPEATS = 3


def measure(directory: Path) -> list[Row]:
    """Turns/s of the behaviour's rollout, environment included."""
    rows = []
    for preset in ("small", "paper"):
        turns = median(_turns_per_second(preset, 2_048) for _ in range(REPEATS))
        rows.append(
            Row(
                f"20Q rollout of the behaviour, `{preset}` format, one core",
                f"{turns:,.0f} turns/s",
                f"{TURNS_PER_SECOND:,} turns/s",
                turns / TURNS_PER_SECOND,
                Target("at least", 1),
            )
        )
    return rows


def _turns_per_second(preset: str, episodes: int) -> float:
    spec = env_spec("twenty_questions")
    options = scale(preset, spec).options
    behaviour = attribute(spec.behaviour)(**options, **spec.tier("base").behaviour)
    played: list[Episode] = []

    def play() -> None:
        made = rollout(behaviour, lambda: make_env(spec, **options), range(episodes), name=spec.name, batch_size=256)
        played.extend(made)

    seconds = cpu_seconds(play)
    return sum(episode.length for episode in played) / seconds
