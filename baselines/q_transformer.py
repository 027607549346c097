"""Q-Transformer (Chebotar et al. 2023, "Scalable Offline Reinforcement Learning via Autoregressive Q-Functions").

Every dimension of an action is a token and a step of its own. Q = sigmoid(logit) lies in [0, 1] as returns do. For a token
transition (s, a, r, s') with target copy Q-bar (Polyak) and Monte Carlo return-to-go G:

    (1)  V(s)   = max_a Qbar(s, a)
    (2)  y      = V(s')                     inside an action: s' is its next token
         y      = r + gamma V(s')           at its last token: s' is the next action's first, V(s') = 0 where the episode ends
    (3)  y      = max(clip(y, 0, 1), clip(G, 0, 1))
    (4)  L_TD   = E[ 1/2 (Q(s, a) - y)^2 ]
    (5)  L_cons = E[ 1/2 mean_{a' != a} Q(s, a')^2 ]             values of tokens not taken go to 0, the least return
    (6)  L      = L_TD + alpha L_cons
    (7)  pi(s)  = argmax_a Q(s, a), or softmax_a Q(s, a) / temperature

The maxima and the mean go over the N tokens that can be played. G bounds Q* from below where the environment is
deterministic; elsewhere max(y, G) makes luck a value (the variant `td` is without it). L_cons makes values cautious where
the data are divided: a table comes to rest at Q(s, a) = y pi_beta / (pi_beta + alpha (1 - pi_beta) / (N - 1)).
With `n_step` = n the last token's target follows the data for n actions: y = r_1 + gamma r_2 + ... + gamma^n V(s after them).

A public implementation leaves out the reward on one path, bootstraps past the end, and pulls logits to 0, which is Q to 1/2.
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
class QTransformerConfig(Config):
    """Attributes:
    alpha: of Eq. 6.
    monte_carlo: whether Eq. 3 takes the return-to-go into the target.
    n_step: actions of the data that the last token's target follows.
    polyak: rate at which the target network follows. Values travel about one token in 1 / polyak steps.
    """

    alpha: float = 1.0
    monte_carlo: bool = True
    n_step: int = 1
    polyak: float = 0.05


class QTransformer(TokenAgent):
    """Eq. 1-7 of the module's docstring."""

    summary: ClassVar[str] = "autoregressive Q-learning with a Monte Carlo bound (Chebotar et al. 2023)"
    config_type: ClassVar[type[Config]] = QTransformerConfig
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = AS_LONG_AS_BOTH
    default_decoding: ClassVar[Decoding | None] = GREEDY
    grid: ClassVar[Sequence[Decoding]] = VALUE_GRID
    watched: ClassVar[Mapping[str, Decoding]] = {"": GREEDY}
    variants: ClassVar[Mapping[str, Variant]] = {"td": Variant({"monte_carlo": False}), "n_step": Variant({"n_step": 4})}

    def build(self, data: TokenDataset, run: Run) -> None:
        self.networks["value"] = self.network(data, run, {"logit": Head(data.codec.outputs)})
        self.networks["value_target"] = frozen_copy(self.networks["value"])

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        target = self.target(batch)
        q = self.networks["value"](batch)["logit"].sigmoid()  # (K, V)
        taken = q.gather(-1, batch.action[:, None])
        others = self.playable(q).expand_as(q).scatter(-1, batch.action[:, None], False)
        loss_td = batch.mean(0.5 * (taken.squeeze(-1) - target).square())
        loss_cons = batch.mean(0.5 * (others * q.square()).sum(-1) / others.sum(-1).clamp(min=1))
        metrics = {"loss_td": loss_td.detach(), "loss_cons": loss_cons.detach(), "target": batch.mean(target)}
        return loss_td + self.config.alpha * loss_cons, metrics

    @torch.no_grad()
    def target(self, batch: TokenBatch) -> torch.Tensor:
        """y of Eq. 2 and 3 for every action token, (K,)."""
        value = self.value(batch, "value_target")
        inside = batch.next_value(value)
        after = batch.next_value(follow(batch, value, self.config.n_step - 1))
        target = (batch.reward + batch.discount * torch.where(batch.last, after, inside)).clamp(0, 1)
        return torch.maximum(target, batch.return_to_go.clamp(0, 1)) if self.config.monte_carlo else target

    def value(self, batch: TokenBatch, network: str) -> torch.Tensor:
        """V of every action token's state, (K,) (Eq. 1)."""
        q = self.networks[network](batch)["logit"].sigmoid()
        return q.masked_fill(~self.playable(q), -torch.inf).amax(-1)

    def playable(self, q: torch.Tensor) -> torch.Tensor:
        """Which tokens can be played, (V,)."""
        return torch.as_tensor(self.codec.playable, device=q.device)

    def after_step(self, step: int, steps: int) -> None:
        polyak(self.networks["value_target"], self.networks["value"], self.config.polyak)

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        return outputs["value"]["logit"].sigmoid()

    def action_values(self, outputs: Outputs) -> torch.Tensor:
        return self.policy_logits(outputs)

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        return self.start_gap(data, lambda batch: self.value(batch, "value"))


def follow(batch: TokenBatch, value: torch.Tensor, actions: int) -> torch.Tensor:
    """Value of every token's state, (K,), if the data's `actions` actions from there on are taken before V counts.

    It is cut short where a window ends before its episode: the next state is not in the batch, and V counts one action earlier.

    Args:
        value: (K,) V of every token's state.
    """
    end = batch.end
    known = (batch.done | (batch.successor >= 0))[end]
    ahead = value
    for _ in range(actions):
        ahead = torch.where(known, (batch.reward + batch.discount * batch.next_value(ahead))[end], value)
    return ahead
