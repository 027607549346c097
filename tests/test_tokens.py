"""Tokens, rows and masks against a slow obvious reference written here."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.codec import BOS, PAD, TextCodec
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.tokens import TokenArrays, TokenBatch, prompt, rows
from tests.examples import codec_of, episode, finished_episodes

State = Literal["transcript", "observation"]
LEVELS = st.sampled_from(["words", "characters"])
STATES = st.sampled_from(["transcript", "observation"])
ROOM = st.integers(2, 60)  # tokens of a context beyond the longest action


# Rows -----------------------------------------------------------------------------------------------------------------


@given(finished_episodes(), LEVELS, STATES, ROOM)
def test_every_action_token_stands_in_exactly_one_row_after_its_prompt(
    one: Episode, level: str, state: State, room: int
) -> None:
    codec = codec_of(level, [one])
    context = codec.action_limit + room
    found: list[int] = []
    for row in rows(codec, one, context, state):
        assert 1 <= len(row.ids) <= context
        assert row.ids[0] == BOS
        for turn, first, end in row.actions:
            found.append(turn)
            assert tuple(row.ids[first:end]) == codec.action(one.turns[turn].action or "")
            assert row.ids[:first] == prompt(codec, one, turn, context, state).ids
        assert row.actions[-1][2] == len(row.ids)
    assert found == list(range(one.length))


@given(finished_episodes(), LEVELS, STATES, ROOM)
def test_play_sees_the_prompt_that_training_saw(one: Episode, level: str, state: State, room: int) -> None:
    """The prompt of a turn depends on nothing that comes after it, nor on the action it awaits."""
    codec = codec_of(level, [one])
    context = codec.action_limit + room
    for turn in range(one.length):
        in_play = Episode("toy", one.seed, [*one.turns[:turn], Turn(one.turns[turn].observation)])
        assert prompt(codec, in_play, turn, context, state) == prompt(codec, one, turn, context, state)


@given(finished_episodes(), LEVELS)
def test_a_short_transcript_is_one_row_of_all_that_was_said(one: Episode, level: str) -> None:
    codec = codec_of(level, [one])
    (row,) = rows(codec, one, 10_000, "transcript")
    said = "".join(f"{turn.observation}{turn.action}" for turn in one.turns[:-1])
    assert codec.decode(row.ids[1:]) == said


def test_a_long_transcript_keeps_the_instruction_and_the_newest_turns() -> None:
    one = episode(["I:", "b1", "b2", "b3", "b4", "end"], ["x1\n", "x2\n", "x3\n", "x4\n", "x5\n"])
    codec = codec_of("characters", [one])  # actions of 3
    texts = [codec.decode(row.ids[1:]) for row in rows(codec, one, 17, "transcript")]
    assert texts == [
        "I:x1\nb1x2\nb2x3\n",
        "I:b2x3\nb3x4\n",  # turn 3: `b1x2` would fit no more with the instruction and room for an action
        "I:b3x4\nb4x5\n",
    ]


def test_an_instruction_keeps_at_most_half_and_a_long_observation_is_cut_at_its_end() -> None:
    one = episode(["instruction", "abcdefgh", "end"], ["x\n", "y\n"])
    codec = codec_of("characters", [one])
    first, second = (codec.decode(row.ids[1:]) for row in rows(codec, one, 13, "transcript"))
    assert (first, second) == ("instrx\n", "instrabcdey\n")


def test_a_context_without_room_is_refused() -> None:
    one = episode(["go", "end"], ["abc\n"])
    codec = codec_of("characters", [one])
    with pytest.raises(BenchError, match="a context of 5 has no room for actions of 4 tokens"):
        encode([one], codec, 5, "transcript", 1.0, (-2, 0))
    encode([one], codec, 6, "transcript", 1.0, (-2, 0))


# Arrays and batches against the reference -----------------------------------------------------------------------------


def encode(
    episodes: list[Episode], codec: TextCodec, context: int, state: State, discount: float, bounds: tuple[float, float]
) -> TokenArrays:
    return TokenArrays.encode(episodes, codec, context=context, state=state, discount=discount, return_bounds=bounds)


def expected(
    one: Episode, codec: TextCodec, state: State, discount: float, bounds: tuple[float, float]
) -> list[dict[str, Any]]:
    """Every action token of an episode, in the order of play, by the definitions."""
    low, high = bounds
    turns = range(one.length)
    paid = {turn: one.turns[turn].reward / (high - low) for turn in turns}
    if state == "transcript" and discount == 1:
        paid = dict.fromkeys(turns, 0.0)
        paid[one.length - 1] = (one.total_return - low) / (high - low)
    else:
        paid[one.length - 1] -= low / (high - low)
    found = []
    for turn in turns:
        ids = codec.action(one.turns[turn].action or "")
        for index, token in enumerate(ids):
            last = index + 1 == len(ids)
            known = one.turns[turn].log_likelihood
            found.append(
                {
                    "action": token,
                    "turn": turn,
                    "last": last,
                    "reward": paid[turn] if last else 0.0,
                    "return_to_go": sum(discount ** (later - turn) * paid[later] for later in turns if later >= turn),
                    "episode_return": one.total_return,
                    "log_likelihood": math.nan if known is None or not last else known,
                    "discount": discount if last else 1.0,
                    "done": last and turn + 1 == one.length,
                }
            )
    return found


def bounds_of(episodes: list[Episode]) -> tuple[float, float]:
    returns = [one.total_return for one in episodes]
    return min(returns), max(max(returns), min(returns) + 1)


@given(
    st.lists(finished_episodes(), min_size=1, max_size=4),
    LEVELS,
    STATES,
    st.sampled_from([1.0, 0.9]),
    ROOM,
    st.integers(1, 7),
)
def test_a_batch_of_everything_is_the_reference(
    episodes: list[Episode], level: str, state: State, discount: float, room: int, length: int
) -> None:
    codec = codec_of(level, episodes)
    bounds = bounds_of(episodes)
    arrays = encode(episodes, codec, codec.action_limit + room, state, discount, bounds)
    windows = arrays.windows(length=length)
    batch = arrays.batch(windows, discount)
    width = batch.ids.shape[1]

    # Padding stands at the right of every row and nowhere else.
    assert batch.mask.tolist() == [[column < sum(row) for column in range(width)] for row in batch.mask.tolist()]
    assert (batch.ids[~batch.mask] == PAD).all()
    assert (batch.ids[batch.mask] != PAD).all()
    # The action mask marks the action tokens; each is predicted from the token before it in its row.
    assert batch.action_mask.sum() == len(batch.action)
    assert batch.ids.flatten()[batch.position + 1].tolist() == batch.action.tolist()
    assert (batch.position % width + 1 < width).all()
    assert batch.mask[batch.action_mask].all()

    # Tokens that carry loss are each episode's action tokens, each exactly once, in the order of play.
    wanted = [token for one in episodes for token in expected(one, codec, state, discount, bounds)]
    learned = batch.learn.nonzero().flatten().tolist()
    assert len(learned) == len(wanted)
    for k, token in zip(learned, wanted, strict=True):
        for name, value in token.items():
            assert float(getattr(batch, name)[k]) == pytest.approx(float(value), rel=1e-4, abs=1e-4, nan_ok=True), name
    # The successor of a token is the next of its episode, -1 at the end; it is always there for a token that is learned.
    facts = [(batch.action[k].item(), batch.turn[k].item()) for k in range(len(batch.action))]
    for k, token, following in zip(learned, wanted, [*wanted[1:], None], strict=True):
        if token["done"]:
            assert batch.successor[k] == -1
        else:
            assert following is not None
            assert facts[int(batch.successor[k])] == (following["action"], following["turn"])
            assert batch.successor[k] == k + 1


@given(st.lists(finished_episodes(most_turns=9), min_size=1, max_size=5), STATES, st.integers(1, 4), st.data())
def test_windows_partition_the_rows(episodes: list[Episode], state: State, length: int, data: st.DataObject) -> None:
    codec = codec_of("characters", episodes)
    arrays = encode(episodes, codec, codec.action_limit + 12, state, 1.0, bounds_of(episodes))
    chosen = data.draw(st.lists(st.sampled_from(range(len(episodes))), unique=True, max_size=len(episodes)))
    windows = arrays.windows(np.array(chosen, np.int64), length)
    learned = [int(row) for start, count, _ in windows for row in range(start, start + count)]
    assert learned == [
        row for index in chosen for row in range(int(arrays.episode_row[index]), int(arrays.episode_row[index + 1]))
    ]
    assert all(1 <= count <= length and count <= read <= count + 1 for _, count, read in windows)


def test_a_turn_a_row_with_its_successor_in_another() -> None:
    """Three turns in windows of two rows: the third row is read by the first window, and learned from in the second."""
    one = episode(["o0", "o1", "o2", "end"], ["a\n", "b\n", "c\n"], [1.0, 0.0, 3.0])
    codec = codec_of("words", [one])
    arrays = encode([one], codec, 8, "observation", 0.5, (2.0, 4.0))
    assert arrays.windows(length=2).tolist() == [[0, 2, 3], [2, 1, 1]]
    batch = arrays.batch(arrays.windows(length=2), 0.5)
    assert [codec.decode(row[1:3]) for row in batch.ids.tolist()] == ["o0a\n", "o1b\n", "o2c\n", "o2c\n"]
    assert batch.successor.tolist() == [1, 2, -1, -1]
    assert batch.learn.tolist() == [True, True, False, True]
    assert batch.done.tolist() == [False, False, True, True]
    assert batch.discount.tolist() == [0.5] * 4
    # Rewards over the span 2, less the offset 2 / 2 at the end.
    assert batch.reward.tolist() == [0.5, 0.0, 0.5, 0.5]
    assert batch.return_to_go.tolist() == [0.5 + 0.25 * 0.5, 0.25, 0.5, 0.5]
    value = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert batch.next_value(value).tolist() == [2.0, 3.0, 0.0, 0.0]
    assert float(batch.mean(value)) == pytest.approx((1 + 2 + 4) / 3)


def test_a_transcript_by_hand() -> None:
    """Two turns, characters: the whole return is paid at the last token, and the discount is 1 everywhere."""
    one = episode(["o", "p", "end"], ["ab\n", "c\n"], [-1.0, -1.0])
    codec = codec_of("characters", [one])
    arrays = encode([one], codec, 32, "transcript", 1.0, (-4.0, 0.0))
    batch = arrays.batch(arrays.windows(), 1.0)
    assert codec.decode(batch.ids[0, 1:].tolist()) == "oab\npc\n"
    assert batch.action_mask.tolist() == [[False, False, True, True, True, False, True, True]]
    assert codec.decode(batch.action.tolist()) == "ab\nc\n"
    assert batch.position.tolist() == [1, 2, 3, 5, 6]
    assert batch.last.tolist() == [False, False, True, False, True]
    assert batch.turn.tolist() == [0, 0, 0, 1, 1]
    assert batch.successor.tolist() == [1, 2, 3, 4, -1]
    assert batch.reward.tolist() == [0, 0, 0, 0, 0.5]
    assert batch.return_to_go.tolist() == [0.5] * 5
    assert batch.learn.all()


@given(st.lists(finished_episodes(), min_size=2, max_size=5), STATES, st.sampled_from([1.0, 0.9]))
def test_normalised_rewards_add_up_to_a_return_in_0_1(episodes: list[Episode], state: State, discount: float) -> None:
    bounds = bounds_of(episodes)
    codec = codec_of("characters", episodes)
    arrays = encode(episodes, codec, 40, state, discount, bounds)
    ends = arrays.row_action[arrays.episode_row]
    for index, one in enumerate(episodes):
        total = float(arrays.reward[ends[index] : ends[index + 1]].sum())
        assert total == pytest.approx((one.total_return - bounds[0]) / (bounds[1] - bounds[0]), abs=1e-4)
        assert -1e-4 <= total <= 1 + 1e-4


def test_what_cannot_be_encoded() -> None:
    one = episode(["o", "end"], ["a\n"])
    codec = codec_of("words", [one])
    with pytest.raises(BenchError, match=r"every episode returned -1\.0"):
        encode([one], codec, 16, "transcript", 1.0, (-1.0, -1.0))
    with pytest.raises(BenchError, match="no episodes to encode"):
        encode([], codec, 16, "transcript", 1.0, (-1.0, 0.0))


def test_a_batch_moves_whole() -> None:
    one = episode(["o", "end"], ["a\n"])
    arrays = encode([one], codec_of("words", [one]), 16, "transcript", 1.0, (-1.0, 0.0))
    batch = arrays.batch(arrays.windows(), 1.0)
    moved = batch.to("meta")
    present = [getattr(moved, field.name) for field in fields(TokenBatch) if getattr(batch, field.name) is not None]
    assert len(present) == len(fields(TokenBatch)) - 3  # no slots
    assert all(tensor.device.type == "meta" for tensor in present)
