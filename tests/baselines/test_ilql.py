"""ILQL's three terms by hand, in the authors' convention, and a chain learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.ilql import ILQL, ILQLConfig, ILQLDecoding, ilql_terms, taken
from tests.baselines import toys


def outputs(**heads: list) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in heads.items()}


# Two transitions: state 0, action 0, reward .1, discount .5, then state 1, action 1, reward 1, the end.
ONLINE = {
    "q1": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
    "q2": [[0.0, 0.0, np.log(2)], [0.0, 0.0, np.log(2)]],
    "v": [[0.2], [0.6]],
}
TARGET = {
    "q1": [[0.5, 9.0, 9.0], [9.0, 0.4, 9.0]],
    "q2": [[0.3, -9.0, -9.0], [-9.0, 0.9, -9.0]],
    "v": [[7.0], [7.0]],  # the target's own V is used nowhere
}


def test_three_terms_by_hand() -> None:
    out, target = outputs(**ONLINE), outputs(**TARGET)
    data = toys.batch([0, 1], [0, 1], [0.1, 1.0], [1, -1], discount=0.5)
    terms = ilql_terms(taken(out, data.action), taken(target, data.action), data, expectile=0.8)
    # u = min(.5, .3) - .2 = .1 and min(.4, .9) - .6 = -.2: (.8 * .01 + .2 * .04) / 2
    assert terms["loss_v"].item() == pytest.approx(0.008)
    # targets .1 + .5 * .6 = .4 and 1 (nothing past the end); whole squares, summed over both Q:
    # ((1 - .4)^2 + 0) / 2 + ((0 - .4)^2 + 1) / 2
    assert terms["loss_q"].item() == pytest.approx(0.18 + 0.58)
    # logsumexp - Q(a): ln 3 for the first, ln(1 + 1 + 2) for the second
    assert terms["loss_cql"].item() == pytest.approx(np.log(3) + np.log(4))


def test_what_each_term_moves() -> None:
    out, target = outputs(**ONLINE), outputs(**TARGET)
    data = toys.batch([0, 1], [0, 1], [0.1, 1.0], [1, -1], discount=0.5)
    terms = ilql_terms(taken(out, data.action), taken(target, data.action), data, expectile=0.8)
    (terms["loss_q"] + terms["loss_cql"]).backward(retain_graph=True)
    assert out["v"].grad is None  # V in the backup is a constant
    terms["loss_v"].backward()
    assert out["v"].grad is not None
    # d/dV of .8 u^2 / 2 at u = .1 and of .2 u^2 / 2 at u = -.2
    assert out["v"].grad.flatten().tolist() == pytest.approx([-0.08, 0.04])


def test_tokens_that_only_follow_carry_no_loss() -> None:
    data = toys.batch([0, 1], [0, 1], [0.1, 1.0], [1, -1], discount=0.5, learn=[True, False])
    terms = ilql_terms(taken(outputs(**ONLINE), data.action), taken(outputs(**TARGET), data.action), data, expectile=0.8)
    assert terms["loss_v"].item() == pytest.approx(0.008)
    assert terms["loss_q"].item() == pytest.approx(0.36 + 0.16)


def test_loss_adds_the_terms_through_the_networks() -> None:
    learner = ILQL(ILQLConfig(expectile=0.8, cql_weight=0.1))
    learner.networks["value"] = toys.Tables(
        **{name: torch.tensor(table, dtype=torch.float64) for name, table in ONLINE.items()}
    )
    learner.networks["value_target"] = toys.Tables(**{name: torch.tensor(t, dtype=torch.float64) for name, t in TARGET.items()})
    learner.codec = toys.codec((True, True, True))
    data = toys.batch([0, 1], [0, 1], [0.1, 1.0], [1, -1], discount=0.5)
    loss, metrics = learner.loss(data)
    assert loss.item() == pytest.approx(0.76 + 0.008 + 0.1 * np.log(12))
    assert float(metrics["value"]) == pytest.approx(0.4)
    loss.backward()
    assert all(parameter.grad is None for parameter in learner.networks["value_target"].parameters())


def test_policy_by_hand() -> None:
    learner = ILQL(decoding=ILQLDecoding(beta=2.0))
    value = {"q1": torch.tensor([[0.5, 0.2]]), "q2": torch.tensor([[0.3, 0.4]]), "v": torch.tensor([[0.1]])}
    logits = learner.policy_logits({"policy": {"policy": torch.tensor([[0.75, 0.25]]).log()}, "value": value})
    assert logits[0].tolist() == pytest.approx([np.log(0.75) + 2 * 0.2, np.log(0.25) + 2 * 0.1])


@pytest.mark.parametrize("expectile", [0.5, 0.8, 0.95])
def test_v_at_rest_is_the_expectile(expectile: float) -> None:
    # Q is 1 with probability .25 and 0 otherwise: tau .25 (1 - V) = (1 - tau) .75 V
    v = expectile * 0.25 / (expectile * 0.25 + (1 - expectile) * 0.75)
    value = torch.full((4, 1), v, dtype=torch.float64, requires_grad=True)
    q = torch.tensor([[1.0]] + [[0.0]] * 3, dtype=torch.float64)
    data = toys.batch([0] * 4, [0] * 4, [0.0] * 4, [-1] * 4)
    out = taken({"q1": q, "q2": q, "v": value}, data.action)
    ilql_terms(out, out, data, expectile)["loss_v"].backward()
    assert value.grad is not None
    assert value.grad.sum().item() == pytest.approx(0, abs=1e-7)


def test_the_chain_is_learned(tmp_path: Path) -> None:
    data = toys.chain_data(tmp_path / "data")
    toys.trained("sft", data, tmp_path)
    learner = toys.trained("ilql", data, tmp_path, polyak=0.05)
    assert [
        episode.total_return for episode in toys.walk(learner.with_decoding(ILQLDecoding(beta=256, greedy=True)), range(8))
    ] == [1] * 8
    # Expectile .8 at every state: .8 pi(go) (Q(go) - V) = .2 pi(stop) (V - Q(stop)), from the end on
    value = 1.0
    for pi, stop in ((0.4, 0.0), (0.5, 0.4), (0.6, 0.5)):
        value = (0.8 * pi * value + 0.2 * (1 - pi) * stop) / (0.8 * pi + 0.2 * (1 - pi))
    assert toys.last_diagnosis(learner)["start_value"] == pytest.approx(value, abs=0.05)
