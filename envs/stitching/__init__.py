"""Stitching: two halves of a good way that no episode of the data walks together (Q-SFT paper, section 4.3).

A gate, then a hall, and at each one of four doors to choose. A door pays 1 with a probability of its own:

| | the right door | the decoy | the other two |
|---|---|---|---|
| gate | 0.6 | 0.2 | 0 |
| hall | 1 | 0.2 | 0 |

Which door is right follows from the name of the gate or hall, and the episode's seed draws both names. The data
contain right doors at the gate, always followed by a wrong door in the hall, and right doors in the hall, always after a
wrong one at the gate. The way that takes both pays 1.6 and is in no episode.

The state is the newest observation alone, and the hall looks the same through whichever door one came: only so can halves
be put together. A transcript would tell the learner that it came through the right door, and in the data no right door
follows that. Doors pay by chance so that some episodes of the data return 2, by luck: normalised by the data's own bounds
(Assumption 4.1) the optimum is then 0.8, where bounds below the optimum would clip it away.

What can be reached, exactly, with infinite data and a policy that sees the observation (`tests/envs/stitching` derives it):

| player | return |
|---|---|
| uniformly random | 0.5 |
| greedy on the exact behaviour (the decoy twice) | 0.4 |
| the data | 0.853 |
| imitation of the data at its best temperature (0.83) | 0.859 |
| filtered imitation of returns >= 1, or of returns 2, at temperature 1 | 0.971, 1.027 |
| return-conditioned on 0, 1, 2 at temperature 1 | 0.533, 0.959, 1.027 |
| any of these at any temperature: at most | 1.2 |
| greedy on Monte Carlo values | 1.2 |
| optimum, and every method that backs values up through the hall | 1.6 |

Why imitation cannot: weigh the episodes by any function of their return, and the shares f of right doors at the gate and g
in the hall still satisfy f + g <= 1, hence 0.4 + 0.4 f + 0.8 g <= 1.2. Why Monte Carlo values cannot: the data go on well
after a wrong gate, so the decoy there returns 0.913 and the right door 0.78.
"""

from __future__ import annotations

from envs import register
from qsft_bench.spec import EnvSpec, Tier

_SIZES = {"codec": "words", "model": "nano", "context": 8, "dataset_episodes": 20_000, "batch_size": 256, "learning_rate": 3e-3}

SPEC = EnvSpec(
    name="stitching",
    id="qsft_bench/Stitching-v0",
    summary="a gate and a hall with four doors each; the data never take the right one twice",
    table=0,
    columns=("Stitching",),
    horizon=2,
    return_range=(0.0, 2.0),
    state="observation",
    discount=1.0,
    metric="return",
    behaviour="envs.stitching.behaviour:NeverTwice",
    random="envs.stitching.behaviour:Uniform",
    prompt="envs.stitching:prompt.md",
    tiers={
        "base": Tier(
            behaviour={"gate": 0.35, "hall": 0.65, "noise": 0.1},
            mode={"gate": 0.0, "hall": 0.0, "noise": 0.0},  # the decoy, also in the hall, where nothing tells what came before
            summary="the right door at the gate (35%) or, after a wrong one, in the hall (65%); else mostly the decoy",
            references={"random": 0.5, "behaviour": 0.85345, "greedy_behaviour": 0.4, "ceiling": 1.6},
        )
    },
    scales={
        "smoke": {"context": 8},
        "small": {**_SIZES, "steps": 500},
        "standard": {**_SIZES, "steps": 500},
        "paper": {**_SIZES, "steps": 500},
    },
)

register(SPEC.id, "envs.stitching.env:Stitching")
