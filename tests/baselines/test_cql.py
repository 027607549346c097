"""CQL's targets on a chain whose Q* is on paper, its loss by hand, and a chain learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from baselines.cql import CQL, CQLConfig
from qsft_bench.codec import DUMMY, TextCodec
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from qsft_bench.episode import Episode, Turn
from qsft_bench.token_agent import Decoding
from qsft_bench.tokens import TokenArrays, TokenBatch
from tests.baselines import toys

# A chain with actions of two tokens, discount .9. `go fast` goes on for .1, .2 and .5, `go slow` for nothing, and after
# `three` the end; `stop`, fast or slow, ends with .3 anywhere.
#
#   V*(three) = .5        V*(two) = .2 + .9 * .5 = .65        V*(one) = .1 + .9 * .65 = .685
DISCOUNT = 0.9
PAID = {"one\n": 0.1, "two\n": 0.2, "three\n": 0.5}
V_STAR = {"one\n": 0.685, "two\n": 0.65, "three\n": 0.5}
SLOW = {"one\n": 0.9 * 0.65, "two\n": 0.9 * 0.5, "three\n": 0.0}
ACTIONS = [f"{way} {pace}\n" for way in ("go", "stop") for pace in ("fast", "slow")]
CODEC = TextCodec.learn("words", dict.fromkeys([*toys.CHAIN, *ACTIONS], 1), ACTIONS)
Q_STAR: dict[tuple[str, ...], dict[str, float]] = {}
"""What stands in the row so far -> value of each token that makes sense there; the others end the episode with 0."""
for _place in toys.CHAIN:
    Q_STAR[(_place,)] = {"go": V_STAR[_place], "stop": 0.3}
    Q_STAR[(_place, "go")] = {" fast\n": V_STAR[_place], " slow\n": SLOW[_place]}
    Q_STAR[(_place, "stop")] = {" fast\n": 0.3, " slow\n": 0.3}


class Rows(nn.Module):
    """Stands where a Network stands: each head is a table (rows so far, V), looked up at all that stands in the row."""

    def __init__(self, rows: Iterable[tuple[str, ...]], **heads: torch.Tensor) -> None:
        super().__init__()
        self.index = {tuple(k for piece in row for k in CODEC.observation(piece)): index for index, row in enumerate(rows)}
        self.tables = heads

    def forward(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        places = [divmod(position, batch.ids.shape[1]) for position in batch.position.tolist()]
        states = [self.index[tuple(batch.ids[row, 1 : column + 1].tolist())] for row, column in places]
        return {name: values[states] for name, values in self.tables.items()}


def table(values: Mapping[tuple[str, ...], Mapping[str, float]], special: float) -> torch.Tensor:
    """(rows, V): `values` where given, `special` for the ids that cannot be played, 0 elsewhere."""
    found = torch.zeros(len(values), CODEC.outputs, dtype=torch.float64)
    found[:, ~torch.from_numpy(CODEC.playable)] = special
    for index, row in enumerate(values.values()):
        for piece, value in row.items():
            found[index, CODEC.observation(piece)[0]] = value
    return found


def played(*actions: str, length: int = 16) -> TokenBatch:
    """The batch that training would make of one episode of the chain, a row a turn, `length` rows a window."""
    turns = []
    for place, action in zip(toys.CHAIN, actions, strict=False):
        reward = 0.3 if "stop" in action else PAID[place] if "fast" in action else 0.0
        turns.append(Turn(place, f"{action}\n", reward))
    episode = Episode("toy", 0, [*turns, Turn("end\n")], terminated=True)
    arrays = TokenArrays.encode([episode], CODEC, context=8, state="observation", discount=DISCOUNT, return_bounds=(0.0, 1.0))
    return arrays.batch(arrays.windows(length=length), DISCOUNT)


EPISODES = pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (("go fast", "go fast", "go fast"), [0.685, 0.685, 0.65, 0.65, 0.5, 0.5]),
        # The best pace follows `go`, not the one that was taken; `slow` gets no reward but what comes after; then the end.
        (("go slow", "go fast", "go slow"), [0.685, 0.585, 0.65, 0.65, 0.5, 0.0]),
        (("go slow", "stop slow"), [0.685, 0.585, 0.3, 0.3]),
        (("stop fast",), [0.3, 0.3]),
    ],
    ids=str,
)


def agent() -> CQL:
    """Its target heads are Q* wherever they are lower, and too high elsewhere: in turns, and both for what is never played."""
    learner = CQL(CQLConfig(reward_scale=1.0))
    learner.codec = CODEC
    high = torch.zeros(len(Q_STAR), CODEC.outputs, dtype=torch.float64)
    for piece in ("go", " fast\n"):
        high[:, CODEC.observation(piece)[0]] = 0.5
    learner.networks["value_target"] = Rows(Q_STAR, q1=table(Q_STAR, 9.0) + high, q2=table(Q_STAR, 9.0) + 0.5 - high)
    return learner


@EPISODES
def test_targets_are_what_an_action_comes_to_under_q_star(actions: tuple[str, ...], expected: list[float]) -> None:
    batch = played(*actions)
    assert len(batch.action) == 2 * len(actions) and batch.last.tolist() == [False, True] * len(actions)
    came_to = [expected[index | 1] for index in range(len(expected))]  # both tokens have what their action came to
    assert agent().target(batch).tolist() == pytest.approx(came_to, abs=1e-6)
    # Where a window ends before the episode, the row after it lends its value.
    cut = played(*actions, length=1)
    assert agent().target(cut)[cut.learn].tolist() == pytest.approx(came_to, abs=1e-6)


# Two transitions: state 0, action 1, reward .1, discount .5, then state 1, action 2, reward 1, the end. Action 0 is special.
ONLINE = {
    "q1": [[5.0, 0.0, 0.0], [5.0, 0.0, 0.0]],
    "q2": [[5.0, np.log(2), 0.0], [5.0, np.log(2), 0.0]],
}
TARGET = {"q1": [[9.0, 9.0, 9.0], [9.0, 0.6, 0.2]], "q2": [[9.0, 9.0, 9.0], [9.0, 0.4, 0.8]]}


def by_hand(alpha: float, reward_scale: float = 1.0) -> CQL:
    learner = CQL(CQLConfig(alpha=alpha, reward_scale=reward_scale))
    learner.codec = toys.codec([False, True, True])
    for name, tables in (("value", ONLINE), ("value_target", TARGET)):
        learner.networks[name] = toys.Tables(**{head: torch.tensor(q, dtype=torch.float64) for head, q in tables.items()})
    return learner


def test_loss_by_hand() -> None:
    learner = by_hand(alpha=0.1)
    loss, metrics = learner.loss(toys.batch([0, 1], [1, 2], [0.1, 1.0], [1, -1], discount=0.5))
    # y = .1 + .5 max(min(.6, .4), min(.2, .8)) = .3, then 1. Half squares of both heads; ln 2 is head 2's Q of action 1.
    loss_q = (0.5 * 0.3**2 + 0.5 * (np.log(2) - 0.3) ** 2 + 0.5 + 0.5) / 2
    # Head 1: ln 2 - 0 each; head 2: ln 3 - ln 2, then ln 3 - 0. The special action's 5 is in none.
    loss_cql = (2 * np.log(2) + 2 * np.log(3) - np.log(2)) / 2
    assert float(metrics["loss_q"]) == pytest.approx(loss_q)
    assert float(metrics["loss_cql"]) == pytest.approx(loss_cql)
    assert loss.item() == pytest.approx(loss_q + 0.1 * loss_cql)
    loss.backward()
    assert all(parameter.grad is None for parameter in learner.networks["value_target"].parameters())


def test_targets_are_measured_in_units_of_q_and_lie_among_the_returns() -> None:
    batch = toys.batch([0, 1], [1, 2], [0.1, 1.5], [1, -1], discount=0.5)
    loss, metrics = by_hand(alpha=0.0, reward_scale=10.0).loss(batch)
    # y / 10 = .1 + .5 (.4 / 10) = .12, then 1.5, of which 1 can be returned.
    assert float(metrics["target"]) == pytest.approx((0.12 + 1) / 2)
    assert loss.item() == pytest.approx((0.5 * 1.2**2 + 0.5 * (np.log(2) - 1.2) ** 2 + 50 + 50) / 2)


def test_tokens_that_only_follow_carry_no_loss() -> None:
    learner = by_hand(alpha=0.1)
    loss, _ = learner.loss(toys.batch([0, 1], [1, 2], [0.1, 1.0], [1, -1], discount=0.5, learn=[True, False]))
    expected = 0.5 * 0.3**2 + 0.5 * (np.log(2) - 0.3) ** 2 + 0.1 * (np.log(2) + np.log(3) - np.log(2))
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert all(parameter.grad[1].abs().sum() == 0 for parameter in learner.networks["value"].parameters())


def test_the_conservative_term_pushes_down_what_was_not_taken() -> None:
    parts = []
    for alpha in (0.0, 1.0):
        learner = by_hand(alpha)
        learner.loss(toys.batch([0], [1], [0.0], [-1]))[0].backward()
        parts.append([parameter.grad[0] for parameter in learner.networks["value"].heads.values()])
    without, conservative = parts[0], [after - before for before, after in zip(*parts, strict=True)]
    # softmax - one-hot, over the two actions that can be played: (1/2, 1/2) and (2/3, 1/3), the first taken.
    assert conservative[0].tolist() == pytest.approx([0, -1 / 2, 1 / 2])
    assert conservative[1].tolist() == pytest.approx([0, -1 / 3, 1 / 3])
    assert without[1].tolist() == pytest.approx([0, np.log(2), 0])  # Q - y of the action taken alone


def test_an_action_outside_the_vocabulary_has_a_finite_loss() -> None:
    loss, _ = by_hand(alpha=1.0).loss(toys.batch([0], [0], [0.0], [-1]))
    assert loss.isfinite()


def test_policy_by_hand() -> None:
    value = {"q1": torch.tensor([[0.9, 0.5, 0.2]]), "q2": torch.tensor([[0.1, 0.3, 0.4]])}
    assert CQL(CQLConfig(reward_scale=10.0)).policy_logits({"value": value})[0].tolist() == pytest.approx([0.01, 0.03, 0.02])
    assert CQL().decoding.greedy
    softly = CQL(CQLConfig(reward_scale=1.0), Decoding(temperature=0.5))
    assert softly._play_logits({"value": value})[0].tolist() == pytest.approx([0.2, 0.6, 0.4])
    assert len(CQL.grid) == 8 and sum(decoding.greedy for decoding in CQL.grid) == 1


# Learned, from data ---------------------------------------------------------------------------------------------------
# At `three` the data's likeliest action is to stop, and their own values stop at once (see toys.py): .5, where 1 can be had.


def at_rest(go: float, stop: float, pi: float, alpha: float) -> float:
    """Q of the better action where Q(a) = y(a) + alpha (1 - softmax(Q)(a) / pi(a)), from both y and pi(go)."""
    q_go, q_stop = go, stop
    for _ in range(100):
        share = 1 / (1 + np.exp(q_stop - q_go))
        q_go, q_stop = go + alpha * (1 - share / pi), stop + alpha * (1 - (1 - share) / (1 - pi))
    return max(q_go, q_stop)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenDataset, TokenDataset]:
    return both_data(tmp_path_factory.mktemp("chain"))


def both_data(directory: Path) -> tuple[TokenDataset, TokenDataset]:
    """The chain's data by words, and by letters: there `go` has three tokens, `stop` five, and most strings say nothing."""
    words = toys.chain_data(directory)
    shards, tokens = EpisodeDataset(directory), directory / "tokens"
    return words, tokenise(shards, tokens, codec="characters", context=24, state="observation", discount=1.0)


def test_the_chain_is_learned(chain: tuple[TokenDataset, TokenDataset], tmp_path: Path) -> None:
    learner = toys.trained("cql", chain[0], tmp_path, alpha=0.1, reward_scale=1.0)
    assert [episode.total_return for episode in toys.walk(learner, range(8))] == [1] * 8
    value = 1.0
    for place in reversed(toys.CHAIN):
        value = at_rest(value, toys.STOP[place], toys.GO[place], alpha=0.1)
    assert toys.last_diagnosis(learner)["start_value"] == pytest.approx(value, abs=0.02)


def letters(data: TokenDataset, q: Callable[[TokenBatch], torch.Tensor]) -> float:
    """Greatest value that `q` (K, V) gives, at a first token, to a letter with which no action of the data begins."""
    batch = data.batch(np.arange(32))
    others = torch.from_numpy(data.codec.playable.copy())
    others[[data.codec.action(action)[0] for action in ("go\n", "stop\n")]] = False
    with torch.no_grad():
        return float(q(batch)[batch.first][:, others].max())


def test_actions_of_many_tokens_are_learned(chain: tuple[TokenDataset, TokenDataset], tmp_path: Path) -> None:
    data = chain[1]
    learner = toys.trained("cql", data, tmp_path)
    assert [episode.total_return for episode in toys.walk(learner, range(8))] == [1] * 8
    # With a temperature it says what the data say, and nothing special.
    softly = learner.with_decoding(Decoding(temperature=0.003))
    assert {turn.action for episode in toys.walk(softly, range(100)) for turn in episode.turns} <= {"go\n", "stop\n", None}
    value = learner.networks["value"]
    assert letters(data, lambda batch: learner.lesser(value(batch))) < 0.9
    assert not data.codec.playable[DUMMY]
