"""Supervised fine-tuning: imitate the behaviour by cross-entropy on its action tokens (Q-SFT paper, Eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.model.chunks import in_chunks
from qsft_bench.model.decoder import Outputs
from qsft_bench.model.network import Head
from qsft_bench.token_agent import Config, Decoding, TokenAgent, Variant, imitation_gap, log_softmax_at
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run


@dataclass(frozen=True)
class SFTConfig(Config):
    """Attributes:
    sees: what of an observation the network is shown where it holds an image and numbers: `both`, `image` or `numbers`.
    """

    sees: Literal["both", "image", "numbers"] = "both"


class SFT(TokenAgent):
    """pi_phi = argmin E[-log pi_phi(a|s)] (Eq. 2), played by sampling at temperature 1 as in the paper."""

    summary: ClassVar[str] = "supervised fine-tuning on all the data, sampled at temperature 1"
    imitates: ClassVar[bool] = True
    config_type: ClassVar[type[Config]] = SFTConfig
    variants: ClassVar[Mapping[str, Variant]] = {
        "image": Variant({"sees": "image"}, (Decoding(greedy=True),)),
        "numbers": Variant({"sees": "numbers"}, (Decoding(greedy=True),)),
    }
    watched: ClassVar[Mapping[str, Decoding]] = {"": Decoding(), "_greedy": Decoding(greedy=True)}

    def build(self, data: TokenDataset, run: Run) -> None:
        slots = data.codec.slots and replace(data.codec.slots, sees=self.config.sees)
        if self.config.sees != "both" and not (slots and slots.numbers):
            raise BenchError(f"sft: {data.env} has no numbers beside images: there is no {self.config.sees} to be shown alone")
        self.networks["policy"] = self.network(data, run, {"policy": Head(data.codec.outputs)}, slots)

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.mean_loss(
            self.given(batch), "policy", lambda out, action: -log_softmax_at(out["policy"], action), batch.action
        ), {}

    def given(self, batch: TokenBatch) -> TokenBatch:
        """The batch as the policy reads it."""
        return batch

    def log_probability(self, batch: TokenBatch) -> torch.Tensor:
        """log pi_phi of the action tokens, (K,)."""
        policy = self.networks["policy"]

        def at(hidden: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor]:
            return (log_softmax_at(policy.read(hidden)["policy"], action),)

        return in_chunks(at, policy.at(self.given(batch)), batch.action, width=self.codec.outputs)[0]

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        return outputs["policy"]["policy"]

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        device = self.networks["policy"].device
        found = imitation_gap(lambda batch: self.log_probability(batch.to(device)).cpu(), data)
        return found if self.imitates else {"validation_loss": found["validation_loss"]}
