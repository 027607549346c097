"""Conservative Q-Learning, per token (Kumar et al. 2020, "Conservative Q-Learning for Offline Reinforcement Learning").

Q is measured in units of 1 / c of the returns, which lie in [0, 1]. For the tokens a of an action in s, with double Q, target
copies Q-bar (Polyak), the action's reward r and s' the first token of the next action:

    (1)  y     = c r + gamma V(s') in [0, c],  V(s') = max_a' min(Qbar1, Qbar2)(s', a'),  0 where the episode ends
    (2)  L_Q   = sum_i E[ 1/2 (Q_i(s, a) - y)^2 ]
    (3)  L_CQL = sum_i E[ logsumexp_a' Q_i(s, a') - Q_i(s, a) ]
    (4)  L     = L_Q + alpha L_CQL                              the paper's Eq. 4, CQL(H)
    (5)  pi(s) = argmax_a min(Q1, Q2)(s, a), or softmax_a min(Q1, Q2)(s, a) / (c temperature)

All tokens of an action learn what came of it. The max of Eq. 1, the logsumexp of Eq. 3 and the argmax of Eq. 5 go over the
tokens that can be played: a special token never is, and no data would keep its value from being the greatest.

Nothing is imitated first: the network starts from random weights. A table comes to rest at
Q(s, a) = y + alpha (1 - softmax_a Q(s, .) / pi_beta(a|s)). Where c is small the softmax is flat, what the data take often is
lifted by almost alpha, and bootstraps add the lifts up. Where c is large the greatest Q has all of the softmax and is not
lifted: it is held down to the others.

Why the maximum is taken once an action, not once a token: every maximum adds what noise there is among its tokens, and the arm
has 8 tokens an action and 30 actions an episode.
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
    reward_scale: c, the greatest return in the units of Q.
    polyak: rate at which the target network follows. Values travel about one action in 1 / polyak steps.
    """

    alpha: float = 6.0
    reward_scale: float = 30.0
    polyak: float = 0.05


class CQL(TokenAgent):
    """Eq. 1-5 of the module's docstring."""

    summary: ClassVar[str] = "conservative Q-learning (Kumar et al. 2020)"
    config_type: ClassVar[type[Config]] = CQLConfig
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = AS_LONG_AS_BOTH
    default_decoding: ClassVar[Decoding | None] = GREEDY
    grid: ClassVar[Sequence[Decoding]] = VALUE_GRID
    watched: ClassVar[Mapping[str, Decoding]] = {"": GREEDY}
    variants: ClassVar[Mapping[str, Variant]] = {"mild": Variant({"alpha": 2.0}), "strong": Variant({"alpha": 20.0})}

    def build(self, data: TokenDataset, run: Run) -> None:
        head = Head(data.codec.outputs)
        self.networks["value"] = self.network(data, run, {"q1": head, "q2": head})
        self.networks["value_target"] = frozen_copy(self.networks["value"])

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        target = self.target(batch)
        loss_q, loss_cql = torch.zeros_like(target), torch.zeros_like(target)
        for q in self.networks["value"](batch).values():  # (K, V) of each head
            taken = q.gather(-1, batch.action[:, None]).squeeze(-1)
            loss_q = loss_q + 0.5 * (taken - self.config.reward_scale * target).square()
            loss_cql = loss_cql + self.only_playable(q).logsumexp(-1) - taken
        loss_q, loss_cql = batch.mean(loss_q), batch.mean(loss_cql)
        metrics = {"loss_q": loss_q.detach(), "loss_cql": loss_cql.detach(), "target": batch.mean(target)}
        return loss_q + self.config.alpha * loss_cql, metrics

    @torch.no_grad()
    def target(self, batch: TokenBatch) -> torch.Tensor:
        """y / c of Eq. 1 for every action token, (K,): on the scale of the returns."""
        following = batch.next_value(self.value(batch, "value_target"))
        return (batch.reward + batch.discount * following).clamp(0, 1)[batch.end]

    def value(self, batch: TokenBatch, network: str) -> torch.Tensor:
        """V / c of every action token's state, (K,)."""
        return self.only_playable(self.lesser(self.networks[network](batch))).amax(-1)

    def lesser(self, heads: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """min(Q1, Q2) / c, (K, V)."""
        return torch.minimum(heads["q1"], heads["q2"]) / self.config.reward_scale

    def only_playable(self, q: torch.Tensor) -> torch.Tensor:
        """`q` (K, V), -inf where a token cannot be played."""
        return q.masked_fill(~torch.as_tensor(self.codec.playable, device=q.device), -torch.inf)

    def after_step(self, step: int, steps: int) -> None:
        polyak(self.networks["value_target"], self.networks["value"], self.config.polyak)

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        return self.lesser(outputs["value"])

    def action_values(self, outputs: Outputs) -> torch.Tensor:
        return self.policy_logits(outputs)

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        return self.start_gap(data, lambda batch: self.value(batch, "value"))
