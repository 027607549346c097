"""Implicit Language Q-Learning, per token (Snell et al. 2023, "Offline RL for Natural Language Generation with ILQL").

For a token transition (s, a, r, s') with double Q, target copies Q-bar (Polyak) and expectile tau:

    (1)  L_V   = E[ |tau - 1(u < 0)| u^2 ],   u = min(Qbar1, Qbar2)(s, a) - V(s)
    (2)  L_Q   = sum_i E[ (r + gamma V(s') - Q_i(s, a))^2 ]
    (3)  L_CQL = sum_i E[ logsumexp_a' Q_i(s, a') - Q_i(s, a) ]
    (4)  L     = L_Q + L_V + cql_weight L_CQL
    (5)  pi(a|s) ~ pi_beta(a|s) exp(beta (min(Q1, Q2)(s, a) - V(s)))

The squared errors are whole, as in the authors' code and in trlx (LMRL-Gym halves them, so that its cql weight counts
double against ours). pi_beta is the frozen `sft` checkpoint; the value network starts from its trunk with new heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch.nn import functional as F

from baselines._by_env import LONG
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.model.chunks import in_chunks
from qsft_bench.model.decoder import Outputs
from qsft_bench.model.network import Head, frozen_copy, polyak
from qsft_bench.token_agent import Config, Decoding, TokenAgent, beta_grid
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run, Training


@dataclass(frozen=True)
class ILQLConfig(Config):
    """Attributes:
    expectile: tau of Eq. 1; .5 is the mean, 1 the maximum.
    cql_weight: of Eq. 3.
    polyak: rate at which the target heads follow.
    hidden: width of the value heads' hidden layer, in multiples of the model's width.
    """

    expectile: float = 0.8
    cql_weight: float = 0.01
    polyak: float = 0.005
    hidden: int = 1


@dataclass(frozen=True)
class ILQLDecoding(Decoding):
    """Attributes:
    beta: of Eq. 5.
    """

    beta: float = 8.0


class ILQL(TokenAgent):
    """Eq. 1-5 of the module's docstring."""

    summary: ClassVar[str] = "implicit language Q-learning (Snell et al. 2023)"
    prerequisites: ClassVar[tuple[str, ...]] = ("sft",)
    config_type: ClassVar[type[Config]] = ILQLConfig
    decoding_type: ClassVar[type[Decoding]] = ILQLDecoding
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        env: {"training": Training(steps=0.5, learning_rate=0.5)} for env in LONG
    }
    grid: ClassVar[Sequence[Decoding]] = beta_grid(ILQLDecoding)
    watched: ClassVar[Mapping[str, Decoding]] = {"": ILQLDecoding(beta=32.0, greedy=True)}

    def build(self, data: TokenDataset, run: Run) -> None:
        policy = self.borrow("policy", run, "sft", "policy")
        hidden = self.config.hidden * policy.width
        heads = {"q1": Head(data.codec.outputs, hidden), "q2": Head(data.codec.outputs, hidden), "v": Head(1, hidden)}
        self.networks["value"] = self.start_from(run, "sft", "policy", heads)
        self.networks["value_target"] = frozen_copy(self.networks["value"])

    def trained(self) -> list[str]:
        return ["value"]

    def played(self) -> list[str]:
        return ["policy", "value"]

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        out, target = self._taken("value", batch), self.networks["value_target"]
        with torch.no_grad():
            hidden = target.at(batch)
            q = [target.read_one(name, hidden, batch.action) for name in ("q1", "q2")]
        terms = ilql_terms(out, q, batch, self.config.expectile)
        loss = terms["loss_q"] + terms["loss_v"] + self.config.cql_weight * terms["loss_cql"]
        return loss, {name: value.detach() for name, value in terms.items()} | {"value": out.v.detach().mean()}

    def _taken(self, name: str, batch: TokenBatch) -> Taken:
        network = self.networks[name]

        def at(hidden: torch.Tensor, action: torch.Tensor) -> Taken:
            return taken(network.read(hidden), action)

        return Taken(*in_chunks(at, network.at(batch), batch.action, width=self.codec.outputs))

    def after_step(self, step: int, steps: int) -> None:
        polyak(self.networks["value_target"], self.networks["value"], self.config.polyak)

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        value = outputs["value"]
        advantage = torch.minimum(value["q1"], value["q2"]) - value["v"]
        return F.log_softmax(outputs["policy"]["policy"], -1) + self.decoding.beta * advantage

    def action_values(self, outputs: Outputs) -> torch.Tensor:
        return torch.minimum(outputs["value"]["q1"], outputs["value"]["q2"])

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        return self.start_gap(data, lambda batch: self._taken("value", batch).v)


class Taken(NamedTuple):
    """What Eq. 1-3 need of the heads at every token, (K,) each: Q1, Q2 and V of the token taken, logsumexp Q - Q of both Q."""

    q1: torch.Tensor
    q2: torch.Tensor
    v: torch.Tensor
    cql1: torch.Tensor
    cql2: torch.Tensor


def taken(out: Mapping[str, torch.Tensor], action: torch.Tensor) -> Taken:
    """From head outputs q1, q2 (K, V) and v (K, 1), at `action` (K,)."""
    q1, q2 = (out[name].gather(-1, action[:, None]).squeeze(-1) for name in ("q1", "q2"))
    cql1, cql2 = (F.cross_entropy(out[name], action, reduction="none") for name in ("q1", "q2"))
    return Taken(q1, q2, out["v"].squeeze(-1), cql1, cql2)


def ilql_terms(out: Taken, target: Sequence[torch.Tensor], batch: TokenBatch, expectile: float) -> dict[str, torch.Tensor]:
    """Eq. 1-3 from what the network says of the tokens taken; its target says Q1 and Q2, (K,) each."""
    error = torch.minimum(target[0], target[1]) - out.v
    loss_v = batch.mean(torch.where(error > 0, expectile, 1 - expectile) * error.square())
    backup = batch.reward + batch.discount * batch.next_value(out.v.detach())
    loss_q = batch.mean((backup - out.q1).square()) + batch.mean((backup - out.q2).square())
    loss_cql = batch.mean(out.cql1) + batch.mean(out.cql2)
    return {"loss_q": loss_q, "loss_v": loss_v, "loss_cql": loss_cql}
