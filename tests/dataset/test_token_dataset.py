"""The token cache: equal to its dataset, opened without being read, and the order in which learners see it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.dataset import tokens as module
from qsft_bench.dataset.generate import generate
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import TokenDataset, open_tokens, tokenise
from qsft_bench.errors import BenchError
from qsft_bench.registry import env_spec
from qsft_bench.tokens import TokenArrays
from tests.examples import WORDS

SETTINGS: dict[str, Any] = {"codec": "words", "context": 160, "state": "transcript", "discount": 1.0}


def cache_of(dataset: EpisodeDataset) -> Path:
    return next((dataset.directory.parent / "tokens").iterdir())


def test_shards_joined_are_the_dataset_encoded_at_once(smoke_dataset: EpisodeDataset, smoke_tokens: TokenDataset) -> None:
    whole = TokenArrays.encode(
        smoke_dataset.episodes(),
        smoke_tokens.codec,
        context=160,
        state="transcript",
        discount=1.0,
        return_bounds=smoke_dataset.manifest.return_bounds,
    )
    for name in TokenArrays.names():
        found, expected = getattr(smoke_tokens.arrays, name), getattr(whole, name)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), name


def test_what_the_tokens_say_of_their_dataset(smoke_dataset: EpisodeDataset, smoke_tokens: TokenDataset) -> None:
    manifest = smoke_dataset.manifest
    assert smoke_tokens.meta["recipe"]["dataset"] == manifest.content
    assert smoke_tokens.meta["dataset_recipe"] == manifest.recipe.sha256
    assert (smoke_tokens.env, smoke_tokens.discount) == ("wordle", 1.0)
    assert smoke_tokens.return_bounds == manifest.return_bounds
    assert smoke_tokens.mean_return == manifest.mean_return
    assert smoke_tokens.returns.tolist() == [one.total_return for one in smoke_dataset.episodes()]
    low, high = manifest.return_bounds
    assert (smoke_tokens.normalise(low), smoke_tokens.normalise(high)) == (0.0, 1.0)
    assert smoke_tokens.denormalise(smoke_tokens.normalise(-3.5)) == pytest.approx(-3.5)


def test_the_environment_may_say_which_returns_are_0_and_1(smoke_dataset: EpisodeDataset, tmp_path: Path) -> None:
    tokens = tokenise(smoke_dataset, tmp_path, **SETTINGS | {"state": "observation"}, return_bounds=(-3.0, -1.0))
    assert tokens.return_bounds == (-3.0, -1.0) != smoke_dataset.manifest.return_bounds
    assert tokens.normalise(-2.0) == 0.5
    batch = tokens.batch(np.arange(20))
    assert set(batch.reward.tolist()) <= {0.0, -0.5, 1.5, 1.0}  # a guess costs half of the span, the end pays 3 / 2 of it
    with pytest.raises(ValueError, match="value range"):
        replace(env_spec("wordle"), value_range=(-3.0, 1.0))


def test_a_cache_is_made_once_and_again_where_it_would_differ(
    smoke_dataset: EpisodeDataset, smoke_tokens: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenise(smoke_dataset, tmp_path, **SETTINGS)
    monkeypatch.setattr(module, "_learn_codec", lambda *arguments: pytest.fail("made again"))
    assert tokenise(smoke_dataset, tmp_path, **SETTINGS).codec.sha256 == first.codec.sha256
    monkeypatch.undo()
    for change in ({"codec": "characters"}, {"context": 100}, {"state": "observation"}, {"discount": 0.9}):
        before = len(list(tmp_path.iterdir()))
        tokenise(smoke_dataset, tmp_path, **{**SETTINGS, **change})
        assert len(list(tmp_path.iterdir())) == before + 1


def test_opening_maps_the_arrays_and_reads_none(smoke_dataset: EpisodeDataset, smoke_tokens: TokenDataset) -> None:
    folder = cache_of(smoke_dataset)
    open_tokens(folder)
    tracemalloc.start()
    opened = open_tokens(folder)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert all(isinstance(getattr(opened.arrays, name), np.memmap) for name in TokenArrays.names())
    codec_bytes = (folder / "meta.json").stat().st_size
    assert kept < 200_000 + 20 * codec_bytes  # nothing that grows with the episodes


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-8])])
def test_a_damaged_cache_is_named(smoke_dataset: EpisodeDataset, tmp_path: Path, spoil: Any) -> None:
    tokenise(smoke_dataset, tmp_path, **SETTINGS)
    (folder,) = tmp_path.iterdir()
    spoil(folder / "reward.npy")
    with pytest.raises(BenchError, match=rf"the token cache {folder} is damaged .*; delete it and it is made again"):
        open_tokens(folder)


def test_an_interrupted_cache_is_not_there(
    smoke_dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        tokenise(smoke_dataset, tmp_path, **SETTINGS)
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_makes_no_cache(tmp_path: Path) -> None:
    dataset = generate(tmp_path / "data", WORDS)
    (tmp_path / "data" / "00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(BenchError, match="truncated or altered"):
        tokenise(dataset, tmp_path / "tokens", **SETTINGS)
    assert not list((tmp_path / "tokens").glob("*"))


# Views and order ------------------------------------------------------------------------------------------------------


def test_training_and_validation_split_the_episodes(smoke_tokens: TokenDataset) -> None:
    training, validation = smoke_tokens.training.episodes.tolist(), smoke_tokens.validation.episodes.tolist()
    assert training + validation == list(range(60))
    assert len(validation) == 1  # 2% of 60, at least one
    chosen = smoke_tokens.select(np.array([3, 5, 8]))
    assert (chosen.training.episodes.tolist(), chosen.validation.episodes.tolist()) == ([3, 5], [8])
    assert chosen.returns.tolist() == smoke_tokens.returns[[3, 5, 8]].tolist()


def test_a_view_without_episodes_says_so(smoke_tokens: TokenDataset) -> None:
    with pytest.raises(BenchError, match="there is no episode left to learn wordle from"):
        _ = smoke_tokens.select(np.array([4])).training.windows


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**31))
def test_every_window_once_an_epoch(smoke_tokens: TokenDataset, batch_size: int, epoch: int, seed: int) -> None:
    view = smoke_tokens.select(np.arange(13))
    count = len(view.windows)
    slots = range(epoch * count, (epoch + 1) * count)
    steps = {step: view.order(step, batch_size, seed) for step in range(slots[0] // batch_size, slots[-1] // batch_size + 1)}
    seen = [int(steps[slot // batch_size][slot % batch_size]) for slot in slots]
    assert sorted(seen) == list(range(count))


@given(st.permutations(range(8)), st.integers(1, 30), st.integers(0, 2**31))
def test_the_order_is_a_function_of_seed_and_step(
    smoke_tokens: TokenDataset, asked: list[int], batch_size: int, seed: int
) -> None:
    view, other = smoke_tokens.select(np.arange(13)), smoke_tokens.select(np.arange(13))
    in_order = [view.order(step, batch_size, seed).tolist() for step in range(8)]
    for step in asked:
        assert other.order(step, batch_size, seed).tolist() == in_order[step]
    assert all(len(order) == batch_size for order in in_order)


def test_epochs_and_seeds_differ(smoke_tokens: TokenDataset) -> None:
    count = len(smoke_tokens.windows)
    orders = [smoke_tokens.order(0, count, 0), smoke_tokens.order(1, count, 0), smoke_tokens.order(0, count, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_a_batch_is_the_windows_asked_for(smoke_tokens: TokenDataset) -> None:
    batch = smoke_tokens.batch(np.array([5, 2]))
    codec = smoke_tokens.codec
    rows = [smoke_tokens.arrays.ids[slice(*smoke_tokens.arrays.row_start[[k, k + 1]])].tolist() for k in (5, 2)]
    assert [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)] == rows
    assert str(codec.decode(rows[0][1:])).startswith("Wordle:\n")
