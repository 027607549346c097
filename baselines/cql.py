"""Conservative Q-Learning, per token (Kumar et al. 2020, "Conservative Q-Learning for Offline Reinforcement Learning").

For a token transition (s, a, r, s') with double Q and target copies Q-bar (Polyak):

    (1)  y     = clip(r + gamma V(s'), 0, 1),   V(s') = max_a' min(Qbar1, Qbar2)(s', a'),   0 where the episode ends
    (2)  L_Q   = sum_i E[ 1/2 (Q_i(s, a) - y)^2 ]
    (3)  L_CQL = sum_i E[ logsumexp_a' Q_i(s, a') - taken Q_i(s, a) ]
    (4)  L     = L_Q + alpha L_CQL         taken = 1: the paper's Eq. 4, CQL(H); taken = 0: its Eq. 1 with Eq. 4's choice of mu
    (5)  pi(s) = argmax_a min(Q1, Q2)(s, a), or softmax_a min(Q1, Q2)(s, a) / temperature

s' of a token inside an action is the action's next token, without reward or discount: the maximum over whole actions is
taken one token at a time. The max of Eq. 1, the logsumexp of Eq. 3 and the argmax of Eq. 5 go over the tokens that can be
played: a special token never is, and no data would keep its value from being the greatest.

Nothing is imitated first: the network starts from random weights. alpha belongs to the scale of the returns, here [0, 1]: a
table comes to rest at Q(s, a) = y + alpha (taken - softmax_a Q(s, .) / pi_beta(a|s)), so that with alpha = 1 how often the data
take an action moves its value as far as what it returns, and with less the values decide.

With taken = 1 whatever the data take often is lifted by up to alpha, and bootstraps add the lifts up: a bonus for every token
that is still to come, which pays for not finishing. Where an episode is a few tokens it is small. Over the 240 tokens of an
episode of the arm values came to 8 to 10 (alpha .1), or to the clip of Eq. 1 with any alpha from .001 to .01. With taken = 0
values are only ever lowered (the paper's Theorem 3.1: a bound of Q at every action, where Eq. 4's is one of V).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from baselines._by_env import AS_LONG_AS_BOTH, GREEDY, VALUE_GRID
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.model.decoder import Outputs
from qsft_bench.model.network import Head, frozen_copy, polyak
from qsft_bench.token_agent import Config, Decoding, TokenAgent, Variant
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run


@dataclass(frozen=True)
class CQLConfig(Config):
    """Attributes:
    alpha: of Eq. 4.
    taken: of Eq. 3.
    polyak: rate at which the target heads follow. Values travel about one token in 1 / polyak steps.
    """

    alpha: float = 0.1
    taken: float = 1.0
    polyak: float = 0.05


class CQL(TokenAgent):
    """Eq. 1-5 of the module's docstring."""

    summary: ClassVar[str] = "conservative Q-learning (Kumar et al. 2020)"
    config_type: ClassVar[type[Config]] = CQLConfig
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = AS_LONG_AS_BOTH
    default_decoding: ClassVar[Decoding | None] = GREEDY
    grid: ClassVar[Sequence[Decoding]] = VALUE_GRID
    watched: ClassVar[Mapping[str, Decoding]] = {"": GREEDY}
    variants: ClassVar[Mapping[str, Variant]] = {"mild": Variant({"alpha": 0.01}), "strong": Variant({"alpha": 1.0})}

    def build(self, data: TokenDataset, run: Run) -> None:
        head = Head(data.codec.outputs)
        self.networks["value"] = self.network(data, run, {"q1": head, "q2": head})
        self.networks["value_target"] = frozen_copy(self.networks["value"])

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        target = self.target(batch)
        loss_q, loss_cql = torch.zeros_like(target), torch.zeros_like(target)
        for q in self.networks["value"](batch).values():  # (K, V) of each head
            taken = q.gather(-1, batch.action[:, None]).squeeze(-1)
            loss_q = loss_q + 0.5 * (taken - target).square()
            loss_cql = loss_cql + self.only_playable(q).logsumexp(-1) - self.config.taken * taken
        loss_q, loss_cql = batch.mean(loss_q), batch.mean(loss_cql)
        metrics = {"loss_q": loss_q.detach(), "loss_cql": loss_cql.detach(), "target": batch.mean(target)}
        return loss_q + self.config.alpha * loss_cql, metrics

    @torch.no_grad()
    def target(self, batch: TokenBatch) -> torch.Tensor:
        """y of Eq. 1 for every action token, (K,)."""
        return (batch.reward + batch.discount * batch.next_value(self.value(batch, "value_target"))).clamp(0, 1)

    def value(self, batch: TokenBatch, network: str) -> torch.Tensor:
        """V of every action token's state, (K,)."""
        out = self.networks[network](batch)
        return self.only_playable(torch.minimum(out["q1"], out["q2"])).amax(-1)

    def only_playable(self, q: torch.Tensor) -> torch.Tensor:
        """`q` (K, V), -inf where a token cannot be played."""
        return q.masked_fill(~torch.as_tensor(self.codec.playable, device=q.device), -torch.inf)

    def after_step(self, step: int, steps: int) -> None:
        polyak(self.networks["value_target"], self.networks["value"], self.config.polyak)

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        return torch.minimum(outputs["value"]["q1"], outputs["value"]["q2"])

    def action_values(self, outputs: Outputs) -> torch.Tensor:
        return self.policy_logits(outputs)

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        return self.start_gap(data, lambda batch: self.value(batch, "value"))
