"""A person at the keyboard plays text, and is told so of everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from qsft_bench.cli import main
from qsft_bench.errors import BenchError
from qsft_bench.play import Person, PersonsWorld, Pictured
from qsft_bench.rollout import play
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


class Clock(gymnasium.Env[str, str]):
    """Three turns; draws how many were taken, as a shade of grey."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self) -> None:
        self.observation_space = self.action_space = gymnasium.spaces.Text(9)
        self.taken = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return "tick\n", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        return "tick\n", 0.0, self.taken == 3, False, {}

    def render(self) -> Any:
        return np.full((4, 6, 3), 10 * self.taken, np.uint8)


def test_a_picture_of_every_turn_is_saved_and_its_path_shown(tmp_path: Path) -> None:
    shown: list[str] = []
    env = Pictured(Clock(), tmp_path / "play", shown.append)
    play(Person(lambda prompt: "on", lambda text: None), [env], [5], "clock")
    paths = [tmp_path / "play" / f"0{turn}.png" for turn in range(4)]
    assert shown == [f"[picture: {path}]" for path in paths]
    assert [np.asarray(Image.open(path))[0, 0, 0] for path in paths] == [0, 10, 20, 30]
    assert sorted((tmp_path / "play").iterdir()) == paths
