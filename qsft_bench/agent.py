"""Agent: the one interface behind which scripted behaviours, prompted models and learned policies all stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qsft_bench.episode import Action, Episode
from qsft_bench.noise import logarithms, uniform
from qsft_bench.spec import EnvSpec

if TYPE_CHECKING:
    from qsft_bench.dataset.tokens import TokenDataset
    from qsft_bench.train import Run


class Agent(ABC):
    """Chooses actions for many episodes at once, and can learn from a dataset.

    The whole interaction loop (`qsft_bench.rollout.rollout`):

    ```python
    while playing := [episode for episode in episodes if not episode.done]:
        for episode, action in zip(playing, agent.act(playing)):
            episode.step(action, *env[episode].step(action))
    agent.forget(episodes)
    ```

    Attributes:
        prerequisites: names of agents trained first on the same data, e.g. `("sft",)`; `run.prerequisite("sft")` gives them.
        summary: one line for `qsft-bench agents`.
        apart: whether several processes may play its episodes at once, each with its own copy.
        privileged: whether it needs `Turn.facts`, what the simulator knows; its environments are made with `privileged=True`.
    """

    prerequisites: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str] = ""
    apart: ClassVar[bool] = True
    privileged: bool = False  # of an instance, since one that wraps another player needs what that one needs

    @classmethod
    def create(cls, spec: EnvSpec, tier: str, options: dict[str, Any]) -> Agent:
        """A player that needs no training, for an environment made with `options`."""
        return cls()

    @classmethod
    def env_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """The options of the environment it plays in, where the preset has `options`."""
        return options

    @property
    def identity(self) -> dict[str, Any]:
        """What its play depends on beside its name, the recipe and the options, as JSON; learned agents have a checkpoint."""
        return {}

    def note(self) -> str:
        """One line to show while its episodes are played, such as what they cost; empty for none."""
        return ""

    @classmethod
    def unavailable(cls) -> str:
        """Why it cannot play on this machine, in a few words that stand in its table cells; empty if it can."""
        return ""

    @abstractmethod
    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        """One action for each episode; each ends in an observation that awaits one.

        Random choices come from `noise.uniform(episode.seed, turn, token)`, so an answer depends on the episode alone.
        """

    def forget(self, episodes: Sequence[Episode]) -> None:  # noqa: B027 - nothing cached, nothing to do
        """The episodes ended: drop what was cached for them."""

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> np.ndarray | None:
        """Exact log-probability (nats) with which `act` would choose `actions`, shape (N,), where it is known."""
        return None

    def fit(self, data: TokenDataset, run: Run) -> None:  # noqa: B027 - scripted and prompted agents learn nothing
        """Learn from `data`, resuming from `run.directory` if an earlier call was cut off."""

    def save(self, directory: Path) -> None:
        """Write safetensors and config.json into `directory`."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to save")

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        raise NotImplementedError(f"{cls.__name__} has nothing to load")


def tempered(weights: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Distributions proportional to weights ** (1 / temperature), along the last axis; at 0 uniform over the greatest."""
    if temperature != 1:
        weights = weights / weights.max(axis=-1, keepdims=True)
        weights = weights ** (1 / temperature) if temperature else (weights > 1 - 1e-9).astype(float)
    return weights / weights.sum(axis=-1, keepdims=True)


class KnownPolicy(Agent):
    """A scripted agent with a known distribution over a fixed list of texts; behaviour policies are such.

    Attributes:
        actions: every text it may write, in the order of `probabilities`.
    """

    actions: Sequence[str]

    @abstractmethod
    def probabilities(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        """Probability of every one of `actions` as the next, shape (episodes, actions)."""

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        """One action an episode, by inverse transform of one draw of the episode's noise."""
        cumulative = self.probabilities(episodes).cumsum(axis=1)
        cumulative /= cumulative[:, -1:]
        draws = uniform([episode.seed for episode in episodes], [episode.length for episode in episodes])
        return [self.actions[index] for index in (cumulative > draws[:, None]).argmax(axis=1)]

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> NDArray[np.float64]:
        """Exact log-probability (nats) of `actions`, shape (episodes,); -inf for a text that `act` never writes."""
        indices = np.array([self._index.get(action, -1) if isinstance(action, str) else -1 for action in actions], dtype=int)
        probabilities = self.probabilities(episodes)[np.arange(len(indices)), indices]
        return logarithms(np.where(indices >= 0, probabilities, 0.0))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {text: index for index, text in enumerate(self.actions)}
