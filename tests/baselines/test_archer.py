"""ArCHer on a chain of two utterances whose values, advantages and policy are on paper; its terms by hand; where it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.archer import ArCHer, ArCHerConfig, critic_terms, utterance
from qsft_bench.codec import TextCodec
from qsft_bench.episode import Episode, Turn
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.token_agent import Decoding
from qsft_bench.tokens import TokenArrays, TokenBatch
from tests.baselines import toys

HEADS = ("q1", "q2", "v1", "v2")
PLAYED: Sequence[Sequence[tuple[str, str, float]]] = (
    # one episode: (observation, utterance, reward) of each turn
    *[[("here\n", "please stop\n", 0.5)]] * 4,
    *[[("here\n", "please go\n", 0.1), ("there\n", "now wrong\n", 0.1)]] * 3,
    [("here\n", "please go\n", 0.1), ("there\n", "now right\n", 0.9)],
)
"""Every utterance is two tokens, the first of which tells nothing, and the discount of a turn is .9.

```
here --go .1--> there --right--> .9       Q(there, right) = .9   Q(there, wrong) = .1
 |                |                       Q(here, go) = .1 + .9 V(there)
stop .5         wrong .1                  Q(here, stop) = .5
```
"""
CODEC = TextCodec.learn(
    "words",
    {text: 1 for episode in PLAYED for turn in episode for text in turn[:2]} | {"end\n": 1},
    [turn[1] for episode in PLAYED for turn in episode],
)


def token(piece: str) -> int:
    return CODEC.observation(piece)[0]


def chain(state: Any, which: Sequence[int] = range(8), length: int = 16) -> TokenBatch:
    """The episodes as a batch, made as training makes one."""
    episodes = []
    for index in which:
        turns = PLAYED[index]
        episode = Episode("toy", index, [Turn(turns[0][0])])
        for number, (_, action, reward) in enumerate(turns):
            over = number + 1 == len(turns)
            episode.step(action, "end\n" if over else turns[number + 1][0], reward, over, False, {})
        episodes.append(episode)
    arrays = TokenArrays.encode(episodes, CODEC, context=12, state=state, discount=0.9, return_bounds=(0.0, 1.0))
    return arrays.batch(arrays.windows(length=length), 0.9)


def tables(**values: Any) -> toys.Tables:
    """A critic: what each head says after each token; 0 where nothing is given."""
    heads = {name: torch.zeros(CODEC.size, 1, dtype=torch.float64) for name in HEADS}
    for name, table in values.items():
        for piece, value in table.items():
            heads[name][token(piece)] = value
    return toys.Tables(**heads)


def learner(**config: Any) -> ArCHer:
    agent = ArCHer(ArCHerConfig(**config))
    agent.networks["policy"] = toys.Tables(policy=torch.zeros(CODEC.size, CODEC.outputs, dtype=torch.float64))  # type: ignore[assignment]
    for name in ("critic", "critic_target"):
        agent.networks[name] = tables()  # type: ignore[assignment]
    return agent


# The chain ------------------------------------------------------------------------------------------------------------


def expectile(tau: float, best: float, share: float, other: float) -> float:
    """Of what is `best` with probability `share`, else `other`: tau share (best - V) = (1 - tau) (1 - share) (V - other)."""
    up, down = tau * share, (1 - tau) * (1 - share)
    return (up * best + down * other) / (up + down)


def trained(state: Any, tau: float, steps: int = 800) -> ArCHer:
    """Trained by the loss that training uses, on all episodes at once, until it rests."""
    agent = learner(expectile=tau, temperature=0.2, weight_clip=2.0, polyak=0.2, warm_share=0.25)
    batch = chain(state)
    parameters = [p for name in agent.trained() for p in agent.networks[name].parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-5)
    for step in range(steps):
        agent.before_step(step, steps)
        optimizer.zero_grad()
        agent.loss(batch)[0].backward()
        optimizer.step()
        schedule.step()
        agent.after_step(step, steps)
    return agent


@pytest.mark.parametrize(("state", "tau"), [("transcript", 0.5), ("transcript", 0.9), ("observation", 0.999)])
def test_values_and_policy_are_those_on_paper(state: Any, tau: float) -> None:
    agent = trained(state, tau)
    there = expectile(tau, 0.9, 1 / 4, 0.1)
    go, stop = 0.1 + 0.9 * there, 0.5
    here = expectile(tau, max(go, stop), 1 / 2, min(go, stop))
    if tau == 0.5:
        assert (there, go, here) == pytest.approx((0.3, 0.37, 0.435))  # the mean: to stop is better
    elif tau == 0.9:
        assert (there, go, here) == pytest.approx((0.7, 0.73, 0.707))
    else:
        assert (there, go, here) == pytest.approx((0.9, 0.91, 0.91), abs=0.01)  # the maximum: Q* and V*
    critic = agent.networks["critic"].requires_grad_(False).heads
    for number in ("1", "2"):
        q = [float(critic[f"q{number}"][token(piece)]) for piece in (" go\n", " stop\n", " right\n", " wrong\n")]
        assert q == pytest.approx([go, stop, 0.9, 0.1], abs=2e-3)
        v = [float(critic[f"v{number}"][token(piece)]) for piece in ("here\n", "there\n")]
        assert v == pytest.approx([here, there], abs=2e-3)
    # Eq. 4 at rest: the data's shares, weighed by min(exp(A / .2), 2)
    policy = agent.networks["policy"].requires_grad_(False).heads["policy"].softmax(-1)
    for first, state_value, better, worse in (
        ("please", here, (" go\n", 1 / 2, go), (" stop\n", 1 / 2, stop)),
        ("now", there, (" right\n", 1 / 4, 0.9), (" wrong\n", 3 / 4, 0.1)),
    ):
        mass = [share * min(np.exp((q - state_value) / 0.2), 2.0) for _, share, q in (better, worse)]
        found = [float(policy[token(first), token(piece)]) for piece, *_ in (better, worse)]
        assert found[0] / sum(found) == pytest.approx(mass[0] / sum(mass), abs=5e-3)
        assert sum(found) > 0.97
    assert float(policy[token("here\n"), token("please")]) > 0.97  # first tokens are the actor's too


def test_the_clip_matters_on_the_chain() -> None:
    """Else the test above could not see it: A = .2 in favour of `right` is e^1 without."""
    share, there = 1 / 4, expectile(0.9, 0.9, 1 / 4, 0.1)
    wrong = (1 - share) * np.exp((0.1 - there) / 0.2)
    clipped, whole = (share * w / (share * w + wrong) for w in (2.0, np.e))
    assert (clipped, whole) == pytest.approx((0.9305, 0.9479), abs=1e-4)


# By hand ---------------------------------------------------------------------------------------------------------------


def outputs(**heads: list[float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in heads.items()}


ONLINE = {"q1": [0.4, 0.8], "q2": [0.6, 0.7], "v1": [0.2, 0.6], "v2": [0.1, 0.9]}
TARGET = {"q1": [0.5, 0.4], "q2": [0.3, 0.9], "v1": [7.0, 0.5], "v2": [7.0, 0.2]}
"""go, then right: (here, go, .1) and (there, right, .9, the end)."""


def test_critic_terms_by_hand() -> None:
    batch = chain("transcript", [7])
    loss_q, loss_v = critic_terms(outputs(**ONLINE), outputs(**TARGET), batch, expectile=0.8)
    # targets .1 + .9 * .5 and .1 + .9 * .2, each from its own V; .9 for both at the end, whatever V says of `here`
    q1, q2 = (0.55 - 0.4) ** 2 + (0.9 - 0.8) ** 2, (0.28 - 0.6) ** 2 + (0.9 - 0.7) ** 2
    assert loss_q.item() == pytest.approx((q1 + q2) / 2)
    # min of the targets' Q is .3 and .4: d = .1, -.2 for V1 and .2, -.5 for V2
    assert loss_v.item() == pytest.approx((0.8 * (0.01 + 0.04) + 0.2 * (0.04 + 0.25)) / 2)


def test_what_each_term_moves() -> None:
    value, target = outputs(**ONLINE), outputs(**TARGET)
    loss_q, loss_v = critic_terms(value, {k: v.detach() for k, v in target.items()}, chain("transcript", [7]), 0.8)
    loss_q.backward()
    assert value["v1"].grad is None and value["v2"].grad is None
    assert value["q1"].grad is not None and value["q1"].grad.tolist() == pytest.approx([-0.15, -0.1])
    value["q1"].grad = None
    loss_v.backward()
    assert value["q1"].grad is None
    assert value["v1"].grad is not None and value["v1"].grad.tolist() == pytest.approx([-0.08, 0.04])


def test_weight_by_hand() -> None:
    agent = ArCHer(ArCHerConfig(temperature=0.5, weight_clip=1.5))
    weight, clipped = agent.weight(outputs(**ONLINE))
    # A = min(.4, .6) - min(.2, .1) = .3 and min(.8, .7) - min(.6, .9) = .1
    assert weight.tolist() == pytest.approx([1.5, np.exp(0.2)])
    assert clipped.tolist() == [True, False]
    worse, _ = agent.weight({**outputs(**ONLINE), "q2": torch.tensor([-1e6, 0.0], dtype=torch.float64)})
    assert worse.tolist() == pytest.approx([0, np.exp(-1.2)])  # never below 0, never infinite
    best, _ = agent.weight({name: torch.full((2,), 1e6 * (name[0] == "q")) for name in HEADS})
    assert best.tolist() == pytest.approx([1.5, 1.5])


def test_loss_through_the_networks() -> None:
    agent = learner(expectile=0.8, temperature=0.5, weight_clip=1.5)
    ends, starts = (" go\n", " right\n"), ("here\n", "there\n")
    for name, values in (("critic", ONLINE), ("critic_target", TARGET)):
        places = {"q": ends, "v": starts}
        agent.networks[name] = tables(  # type: ignore[assignment]
            **{head: dict(zip(places[head[0]], value, strict=True)) for head, value in values.items()}
        )
    with torch.no_grad():
        agent.networks["policy"].heads["policy"][token("now"), token(" right\n")] = np.log(CODEC.outputs)  # type: ignore[index]
    batch = chain("transcript", [7])
    loss, metrics = agent.loss(batch)
    likely = np.log(CODEC.outputs) - np.log(2 * CODEC.outputs - 1)
    seldom = -np.log(CODEC.outputs)
    loss_pi = -(1.5 * 2 * seldom + np.exp(0.2) * (seldom + likely)) / 4  # of four tokens
    assert metrics["loss_pi"].item() == pytest.approx(loss_pi)
    assert metrics["weight_at_clip"].item() == 0.5
    terms = critic_terms(outputs(**ONLINE), outputs(**TARGET), batch, 0.8)
    assert loss.item() == pytest.approx(terms[0].item() + terms[1].item() + loss_pi)
    loss.backward()
    assert all(parameter.grad is None for parameter in agent.networks["critic_target"].parameters())
    grad = agent.networks["critic"].heads["q2"].grad
    assert grad is not None and grad[token(" go\n")].item() == pytest.approx(0.32)  # Eq. 2's alone: weights are constants


def steepness(agent: ArCHer, name: str) -> float:
    return sum(float(p.grad.abs().sum()) for p in agent.networks[name].parameters() if p.grad is not None)


def test_the_critic_warms_up_alone() -> None:
    agent = learner(warm_share=0.2)
    moved = []
    for step in range(10):
        agent.networks.zero_grad()
        agent.before_step(step, 10)
        agent.loss(chain("transcript"))[0].backward()
        assert steepness(agent, "critic") > 0
        moved.append(steepness(agent, "policy") > 0)
    assert moved == [False] * 2 + [True] * 8
    joint = learner(warm_share=0.0)
    joint.before_step(0, 10)
    joint.loss(chain("transcript"))[0].backward()
    assert steepness(joint, "policy") > 0


def test_utterances_that_only_follow_carry_no_loss() -> None:
    whole = chain("observation", [7])
    cut = chain("observation", [7], length=1)  # windows of one turn, each with the next one to read from
    assert cut.learn.tolist() == [True, True, False, False, True, True]
    agent = learner(expectile=0.8)
    agent.networks["critic"] = tables(q1={" go\n": 0.4, " right\n": 0.2}, v1={"here\n": 0.3, "there\n": 0.6})  # type: ignore[assignment]
    agent.networks["critic_target"] = agent.networks["critic"]
    assert agent.loss(cut)[0].item() == pytest.approx(agent.loss(whole)[0].item())


# Where it reads --------------------------------------------------------------------------------------------------------


def test_which_utterance_a_token_belongs_to() -> None:
    batch = chain("transcript", [0, 4, 7])
    assert utterance(batch).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    single = toys.batch([0, 1], [0, 1], [0.1, 1.0], [1, -1])
    assert utterance(single).tolist() == [0, 1]


@pytest.mark.parametrize("state", ["transcript", "observation"])
def test_v_sees_the_state_alone_and_q_the_whole_utterance(state: Any) -> None:
    torch.manual_seed(0)
    agent = learner()
    config = NetworkConfig("nano", CODEC.size, 12, {name: Head(1, 8) for name in HEADS})
    agent.networks["critic"] = Network(config).eval()
    right, wrong = (agent.values(chain(state, [index]), "critic") for index in (7, 6))
    same = {name: torch.isclose(right[name], wrong[name], atol=1e-6).tolist() for name in HEADS}
    assert same == {"q1": [True, False], "q2": [True, False], "v1": [True, True], "v2": [True, True]}
    stopped = agent.values(chain(state, [0]), "critic")
    assert torch.isclose(stopped["v1"], right["v1"][:1], atol=1e-6) and not torch.isclose(
        stopped["q1"], right["q1"][:1], atol=1e-6
    )
    batch = chain(state, [0, 7])  # one utterance, then two: rows of different lengths
    together = agent.values(batch, "critic")
    for name in HEADS:
        assert torch.allclose(together[name], torch.cat([stopped[name], right[name]]), atol=1e-6)
    # another first token of an utterance changes its Q, not its state's V
    ids = batch.ids.flatten().clone()
    ids[batch.position[0] + 1] = token("now")
    other = agent.values(replace(batch, ids=ids.view_as(batch.ids)), "critic")
    assert torch.isclose(other["v1"], together["v1"], atol=1e-6).tolist() == [True, True, True]
    assert torch.isclose(other["q1"], together["q1"], atol=1e-6).tolist() == [False, True, True]


# The 3-state chain, by way of data, training and play ---------------------------------------------------------------------


def test_the_chain_is_learned(tmp_path: Path) -> None:
    data = toys.chain_data(tmp_path / "data")
    toys.trained("sft", data, tmp_path)
    agent = toys.trained("archer", data, tmp_path, expectile=0.8)
    assert agent.played() == ["policy"] and set(agent.networks) == {"policy", "critic", "critic_target"}
    played = toys.walk(agent.with_decoding(Decoding(greedy=True)), range(8))
    assert [episode.total_return for episode in played] == [1] * 8
    value = 1.0  # expectile .8 at every state, from the end on
    for share, stop in ((0.4, 0.0), (0.5, 0.4), (0.6, 0.5)):
        value = expectile(0.8, value, share, stop)
    assert toys.last_diagnosis(agent)["start_value"] == pytest.approx(value, abs=0.05)


def test_publishes_the_actor_alone(tmp_path: Path) -> None:
    data = toys.chain_data(tmp_path / "data", 200)
    scale = replace(toys.SCALE, steps=4)
    toys.trained("sft", data, tmp_path, scale)
    agent = toys.trained("archer", data, tmp_path, scale)
    agent.publish(tmp_path / "published")
    assert [path.name for path in sorted((tmp_path / "published").iterdir())] == ["config.json", "policy.safetensors"]
