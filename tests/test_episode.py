"""The invariants of the one record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.episode import Episode, Turn, brief
from tests.examples import episode


def test_a_play_fills_turns_and_opens_the_next() -> None:
    playing = Episode("toy", 3, [Turn("start")])
    playing.step("a", "next", -1, False, False, {"invalid": "no such word"}, -0.5)
    assert (playing.done, playing.length, playing.success) == (False, 1, None)
    playing.step("b", "end", 2, False, True, {"success": True, "scores": {"Pick": 1.0}})
    assert playing.turns == [
        Turn("start", "a", -1.0, "no such word", -0.5),
        Turn("next", "b", 2.0),
        Turn("end"),
    ]
    assert (playing.done, playing.truncated, playing.length, playing.total_return) == (True, True, 2, 1.0)
    assert (playing.success, playing.scores, playing.invalid_actions) == (True, {"Pick": 1.0}, 1)


def test_what_the_simulator_knows_stands_beside_the_turn_and_is_no_part_of_it() -> None:
    playing = Episode("toy", 3, [Turn("start", facts=2)])
    playing.step("a", "next", 0, False, False, {"facts": 1})
    assert [turn.facts for turn in playing.turns] == [2, 1]
    assert playing.turns[1] == Turn("next")


@pytest.mark.parametrize(
    ("turns", "ending", "message"),
    [
        ([Turn("a"), Turn("b")], {}, "turn 0 has no action but is not the last"),
        ([Turn("a", "x", float("nan")), Turn("b")], {}, "turn 0 has reward nan"),
        ([Turn("a", "x", float("-inf")), Turn("b")], {}, "turn 0 has reward -inf"),
        ([Turn("a", "x", 0.0)], {"terminated": True}, "ended without a last observation"),
    ],
)
def test_what_cannot_be_an_episode(turns: list[Turn], ending: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"episode 3 of toy.*{message}"):
        Episode("toy", 3, turns, **ending)


def test_a_finished_episode_takes_no_step() -> None:
    with pytest.raises(ValueError, match="does not await an action"):
        episode(["o", "end"], ["a"]).step("b", "o", 0, False, False, {})


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_refused_and_changes_nothing(reward: float) -> None:
    playing = Episode("toy", 3, [Turn("start")])
    with pytest.raises(ValueError, match="toy returned reward"):
        playing.step("a", "next", reward, False, False, {})
    assert playing.turns == [Turn("start")]


@given(st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_the_return_is_the_exact_sum(rewards: list[float]) -> None:
    from fractions import Fraction

    found = episode(["o"] * (len(rewards) + 1), ["a"] * len(rewards), rewards).total_return
    assert found == float(sum(map(Fraction, rewards), Fraction(0)))


IMAGE = np.zeros((48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("h o v e l\n", r"'h o v e l\n'"),
        (IMAGE, "image 64x48"),
        (np.array([0.125, -0.5, -1e-9, 1], np.float32), "+0.12 -0.50 +0.00 +1.00"),
        ({"image": IMAGE, "proprio": np.array([0.25, -1], np.float32)}, "image 64x48, +0.25 -1.00"),
        ({}, "(not kept)"),
    ],
)
def test_what_was_seen_or_done_in_one_line(value: Any, shown: str) -> None:
    assert brief(value) == shown
