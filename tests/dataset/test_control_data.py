"""Datasets of images and control vectors: the round trip, their identity, their tokens, and what is damaged."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from qsft_bench.codec import BOS, SPECIAL, ControlCodec, codec_from_config
from qsft_bench.dataset.frames import pack, unpack
from qsft_bench.dataset.store import (
    CONTROL_SCHEMA,
    EpisodeDataset,
    content_sha256,
    episodes_from_table,
    table_from_episodes,
    write_shard,
)
from qsft_bench.dataset.tokens import open_tokens
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.tokens import TokenArrays, rows
from tests.examples import control_data, control_episode


def same(left: Episode, right: Episode) -> bool:
    return (left.seed, left.success, left.terminated) == (right.seed, right.success, right.terminated) and all(
        np.array_equal(a.observation["image"], b.observation["image"])
        and np.array_equal(a.observation["proprio"], b.observation["proprio"])
        and (a.reward, a.action is None) == (b.reward, b.action is None)
        and (a.action is None or np.array_equal(a.action, b.action))
        for a, b in zip(left.turns, right.turns, strict=True)
    )


def test_episodes_come_back_bit_for_bit() -> None:
    episodes = [control_episode(length, seed) for seed, length in enumerate((1, 4, 7))]
    table = table_from_episodes(episodes, 3)
    assert table.schema == CONTROL_SCHEMA and table["episode"].unique().to_pylist() == [3, 4, 5]
    assert table["frames"].null_count == table.num_rows - 3
    found = list(episodes_from_table(table, "toy", "memory"))
    assert all(same(left, right) for left, right in zip(found, episodes, strict=True))


def test_without_images_only_what_was_done_is_kept() -> None:
    episode = control_episode(5)
    table = table_from_episodes([episode], 0, images=False)
    assert table["frames"].null_count == table["proprio"].null_count == table.num_rows
    (found,) = episodes_from_table(table, "toy", "memory")
    assert [turn.observation for turn in found.turns] == [{}] * 6
    assert all(np.array_equal(a.action, b.action) for a, b in zip(found.turns[:-1], episode.turns[:-1], strict=True))


def test_the_content_is_of_the_pixels_not_of_the_block() -> None:
    table = table_from_episodes([control_episode(4)], 0)
    raw = unpack(table["frames"][0].as_py(), table["frames_shape"][0].as_py(), "")
    weaker = pa.Codec("zstd", compression_level=1).compress(raw.tobytes(), asbytes=True)
    changed = raw.copy()
    changed[2, 3, 4, 0] ^= 1

    def with_block(block: bytes) -> pa.Table:
        return table.set_column(3, table.schema.field(3), pa.array([block, *[None] * 4], pa.large_binary()))

    assert weaker != table["frames"][0].as_py()
    assert content_sha256(with_block(weaker)) == content_sha256(table)
    assert content_sha256(with_block(pack(list(changed))[0])) != content_sha256(table)


@pytest.mark.parametrize("column", ["proprio", "action"])
def test_the_content_sees_every_number(column: str) -> None:
    table = table_from_episodes([control_episode(3)], 0)
    values = table[column].to_pylist()
    values[1][0] += 0.25
    index = table.column_names.index(column)
    changed = table.set_column(index, table.schema.field(index), pa.array(values, table[column].type))
    assert content_sha256(changed) != content_sha256(table)


@pytest.mark.parametrize("spoiled", [b"", b"not a block", None])
def test_damaged_images_are_named_by_episode_and_turn(spoiled: bytes | None) -> None:
    table = table_from_episodes([control_episode(2, 0), control_episode(3, 1)], 10)
    blocks = table["frames"].to_pylist()
    blocks[3] = blocks[3][:-9] if spoiled is None else spoiled
    table = table.set_column(3, table.schema.field(3), pa.array(blocks, pa.large_binary()))
    with pytest.raises(BenchError, match="memory: episode 11, turn 0: the images cannot be read"):
        list(episodes_from_table(table, "toy", "memory"))


def test_an_episode_with_fewer_images_than_turns() -> None:
    table = table_from_episodes([control_episode(3)], 0)
    block, shape = pack([np.zeros((12, 12, 3), np.uint8)] * 2)
    table = table.set_column(3, table.schema.field(3), pa.array([block, None, None, None], pa.large_binary()))
    table = table.set_column(4, table.schema.field(4), pa.array([shape, None, None, None], pa.list_(pa.int32())))
    with pytest.raises(BenchError, match="episode 0 has no image at turn 2"):
        list(episodes_from_table(table, "toy", "memory"))


def test_images_are_not_all_held_raw(tmp_path: Path) -> None:
    """1,024 episodes of 90 KB are written in a fraction of their 90 MB."""
    still = control_episode(20, size=40)
    for turn in still.turns:
        turn.observation = {"image": np.zeros((40, 40, 3), np.uint8), "proprio": np.zeros(3, np.float32)}

    def episodes() -> object:
        for seed in range(1024):
            one = control_episode(1, seed)
            one.turns = [
                type(turn)({**turn.observation, "image": turn.observation["image"].copy()}, turn.action, turn.reward)
                for turn in still.turns
            ]
            yield one

    tracemalloc.start()
    shard = write_shard(tmp_path, 0, 0, episodes())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (shard.episodes, shard.turns, shard.successes) == (1024, 20_480, 1024)
    assert peak < 60e6


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_codec_by_hand() -> None:
    codec = ControlCodec(5, 2, (12, 12, 3), 3, image_tokens=4)
    first = len(SPECIAL)
    assert codec.action(np.array([-1, 0.5], np.float32)) == (first, first + 3)
    assert codec.decode([first, first + 3]).tolist() == [-1, 0.5]
    assert codec.outputs == first + 5 and codec.size == first + 7 and not codec.ends.any()
    assert codec.playable.sum() == 5
    seen = control_episode(1).turns[0].observation
    assert codec.observation(seen) == (first + 5,) * 4 + (first + 6,)
    again = codec_from_config(codec.config())
    assert again.config() == codec.config() and again.slots == codec.slots


def test_bad_input_of_the_codec() -> None:
    codec = ControlCodec(5, 2, (12, 12, 3), 3)
    seen = control_episode(1).turns[0].observation
    for observation in ("text", seen["image"], {**seen, "image": seen["image"][:4]}, {**seen, "proprio": np.zeros(2)}):
        with pytest.raises(BenchError):
            codec.observation(observation)
    for action in (np.zeros(3), np.array([0.3, 0], np.float32), np.array([np.nan, 0], np.float32)):
        with pytest.raises(BenchError):
            codec.action(action)
    with pytest.raises(BenchError, match="odd"):
        ControlCodec(4, 2, (12, 12, 3), 3)


def test_tokens_are_the_dataset(tmp_path: Path) -> None:
    episodes = [control_episode(length, seed, success=seed % 2 == 0) for seed, length in enumerate((3, 1, 18, 2))]
    data = control_data(tmp_path, episodes)
    turns = [turn for episode in episodes for turn in episode.turns[:-1]]
    assert isinstance(data.arrays.images, np.memmap) and len(data.arrays.images) == len(turns) == 24
    codec = data.codec
    expected = [row for episode in episodes for row in rows(codec, episode, 16, "observation")]
    batch = data.batch(np.arange(len(data.windows)))
    # the third episode has two windows, whose first ends by reading the row that the second begins with
    index = [*range(4), *range(4, 21), *range(20, 22), *range(22, 24)]
    assert batch.ids.tolist() == [expected[k].ids for k in index]
    assert all(row.ids[0] == BOS and len(row.ids) == 1 + 8 + 1 + 2 for row in expected)
    for k, image, numbers in zip(index, batch.images, batch.numbers, strict=True):
        assert np.array_equal(image, turns[k].observation["image"])
        assert np.array_equal(numbers, turns[k].observation["proprio"])
    assert batch.discount.tolist() == [1.0, pytest.approx(0.9)] * len(index)
    moved = batch.to("meta")
    assert moved.images is not None and moved.images.device.type == "meta"
    assert data.meta["codec"] == codec.config()


def test_what_cannot_become_tokens(tmp_path: Path) -> None:
    episodes = [control_episode(2, seed, success=seed > 1) for seed in range(4)]
    with pytest.raises(BenchError, match="not made of 3 bins"):
        control_data(tmp_path / "a", episodes, bins=3)
    codec = ControlCodec(5, 2, (12, 12, 3), 3)
    with pytest.raises(BenchError, match="a context of 16 has no room for images of 8 tokens"):
        TokenArrays.encode(episodes, codec, context=16, state="transcript", discount=1.0, return_bounds=(0.0, 1.0))


def test_a_damaged_cache_of_images(tmp_path: Path) -> None:
    control_data(tmp_path, [control_episode(2, seed, success=seed > 1) for seed in range(4)])
    (folder,) = (tmp_path / "tokens").iterdir()
    (folder / "images.npy").write_bytes(b"")
    with pytest.raises(BenchError, match="damaged"):
        open_tokens(folder)
    assert EpisodeDataset(tmp_path).manifest.return_bounds == (0.0, 1.0)
