"""Q-Transformer's targets on a chain whose Q* is on paper, its loss by hand, and a chain learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from baselines.q_transformer import QTransformer, QTransformerConfig
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.token_agent import Decoding
from tests.baselines import toys
from tests.baselines.test_cql import CODEC, EPISODES, Q_STAR, Rows, both_data, letters, played, table


def logit(q: torch.Tensor) -> torch.Tensor:
    return q.clamp(1e-9, 1 - 1e-9).logit()


def agent(scale: float = 1.0, **config: object) -> QTransformer:
    """Its target network gives `scale` times Q*, and 1 to what is never played."""
    learner = QTransformer(QTransformerConfig(**config))  # type: ignore[arg-type]
    learner.codec = CODEC
    values = {row: {piece: scale * q for piece, q in known.items()} for row, known in Q_STAR.items()}
    learner.networks["value_target"] = Rows(Q_STAR, logit=logit(table(values, 1.0)))
    return learner


@pytest.mark.parametrize("monte_carlo", [False, True])
@EPISODES
def test_q_star_is_its_own_target(actions: tuple[str, ...], expected: list[float], monte_carlo: bool) -> None:
    learner = agent(monte_carlo=monte_carlo)  # no return is above Q*, so that the bound changes nothing
    assert learner.target(played(*actions)).tolist() == pytest.approx(expected, abs=1e-6)
    cut = played(*actions, length=1)
    assert learner.target(cut)[cut.learn].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_return_bounds_every_token_from_below() -> None:
    # Target values of nothing: what is left is the reward at an action's last token, or the return from the action on.
    fast = ("go fast", "go fast", "go fast")
    assert agent(scale=0.0, monte_carlo=False).target(played(*fast)).tolist() == pytest.approx(
        [0, 0.1, 0, 0.2, 0, 0.5], abs=1e-6
    )
    assert agent(scale=0.0).target(played(*fast)).tolist() == pytest.approx([0.685, 0.685, 0.65, 0.65, 0.5, 0.5], abs=1e-6)
    # Half of Q*: one: .1 + .9 * .325 = .3925 beats nothing; returns are .1 + .9 * .3 = .37 and .3.
    mixed = agent(scale=0.5).target(played("go fast", "stop slow"))
    assert mixed.tolist() == pytest.approx([0.37, 0.3925, 0.3, 0.3], abs=1e-6)


def test_both_sides_of_the_bound_are_clipped() -> None:
    learner = QTransformer()
    learner.codec = toys.codec([True, True])
    learner.networks["value_target"] = toys.Tables(logit=logit(torch.tensor([[0.5, 0.25]], dtype=torch.float64)))
    batch = toys.batch([0] * 4, [0] * 4, [0.9, 0.1, -0.3, -0.3], [3, 3, 3, -1], to_go=[0.0, 1.2, -0.1, -0.1])
    assert learner.target(batch).tolist() == pytest.approx([1.0, 1.0, 0.2, 0.0])


SLOWLY = ("go slow", "go fast", "stop slow")  # pays 0, .2 and .3


@pytest.mark.parametrize(
    ("n_step", "one", "two"),
    [
        (1, 0.9 * 0.65, 0.2 + 0.9 * 0.5),
        (2, 0.9 * (0.2 + 0.9 * 0.5), 0.2 + 0.9 * 0.3),
        (3, 0.9 * (0.2 + 0.9 * 0.3), 0.2 + 0.9 * 0.3),
        (9, 0.9 * (0.2 + 0.9 * 0.3), 0.2 + 0.9 * 0.3),
    ],
)
def test_n_steps_follow_the_data_until_the_end(n_step: int, one: float, two: float) -> None:
    target = agent(monte_carlo=False, n_step=n_step).target(played(*SLOWLY))
    # Inside an action the next token's best still counts: .685, .65 and .3.
    assert target.tolist() == pytest.approx([0.685, one, 0.65, two, 0.3, 0.3], abs=1e-6)


def test_n_steps_bootstrap_where_the_window_ends() -> None:
    # Two rows learned from and one read: `three` is in the batch, but not what follows it, so that V(three) = .5 counts.
    batch = played("go slow", "go slow", "go slow", length=1)
    target = agent(monte_carlo=False, n_step=3).target(batch)
    # The window of `one` ends with `two`: .9 V(two); that of `two` holds the end, and nothing was paid on the way.
    assert target[batch.learn].tolist() == pytest.approx([0.685, 0.9 * 0.65, 0.65, 0.0, 0.5, 0.0], abs=1e-6)


# Two transitions: state 0, action 1, reward .1, discount .5, then state 1, action 2, reward .8, the end. Action 0 is special.
Q = [[0.9, 0.5, 0.2, 0.4], [0.9, 0.25, 0.75, 0.5]]
TARGET = [[0.9, 0.9, 0.9, 0.9], [0.9, 0.2, 0.4, 0.6]]


def by_hand(alpha: float) -> QTransformer:
    learner = QTransformer(QTransformerConfig(alpha=alpha))
    learner.codec = toys.codec([False, True, True, True])
    for name, q in (("value", Q), ("value_target", TARGET)):
        learner.networks[name] = toys.Tables(logit=logit(torch.tensor(q, dtype=torch.float64)))
    return learner


def test_loss_by_hand() -> None:
    learner = by_hand(alpha=0.5)
    loss, metrics = learner.loss(toys.batch([0, 1], [1, 2], [0.1, 0.8], [1, -1], discount=0.5))
    # y = .1 + .5 * .6 = .4 and .8
    loss_td = (0.5 * (0.5 - 0.4) ** 2 + 0.5 * (0.75 - 0.8) ** 2) / 2
    loss_cons = (0.5 * (0.2**2 + 0.4**2) / 2 + 0.5 * (0.25**2 + 0.5**2) / 2) / 2
    assert float(metrics["loss_td"]) == pytest.approx(loss_td)
    assert float(metrics["loss_cons"]) == pytest.approx(loss_cons)
    assert loss.item() == pytest.approx(loss_td + 0.5 * loss_cons)
    loss.backward()
    assert all(parameter.grad is None for parameter in learner.networks["value_target"].parameters())


def test_tokens_that_only_follow_carry_no_loss() -> None:
    learner = by_hand(alpha=1.0)
    loss, _ = learner.loss(toys.batch([0, 1], [1, 2], [0.1, 0.8], [1, -1], discount=0.5, learn=[True, False]))
    assert loss.item() == pytest.approx(0.5 * 0.1**2 + 0.5 * (0.2**2 + 0.4**2) / 2)
    loss.backward()
    assert learner.networks["value"].heads["logit"].grad[1].abs().sum() == 0


def test_what_the_loss_moves() -> None:
    learner = by_hand(alpha=1.0)
    learner.loss(toys.batch([0], [1], [0.9], [-1]))[0].backward()
    # By way of dQ/dz = Q (1 - Q): (Q - y) for the token taken, Q / 2 for the two others: their logits, below 0, fall on.
    expected = [0, (0.5 - 0.9) * 0.25, 0.1 * 0.2 * 0.8, 0.2 * 0.4 * 0.6]
    assert learner.networks["value"].heads["logit"].grad[0].tolist() == pytest.approx(expected)


def test_with_a_single_token_nothing_is_left_to_push_down() -> None:
    learner = QTransformer()
    learner.codec = toys.codec([False, True])
    learner.networks["value"] = learner.networks["value_target"] = toys.Tables(logit=torch.zeros(1, 2, dtype=torch.float64))
    assert learner.loss(toys.batch([0], [1], [1.0], [-1]))[0].item() == pytest.approx(0.5 * 0.5**2)


def test_policy_by_hand() -> None:
    outputs = {"value": {"logit": logit(torch.tensor([[0.25, 0.5]]))}}
    assert QTransformer().decoding.greedy
    softly = QTransformer(decoding=Decoding(temperature=0.1))
    assert softly._play_logits(outputs)[0].tolist() == pytest.approx([2.5, 5.0], rel=1e-5)
    assert QTransformer().action_values(outputs)[0].tolist() == pytest.approx([0.25, 0.5], rel=1e-5)
    assert len(QTransformer.grid) == 8


# Learned, from data ---------------------------------------------------------------------------------------------------


def at_rest(monte_carlo: bool) -> float:
    """V at the start where Q = pi y (two words can be played: N - 1 = 1, alpha = 1), y the mean of max(V(s'), return).

    After `go` from `three` the return is 1; from `two` 1 or 0; from `one` 1, 0 or .4.
    """
    returns: list[tuple[float, float]] = []  # probability and return of what follows
    value = 1.0
    for place in reversed(toys.CHAIN):
        pi, stop = toys.GO[place], toys.STOP[place]
        y = sum(p * max(value, g) for p, g in returns) if monte_carlo and returns else value
        value = max(pi * y, (1 - pi) * stop)
        returns = [*((pi * p, g) for p, g in returns or [(1.0, 1.0)]), (1 - pi, stop)]
    return value


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenDataset, TokenDataset]:
    return both_data(tmp_path_factory.mktemp("chain"))


@pytest.mark.parametrize("monte_carlo", [True, False])
def test_the_chain_is_learned(chain: tuple[TokenDataset, TokenDataset], tmp_path: Path, monte_carlo: bool) -> None:
    learner = toys.trained("q_transformer", chain[0], tmp_path, monte_carlo=monte_carlo)
    assert toys.last_diagnosis(learner)["start_value"] == pytest.approx(at_rest(monte_carlo), abs=0.02)
    # Without the bound the cautious value of going on, .6 * .2, is below .4 * .5 for stopping.
    assert [episode.total_return for episode in toys.walk(learner, range(8))] == [1.0 if monte_carlo else 0.5] * 8


def test_actions_of_many_tokens_are_learned(chain: tuple[TokenDataset, TokenDataset], tmp_path: Path) -> None:
    data = chain[1]
    learner = toys.trained("q_transformer", data, tmp_path)
    assert [episode.total_return for episode in toys.walk(learner, range(8))] == [1] * 8
    value = learner.networks["value"]
    assert letters(data, lambda batch: value(batch)["logit"].sigmoid()) < 0.1
    assert toys.last_diagnosis(learner)["start_return"] == pytest.approx(0.44, abs=0.1)  # of 80 held-out episodes
