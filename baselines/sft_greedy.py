"""The SFT checkpoint played greedily: the honest rival of anything that beats SFT by removing the behaviour's noise."""

from __future__ import annotations

from typing import ClassVar

from baselines.sft import SFT
from qsft_bench.token_agent import Decoding


class SFTGreedy(SFT):
    """`sft`, taking the most likely token."""

    summary: ClassVar[str] = "the sft checkpoint, played greedily"
    prerequisites: ClassVar[tuple[str, ...]] = ("sft",)
    reuses: ClassVar[str] = "sft"
    default_decoding: ClassVar[Decoding] = Decoding(greedy=True)
