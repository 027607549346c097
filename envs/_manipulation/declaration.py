"""What both tasks declare.

The mode of the exact behaviour (`greedy_behaviour` of their tiers) is known without a model. In `base` it is the script without
noise: noise is centred on it, and before either way-point more than half of the episodes (54% to 68%) go to the same one, while
random ones are spread over an area. In `habit` more than half of the actions over the target are one and the same, to go home:
whoever always takes the likeliest goes there and back until the horizon.

`qsft-bench calibrate --find stray` (or `habit`) finds with which share the data succeed 40% of the time.
"""

from __future__ import annotations

from typing import Any

from envs._manipulation.actions import BINS

# A row is 18 tokens: <bos>, eight of the image, one of the numbers, eight of the action.
_EPISODES: dict[str, Any] = {"codec": f"control:{BINS}", "context": 18, "options": {"bins": BINS, "image_size": 48}}

MODE = {"noise": 0.0, "stray": 0.0}  # `Tier.mode`; in `habit` with the habit whenever there is one

COMMON: dict[str, Any] = {  # keyword arguments of both specs
    "table": 3,
    "return_range": (0.0, 1.0),
    "value_range": (0.0, 1.0),
    "state": "observation",
    "discount": 0.98,  # no clock is in the picture: without it a success is worth the same however late
    "metric": "success",
    "random": "envs._manipulation.behaviour:Uniform",
    "scales": {
        "smoke": {**_EPISODES, "dataset_episodes": 20},
        # A batch counts windows of up to 16 steps. Learned agents play some ten episodes a second.
        "small": {
            **{**_EPISODES, "dataset_episodes": 4_000, "steps": 2_400, "batch_size": 16, "learning_rate": 3e-3},
            **{"evaluation_episodes": 300, "validation_episodes": 100, "curve_points": 8, "curve_episodes": 50},
        },
        "standard": {**_EPISODES, "dataset_episodes": 20_000},
        # The paper's 256 bins have none for 0; one more has.
        "paper": {
            **{"codec": "control:257", "context": 18, "options": {"bins": 257, "image_size": 48}},
            **{"model": "base", "dataset_episodes": 300_000},  # of RT-1's size: 28 M parameters
        },
    },
    "agents": (
        *("random", "behaviour", "sft", "sft_greedy", "sft_temp", "filtered_bc", "return_conditioned"),
        *("ilql", "cql", "q_transformer", "qsft"),
    ),
    "extra": "manipulation",
    "side_by_side": 24,  # a simulator takes 28 MB; decoding for three times as many saves a fifth of the time that 8 take
    "shard_episodes": 1_000,  # 170 MB of images when read
}
