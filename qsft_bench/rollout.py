"""The one loop behind dataset generation and evaluation: N episodes at once, with any Agent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from qsft_bench.agent import Agent
from qsft_bench.episode import Episode, Turn
from qsft_bench.registry import make_env
from qsft_bench.spec import EnvSpec

if TYPE_CHECKING:
    import gymnasium


def play_episodes(
    agent: Agent, spec: EnvSpec, options: dict[str, Any], seeds: Sequence[int], batch_size: int | None = None
) -> list[Episode]:
    """`stream`, to the end."""
    return list(stream(agent, spec, options, seeds, batch_size))


def stream(
    agent: Agent, spec: EnvSpec, options: dict[str, Any], seeds: Sequence[int], batch_size: int | None = None, players: int = 1
) -> Generator[Episode]:
    """Play one episode for each seed in environments by `env_for`.

    Args:
        batch_size: most episodes side by side; `spec.side_by_side` if not given.
        players: how many play each seed; `agent` plays for all of them, and `Episode.player` tells it for whom.
    """
    size = batch_size or spec.side_by_side
    return rollout(agent, lambda: env_for(agent, spec, options), seeds, name=spec.name, batch_size=size, players=players)


def env_for(agent: Agent, spec: EnvSpec, options: dict[str, Any]) -> gymnasium.Env:
    """What `make_env` makes with `options`, privileged if the agent is."""
    known = {"privileged": True} if agent.privileged else {}
    return make_env(spec, **options, **known)


def rollout(
    agent: Agent,
    make_env: Callable[[], gymnasium.Env],
    seeds: Sequence[int],
    *,
    name: str,
    batch_size: int = 64,
    players: int = 1,
) -> Generator[Episode]:
    """Play one episode for each seed and yield the episodes in the order of `seeds`, those of the first player first.

    Episodes are played `batch_size` at a time; those that end leave the batch. What an episode holds depends on its seed
    and the agent, not on `batch_size` or the order.

    Args:
        agent: who plays.
        make_env: makes one environment; up to `batch_size` of them are made, reused and closed at the end.
        name: the environment's short name, written into the episodes.
        players: how many play each seed, told apart by `Episode.player`.
    """
    starts = [(seed, player) for player in range(players) for seed in seeds]
    envs: list[gymnasium.Env] = []
    try:
        for start in range(0, len(starts), batch_size):
            chunk = starts[start : start + batch_size]
            while len(envs) < len(chunk):
                envs.append(make_env())
            yield from play(agent, envs, [seed for seed, _ in chunk], name, [player for _, player in chunk])
    finally:
        for env in envs:
            env.close()


def play(
    agent: Agent, envs: Sequence[gymnasium.Env], seeds: Sequence[int], name: str, players: Sequence[int] = ()
) -> list[Episode]:
    """Play `seeds[i]` in `envs[i]`, all side by side, to the end; for `players[i]`, the first if not given."""
    episodes = []
    for seed, player, env in zip(seeds, players or [0] * len(seeds), envs, strict=False):
        observation, info = env.reset(seed=seed)
        episodes.append(Episode(name, seed, [Turn.opened(observation, info)], player=player))
    playing = list(zip(episodes, envs, strict=False))
    while playing:
        waiting = [episode for episode, _ in playing]
        actions = agent.act(waiting)
        likelihoods = agent.log_likelihood(waiting, actions)
        for index, (episode, env) in enumerate(playing):
            observation, reward, terminated, truncated, info = env.step(actions[index])
            likelihood = None if likelihoods is None else float(likelihoods[index])
            episode.step(actions[index], observation, float(reward), terminated, truncated, info, likelihood)
        ended = [episode for episode in waiting if episode.done]
        if ended:
            agent.forget(ended)
            playing = [(episode, env) for episode, env in playing if not episode.done]
    return episodes
