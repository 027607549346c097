"""A person at the keyboard plays text, and is told so of everything else."""

from __future__ import annotations

from typing import Any

import pytest

from qsft_bench.cli import main
from qsft_bench.errors import BenchError
from qsft_bench.play import Person, PersonsWorld
from tests.examples import control_episode, episode


def test_a_person_sees_what_is_new_and_answers_with_a_line() -> None:
    shown: list[str] = []
    asked: list[str] = []

    def read(question: str) -> str:
        asked.append(question)
        return "level"

    playing = episode(["start\n", "1hb\n"], ["hovel\n"])
    playing.turns[0].invalid = "no word"
    assert Person(read, shown.append).act([playing]) == ["level\n"]
    assert (shown, asked) == (["[no word]", "1hb"], ["turn 2> "])


def test_images_are_not_played_at_a_keyboard() -> None:
    playing = control_episode(1)
    with pytest.raises(BenchError, match="toy cannot be played at a keyboard, it is no text game; `qsft-bench watch --agent"):
        Person().act([playing])
    opening: Any = playing.turns[0].observation
    with pytest.raises(BenchError, match=r"this environment cannot be played .* `qsft-bench watch --agent"):
        PersonsWorld(opening, 3)


@pytest.mark.parametrize("swap", [[], ["--swap"]])
def test_the_arm_is_for_watching(swap: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pybullet")
    with pytest.raises(SystemExit) as stopped:
        main(["play", "pick_place", *swap])
    said = capfd.readouterr().err
    assert stopped.value.code == 2
    assert "it is no text game; `qsft-bench watch --agent AGENT --env ENV` films an agent" in said
