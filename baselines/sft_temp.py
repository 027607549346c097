"""The SFT checkpoint at its best temperature, chosen on validation seeds with the budget that beta gets elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from baselines.sft import SFT
from qsft_bench.token_agent import Decoding

TEMPERATURES = tuple(Decoding(temperature=value) for value in (0.9, 0.85, 0.7, 0.5, 0.35, 0.25, 0.15, 0.05))


class SFTTemp(SFT):
    """`sft`, sampled at the temperature with the best validation return."""

    summary: ClassVar[str] = "the sft checkpoint, at the temperature best on validation seeds"
    prerequisites: ClassVar[tuple[str, ...]] = ("sft",)
    reuses: ClassVar[str] = "sft"
    grid: ClassVar[Sequence[Decoding]] = TEMPERATURES
