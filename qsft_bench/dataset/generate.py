"""Generating a dataset: shards are independent jobs, so any number of workers, and any interruption, gives the same one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from qsft_bench.dataset.store import (
    EpisodeDataset,
    Manifest,
    Recipe,
    Shard,
    make_manifest,
    read_manifest,
    write_manifest,
    write_shard,
)
from qsft_bench.errors import BenchError
from qsft_bench.files import file_sha256, read_json, write_json
from qsft_bench.noise import episode_seeds
from qsft_bench.preset import Scale
from qsft_bench.registry import attribute, env_spec, make_env
from qsft_bench.rollout import rollout
from qsft_bench.spec import EnvSpec

SHARD_EPISODES = 20_000


def recipe(spec: EnvSpec, tier: str, scale: Scale, seed: int = 0) -> Recipe:
    """The recipe of `spec`'s dataset on `tier` at `scale`."""
    return Recipe(
        env=spec.name,
        env_id=spec.id,
        tier=tier,
        options=dict(scale.options),
        behaviour=dict(spec.tier(tier).behaviour),
        episodes=scale.dataset_episodes,
        seed=seed,
        shard_episodes=min(SHARD_EPISODES, -(-scale.dataset_episodes // 2)),
    )


def generate(
    directory: Path, recipe: Recipe, *, jobs: int = 1, progress: Callable[[int, int], None] = lambda done, total: None
) -> EpisodeDataset:
    """Make the dataset of `recipe` in `directory`, or finish one that was cut off, or return it if it is whole.

    Args:
        jobs: worker processes; the content does not depend on it.
        progress: called with (episodes done, episodes in all).

    Raises:
        BenchError: the folder holds another recipe's dataset, or cannot be written.
    """
    if recipe.episodes < 1:
        raise BenchError("a dataset needs at least one episode")
    manifest_path = directory / "manifest.json"
    if manifest_path.exists():
        existing = read_manifest(manifest_path)
        _check_same(existing, recipe, directory)
        if all((directory / shard.file).exists() for shard in existing.shards):
            progress(recipe.episodes, recipe.episodes)
            return EpisodeDataset(directory)
    starts = range(0, recipe.episodes, recipe.shard_episodes)
    shards: dict[int, Shard] = {}
    for index in range(len(starts)):
        shard = _finished_shard(directory, recipe, index)
        if shard is not None:
            shards[index] = shard
    waiting = [index for index in range(len(starts)) if index not in shards]
    done = sum(shard.episodes for shard in shards.values())
    progress(done, recipe.episodes)
    if jobs == 1 or len(waiting) <= 1:
        finished = ((index, make_shard(directory, recipe, index)) for index in waiting)
        for index, shard in finished:
            shards[index] = shard
            done += shard.episodes
            progress(done, recipe.episodes)
    else:
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=context) as pool:
            futures = {pool.submit(make_shard, directory, recipe, index): index for index in waiting}
            for future in as_completed(futures):
                shards[futures[future]] = future.result()
                done += shards[futures[future]].episodes
                progress(done, recipe.episodes)
    write_manifest(manifest_path, make_manifest(recipe, [shards[index] for index in range(len(starts))]))
    for index in range(len(starts)):
        _sidecar(directory, index).unlink(missing_ok=True)
    return EpisodeDataset(directory)


def make_shard(directory: Path, recipe: Recipe, index: int) -> Shard:
    """Play and write shard `index`: a pure function of the recipe."""
    spec = env_spec(recipe.env)
    first = index * recipe.shard_episodes
    count = min(recipe.shard_episodes, recipe.episodes - first)
    seeds = episode_seeds(recipe.seed, first, count, spec.dataset_seeds.start, spec.dataset_seeds.stop)
    behaviour = attribute(spec.behaviour)(**recipe.options, **recipe.behaviour)
    episodes = list(rollout(behaviour, lambda: make_env(spec, **recipe.options), seeds, name=spec.name, batch_size=256))
    shard = write_shard(directory, index, first, episodes)
    write_json(_sidecar(directory, index), {"recipe": recipe.sha256, "shard": asdict(shard)})
    return shard


def _sidecar(directory: Path, index: int) -> Path:
    """Describes a finished shard until the manifest does."""
    return directory / f"{index:05d}.json"


def _finished_shard(directory: Path, recipe: Recipe, index: int) -> Shard | None:
    path = _sidecar(directory, index)
    if not path.exists():
        return None
    value = read_json(path)
    if value.get("recipe") != recipe.sha256:
        raise BenchError(f"{directory} holds shards of another recipe; remove the folder or choose another")
    shard = Shard(**value["shard"])
    file = directory / shard.file
    return shard if file.exists() and file_sha256(file) == shard.sha256 else None


def _check_same(existing: Manifest, wanted: Recipe, directory: Path) -> None:
    have, want = asdict(existing.recipe), asdict(wanted)
    different = [name for name in want if have[name] != want[name]]
    if different:
        changes = "; ".join(f"{name} is {have[name]!r}, wanted {want[name]!r}" for name in different)
        raise BenchError(f"{directory} holds another dataset ({changes}); remove the folder or choose another")
