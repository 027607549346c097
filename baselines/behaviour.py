"""The scripted policy that wrote the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.registry import attribute
from qsft_bench.spec import EnvSpec


class Behaviour(Agent):
    """Plays as the environment's behaviour policy on the chosen tier."""

    summary: ClassVar[str] = "the scripted policy that wrote the dataset"

    def __init__(self, policy: Agent) -> None:
        self.policy = policy
        self.privileged = policy.privileged

    @classmethod
    def create(cls, spec: EnvSpec, tier: str, options: dict[str, Any]) -> Behaviour:
        return cls(attribute(spec.behaviour)(**options, **spec.tier(tier).behaviour))

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return self.policy.act(episodes)

    def forget(self, episodes: Sequence[Episode]) -> None:
        self.policy.forget(episodes)
