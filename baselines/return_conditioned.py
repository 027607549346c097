"""Return-conditioned supervised learning (Brandfonbrener et al. 2022; Decision Transformer, Chen et al. 2021).

Every row opens with a token that tells in which of 20 bins the episode's normalised return lies; in play it tells the
median return of the best tenth of the data. (Their mean may lie in a bin where no return does, whose token is untrained.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from baselines._by_env import HALF_AS_LONG
from baselines.sft import SFT, SFTConfig
from baselines.sft_temp import TEMPERATURES
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.token_agent import Config, Decoding
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run


@dataclass(frozen=True)
class ReturnConditionedConfig(SFTConfig):
    """Attributes:
    target: share of the best episodes whose median return is asked for in play.
    """

    target: float = 0.1


class ReturnConditioned(SFT):
    """SFT given the return."""

    summary: ClassVar[str] = "sft conditioned on the return, asked for the best tenth's"
    imitates: ClassVar[bool] = False
    config_type: ClassVar[type[Config]] = ReturnConditionedConfig
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = HALF_AS_LONG
    grid: ClassVar[Sequence[Decoding]] = TEMPERATURES

    def build(self, data: TokenDataset, run: Run) -> None:
        super().build(data, run)
        best = np.sort(data.returns)[-max(1, round(self.config.target * len(data.returns))) :]
        self.meta["target_return"] = float(best[len(best) // 2])

    def given(self, batch: TokenBatch) -> TokenBatch:
        tokens = torch.from_numpy(self.codec.return_token(self.normalise(batch.episode_return).cpu().numpy())).to(
            batch.ids.device
        )
        ids = batch.ids.clone()
        ids[torch.div(batch.position, batch.ids.shape[1], rounding_mode="floor"), 0] = tokens
        return replace(batch, ids=ids)

    def prefix(self) -> int:
        return int(self.codec.return_token(self.normalise(self.meta["target_return"])))
