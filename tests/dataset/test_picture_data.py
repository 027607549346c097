"""Datasets of text and images: the round trip, their identity, and tokens that keep every different image once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qsft_bench.codec import SPECIAL, TextCodec, codec_from_config
from qsft_bench.dataset.store import PICTURE_SCHEMA, content_sha256, episodes_from_table, table_from_episodes
from qsft_bench.dataset.tokens import open_tokens, tokenise
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.tokens import TokenArrays, rows
from tests.examples import dataset_of, picture_data, picture_episode


def same(left: Episode, right: Episode) -> bool:
    return all(
        a.observation["text"] == b.observation["text"]
        and np.array_equal(a.observation["image"], b.observation["image"])
        and (a.reward, a.action) == (b.reward, b.action)
        for a, b in zip(left.turns, right.turns, strict=True)
    )


def test_episodes_come_back_bit_for_bit(tmp_path: Path) -> None:
    episodes = [picture_episode(length, seed) for seed, length in enumerate((1, 4, 7))]
    dataset = dataset_of(tmp_path, episodes)
    dataset.verify()
    assert all(same(left, right) for left, right in zip(dataset.episodes(), episodes, strict=True))


def test_without_images_the_text_is_kept() -> None:
    episode = picture_episode(5)
    table = table_from_episodes([episode], 0, images=False)
    assert table.schema == PICTURE_SCHEMA and table["frames"].null_count == table.num_rows
    (found,) = episodes_from_table(table, "toy", "memory")
    assert [turn.observation for turn in found.turns] == [{"text": turn.observation["text"]} for turn in episode.turns]


def test_the_content_sees_text_and_pixels() -> None:
    def changed(part: str) -> str:
        episode = picture_episode(3)
        observation = episode.turns[1].observation
        if part == "text":
            observation["text"] += "!"
        elif part:
            observation["image"] = observation["image"] ^ np.uint8(1)
        return content_sha256(table_from_episodes([episode], 0))

    assert changed("") == changed("") and len({changed(""), changed("text"), changed("image")}) == 3


# Codec ----------------------------------------------------------------------------------------------------------------


def test_codec_by_hand() -> None:
    codec = TextCodec("words", ["go\n", "see\n"], 1, 1, image=(12, 12, 3), image_tokens=2)
    go, see, image = len(SPECIAL), len(SPECIAL) + 1, len(SPECIAL) + 2
    observation = picture_episode(2).turns[1].observation
    assert codec.observation(observation) == (image, image, see)
    assert codec.action("go\n") == (go,) and (codec.size, codec.outputs) == (image + 1, go + 1)
    assert codec.spell("go") == (go,)
    assert codec.slots is not None and codec.slots.ids == (image, image)
    again = codec_from_config(codec.config())
    assert again.config() == codec.config() and again.slots == codec.slots


def test_a_codec_of_text_alone_says_nothing_of_images() -> None:
    """Its configuration is part of what published checkpoints are known by."""
    codec = TextCodec("words", ["go\n"], 1, 1)
    assert list(codec.config()) == ["codec", "level", "special", "vocabulary", "action_pieces", "action_limit"]
    assert codec.slots is None and codec.size == len(SPECIAL) + 1


def test_bad_input_of_the_codec() -> None:
    codec = TextCodec("words", ["go\n"], 1, 1, image=(12, 12, 3))
    seen = picture_episode(1).turns[0].observation
    for observation in ("go\n", {"image": seen["image"]}, {"text": "go\n"}, {**seen, "image": seen["image"][:4]}):
        with pytest.raises(BenchError):
            codec.observation(observation)
    with pytest.raises(BenchError, match="takes text, not text and an image; make the environment with the options"):
        TextCodec("words", ["go\n"], 1, 1).observation(seen)


# Tokens ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [24, 40, 400])
def test_every_row_has_the_images_of_the_turns_in_it(tmp_path: Path, context: int) -> None:
    """In order, the instruction's first; a turn that is dropped takes its image with it."""
    episodes = [picture_episode(length, seed) for seed, length in enumerate((3, 1, 9, 2))]
    data = picture_data(tmp_path, episodes, context)
    codec = data.codec
    assert codec.slots is not None
    wanted = [(episode, row) for episode in episodes for row in rows(codec, episode, context, "transcript")]
    batch = data.batch(np.arange(len(data.windows)))
    assert batch.images is not None and batch.numbers is None
    assert [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)] == [row.ids for _, row in wanted]
    shown = [episode.turns[turn].observation["image"] for episode, row in wanted for turn in row.shown]
    assert batch.frame is not None and np.array_equal(batch.images[batch.frame], np.stack(shown))
    for episode, row in wanted:
        assert row.ids.count(codec.slots.image_id) == len(row.shown) * codec.slots.image_tokens
        assert row.shown[0] == 0 and row.shown[-1] == row.actions[-1][0]
        said = [episode.turns[turn].observation["text"] for turn in row.shown]
        ids = [token for token in row.ids[1:] if token != codec.slots.image_id]
        assert said[0] == "the task\n" and codec.decode(ids).startswith(said[0])
        assert codec.decode(ids).count("see\n") == len(said) - 1
    assert (len(wanted) == 4) == (context == 400)


def test_a_different_image_is_kept_once(tmp_path: Path) -> None:
    """Of all shards; memory-mapped, and the same as encoding at once."""
    episodes = [picture_episode(9, seed, pictures=3) for seed in range(8)]
    data = picture_data(tmp_path, episodes, 400)
    assert isinstance(data.arrays.images, np.memmap) and data.arrays.images.shape == (3, 12, 12, 3)
    assert data.arrays.frame is not None and len(data.arrays.frame) == 72
    settings = {"context": 400, "state": "transcript", "discount": 0.9, "return_bounds": (0.0, 1.0)}
    whole = TokenArrays.encode(episodes, data.codec, **settings)  # type: ignore[arg-type]
    for name in TokenArrays.names(data.codec.slots):
        found, expected = getattr(data.arrays, name), getattr(whole, name)
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), name


def test_where_the_state_is_the_newest_observation_every_turn_has_its_own(tmp_path: Path) -> None:
    episodes = [picture_episode(4, seed) for seed in range(4)]
    data = picture_data(tmp_path, episodes, state="observation")
    batch = data.batch(np.arange(len(data.windows)))
    turns = [turn for episode in episodes for turn in episode.turns[:-1]]
    assert batch.images is not None and data.arrays.frame is None
    assert np.array_equal(batch.images, np.stack([turn.observation["image"] for turn in turns]))


def test_a_context_without_room_for_an_image_is_refused(tmp_path: Path) -> None:
    episodes = [picture_episode(3, seed) for seed in range(4)]
    with pytest.raises(BenchError, match="a context of 18 has no room for images of 8 tokens"):
        picture_data(tmp_path, episodes, 18)
    picture_data(tmp_path / "more", episodes, 19)  # one place, two of the longest action, half of what is left for each


def test_images_that_change_their_size_are_refused(tmp_path: Path) -> None:
    episodes = [picture_episode(3, seed) for seed in range(3)] + [picture_episode(3, 3, size=8)]
    with pytest.raises(BenchError, match=r"an image of \(8, 8, 3\)"):
        picture_data(tmp_path, episodes)


def test_a_damaged_cache_of_images(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [picture_episode(3, seed) for seed in range(4)])
    tokenise(dataset, tmp_path / "tokens", codec="words", context=64, state="transcript", discount=1.0)
    (folder,) = (tmp_path / "tokens").iterdir()
    whole = (folder / "images.npy").read_bytes()
    for spoiled in (b"", whole[:-1]):
        (folder / "images.npy").write_bytes(spoiled)
        with pytest.raises(BenchError, match="damaged"):
            open_tokens(folder)
