"""Turn and Episode: the one record that environments, agents, datasets, decoders and reports pass on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

Observation = str | np.ndarray | Mapping[str, Any]
Action = str | np.ndarray


def brief(value: Observation | Action) -> str:
    """What was seen or done, in one line: text quoted, an image as `image 48x48` (width, height), numbers as `+0.12 -0.50`.

    The parts of a mapping follow each other; an empty one, whose images were left out of the data, is `(not kept)`.
    """
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, Mapping):
        return ", ".join(map(brief, value.values())) or "(not kept)"
    if value.ndim == 3:
        return f"image {value.shape[1]}x{value.shape[0]}"
    return " ".join(f"{number:+z.2f}" for number in value.ravel().astype(float))


@dataclass(slots=True)
class Turn:
    """What the agent saw, what it did, what it got. `action` is None while the turn awaits one, or after the end.

    Attributes:
        observation: what is NEW this turn (the transcript is the episode's turns, in order).
        action: text, or a control vector of shape (d,).
        reward: the environment's reward for `action`.
        invalid: why the environment refused `action`, or None.
        log_likelihood: exact log-probability of `action` under the policy that chose it, in nats, where it is known.
        facts: what the simulator knows, for scripted experts (`Agent.privileged`); in memory only, never stored.
        choices: every action that the environment would not refuse, where it lists them (`info["admissible"]`), else None; for
            constrained decoding, in memory only, never stored.
    """

    observation: Observation
    action: Action | None = None
    reward: float = 0.0
    invalid: str | None = None
    log_likelihood: float | None = None
    facts: Any = field(default=None, compare=False)
    choices: Sequence[str] | None = field(default=None, compare=False)

    @classmethod
    def opened(cls, observation: Observation, info: Mapping[str, Any]) -> Self:
        """The turn that `Env.reset` or `Env.step` opened by returning `observation` and `info`."""
        return cls(observation, facts=info.get("facts"), choices=info.get("admissible"))


@dataclass(slots=True)
class Episode:
    """One play of one environment, append-only while it lasts.

    ```
    turns   [ o0 a0 r0 ] [ o1 a1 r1 ] ... [ oT - ]     the last observation has no action
    ```

    Attributes:
        env: the environment's short name (`EnvSpec.name`).
        seed: what `reset` was called with; also the key of the sampling noise (`noise.uniform`).
        player: which one plays it, where several play the same seeds side by side (`rollout.stream`).
        turns: see above; every turn but the last has an action.
        terminated, truncated: as in Gymnasium; both end the return.
        success: the environment's verdict at the end, None before it.
        scores: value by table column, for environments that fill several; empty when the return (or success) is the score.
        statistics: what the environment counts beside the score, by name (share of legal moves, of draws, ...).
    """

    env: str
    seed: int
    turns: list[Turn] = field(default_factory=list)
    player: int = field(default=0, kw_only=True)
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None
    scores: dict[str, float] = field(default_factory=dict)
    statistics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, turn in enumerate(self.turns):
            if turn.action is None and index + 1 < len(self.turns):
                raise ValueError(f"episode {self.seed} of {self.env}: turn {index} has no action but is not the last")
            if not math.isfinite(turn.reward):
                raise ValueError(f"episode {self.seed} of {self.env}: turn {index} has reward {turn.reward}")
        if self.done and self.turns and self.turns[-1].action is not None:
            raise ValueError(f"episode {self.seed} of {self.env} ended without a last observation")

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated

    @property
    def length(self) -> int:
        """Number of actions taken."""
        return len(self.turns) - (1 if self.turns and self.turns[-1].action is None else 0)

    @property
    def total_return(self) -> float:
        """Undiscounted sum of rewards."""
        return math.fsum(turn.reward for turn in self.turns)

    @property
    def invalid_actions(self) -> int:
        return sum(turn.invalid is not None for turn in self.turns)

    def awaiting(self, turn: int) -> Episode:
        """The episode as it stood when `turn`, counted from 0, awaited its action."""
        last = self.turns[turn]
        return Episode(self.env, self.seed, [*self.turns[:turn], Turn(last.observation, choices=last.choices)])

    def step(
        self,
        action: Action,
        observation: Observation,
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
        log_likelihood: float | None = None,
    ) -> None:
        """Append what `Env.step(action)` returned: fills the awaiting turn and opens the next."""
        turn = self.turns[-1]
        if self.done or turn.action is not None:
            raise ValueError(f"episode {self.seed} of {self.env} does not await an action")
        if not math.isfinite(reward):
            raise ValueError(f"{self.env} returned reward {reward} at turn {len(self.turns) - 1} of episode {self.seed}")
        turn.action = action
        turn.reward = float(reward)
        turn.invalid = info.get("invalid")
        turn.log_likelihood = log_likelihood
        self.turns.append(Turn.opened(observation, info))
        self.terminated, self.truncated = terminated, truncated
        if terminated or truncated:
            self.success = bool(info.get("success", False))
            self.scores = dict(info.get("scores", {}))
            self.statistics = dict(info.get("statistics", {}))
