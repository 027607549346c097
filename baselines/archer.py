"""ArCHer, offline (Zhou et al. 2024, "ArCHer: Training Language Model Agents via Hierarchical Multi-Turn RL"): values of
whole utterances, a policy of tokens.

```
tokens   <bos> Wordle :\\n  hovel\\n 1hb 2ob 3vy 4eg 5lg\\n  level\\n     an utterance u may have several tokens
reads            V(s)      Q(s, u)               V(s')    Q(s', u')   one forward pass of the critic
```

V is read at the state's last token, which has not seen the utterance; Q at the utterance's last token, which has not seen the
reply. For an utterance transition (s, u, r, s') with double Q and V, target copies Q-bar and V-bar (Polyak) and expectile tau:

    (1)  L_V  = sum_i E[ |tau - 1(d_i < 0)| d_i^2 ],   d_i = min(Qbar1, Qbar2)(s, u) - V_i(s)
    (2)  L_Q  = sum_i E[ (r + gamma Vbar_i(s') - Q_i(s, u))^2 ],   Vbar = 0 where the episode ends
    (3)  A    = min(Q1, Q2)(s, u) - min(V1, V2)(s)
    (4)  L_pi = E[ -min(exp(A / lambda), c) log pi(u|s) ],   log pi(u|s) = sum_t log pi(u_t|s, u_<t)

Eq. 1 is what makes it offline: where ArCHer asks the critic about utterances that its own actor draws, the expectile takes
those of the data (implicit Q-learning, Kostrikov et al. 2022), and the actor imitates them by weight instead of following a
policy gradient. r, gamma and the bootstrap belong to the utterance: nothing is backed up inside it, so that value travels a
turn at a time however many tokens a turn has.

Actor and critic start from the `sft` checkpoint, the critic with new heads. The actor alone plays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from baselines._by_env import LONG
from baselines.sft_temp import TEMPERATURES
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.model.decoder import Outputs
from qsft_bench.model.network import Head, frozen_copy, polyak
from qsft_bench.token_agent import Config, Decoding, TokenAgent, log_softmax_at
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run, Training


@dataclass(frozen=True)
class ArCHerConfig(Config):
    """Attributes:
    expectile: tau of Eq. 1; .5 is the mean, 1 the maximum.
    temperature: lambda of Eq. 4, on the scale on which returns lie in [0, 1]; the smaller, the more the better ones count.
    weight_clip: c of Eq. 4.
    polyak: rate at which the targets follow.
    warm_share: share of the steps in which the critic learns alone, before its advantages mean anything; 0 for both at once.
    hidden: width of the critic heads' hidden layer, in multiples of the model's width.
    """

    expectile: float = 0.9
    temperature: float = 0.05
    weight_clip: float = 20.0
    polyak: float = 0.05
    warm_share: float = 0.2
    hidden: int = 1


class ArCHer(TokenAgent):
    """Eq. 1-4 of the module's docstring."""

    summary: ClassVar[str] = "utterance-level critic, advantage-weighted actor (Zhou et al. 2024, offline)"
    prerequisites: ClassVar[tuple[str, ...]] = ("sft",)
    config_type: ClassVar[type[Config]] = ArCHerConfig
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        env: {"training": Training(steps=0.5, learning_rate=0.5)} for env in LONG
    }
    grid: ClassVar[Sequence[Decoding]] = TEMPERATURES
    watched: ClassVar[Mapping[str, Decoding]] = {"": Decoding(greedy=True)}
    _warm = False

    def build(self, data: TokenDataset, run: Run) -> None:
        self.networks["policy"] = self.start_from(run, "sft", "policy")
        head = Head(1, self.config.hidden * self.networks["policy"].width)
        self.networks["critic"] = self.start_from(run, "sft", "policy", dict.fromkeys(("q1", "q2", "v1", "v2"), head))
        self.networks["critic_target"] = frozen_copy(self.networks["critic"])

    def played(self) -> list[str]:
        return ["policy"]

    def before_step(self, step: int, steps: int) -> None:
        self._warm = step < self.config.warm_share * steps

    def after_step(self, step: int, steps: int) -> None:
        polyak(self.networks["critic_target"], self.networks["critic"], self.config.polyak)

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        value = self.values(batch, "critic")
        with torch.no_grad():
            target = self.values(batch, "critic_target")
            weight, clipped = self.weight(value)
        loss_q, loss_v = critic_terms(value, target, batch, self.config.expectile)
        log_pi = log_softmax_at(self.networks["policy"](batch)["policy"], batch.action)  # (K,)
        loss_pi = batch.mean(-weight[utterance(batch)] * log_pi)  # of tokens, as SFT's: Eq. 4 divided by their mean number
        metrics = {"loss_q": loss_q, "loss_v": loss_v, "loss_pi": loss_pi, "value": value["v1"].mean()}
        metrics |= {"weight": weight.mean(), "weight_at_clip": clipped.float().mean()}
        loss = loss_q + loss_v + loss_pi * (0.0 if self._warm else 1.0)  # never without the actor: DDP wants every gradient
        return loss, {name: value.detach() for name, value in metrics.items()}

    def values(self, batch: TokenBatch, network: str) -> dict[str, torch.Tensor]:
        """q1 and q2 at every utterance's last token, v1 and v2 at the last token before it, each (U,) in the order of play."""
        last = batch.last.nonzero().squeeze(-1)  # (U,) index into K
        first = torch.cat([torch.zeros_like(last[:1]), last[:-1] + 1])
        read = self.networks[network](batch, torch.cat([batch.position[last] + 1, batch.position[first]]))
        return {name: read[name].squeeze(-1).tensor_split(2)[0 if name.startswith("q") else 1] for name in read}

    def weight(self, value: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """min(exp(A / lambda), c) of every utterance (Eq. 3 and 4), and whether it was clipped; (U,) each."""
        advantage = torch.minimum(value["q1"], value["q2"]) - torch.minimum(value["v1"], value["v2"])
        weight = (advantage / self.config.temperature).exp()
        return weight.clamp(max=self.config.weight_clip), weight > self.config.weight_clip

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        return outputs["policy"]["policy"]

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        return self.start_gap(data, self._start_value)

    def _start_value(self, batch: TokenBatch) -> torch.Tensor:
        value = self.values(batch, "critic")
        return torch.minimum(value["v1"], value["v2"])[utterance(batch)]


def utterance(batch: TokenBatch) -> torch.Tensor:
    """Which utterance each action token belongs to, (K,): 0, 0, 1, 2, 2, 2, ..."""
    last = batch.last.long()
    return last.cumsum(0) - last


def critic_terms(
    value: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor], batch: TokenBatch, expectile: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 2 and Eq. 1, from q1, q2, v1, v2 (U,) of the critic and of its target."""
    last, number = batch.last, utterance(batch)
    learn = batch.learn[last]
    target_q = torch.minimum(target["q1"], target["q2"])
    loss_q, loss_v = [], []
    for q, v in (("q1", "v1"), ("q2", "v2")):
        backup = batch.reward[last] + batch.discount[last] * batch.next_value(target[v][number])[last]
        loss_q.append((backup - value[q])[learn].square().mean())
        error = (target_q - value[v])[learn]
        loss_v.append((torch.where(error > 0, expectile, 1 - expectile) * error.square()).mean())
    return loss_q[0] + loss_q[1], loss_v[0] + loss_v[1]
