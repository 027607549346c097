"""WebShop: find and buy what an instruction asks for. The declaration; the shop is in `env.py`, its pages in `pages.py`, its
reward in `reward.py`, its stock in `generate.py` or `official.py`, its search in `search.py`, its players in `behaviour.py`."""

from __future__ import annotations

from typing import Any

from envs import register
from qsft_bench.spec import AGENTS, EnvSpec, Tier

# One word for one thing and nothing said twice: what models trained from scratch on two cores can learn from.
_COMPACT: dict[str, Any] = {
    "options": {"observation": "compact", "action": "compact", "results_per_page": 5},
    "codec": "words",
    "context": 320,
}

# `qsft-bench calibrate --env webshop --episodes 5000` measured what stands in the tiers, with standard errors up to .005.
_RANDOM, _CEILING = 0.043, 0.943

SPEC = EnvSpec(
    name="webshop",
    id="qsft_bench/WebShop-v0",
    summary="find and buy a product that fits an instruction, among thousands (Yao et al. 2022)",
    table=2,
    columns=("Score",),
    horizon=15,
    return_range=(0.0, 1.0),
    state="transcript",
    discount=1.0,
    metric="return",
    behaviour="envs.webshop.behaviour:Shopper",
    random="envs.webshop.behaviour:RandomShopper",
    solver="envs.webshop.behaviour:Solver",
    prompt="envs.webshop:prompt.md",
    play={"observation": "screen", "action": "compact"},
    importer="envs.webshop.official:import_files",
    agents=(*AGENTS, "archer"),
    extra="webshop",
    test_tasks=100,  # the held-out instructions
    tiers={
        # Imitation at its best temperature (0) sets every option, but opens the wrong product: 61% of the way to the ceiling.
        "base": Tier(
            behaviour={"keep": 0.75, "careful": 0.3, "returns": 0.4, "sets": 0.5, "looks": 0.15, "slips": 0.12, "browse": 0.06},
            mode={"temperature": 0.0},
            summary="careful at some decisions, careless at others, independently",
            references={"random": _RANDOM, "behaviour": 0.516, "greedy_behaviour": 0.777, "ceiling": _CEILING},
        ),
        # Here it helps at no temperature: .541 at the best (.7), worse than the data from .25 down.
        "habit": Tier(
            behaviour={
                "habit": 0.5,
                "keep": 0.9,
                "careful": 0.75,
                "returns": 0.85,
                "sets": 0.8,
                "looks": 0.08,
                "slips": 0.04,
                "browse": 0.04,
            },
            mode={"temperature": 0.0},
            summary="half the time the last product of a page, and half the time bought as it is (bad habits), else careful",
            references={"random": _RANDOM, "behaviour": 0.527, "greedy_behaviour": 0.419, "ceiling": _CEILING},
        ),
    },
    scales={
        "smoke": {**_COMPACT, "dataset_episodes": 300},
        "small": {
            **_COMPACT,
            # With 30,000 episodes SFT's held-out loss rises after some 1,500 steps.
            **{"dataset_episodes": 120_000, "steps": 4_000, "batch_size": 128, "evaluation_episodes": 500, "curve_points": 0},
            "tiers": ("base",),
        },
        "standard": {**_COMPACT, "dataset_episodes": 240_000, "evaluation_episodes": 500},
        "paper": {"context": 2_048, "dataset_episodes": 12_000},
    },
)

register(SPEC.id, "envs.webshop.env:WebShop")
