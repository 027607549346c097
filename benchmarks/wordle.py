"""How fast Wordle answers, and how fast the behaviour that writes its data plays it."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.row import Row, Target, cpu_seconds
from envs.wordle.behaviour import Mixture
from envs.wordle.feedback import write_guess
from envs.wordle.words import word_list
from qsft_bench.episode import Episode
from qsft_bench.registry import env_spec, make_env
from qsft_bench.rollout import rollout

STEPS_PER_SECOND = 50_000
REPEATS = 5


def measure(directory: Path) -> list[Row]:
    """Steps/s of the bare environment (text in, text out, a seeded reset every game), then with the behaviour playing."""
    alone = median(_steps_per_second(40_000) for _ in range(REPEATS))
    played = median(_turns_per_second(1_024) for _ in range(REPEATS))
    return [
        Row(
            "Wordle, unwrapped, text observations, one core",
            f"{alone:,.0f} steps/s",
            f"{STEPS_PER_SECOND:,} steps/s",
            alone / STEPS_PER_SECOND,
            Target("at least", 1),
        ),
        Row(
            "Wordle rollout of the behaviour, environment included",
            f"{played:,.0f} turns/s",
            f"the environment alone: {alone:,.0f} steps/s",
            played / alone,
        ),
    ]


def _steps_per_second(steps: int) -> float:
    env = make_env(env_spec("wordle"))
    words = [write_guess(word, "lmrl") for word in word_list()]
    guesses = [words[k] for k in np.random.default_rng(0).integers(len(words), size=steps)]

    def play() -> None:
        over, seed = True, 0
        for guess in guesses:
            if over:
                env.reset(seed=seed)
                seed += 1
            over = env.step(guess)[2]

    return steps / cpu_seconds(play)


def _turns_per_second(episodes: int) -> float:
    spec = env_spec("wordle")
    behaviour = Mixture(**spec.tier("base").behaviour)
    played: list[Episode] = []
    seconds = cpu_seconds(
        lambda: played.extend(rollout(behaviour, lambda: make_env(spec), range(episodes), name=spec.name, batch_size=256))
    )
    return sum(episode.length for episode in played) / seconds
