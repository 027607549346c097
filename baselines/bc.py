"""Behavioural cloning: the paper's name for SFT where the model is not pretrained (Table 3)."""

from __future__ import annotations

from typing import ClassVar

from baselines.sft import SFT


class BC(SFT):
    """`sft` under the name that robotics uses."""

    summary: ClassVar[str] = "the sft checkpoint, under the name Table 3 prints"
    prerequisites: ClassVar[tuple[str, ...]] = ("sft",)
    reuses: ClassVar[str] = "sft"
