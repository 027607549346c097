"""Twenty Questions: find a hidden object by yes-or-no questions. The declaration; the game is in `env.py`, what it knows in
`objects.toml` and `attributes.toml`, how it understands questions in `language.py`, its data's players in `behaviour.py`."""

from __future__ import annotations

from typing import Any

from envs import register
from qsft_bench.spec import EnvSpec, Tier

# One word a question and one for its answer, bound to what was asked: what models trained from scratch on two cores can learn
# from. A row is at most 42 tokens: an opening of three, twenty questions and nineteen answers.
_BOUND: dict[str, Any] = {"options": {"observation": "bound", "action": "word"}, "codec": "words", "context": 48}

# `qsft-bench calibrate --env 20q --episodes 50000` measured what stands in the tiers, with standard errors below .025.
_RANDOM, _CEILING = -19.280, -6.798

SPEC = EnvSpec(
    name="twenty_questions",
    id="qsft_bench/TwentyQuestions-v0",
    summary="find one of 158 hidden objects by at most twenty yes-or-no questions (LMRL-Gym's rules)",
    table=1,
    columns=("20Q",),
    horizon=20,
    return_range=(-20.0, 0.0),
    state="transcript",
    discount=1.0,
    metric="return",
    behaviour="envs.twenty_questions.behaviour:Mixture",
    random="envs.twenty_questions.behaviour:Mixture",  # with nothing mixed in
    solver="envs.twenty_questions.behaviour:Solver",
    prompt="envs.twenty_questions:prompt.md",
    aliases=("20q",),
    tiers={
        # Imitation at its best temperature (0) takes away the noise; which open question splits best it does not learn.
        "base": Tier(
            behaviour={"informed": 0.33},
            mode={"temperature": 0.0},
            summary="33% questions that the answers so far leave open, else any; the paper's mean return, -17.3",
            references={"random": _RANDOM, "behaviour": -17.336, "greedy_behaviour": -11.007, "ceiling": _CEILING},
        ),
        # Here imitation helps at no temperature: -16.98 at the best (.85), no better than the data from .7 down.
        "habit": Tier(
            behaviour={"informed": 0.31, "habit": 0.3},
            mode={"temperature": 0.0},
            summary="30% the list's next question (a bad habit), 31% open questions, else any; the same mean return",
            references={"random": _RANDOM, "behaviour": -17.301, "greedy_behaviour": -19.380, "ceiling": _CEILING},
        ),
    },
    scales={
        "smoke": {**_BOUND, "dataset_episodes": 2_000},
        "small": {
            **_BOUND,
            "dataset_episodes": 500_000,
            "steps": 5_000,
            "batch_size": 256,
            "learning_rate": 1e-2,
        },
        "standard": {**_BOUND, "dataset_episodes": 1_000_000},
        "paper": {"codec": "words", "context": 384, "dataset_episodes": 100_000},
    },
)

register(SPEC.id, "envs.twenty_questions.env:TwentyQuestions")
