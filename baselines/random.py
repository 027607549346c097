"""Uniformly random legal play, the floor of every column."""

from __future__ import annotations

from typing import Any, ClassVar

from baselines.behaviour import Behaviour
from qsft_bench.registry import attribute
from qsft_bench.spec import EnvSpec


class Random(Behaviour):
    """Plays as the environment's `random` player."""

    summary: ClassVar[str] = "uniformly random legal actions"

    @classmethod
    def create(cls, spec: EnvSpec, tier: str, options: dict[str, Any]) -> Random:
        return cls(attribute(spec.random)(**options))
