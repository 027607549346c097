"""Q-SFT: Q-learning via supervised fine-tuning (Hong, Dragan, Levine 2024; Eq. 2 and 3, Algorithm 1).

1. Behaviour policy pi_phi: cross-entropy on the action tokens (Eq. 2). That is the `sft` checkpoint.
2. Likelihood model p_theta from the same weights, target copy p_bar (Polyak). For a token transition (s, a, r, s')

       w    = clip(r + gamma V(s'), 0, 1)                                    the Bellman target, in [0, 1]
       loss = -[ w log p_theta(a|s) + (1 - w) * leftover ]                   weighted cross-entropy, Eq. 3

   `leftover` decides where the other 1 - w of the probability goes:
   - `uniform`: to all other actions, (1 / (|A| - 1)) sum_{a' != a} log p_theta(a'|s)       (Eq. 3)
   - `dummy`:   to one action a_d that is never played, log p_theta(a_d|s)                  (section 4.1)
   - `shadow`:  to a twin of the action itself, log p_theta(shadow of a|s), 2|A| classes in all.
   With the first two Q(s, a) = p_theta(a|s) / pi_phi(a|s), a ratio of two networks. With `shadow` both come out of one:
   pi = p1 + p0 and Q = p1 / (p1 + p0) = sigmoid(z1 - z0) cannot disagree, and pi starts as exactly the pretrained one, with
   Q the mean return everywhere: the few steps that a large model takes need not be spent on the way there from 1/2.
   `backup` decides V(s') over the actions a' that can be played and are in the data's support, pi(a'|s') > `support`:
   - `max`: max_a' Q (Eq. 3); `soft`: (1/b) log sum_a' pi exp(b Q), the value of section 4.2's KL-regularised policy;
     `policy`: mean of Q under pi exp(b Q); `mc`: no bootstrap, w = the normalised return;
     `lambda`: `soft` mixed along the row with what followed, cut after tokens worse than V.
   `warm_start="mc"` uses w = the normalised return for the first share of the steps: at the start every ratio is 1, and
   information from the end of an episode travels one token per Polyak lag.
3. Play pi(a|s) ~ pi(a|s) exp(beta x), x = Q (`extraction="ratio"`) or p (`extraction="prob"`, the paper's).

Why these defaults (`results/small/qsft_ablation.md`, Wordle habit, one choice changed at a time):
- `shadow`: the ratio of two networks is what fails. `dummy` loses 0.6 of return, and `uniform` values the start at 1.0 where
  its own play returns 0.2: theta goes on fitting pi while phi does not, and every backup adds the largest error to the next.
- `soft`: with one network all backups play alike there, but `max` values the start above what its own play returns, and
  `mc` (one step of policy improvement) cannot stitch: at most 1.2 of 1.6 on the stitching task, where `soft` reaches 1.59.
- `mc` warm start: `none` ends in the same place here, where an episode is six action tokens; it costs nothing.
- beta from 32 on validation seeds: with the paper's beta = 1 play is almost the behaviour's, whatever the values.

The variant `qsft@paper` is Eq. 3 and Algorithm 1 to the letter, played with beta = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from baselines._by_env import CHESS, LONG
from qsft_bench.codec import DUMMY
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.model.chunks import cached, in_chunks
from qsft_bench.model.decoder import Outputs
from qsft_bench.model.network import Head, frozen_copy, polyak
from qsft_bench.model.reading import cells
from qsft_bench.token_agent import Config, Decoding, TokenAgent, Variant, beta_grid, held_out_windows
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run, Training

Leftover = Literal["shadow", "dummy", "uniform"]
Backup = Literal["max", "soft", "policy", "mc", "lambda"]
Extraction = Literal["ratio", "prob"]
Acting = Literal["target", "online"]


LEAST = 0.01  # Q starts at the mean return, but at least so far from 0 and from 1
HALF = Training(steps=0.5, learning_rate=0.5)


@dataclass(frozen=True)
class QSFTConfig(Config):
    """Attributes:
    leftover, backup: see the module's docstring.
    warm_start: `mc` or `none`; warm_share: the share of the steps it lasts.
    tau: Polyak rate of the target network.
    soft: b of the `soft`, `policy` and `lambda` backups.
    trace: lambda of the `lambda` backup.
    support: an action is in the data's support where pi exceeds this; 0 for every action.
    """

    leftover: Leftover = "shadow"
    backup: Backup = "soft"
    warm_start: Literal["mc", "none"] = "mc"
    warm_share: float = 0.3
    tau: float = 0.01
    soft: float = 8.0
    trace: float = 0.9
    support: float = 2.5e-4


@dataclass(frozen=True)
class QSFTDecoding(Decoding):
    """Attributes:
    beta: how far play departs from the behaviour (the paper writes 1).
    extraction: `ratio` weighs by Q = p / pi, `prob` by p itself.
    acting: which network plays, the Polyak copy (`target`) or the trained one (`online`).
    """

    beta: float = 32.0
    extraction: Extraction = "ratio"
    acting: Acting = "target"


class QSFT(TokenAgent):
    """Eq. 2 and 3 and Algorithm 1 of the module's docstring."""

    summary: ClassVar[str] = "Q-learning via supervised fine-tuning (Hong et al. 2024)"
    prerequisites: ClassVar[tuple[str, ...]] = ("sft",)
    config_type: ClassVar[type[Config]] = QSFTConfig
    decoding_type: ClassVar[type[Decoding]] = QSFTDecoding
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **{env: {"training": HALF} for env in LONG},
        # Most moves are illegal in any one position, and no data says what they are worth: the support must keep them out.
        **{env: {"training": HALF, "support": 4e-3} for env in CHESS},
        # Noise spreads each dimension over some ten of 33 bins: what lies further out was hardly tried.
        "pick_place": {"training": HALF, "support": 2e-2},
        # Best on validation seeds with half the steps at half the rate .71, at the full rate .83, with all the steps .95.
        "drawer_grasp": {"support": 2e-2},
    }
    grid: ClassVar[Sequence[Decoding]] = beta_grid(QSFTDecoding)
    watched: ClassVar[Mapping[str, Decoding]] = {"": QSFTDecoding(beta=32.0, greedy=True)}
    variants: ClassVar[Mapping[str, Variant]] = {
        "paper": Variant(
            {"leftover": "uniform", "backup": "max", "warm_start": "none"},
            (QSFTDecoding(beta=1.0, extraction="prob", acting="online"),),
        ),
        # The default with one choice changed:
        "dummy": Variant({"leftover": "dummy"}),
        "uniform": Variant({"leftover": "uniform"}),
        "mc": Variant({"backup": "mc"}),
        "max": Variant({"backup": "max"}),
        "policy": Variant({"backup": "policy"}),
        "lambda": Variant({"backup": "lambda"}),
        "cold": Variant({"warm_start": "none"}),
    }
    sweep: ClassVar[Sequence[Decoding]] = tuple(
        QSFTDecoding(beta=beta, greedy=greedy, extraction=extraction, acting=acting)
        for extraction in get_args(Extraction)
        for acting in get_args(Acting)
        for greedy in (False, True)
        for beta in (1.0, 4.0, 16.0, 64.0, 256.0)
    )
    _warm = False

    def build(self, data: TokenDataset, run: Run) -> None:
        if self.config.leftover == "shadow":
            head = Head(data.codec.outputs)
            value = self.start_from(run, "sft", "policy", {"policy": head, "shadow": replace(head, twin="policy")})
            mean = min(max(float(data.normalise(data.mean_return)), LEAST), 1 - LEAST)
            value.copy_head("policy", to="shadow", shift=math.log((1 - mean) / mean))
        else:
            self.borrow("behaviour", run, "sft", "policy")
            value = self.start_from(run, "sft", "policy")
        self.networks["value"] = value
        self.networks["value_target"] = frozen_copy(value)
        self._warm = self.config.warm_start == "mc"

    def trained(self) -> list[str]:
        return ["value"]

    def played(self) -> list[str]:
        acting = "value_target" if self.decoding.acting == "target" else "value"
        return [acting] if self.config.leftover == "shadow" else [acting, "behaviour"]

    def before_step(self, step: int, steps: int) -> None:
        self._warm = self.config.warm_start == "mc" and step < self.config.warm_share * steps

    def after_step(self, step: int, steps: int) -> None:
        polyak(self.networks["value_target"], self.networks["value"], self.config.tau)

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            weight, metrics = self.target(batch)

        def at(out: Mapping[str, torch.Tensor], action: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return weighted_cross_entropy(out, action, weight, self.config.leftover, self.codec.dummy)

        loss = self.mean_loss(batch, "value", at, batch.action, weight)
        metrics["weight"] = weight.mean()
        metrics["weight_at_0"] = (weight <= 0).float().mean()
        metrics["weight_at_1"] = (weight >= 1).float().mean()
        return loss, metrics

    def target(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """w = clip(r + gamma V(s'), 0, 1) for every action token, (K,)."""
        if self._warm or self.config.backup == "mc":
            return batch.return_to_go.clamp(0, 1), {}

        def at(outputs: Outputs, action: torch.Tensor) -> tuple[torch.Tensor, ...]:
            ids = self.candidates(outputs, "value_target")
            if ids is None:
                log_pi, _, q = self._read(outputs, "value_target")
                taken = q.gather(-1, action[:, None]).squeeze(-1)
            else:
                log_pi, _, q = self._read(outputs, "value_target", torch.cat([ids, action[:, None]], -1))
                log_pi, q, taken = log_pi[:, :-1], q[:, :-1], q[:, -1]
            inside = self.support(log_pi, ids)
            return backup_value(log_pi, q, inside, self.config.backup, self.config.soft), taken, inside.sum(-1).float()

        value, taken, support = self.values(batch, "value_target", at, batch.action)
        if self.config.backup == "lambda":
            target = lambda_return(batch, taken, value, self.config.trace)
        else:
            target = batch.reward + batch.discount * batch.next_value(value)
        return target.clamp(0, 1), {"support": support.mean(), "value": value.mean()}

    def values(
        self, batch: TokenBatch, network: str, function: Callable[..., tuple[torch.Tensor, ...]], *columns: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """`function(outputs, *columns)` at the action tokens' states, some of the K at a time; outputs are (k, V).

        Args:
            function: row by row, to a tuple of (k, ...).
            columns: (K, ...), what else it takes.
        """
        names = [network, *(["behaviour"] if "behaviour" in self.networks else [])]
        hidden = [self.networks[name].at(batch) for name in names]

        def at(*rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits = {
                (name, head): part
                for name, found in zip(names, rows, strict=False)
                for head, part in self.networks[name].parts(found).items()
            }

            def of_some(*some: torch.Tensor) -> tuple[torch.Tensor, ...]:
                parts: dict[str, dict[str, torch.Tensor]] = {name: {} for name in names}
                for (name, head), part in zip(logits, some, strict=False):
                    parts[name][head] = part
                return function({name: self.networks[name].whole(parts[name]) for name in names}, *some[len(logits) :])

            columns = (*logits.values(), *rows[len(names) :])
            return in_chunks(of_some, *columns, width=self.codec.outputs, limit=cached(rows[0].device))

        return in_chunks(at, *hidden, *columns, width=self.codec.outputs)

    def support(self, log_pi: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
        """Where an action is in the data's support and can be played, like `log_pi` (..., V), or (..., M) of `ids` (..., M).

        The dummy is neither: pi hardly knows it, so that its p / pi is the largest of all.
        """
        playable = torch.as_tensor(self.codec.playable, device=log_pi.device)
        return (log_pi > self._least_log_pi) & (playable if ids is None else playable[ids])

    @property
    def _least_log_pi(self) -> float:
        return math.log(self.config.support) if self.config.support > 0 else -math.inf

    def candidates(self, outputs: Outputs, network: str) -> torch.Tensor | None:
        """Ids (k, M) of all actions in the support and of some more, the likeliest among them; the dummy where a row has fewer.

        Of the 50,000 tokens of a pretrained model a handful is in the support, and what only these need is computed for these.
        None where that would be more than a quarter of all: to pick them would cost more than it saves.
        """
        if self.config.leftover == "shadow":
            likely = torch.maximum(outputs[network]["policy"], outputs[network]["shadow"])
        else:
            likely = outputs["behaviour"]["policy"]
        # pi(a) <= 2 exp(likely(a) - max likely): the larger of two exponentials is at least half of their sum.
        chosen = likely >= likely.amax(-1, keepdim=True) + (self._least_log_pi - math.log(2))
        if 4 * chosen.sum(-1).max() > chosen.shape[-1]:
            return None
        row, ids = chosen.nonzero(as_tuple=True)
        cell, most = cells(row, len(likely))
        return ids.new_full((len(likely) * most,), self.codec.dummy).index_copy_(0, cell, ids).view(-1, most)

    def _read(
        self, outputs: Outputs, network: str, ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """log pi, log p and Q, each (..., V), or (..., M) of the actions `ids` (..., M)."""

        def of(all_actions: torch.Tensor) -> torch.Tensor:
            return all_actions if ids is None else all_actions.gather(-1, ids)

        real = outputs[network]["policy"]
        if self.config.leftover == "shadow":
            shadow = outputs[network]["shadow"]
            total = _log_total(real, shadow)[..., None]
            real, shadow = of(real), of(shadow)
            return torch.logaddexp(real, shadow) - total, real - total, torch.sigmoid(real - shadow)
        log_p = of(F.log_softmax(real, -1))
        log_pi = of(F.log_softmax(outputs["behaviour"]["policy"], -1))
        return log_pi, log_p, (log_p - log_pi).exp().clamp(0, 1)

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        log_pi, log_p, q = self._read(outputs, self.played()[0])
        preference = q if self.decoding.extraction == "ratio" else log_p.exp()
        return log_pi + self.decoding.beta * torch.where(self.support(log_pi), preference, torch.zeros_like(preference))

    def action_values(self, outputs: Outputs) -> torch.Tensor:
        return self._read(outputs, self.played()[0])[2]

    @torch.no_grad()
    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        """Values at the start and along held-out episodes against what was returned there (normalised)."""
        batch = data.validation.batch(held_out_windows(data, 512)).to(self.networks["value"].device)

        def at(outputs: Outputs, action: torch.Tensor) -> tuple[torch.Tensor, ...]:
            log_pi, _, q = self._read(outputs, "value_target")
            pi, inside = log_pi.exp(), self.support(log_pi)
            mean = (pi * q).sum(-1)
            return (
                mean,
                q.gather(-1, action[:, None]).squeeze(-1),
                (pi * (q - mean[:, None]).square()).sum(-1).sqrt(),
                torch.where(inside, q, torch.zeros_like(q)).amax(-1),
                inside.float().sum(-1),
            )

        mean, taken, spread, best, support = self.values(batch, "value_target", at, batch.action)
        return {
            "start_value": float(mean[batch.first].mean()),
            "start_return": float(batch.return_to_go[batch.first].mean()),
            "value_error": float((mean - batch.return_to_go).mean()),
            "brier": float((taken - batch.return_to_go).square().mean()),
            "brier_constant": float(batch.return_to_go.var()),
            "spread": float(spread.mean()),
            "best_value": float(best.mean()),
            "support": float(support.mean()),
        }


def weighted_cross_entropy(
    out: Mapping[str, torch.Tensor], action: torch.Tensor, weight: torch.Tensor, leftover: Leftover, dummy: int = DUMMY
) -> torch.Tensor:
    """-[w log p(a|s) + (1 - w) leftover] for each token, (K,).

    Args:
        out: head outputs, `policy` (K, V) and for `shadow` also `shadow` (K, V).
        action: (K,) ids; weight: (K,) in [0, 1].
        dummy: the id that takes the rest where `leftover` is `dummy`.
    """
    logits = out["policy"]
    if leftover == "shadow":
        return _SplitCrossEntropy.apply(logits, out["shadow"], action, weight)
    taken = logits.gather(-1, action[:, None]).squeeze(-1)
    if leftover == "dummy":
        total = logits.logsumexp(-1)
        rest = logits[:, dummy]
    elif leftover == "uniform":
        total = logits.logsumexp(-1)
        rest = (logits.sum(-1) - taken) / (logits.shape[-1] - 1)
    else:
        raise BenchError(f"unknown leftover {leftover!r}; known: shadow, dummy, uniform")
    return total - weight * taken - (1 - weight) * rest


class _SplitCrossEntropy(torch.autograd.Function):
    """-[w log p(a) + (1 - w) log p(shadow of a)] (K,) over 2V classes, from logits (K, V), shadow (K, V), a (K,) and w (K,).

    What torch would derive takes every exponential three times, and goes three times as often through (K, V) numbers on the way
    back. The gradients are p - (w where a) and, of the shadow, p - (1 - w where a).
    """

    @staticmethod
    def forward(context: Any, logits: torch.Tensor, shadow: torch.Tensor, action: torch.Tensor, weight: torch.Tensor) -> Any:
        at, weight = action[:, None], weight.to(logits.dtype)
        taken, rest = logits.gather(-1, at).squeeze(-1), shadow.gather(-1, at).squeeze(-1)
        most = torch.maximum(logits.amax(-1, keepdim=True), shadow.amax(-1, keepdim=True))
        p, p_shadow = (logits - most).exp_(), (shadow - most).exp_()  # but for their constant
        total = p.sum(-1, keepdim=True) + p_shadow.sum(-1, keepdim=True)
        context.save_for_backward(p, p_shadow, total, at, weight)
        return (most + total.log()).squeeze(-1) - weight * taken - (1 - weight) * rest

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: torch.Tensor) -> Any:
        p, p_shadow, total, at, weight = context.saved_tensors
        for of, share in ((p, weight), (p_shadow, 1 - weight)):
            of.mul_(upstream[:, None] / total).scatter_add_(-1, at, -(share * upstream)[:, None])
        return p, p_shadow, None, None


def _log_total(logits: torch.Tensor, shadow: torch.Tensor) -> torch.Tensor:
    """log sum_a [exp(logits) + exp(shadow)], (...) from (..., V) each."""
    return torch.logaddexp(logits.logsumexp(-1), shadow.logsumexp(-1))


def backup_value(log_pi: torch.Tensor, q: torch.Tensor, inside: torch.Tensor, backup: Backup, soft: float) -> torch.Tensor:
    """V (K,) from log pi, Q and the support, each (K, V); a state without support has the value of its likeliest action."""
    inside = inside | (~inside.any(-1, keepdim=True) & (log_pi >= log_pi.amax(-1, keepdim=True)))
    if backup == "max":
        return q.masked_fill(~inside, -torch.inf).amax(-1)
    supported = log_pi.masked_fill(~inside, -torch.inf)  # pi renormalised within the support, but for its constant
    if backup in ("soft", "lambda"):
        return ((supported + soft * q).logsumexp(-1) - supported.logsumexp(-1)) / soft
    if backup == "policy":
        return (F.softmax(supported + soft * q, -1) * q).sum(-1)
    raise BenchError(f"unknown backup {backup!r}; known: max, soft, policy, mc, lambda")


def lambda_return(batch: TokenBatch, taken: torch.Tensor, value: torch.Tensor, trace: float) -> torch.Tensor:
    """G = r + gamma ((1 - c) V(s') + c G'), c = trace where the next token's Q is at least V(s'), else 0 (Watkins' cut).

    Where a window ends before its episode, what follows the last token is unknown: its G is the V of its own state.

    Args:
        taken: (K,) Q of the tokens taken; value: (K,) V of their states.
    """
    carry = torch.where(taken >= value, trace, 0.0)
    rewards, discounts, done = batch.reward.tolist(), batch.discount.tolist(), batch.done.tolist()
    values, carries, successors = value.tolist(), carry.tolist(), batch.successor.tolist()
    result = [0.0] * len(rewards)
    for k in range(len(rewards) - 1, -1, -1):
        nxt = successors[k]
        if done[k]:
            result[k] = rewards[k]
        elif nxt < 0:
            result[k] = values[k]
        else:
            result[k] = rewards[k] + discounts[k] * ((1 - carries[nxt]) * values[nxt] + carries[nxt] * result[nxt])
    return torch.tensor(result, dtype=value.dtype, device=value.device)
