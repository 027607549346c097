"""Generating a dataset: shards are independent jobs, so any number of workers, and any interruption, gives the same one."""

from __future__ import annotations

from collections.abc import Callable
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
from qsft_bench.files import file_sha256, read_json, write_json, write_text
from qsft_bench.noise import episode_seeds
from qsft_bench.preset import Scale
from qsft_bench.registry import attribute, env_spec
from qsft_bench.rollout import stream
from qsft_bench.spec import EnvSpec
from qsft_bench.workers import Here, Workers


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
        shard_episodes=min(spec.shard_episodes, -(-scale.dataset_episodes // 2)),
    )


def generate(
    directory: Path,
    recipe: Recipe,
    *,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EpisodeDataset:
    """Make the dataset of `recipe` in `directory`, or finish one that was cut off, or return it if it is whole.

    Args:
        workers: who makes the shards, this process if not given; the content does not depend on it.
        progress: called with (episodes done, episodes in all).

    Raises:
        BenchError: the folder holds another recipe's dataset, or cannot be written.
    """
    if recipe.episodes < 1:
        raise BenchError("a dataset needs at least one episode")
    manifest_path = directory / "manifest.json"
    known: tuple[Shard, ...] = ()
    if manifest_path.exists():
        existing = read_manifest(manifest_path)
        _check_same(existing, recipe, directory)
        known = existing.shards
        if all((directory / shard.file).exists() for shard in existing.shards):
            if not (directory / "card.md").exists():
                write_text(directory / "card.md", card(existing))
            progress(recipe.episodes, recipe.episodes)
            return EpisodeDataset(directory)
    starts = range(0, recipe.episodes, recipe.shard_episodes)
    shards: dict[int, Shard] = {}
    for index in range(len(starts)):
        shard = known[index] if known else _described(directory, recipe, index)
        if shard is not None and _whole(directory, shard):
            shards[index] = shard
    waiting = [index for index in range(len(starts)) if index not in shards]
    done = sum(shard.episodes for shard in shards.values())
    progress(done, recipe.episodes)
    with workers or Here() as pool:
        for index in waiting:
            pool.submit(index, make_shard, directory.absolute(), recipe, index)
        for index, shard in pool.results():
            shards[index] = shard
            done += shard.episodes
            progress(done, recipe.episodes)
    manifest = make_manifest(recipe, [shards[index] for index in range(len(starts))])
    write_text(directory / "card.md", card(manifest))
    write_manifest(manifest_path, manifest)
    for index in range(len(starts)):
        _sidecar(directory, index).unlink(missing_ok=True)
    return EpisodeDataset(directory)


def card(manifest: Manifest) -> str:
    """The dataset card: what the data are, in the Markdown that dataset hubs show."""
    made, (low, high) = manifest.recipe, manifest.return_bounds
    spec = env_spec(made.env)
    lines = [
        f"# {spec.name}, {made.tier} tier",
        f"Behaviour data of `{made.env_id}`: {spec.tier(made.tier).summary}.",
        f"- episodes: {made.episodes:,} in {len(manifest.shards)} Parquet shards, one row a turn",
        f"- return: mean {manifest.mean_return:.3f}, sd {manifest.return_sd:.3f}, {low:g} to {high:g}",
        f"- success: {manifest.success_rate:.1%}",
        f"- environment options: `{made.options}`",
        f"- behaviour: `{spec.behaviour}` with `{made.behaviour}`; its exact log-likelihood, if known, is beside every action",
        f"- seed: {made.seed}; episode i is drawn from `SeedSequence({made.seed}, spawn_key=(i,))`",
        f"- content hash: `{manifest.content}`",
    ]
    return lines[0] + "\n\n" + lines[1] + "\n\n" + "\n".join(lines[2:]) + "\n"


def make_shard(directory: Path, recipe: Recipe, index: int) -> Shard:
    """Play and write shard `index`: a pure function of the recipe."""
    spec = env_spec(recipe.env)
    first = index * recipe.shard_episodes
    count = min(recipe.shard_episodes, recipe.episodes - first)
    seeds = episode_seeds(recipe.seed, first, count, spec.dataset_seeds.start, spec.dataset_seeds.stop)
    behaviour = attribute(spec.behaviour)(**recipe.options, **recipe.behaviour)
    shard = write_shard(directory, index, first, stream(behaviour, spec, dict(recipe.options), seeds))
    write_json(_sidecar(directory, index), {"recipe": recipe.sha256, "shard": asdict(shard)})
    return shard


def _sidecar(directory: Path, index: int) -> Path:
    """Describes a finished shard until the manifest does."""
    return directory / f"{index:05d}.json"


def _whole(directory: Path, shard: Shard) -> bool:
    file = directory / shard.file
    return file.exists() and file_sha256(file) == shard.sha256


def _described(directory: Path, recipe: Recipe, index: int) -> Shard | None:
    path = _sidecar(directory, index)
    if not path.exists():
        return None
    value = read_json(path)
    if value.get("recipe") != recipe.sha256:
        raise BenchError(f"{directory} holds shards of another recipe; remove the folder or choose another")
    return Shard(**value["shard"])


def _check_same(existing: Manifest, wanted: Recipe, directory: Path) -> None:
    have, want = asdict(existing.recipe), asdict(wanted)
    different = [name for name in want if have[name] != want[name]]
    if different:
        changes = "; ".join(f"{name} is {have[name]!r}, wanted {want[name]!r}" for name in different)
        raise BenchError(f"{directory} holds another dataset ({changes}); remove the folder or choose another")
