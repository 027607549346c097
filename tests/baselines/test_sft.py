"""SFT: cross-entropy by hand, and the behaviour's probabilities out of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.sft import SFT
from qsft_bench.token_agent import Decoding
from tests.baselines import toys


def test_loss_by_hand() -> None:
    learner = SFT()
    learner.codec = toys.codec([True, True])
    learner.networks["policy"] = toys.Tables(policy=torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64).log())
    loss, _ = learner.loss(toys.batch([0, 1, 1], [0, 0, 1], [0.0] * 3, [1, 2, -1], learn=[True, True, False]))
    assert loss.item() == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_the_chains_behaviour_is_reproduced(tmp_path: Path) -> None:
    data = toys.chain_data(tmp_path / "data")
    learner = toys.trained("sft", data, tmp_path)
    some = data.batch(np.arange(200))
    with torch.no_grad():
        p = learner.networks["policy"](some)["policy"].softmax(-1)
    go = data.codec.action("go\n")[0]
    for turn, place in enumerate(toys.CHAIN):
        assert p[some.turn == turn, go].tolist() == pytest.approx([toys.GO[place]] * int((some.turn == turn).sum()), abs=0.05)
    returns = [episode.total_return for episode in toys.walk(learner, range(2000))]
    assert np.mean(returns) == pytest.approx(0.44, abs=0.04)
    numbers = toys.last_diagnosis(learner)
    assert numbers["validation_loss"] == pytest.approx(numbers["exact_loss"], abs=0.02)
    # go, go, stop: greedy play follows the mode .6, then .5 against .5, so only the first step is certain
    assert toys.walk(learner.with_decoding(Decoding(greedy=True)), [0])[0].turns[0].action == "go\n"
