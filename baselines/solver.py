"""The strongest scripted player, which shows how much there is to win."""

from __future__ import annotations

from typing import Any, ClassVar

from baselines.behaviour import Behaviour
from qsft_bench.errors import BenchError
from qsft_bench.registry import attribute
from qsft_bench.spec import EnvSpec


class Solver(Behaviour):
    """Plays as the environment's `solver`."""

    summary: ClassVar[str] = "the strongest scripted player (the ceiling)"

    @classmethod
    def create(cls, spec: EnvSpec, tier: str, options: dict[str, Any]) -> Solver:
        """Raises BenchError where the environment declares none."""
        if not spec.solver:
            raise BenchError(f"{spec.name} declares no solver; play `behaviour` or `random` instead")
        return cls(attribute(spec.solver)(**options))
