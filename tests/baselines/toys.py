"""Worlds small enough to know everything about: tables in place of networks, batches of plain numbers, a 3-state chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from qsft_bench.agent import Agent
from qsft_bench.codec import DUMMY
from qsft_bench.dataset.store import EpisodeDataset, Recipe, make_manifest, write_manifest, write_shard
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from qsft_bench.episode import Action, Episode
from qsft_bench.noise import uniform
from qsft_bench.preset import Scale
from qsft_bench.registry import agent_class
from qsft_bench.rollout import rollout
from qsft_bench.tokens import TokenBatch
from qsft_bench.train import Run, Training


class Lookup(nn.Module):
    """Stands where a Network stands: its hidden states are the ids of the tokens read. A subclass adds `read`."""

    read: Callable[[torch.Tensor], dict[str, torch.Tensor]]

    def forward(self, batch: TokenBatch, position: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return self.read(self.at(batch, position))

    def at(self, batch: TokenBatch, position: torch.Tensor | None = None) -> torch.Tensor:
        """The states (K,), or those at `position`."""
        return batch.ids.flatten()[batch.position if position is None else position]

    def parts(self, states: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.read(states)

    def whole(self, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return parts


class Tables(Lookup):
    """Each head is a table of logits (states, V)."""

    def __init__(self, **heads: Any) -> None:
        super().__init__()
        self.heads = nn.ParameterDict({name: nn.Parameter(torch.as_tensor(table).clone()) for name, table in heads.items()})

    def read(self, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """The rows of every head's table at `states` (K,)."""
        return {name: table[states] for name, table in self.heads.items()}

    def read_one(self, name: str, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.heads[name][states, ids]


def codec(playable: Sequence[bool]) -> Any:
    """What the losses need of a codec."""
    return SimpleNamespace(playable=np.array(playable), outputs=len(playable), dummy=DUMMY)


def batch(
    state: Sequence[int],
    action: Sequence[int],
    reward: Sequence[float],
    successor: Sequence[int],
    *,
    done: Sequence[bool] | None = None,
    discount: Sequence[float] | float = 1.0,
    to_go: Sequence[float] | float = 0.0,
    learn: Sequence[bool] | None = None,
    dtype: torch.dtype = torch.float64,
) -> TokenBatch:
    """K token transitions; the row of each is [state, action]. `done` is where `successor` is -1 unless given."""
    count = len(state)
    after = torch.tensor(successor)
    nothing = torch.zeros(count, dtype=dtype)
    return TokenBatch(
        ids=torch.tensor([state, action]).T.contiguous(),
        mask=torch.ones(count, 2, dtype=torch.bool),
        position=torch.arange(count) * 2,
        action=torch.tensor(action),
        turn=torch.arange(count),
        last=torch.ones(count, dtype=torch.bool),
        reward=torch.tensor(reward, dtype=dtype),
        return_to_go=nothing + torch.tensor(to_go, dtype=dtype),
        episode_return=nothing,
        log_likelihood=nothing,
        discount=nothing + torch.tensor(discount, dtype=dtype),
        done=after < 0 if done is None else torch.tensor(done),
        successor=after,
        learn=torch.ones(count, dtype=torch.bool) if learn is None else torch.tensor(learn),
    )


CHAIN = ("one\n", "two\n", "three\n")
GO = {"one\n": 0.6, "two\n": 0.5, "three\n": 0.4}
"""Probability with which the data go on.

```
one --go--> two --go--> three --go--> 1        Q* of go is 1 everywhere
 |           |            |
stop .5     stop .4      stop 0                the data return .2 + .6 (.5 x .4 + .5 x .4) = .44
```

After `go` at `one` the data return .4, less than `stop` pays there: values of the data's own policy stop at once (.5).
"""
STOP = {"one\n": 0.5, "two\n": 0.4, "three\n": 0.0}


class Chain(gymnasium.Env[str, str]):
    """The 3-state chain; whatever is not `go` stops."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return CHAIN[0], {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action != "go\n":
            return "end\n", STOP[CHAIN[self.place]], True, False, {}
        self.place += 1
        if self.place == len(CHAIN):
            return "end\n", 1.0, True, False, {"success": True}
        return CHAIN[self.place], 0.0, False, False, {}


class Wanderer(Agent):
    """The chain's data: goes on with the probabilities of `GO`."""

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        draws = uniform([episode.seed for episode in episodes], [episode.length for episode in episodes])
        places = [str(episode.turns[-1].observation) for episode in episodes]
        return ["go\n" if draw < GO[place] else "stop\n" for place, draw in zip(places, draws, strict=True)]

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> np.ndarray:
        places = [str(episode.turns[-1].observation) for episode in episodes]
        return np.log([GO[p] if action == "go\n" else 1 - GO[p] for p, action in zip(places, actions, strict=True)])


SCALE = Scale(model="nano", context=24, steps=250, batch_size=64, learning_rate=5e-3)


def walk(agent: Agent, seeds: Sequence[int], batch_size: int = 64) -> list[Episode]:
    """Play the chain."""
    return list(rollout(agent, Chain, seeds, name="chain", batch_size=batch_size))


def chain_data(directory: Path, episodes: int = 4000, state: Any = "transcript") -> TokenDataset:
    """Tokens of the chain's data, by the way every dataset takes: shards, manifest, tokens."""
    recipe = Recipe("chain", "none/Chain-v0", "base", {}, {}, episodes, 0, episodes)
    shard = write_shard(directory, 0, 0, walk(Wanderer(), range(2**33, 2**33 + episodes), 256))
    write_manifest(directory / "manifest.json", make_manifest(recipe, [shard]))
    return tokenise(
        EpisodeDataset(directory), directory / "tokens", codec="words", context=SCALE.context, state=state, discount=1.0
    )


def run_in(directory: Path, scale: Scale = SCALE, **options: Any) -> Run:
    """A run whose checkpoints stand side by side below `directory`, as the pipeline's do."""

    def prerequisite(name: str) -> Agent:
        return agent_class(name).load(directory / name)

    agent = options.pop("agent")
    return Run(directory / agent, scale, prerequisite=prerequisite, **({"checkpoint_seconds": np.inf} | options))


def trained(name: str, data: TokenDataset, directory: Path, scale: Scale = SCALE, **config: Any) -> Any:
    """Fit agent `name` (its prerequisites must stand in `directory`) and save it there."""
    cls: Any = agent_class(name)
    agent = cls(cls.config_type(training=Training(), **config))
    agent.fit(data, run_in(directory, scale, agent=name))
    agent.save(directory / name)
    return agent


def last_diagnosis(agent: Any) -> dict[str, float]:
    return agent.meta["training"]["history"][-1]


def log_pi_and_q(qsft: Any, some: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of Q-SFT's trained network for every action, (K, V) each."""
    return qsft.values(some, "value", lambda outputs: qsft._read(outputs, "value")[::2])
