"""Filtered behavioural cloning: SFT on the episodes with the highest returns (Q-SFT paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from baselines._by_env import HALF_AS_LONG
from baselines.sft import SFT, SFTConfig
from baselines.sft_temp import TEMPERATURES
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.token_agent import Config, Decoding


@dataclass(frozen=True)
class FilteredBCConfig(SFTConfig):
    """Attributes:
    share: least share of the episodes to keep, the best first; all that tie with the last one kept are kept too.
    """

    share: float = 0.2


class FilteredBC(SFT):
    """SFT on the top `share` of the data by return."""

    summary: ClassVar[str] = "sft on the best fifth of the episodes"
    imitates: ClassVar[bool] = False
    config_type: ClassVar[type[Config]] = FilteredBCConfig
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = HALF_AS_LONG
    grid: ClassVar[Sequence[Decoding]] = TEMPERATURES

    def select(self, data: TokenDataset) -> TokenDataset:
        threshold = np.quantile(data.returns, 1 - self.config.share, method="lower")
        return data.select(data.episodes[data.returns >= threshold])
