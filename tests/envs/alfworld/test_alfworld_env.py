"""The rules: what is paid, when it ends, what is refused, and what the picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("alfworld", reason="needs the extra `alfworld`")
pytest.importorskip("fast_downward", reason="needs textworld[pddl]")

from envs.alfworld.behaviour import next_command
from envs.alfworld.engine import NOTHING
from envs.alfworld.env import HELD_OUT, HORIZON, TEST, ALFWorld
from envs.alfworld.games import COLUMNS
from envs.alfworld.render import draw
from envs.alfworld.seen import Seen
from qsft_bench.cli import main
from qsft_bench.errors import BenchError

GENERATED: dict[str, Any] = {"games": "generated", "split": "valid_seen"}


@pytest.fixture(scope="module")
def env() -> ALFWorld:
    return ALFWorld(**GENERATED, privileged=True)


@pytest.mark.parametrize("game", range(6))
def test_winning_pays_one_and_fills_one_column(env: ALFWorld, game: int) -> None:
    column = list(COLUMNS.values())[game]
    _, info = env.reset(seed=0, options={"game": game})
    rewards, terminated = [], False
    while not terminated:
        assert "success" not in info and "invalid" not in info and info["task"] == column
        _, reward, terminated, truncated, info = env.step(next_command(info["facts"]))
        rewards.append(reward)
        assert not truncated
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert info["success"] is True and info["scores"] == {column: 1.0}
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("look")


def test_the_horizon_truncates(env: ALFWorld) -> None:
    env.reset(seed=0, options={"game": 0})
    for turn in range(1, HORIZON + 1):
        _, reward, terminated, truncated, info = env.step("look")
        assert (reward, terminated, truncated) == (0.0, False, turn == HORIZON)
    assert info["success"] is False and info["scores"] == {"Pick": 0.0}


def test_put_is_understood_as_move(env: ALFWorld) -> None:
    _, info = env.reset(seed=0, options={"game": 0})
    for _ in range(HORIZON):
        command = next_command(info["facts"])
        assert command is not None
        if command.startswith("move "):
            thing, _, place = command.removeprefix("move ").partition(" to ")
            text, reward, *_, info = env.step(f"put {thing} in/on {place}")
            assert text == f"You move the {thing} to the {place}." and reward == 1.0 and "invalid" not in info
            return
        *_, info = env.step(command)
    pytest.fail("nothing was moved")


def test_what_does_nothing_is_answered_and_the_reason_given(env: ALFWorld) -> None:
    env.reset(seed=0, options={"game": 0})
    for action, reason in (("open nothing 1", "cannot be done here"), ("fly", "is no command"), ("", "is no command")):
        text, reward, _, _, info = env.step(action)
        assert text == NOTHING and reward == 0.0 and reason in info["invalid"]
    *_, info = env.step(None)  # type: ignore[arg-type]
    assert info["invalid"] == "NoneType is not text"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.text(), st.sampled_from(["look", "help", "inventory", "put a in b", "{r}", "#intro#"])), max_size=5)
)
def test_any_string_is_an_action(env: ALFWorld, actions: list[str]) -> None:
    observation, info = env.reset(seed=3)
    for action in actions:
        admissible = action.strip() in info["admissible"]
        observation, _, _, _, info = env.step(action)
        assert observation in env.observation_space and info["admissible"]
        assert ("invalid" in info) == (not admissible)


@pytest.mark.parametrize("obs", ["text", "text+image"])
def test_gymnasium_accepts_it(obs: Any) -> None:
    check_env(ALFWorld(obs=obs, games="generated"), skip_render_check=True)


def test_a_seed_decides_about_the_game_and_its_split() -> None:
    env = ALFWorld(games="generated")
    seeds = (7, TEST, TEST + 1, TEST + 120, HELD_OUT + 7, HELD_OUT + 7, HELD_OUT + 8)
    names = [env.reset(seed=seed)[1]["game"] for seed in seeds]
    first = TEST % 120
    assert names[:4] == ["valid_unseen/7", *(f"valid_seen/{number}" for number in (first, first + 1, first))]
    assert names[4] == names[5] != names[6] and names[4].startswith("train/")
    env.close()


def test_what_the_simulator_knows_is_told_only_when_asked() -> None:
    env = ALFWorld(**GENERATED)
    assert "facts" not in env.reset(seed=0)[1]
    assert "facts" not in env.step("look")[4]
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("look")


@pytest.mark.parametrize(
    "options",
    [
        {"observation": "brief"},
        {"action": "word"},
        {"obs": "txt"},
        {"split": "test"},
        {"games": "real"},
        {"image_size": 8},
        {"render_size": 8},
        {"render_mode": "a"},
    ],
)
def test_an_option_that_does_not_exist_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        ALFWorld(**options)


def test_a_game_that_does_not_exist_is_named(env: ALFWorld) -> None:
    with pytest.raises(BenchError, match="from 0 to 119"):
        env.reset(seed=0, options={"game": 120})


def test_the_picture_comes_of_the_texts_alone() -> None:
    env, seen = ALFWorld(**GENERATED, obs="text+image", render_mode="rgb_array"), Seen()
    observation, info = env.reset(seed=1)
    for _ in range(8):
        assert isinstance(observation, dict)
        seen.hear(observation["text"])
        assert np.array_equal(observation["image"], draw(seen, 48)) and np.array_equal(env.render(), draw(seen, 192))
        opening = [command for command in info["admissible"] if command.startswith(("open", "take", "go to"))]
        observation, *_, info = env.step(opening[-1])
    env.close()


def heard(*texts: str) -> Seen:
    seen = Seen()
    for text in texts:
        seen.hear(text)
    return seen


def test_texts_are_understood() -> None:
    seen = heard(
        "You are in the middle of a room. Looking quickly around you, you see a bed 1, a drawer 2, and a drawer 1.\n",
        "You arrive at drawer 1. The drawer 1 is closed.",
        "You open the drawer 1. The drawer 1 is open. In it, you see a cup 2, and a egg 1.",
        "You pick up the cup 2 from the drawer 1.",
        "You heat the cup 2 using the microwave 1.",
        "You cool the cup 2 using the fridge 1.",
        "Nothing happens.",
    )
    assert seen.places == ["bed 1", "drawer 2", "drawer 1"] and seen.visited == {"drawer 1"} and seen.here == "drawer 1"
    assert seen.opened == {"drawer 1": True} and seen.contents == {"drawer 1": ["egg 1"]}
    assert seen.held == "cup 2" and seen.marks == {"cup 2": {"cold"}}
    seen.hear("You move the cup 2 to the bed 1.")
    assert seen.held == "" and seen.contents["bed 1"] == ["cup 2"]


def test_nothing_in_a_closed_drawer_is_drawn() -> None:
    empty, full = ("You arrive at drawer 1. The drawer 1 is open. In it, you see " + held for held in ("nothing.", "a egg 1."))
    close = "You close the drawer 1."
    assert not np.array_equal(draw(heard(empty), 96), draw(heard(full), 96))
    assert np.array_equal(draw(heard(empty, close), 96), draw(heard(full, close), 96))


def test_marks_of_what_is_held_are_drawn() -> None:
    take = "You pick up the cup 2 from the drawer 1."
    pictures = [
        draw(heard(take, *more), 128)
        for more in ((), ("You heat the cup 2 using it",), ("You cool the cup 2 using it",), ("You clean the cup 2 using it",))
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert pictures[0].shape == (128, 128, 3) and pictures[0].dtype == np.uint8


def test_look_in_the_middle_of_the_room_names_no_place_twice() -> None:
    room = "You are in the middle of a room. Looking quickly around you, you see a bed 1, and a drawer 1.\n"
    assert heard(room, room).places == ["bed 1", "drawer 1"]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly", "start"),
        ("You are facing the bed 1. Next to it, you see nothing.", "look"),
        ("You pick up the cup 2 from the drawer 1.", "take"),
        ("You move the cup 2 to the bed 1.", "put"),
        ("You cool the cup 2 using the fridge 1.", "treat"),
        ("You turn on the desklamp 1.", "use"),
        ("You are carrying: a cup 2.", "other"),
        (NOTHING, "nothing"),
    ],
)
def test_the_newest_answer_is_told_apart(text: str, last: str) -> None:
    assert heard(text).last == last


def test_a_person_plays_with_a_picture_beside_each_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    lines = iter(["look", "go to the moon"])

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("qsft_bench.play.Person.__init__.__defaults__", (read, print))
    main(["play", "alfworld", "--seed", "3", "--pictures", str(tmp_path)])
    told = capsys.readouterr().out
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00.png", "01.png", "02.png"]
    assert f"[picture: {tmp_path / '02.png'}]" in told and "Your task is to:" in told and NOTHING in told
    assert "cannot be done here and now" in told
