"""Equation 3 by hand: the targets of every backup, the weighted cross-entropy of every leftover, and a chain learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.qsft import QSFT, QSFTConfig, QSFTDecoding, backup_value, lambda_return, weighted_cross_entropy
from qsft_bench.codec import DUMMY, Codec, TextCodec
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.tokens import TokenArrays
from tests.baselines import toys

LN2 = float(np.log(2))
B = 4 * LN2  # exp(B / 2) = 4, so that soft backups over values .25 and .75 come out by hand


def shadow_tables(pi: Any, q: Any) -> toys.Tables:
    """Logits with this pi and this Q: p1 = pi Q, p0 = pi (1 - Q)."""
    pi, q = torch.tensor(pi, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    return toys.Tables(policy=(pi * q).log(), shadow=(pi * (1 - q)).log())


def agent(target: toys.Tables, config: QSFTConfig, behaviour: toys.Tables | None = None, playable: Any = (True, True)) -> QSFT:
    """A Q-SFT learner past its warm start, whose networks are tables."""
    made = QSFT(config)
    made.networks["value"] = made.networks["value_target"] = target
    if behaviour is not None:
        made.networks["behaviour"] = behaviour
    made.codec = toys.codec(playable)
    return made


# One utterance of two tokens (states 0 and 1), the environment's answer, an utterance of one token (state 2), the end.
#   token     0          1          2
#   reward    0          .25        .5
#   discount  1 (inside) .5         .5
PI = [[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]]
Q = [[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]
TRANSITIONS: dict[str, Any] = {
    "state": [0, 1, 2],
    "action": [0, 1, 0],
    "reward": [0.0, 0.25, 0.5],
    "successor": [1, 2, -1],
    "discount": [1.0, 0.5, 0.5],
    "to_go": [0.5, 0.5, 0.5],
}


@pytest.mark.parametrize(
    ("backup", "v1", "v2"),
    [
        ("max", 0.75, 0.75),
        # (1/B) log(.5 e^(.75 B) + .5 e^(.25 B)) = .25 + (1/B) log(.5 * 4 + .5), and with pi (.2, .8) log(.2 + .8 * 4)
        ("soft", 0.25 + np.log(2.5) / B, 0.25 + np.log(3.4) / B),
        # weights (.5 * 4, .5) / 2.5 = (.8, .2), and (.2, 3.2) / 3.4
        ("policy", 0.8 * 0.75 + 0.2 * 0.25, (0.2 * 0.25 + 3.2 * 0.75) / 3.4),
    ],
)
def test_targets_by_hand(backup: Any, v1: float, v2: float) -> None:
    learner = agent(shadow_tables(PI, Q), QSFTConfig(backup=backup, soft=B))
    weight, metrics = learner.target(toys.batch(**TRANSITIONS))
    assert weight.tolist() == pytest.approx([v1, 0.25 + 0.5 * v2, 0.5])  # discounted only where an utterance ends
    assert float(metrics["support"]) == 2


def test_monte_carlo_targets_and_the_warm_start() -> None:
    data = toys.batch(**{**TRANSITIONS, "to_go": [0.3, 1.2, -0.1]})
    assert agent(shadow_tables(PI, Q), QSFTConfig(backup="mc")).target(data)[0].tolist() == [0.3, 1.0, 0.0]
    learner = agent(shadow_tables(PI, Q), QSFTConfig(backup="max", warm_share=0.3))
    learner.before_step(29, 100)
    assert learner.target(data)[0].tolist() == [0.3, 1.0, 0.0]
    learner.before_step(30, 100)
    assert learner.target(data)[0].tolist() == pytest.approx([0.75, 0.625, 0.5])
    paper = agent(shadow_tables(PI, Q), QSFTConfig(backup="max", warm_start="none"))
    paper.before_step(0, 100)
    assert paper.target(data)[0].tolist() == pytest.approx([0.75, 0.625, 0.5])


def test_targets_are_clipped_and_stop_at_the_terminal() -> None:
    data = toys.batch([0, 1, 0, 0], [0, 0, 0, 0], [0.9, 0.5, -0.2, 1.3], [1, -1, -1, -1], to_go=0.5)
    weight, _ = agent(shadow_tables(PI, Q), QSFTConfig(backup="max")).target(data)
    assert weight.tolist() == [1.0, 0.5, 0.0, 1.0]  # .9 + .75 is too much; nothing is added past an end


def test_values_outside_the_support_do_not_count() -> None:
    log_pi = torch.tensor([[0.989, 0.01, 0.001]]).log()
    q = torch.tensor([[0.25, 0.75, 0.95]])
    inside = log_pi.exp() > 0.005
    assert float(backup_value(log_pi, q, inside, "max", B)) == 0.75
    # pi is renormalised in the support: (.989, .01) / .999
    expected = 0.25 + np.log((0.989 + 0.01 * 4) / 0.999) / B
    assert float(backup_value(log_pi, q, inside, "soft", B)) == pytest.approx(expected, rel=1e-5)
    nothing = torch.zeros_like(inside)
    assert [float(backup_value(log_pi, q, nothing, name, B)) for name in ("max", "soft", "policy")] == [0.25] * 3


@pytest.mark.parametrize("leftover", ["shadow", "dummy"])
@pytest.mark.parametrize("backup", ["max", "soft", "policy", "lambda"])
@pytest.mark.parametrize("support", [0.0, 1e-3, 0.05, 0.9])
def test_targets_look_at_supported_actions_alone_and_find_what_all_would_give(
    leftover: Any, backup: Any, support: float
) -> None:
    drawn = torch.Generator().manual_seed(0)
    states, actions = 40, 120
    tables = toys.Tables(
        **{name: 5 * torch.randn(states, actions, generator=drawn, dtype=torch.float64) for name in ("policy", "shadow")}
    )
    playable = np.arange(actions) > DUMMY
    behaviour = toys.Tables(policy=4 * torch.randn(states, actions, generator=drawn, dtype=torch.float64))
    learner = agent(tables, QSFTConfig(leftover=leftover, backup=backup, support=support, soft=B), behaviour, playable)
    rows = torch.arange(states)
    outputs = {"value_target": tables.read(rows), "behaviour": behaviour.read(rows)}

    ids = learner.candidates(outputs, "value_target")
    log_pi, _, q = learner._read(outputs, "value_target")
    inside = learner.support(log_pi)
    wanted = backup_value(log_pi, q, inside, backup, B)
    assert (ids is None) == (support < 0.05)  # in a wide support all are looked at
    if ids is not None:
        for state in range(states):
            real = ids[state][ids[state] != DUMMY].tolist()
            assert len(set(real)) == len(real)
            assert {*inside[state].nonzero().flatten().tolist()} <= {*real}
            assert int(log_pi[state].argmax()) in ids[state].tolist()
        some_pi, _, some_q = learner._read(outputs, "value_target", ids)
        found = backup_value(some_pi, some_q, learner.support(some_pi, ids), backup, B)
        torch.testing.assert_close(found, wanted)

    data = toys.batch(rows.tolist(), [DUMMY + 1] * states, [0.0] * states, [*range(1, states), -1])
    if backup == "lambda":
        expected = lambda_return(data, q[:, DUMMY + 1], wanted, learner.config.trace)
    else:
        expected = data.discount * data.next_value(wanted)
    torch.testing.assert_close(learner.target(data)[0], expected.clamp(0, 1))


def test_the_dummy_is_no_action_of_the_backup_or_of_play() -> None:
    # p / pi = .5 for both actions; the dummy's is 50.5, which a clip would turn into 1.
    pi = torch.tensor([[1e-9, 1e-9, 1e-9, 0.01, 0.594, 0.396]], dtype=torch.float64)
    p = torch.tensor([[1e-9, 1e-9, 1e-9, 0.505, 0.297, 0.198]], dtype=torch.float64)
    playable = [False] * 4 + [True] * 2
    config = QSFTConfig(leftover="dummy", backup="max", support=0.001)
    learner = agent(toys.Tables(policy=p.log()), config, toys.Tables(policy=pi.log()), playable)
    data = toys.batch([0, 0], [4, 5], [0.0, 1.0], [1, -1])
    assert learner.target(data)[0].tolist() == pytest.approx([0.5, 1.0], abs=1e-6)
    outputs = {"value_target": {"policy": p.log()}, "behaviour": {"policy": pi.log()}}
    played = learner.policy_logits(outputs) - pi.log()
    assert played[0].tolist() == pytest.approx([0, 0, 0, 0, 16, 16], abs=1e-5)  # beta 32 times Q


def test_support_zero_switches_the_rule_off() -> None:
    learner = agent(shadow_tables([[0.5, 0.5]], [[0.5, 0.5]]), QSFTConfig(support=0.0))
    assert learner.support(torch.tensor([[-1e4, 0.0]])).all()


LN_P = {  # probabilities of the taken action 1/2, of the leftover 1/8 (uniform: 1/4 for each of the two others)
    "uniform": {"policy": torch.tensor([[0.5, 0.25, 0.25]]).log()},
    "dummy": {"policy": torch.tensor([[0.5, 0.25, 0.125 / 2, 0.125, 0.125 / 2]]).log()},
    "shadow": {"policy": torch.tensor([[0.5, 0.25]]).log(), "shadow": torch.tensor([[0.125, 0.125]]).log()},
}


@pytest.mark.parametrize(
    ("leftover", "expected"),
    [
        ("uniform", 0.6 * LN2 + 0.4 / 2 * (2 * LN2 + 2 * LN2)),  # -[.6 ln 1/2 + .4/(3-1) (ln 1/4 + ln 1/4)]
        ("dummy", 0.6 * LN2 + 0.4 * 3 * LN2),  # -[.6 ln 1/2 + .4 ln 1/8]
        ("shadow", 0.6 * LN2 + 0.4 * 3 * LN2),
    ],
)
def test_weighted_cross_entropy_by_hand(leftover: Any, expected: float) -> None:
    action, shifted = torch.tensor([0]), {name: logits + 3.7 for name, logits in LN_P[leftover].items()}
    for out in (LN_P[leftover], shifted):  # logits are defined up to a constant
        assert float(weighted_cross_entropy(out, action, torch.tensor([0.6]), leftover)) == pytest.approx(expected, rel=1e-5)
    assert float(weighted_cross_entropy(shifted, action, torch.ones(1), leftover)) == pytest.approx(LN2, rel=1e-5)  # Eq. 2


def test_the_gradient_of_the_split_cross_entropy_is_the_one_that_torch_derives() -> None:
    drawn = torch.Generator().manual_seed(0)
    logits, shadow = (5 * torch.randn(6, 9, generator=drawn, dtype=torch.float64) for _ in range(2))
    logits[0, 3], shadow[1, 4] = 800.0, -800.0
    action = torch.tensor([3, 4, 0, 8, 8, 2])
    weight, upstream = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.9, 1.0]), torch.tensor([1.0, 2.0, 0.0, -1.0, 0.1, 1e6])

    def gradients(loss: Any) -> list[torch.Tensor]:
        inputs = [logits.clone().requires_grad_(), shadow.clone().requires_grad_()]
        return [loss(*inputs).detach(), *torch.autograd.grad((loss(*inputs) * upstream).sum(), inputs)]

    def plain(logits: torch.Tensor, shadow: torch.Tensor) -> torch.Tensor:
        log_p = torch.cat([logits, shadow], -1).log_softmax(-1)
        taken, rest = (log_p.gather(-1, at[:, None]).squeeze(-1) for at in (action, action + logits.shape[-1]))
        return -weight * taken - (1 - weight) * rest

    found = gradients(lambda a, b: weighted_cross_entropy({"policy": a, "shadow": b}, action, weight, "shadow"))
    for ours, wanted in zip(found, gradients(plain), strict=True):
        torch.testing.assert_close(ours, wanted)


def test_an_unknown_leftover_or_backup_is_named() -> None:
    with pytest.raises(BenchError, match="'rest'; known: shadow, dummy, uniform"):
        weighted_cross_entropy(LN_P["shadow"], torch.tensor([0]), torch.ones(1), "rest")  # type: ignore[arg-type]
    one = torch.zeros(1, 1)
    with pytest.raises(BenchError, match="'mean'; known: max, soft, policy, mc, lambda"):
        backup_value(one, one, one == 0, "mean", 1.0)  # type: ignore[arg-type]


def test_loss_is_the_mean_over_tokens_that_learn() -> None:
    tables = shadow_tables(PI, Q)
    data = toys.batch(**TRANSITIONS, learn=[True, True, False])
    loss, metrics = agent(tables, QSFTConfig(backup="max")).loss(data)
    # token 0: pi Q = pi (1 - Q) = .25 and w = .75; token 1: p1 = .5 * .25, p0 = .5 * .75 and w = .625
    first = -np.log(0.25)
    second = -(0.625 * np.log(0.125) + 0.375 * np.log(0.375))
    assert loss.item() == pytest.approx((first + second) / 2)
    assert float(metrics["weight"]) == pytest.approx((0.75 + 0.625 + 0.5) / 3)
    loss.backward()
    assert tables.heads["policy"].grad[2].abs().sum() == 0  # state 2 only served as a successor


def test_lambda_returns_by_hand() -> None:
    data = toys.batch([0, 1, 2, 3], [0] * 4, [0.1, 0.2, 0.3, 0.4], [1, 2, 3, -1], discount=0.5)
    value = torch.tensor([0.9, 0.5, 0.6, 0.7], dtype=torch.float64)
    taken = torch.tensor([0.0, 0.4, 0.6, 0.8], dtype=torch.float64)
    # G3 = .4;  G2 = .3 + .5 (.2 * .7 + .8 * .4) = .53;  G1 = .2 + .5 (.2 * .6 + .8 * .53) = .472
    # G0 = .1 + .5 * .5, as token 1 is worse than its state (.4 < .5)
    assert lambda_return(data, taken, value, 0.8).tolist() == pytest.approx([0.35, 0.472, 0.53, 0.4])
    assert lambda_return(data, taken, value, 0.0).tolist() == pytest.approx([0.35, 0.5, 0.65, 0.4])  # one step


def test_lambda_returns_at_a_windows_edge_go_by_the_value() -> None:
    # Token 1 is read for token 0's sake; what follows it is in another window.
    data = toys.batch([0, 1], [0, 0], [0.1, 0.2], [1, -1], done=[False, False], learn=[True, False], discount=0.5)
    value, taken = torch.tensor([0.9, 0.6]), torch.tensor([0.9, 0.8])
    assert lambda_return(data, taken, value, 0.8)[0].item() == pytest.approx(0.1 + 0.5 * 0.6)


class Echo(toys.Lookup):
    """Gives every state pi = 1/2 on the two actions and the Q that its observation names: `<d>` tenths."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        self.tenths = {codec.observation(f"{d}\n")[0]: d / 10 for d in range(10)}

    def read(self, states: torch.Tensor) -> dict[str, torch.Tensor]:
        q = torch.tensor([self.tenths[int(k)] for k in states])[:, None].expand(-1, self.codec.outputs)
        pi = torch.from_numpy(self.codec.playable) / self.codec.playable.sum() + 1e-9
        return {"policy": (pi * q.clamp(0.01)).log(), "shadow": (pi * (1 - q)).log()}


@pytest.mark.parametrize("backup", ["max", "lambda"])
def test_rows_of_one_turn_pass_values_on_across_windows(backup: Any) -> None:
    """State = observation: a row is a turn, the successor is in the next row, and 16 rows are learned from at a time."""
    rng = np.random.default_rng(0)
    tenths = [int(d) for d in rng.integers(1, 10, 21)]
    turns = [Turn(f"{d}\n", ("go\n", "stop\n")[d % 2], 0.01 * k) for k, d in enumerate(tenths[:-1])]
    episode = Episode("toy", 0, [*turns, Turn(f"{tenths[-1]}\n")], terminated=True)
    codec = TextCodec.learn("words", {f"{d}\n": 1 for d in range(10)} | {"go\n": 1, "stop\n": 1}, ["go\n", "stop\n"])
    # Normalised by (0, 10): rewards of k / 1000.
    arrays = TokenArrays.encode([episode], codec, context=8, state="observation", discount=0.9, return_bounds=(0.0, 10.0))
    windows = arrays.windows()
    assert windows.tolist() == [[0, 16, 17], [16, 4, 4]]
    data = arrays.batch(windows, 0.9)
    learner = QSFT(QSFTConfig(backup=backup, trace=0.0))
    learner.codec = codec
    learner.networks["value_target"] = Echo(codec)
    weight = learner.target(data)[0][data.learn]
    value = [d / 10 for d in tenths[1:-1]] + [0.0]
    assert weight.tolist() == pytest.approx([0.001 * k + 0.9 * v for k, v in enumerate(value)], abs=1e-5)
    assert data.first.nonzero().flatten().tolist() == [0]


def test_shadow_reads_pi_p_and_q_out_of_one_network() -> None:
    outputs = {"value": shadow_tables(PI, Q).read(torch.arange(3))}
    log_pi, log_p, q = QSFT()._read(outputs, "value")
    assert torch.allclose(log_pi.exp(), torch.tensor(PI, dtype=torch.float64))
    assert torch.allclose(q, torch.tensor(Q, dtype=torch.float64))
    assert torch.allclose(log_p.exp(), torch.tensor(PI, dtype=torch.float64) * torch.tensor(Q, dtype=torch.float64))


@pytest.mark.parametrize(("extraction", "factor"), [("ratio", 1.0), ("prob", 0.5)])
def test_extraction_by_hand(extraction: Any, factor: float) -> None:
    learner = agent(shadow_tables([[0.5, 0.5]], [[0.75, 0.25]]), QSFTConfig())
    learner.decoding = QSFTDecoding(beta=2.0, extraction=extraction)
    outputs = {"value_target": shadow_tables([[0.5, 0.5]], [[0.75, 0.25]]).read(torch.tensor([0]))}
    logits = learner.policy_logits(outputs)[0]
    assert (logits[0] - logits[1]).item() == pytest.approx(2.0 * 0.5 * factor)  # beta times the difference of Q, or of pi Q


def test_the_papers_setting() -> None:
    paper = QSFT.config_for("wordle", "paper")
    assert (paper.leftover, paper.backup, paper.warm_start) == ("uniform", "max", "none")


# Learned, from data ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenDataset, Path]:
    directory = tmp_path_factory.mktemp("chain")
    data = toys.chain_data(directory / "data")
    toys.trained("sft", data, directory)
    return data, directory


def soft(go: float, stop: float, pi: float) -> float:
    return float(np.log(pi * np.exp(8 * go) + (1 - pi) * np.exp(8 * stop)) / 8)


# Mean of Q under pi at the start, where Q(stop) = .5 and Q(go) is the value of what follows: 1 by max, by soft (b = 8) below.
SOFT = 0.6 * soft(soft(1, 0, 0.4), 0.4, 0.5) + 0.4 * 0.5
HARD = 0.6 * 1 + 0.4 * 0.5


def traced() -> float:
    """The same by lambda = .9: after a `go` the trace goes on with what that `go` is worth, after a `stop` it is cut."""
    v = soft(1, 0, 0.4)
    two = 0.4 * (0.1 * v + 0.9 * 1) + 0.6 * v
    v = soft(two, 0.4, 0.5)
    return 0.6 * (0.5 * (0.1 * v + 0.9 * two) + 0.5 * v) + 0.4 * 0.5


MONTE_CARLO = 0.44


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({}, SOFT),
        ({"backup": "max"}, HARD),
        ({"backup": "max", "leftover": "dummy"}, HARD),
        ({"backup": "soft", "leftover": "dummy"}, SOFT),
        ({"backup": "lambda"}, traced()),
        ({"backup": "max", "leftover": "uniform"}, None),  # its p / pi is biased upwards, see test_theorem
    ],
    ids=str,
)
def test_the_chain_is_learned(chain: tuple[TokenDataset, Path], config: Any, start: float | None) -> None:
    data, directory = chain
    learner = toys.trained("qsft", data, directory, tau=0.05, **config)
    assert [episode.total_return for episode in toys.walk(learner.with_decoding(QSFTDecoding(greedy=True)), range(8))] == [
        1
    ] * 8
    if start is not None:
        assert toys.last_diagnosis(learner)["start_value"] == pytest.approx(start, abs=0.05)


def test_monte_carlo_values_stop_at_once(chain: tuple[TokenDataset, Path]) -> None:
    data, directory = chain
    learner = toys.trained("qsft", data, directory, tau=0.05, backup="mc")
    assert toys.last_diagnosis(learner)["start_value"] == pytest.approx(MONTE_CARLO, abs=0.05)
    assert toys.walk(learner.with_decoding(QSFTDecoding(greedy=True)), [0])[0].total_return == 0.5


def test_shadow_starts_as_the_pretrained_policy(chain: tuple[TokenDataset, Path]) -> None:
    data, directory = chain
    learner = QSFT()
    learner.codec, learner.meta = data.codec, {}
    learner.build(data, toys.run_in(directory, agent="qsft"))
    sft = learner._prerequisite(toys.run_in(directory, agent="qsft"), "sft")
    some = data.batch(np.arange(32))
    with torch.no_grad():
        log_pi, q = toys.log_pi_and_q(learner, some)
        expected = sft.networks["policy"](some)["policy"].log_softmax(-1)
    assert torch.allclose(log_pi, expected, atol=1e-5)
    assert torch.allclose(q, torch.full_like(q, data.normalise(data.mean_return)))


def test_the_dummy_takes_the_leftover_and_is_never_said(chain: tuple[TokenDataset, Path]) -> None:
    data, directory = chain
    learner = toys.trained("qsft", data, directory, tau=0.05, leftover="dummy", backup="mc")
    some = data.batch(np.arange(64))
    with torch.no_grad():
        p = learner.networks["value_target"](some)["policy"].softmax(-1)
    start = some.first
    assert p[start, DUMMY].mean().item() == pytest.approx(1 - MONTE_CARLO, abs=0.05)  # sum_a pi (1 - w)
    for beta in (0.0, 8.0):
        said = {
            turn.action
            for episode in toys.walk(learner.with_decoding(QSFTDecoding(beta=beta)), range(200))
            for turn in episode.turns
        }
        assert said - {None} == {"go\n", "stop\n"}
