"""Supervised fine-tuning: imitate the behaviour by cross-entropy on its action tokens (Q-SFT paper, Eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.model.decoder import Outputs
from qsft_bench.model.network import Head
from qsft_bench.token_agent import Decoding, TokenAgent, imitation_gap, log_softmax_at
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run


class SFT(TokenAgent):
    """pi_phi = argmin E[-log pi_phi(a|s)] (Eq. 2), played by sampling at temperature 1 as in the paper."""

    summary: ClassVar[str] = "supervised fine-tuning on all the data, sampled at temperature 1"
    imitates: ClassVar[bool] = True
    watched: ClassVar[Mapping[str, Decoding]] = {"": Decoding(), "_greedy": Decoding(greedy=True)}

    def build(self, data: TokenDataset, run: Run) -> None:
        self.networks["policy"] = self.network(data, run, {"policy": Head(data.codec.outputs)})

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return -batch.mean(self.log_probability(batch)), {}

    def log_probability(self, batch: TokenBatch) -> torch.Tensor:
        """log pi_phi of the action tokens, (K,)."""
        return log_softmax_at(self.networks["policy"](batch.ids, batch.position)["policy"], batch.action)

    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        return outputs["policy"]["policy"]

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        device = self.networks["policy"].device
        found = imitation_gap(lambda batch: self.log_probability(batch.to(device)).cpu(), data)
        return found if self.imitates else {"validation_loss": found["validation_loss"]}
