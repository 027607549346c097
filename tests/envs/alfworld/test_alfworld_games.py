"""Generated games are the same everywhere and can be won; official ones are read, and bad ones left out with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("alfworld", reason="needs the extra `alfworld`")
pytest.importorskip("fast_downward", reason="needs textworld[pddl]")

from envs.alfworld.engine import give_back, lease, wheel
from envs.alfworld.games import COLUMNS, FOLDER, GENERATED, VARIABLE, Game, Official, Split, digest, games, generate, task_type
from envs.alfworld.publish import PUBLISHED, moves_to_win
from qsft_bench.errors import BenchError

SPLITS = tuple(GENERATED)
REPOSITORY = Path(__file__).parents[3]
TEST_DATA = Path(os.environ.get("QSFT_BENCH_TESTDATA", "nowhere")) / "alfworld"


def test_a_game_is_the_same_in_any_process() -> None:
    program = """
from envs.alfworld.games import GENERATED, digest, generate
print(digest(generate(split, number) for split in GENERATED for number in range(12)))
"""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), *sys.path)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(generate(split, number) for split in SPLITS for number in range(12))


def test_every_room_is_played_in_and_the_unseen_ones_in_one_split_only() -> None:
    published = json.loads(PUBLISHED.read_text())["splits"]
    rooms = {split: set(published[split]["rooms"]) for split in SPLITS}
    assert len(rooms["train"] | rooms["valid_unseen"]) == 120
    assert not rooms["train"] & rooms["valid_unseen"]
    assert rooms["valid_seen"] <= rooms["train"]


@pytest.mark.parametrize("split", ["valid_seen", "valid_unseen", pytest.param("train", marks=pytest.mark.nightly)])
def test_the_splits_are_those_published(split: Split) -> None:
    published = json.loads(PUBLISHED.read_text())["splits"][split]
    those = list(games(split, "generated"))
    assert digest(those) == published["sha256"]
    assert len(those) == published["games"] and len({game.problem for game in those}) == len(those)
    assert Counter(game.column for game in those) == dict.fromkeys(COLUMNS.values(), len(those) // 6) == published["columns"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_expert_wins(split: Split) -> None:
    engine = lease()
    moves = [moves_to_win(generate(split, number), engine) for number in range(12)]
    give_back(engine)
    assert None not in moves
    assert max(count for count in moves if count) <= 15


def test_the_target_never_begins_where_it_is_to_go() -> None:
    for number in range(24):
        game = generate("valid_seen", number)
        receptacles = [line.split()[1] for line in game.problem.lower().splitlines() if f" {game.parent}type)" in line]
        for line in game.problem.lower().splitlines():
            if line.startswith(f"(inreceptacle {game.target}_bar_"):
                assert line.split()[2].rstrip(")") not in receptacles


def test_a_split_that_does_not_exist_is_named() -> None:
    with pytest.raises(BenchError, match="did you mean valid_seen"):
        games("valid_sen")  # type: ignore[arg-type]


def write(folder: Path, game: Game, **changes: object) -> Path:
    """An official game's two files, made of a generated one; `changes` are of either."""
    folder.mkdir(parents=True)
    grammar = (
        (wheel().data / "alfred.twl2").read_text().replace("UNKNOWN GOAL", game.goal).replace("move {o} to", "put {o} in/on")
    )
    files = {
        "game.tw-pddl": {"pddl_domain": "old", "grammar": grammar, "pddl_problem": game.problem, "solvable": True},
        "traj_data.json": {
            "task_type": task_type(game.column),
            "pddl_params": {"object_target": game.target, "parent_target": game.parent, "toggle_target": game.lamp},
            "scene": {"scene_num": game.room},
        },
    }
    for name, content in files.items():
        known = {key: value for key, value in changes.items() if key in content}
        (folder / name).write_text(json.dumps(content | known))
    return folder / "game.tw-pddl"


def test_an_official_game_is_read_with_the_grammar_of_today(tmp_path: Path) -> None:
    game = generate("valid_seen", 3)
    path = write(tmp_path / "train" / "a", game)
    (read,) = Official(tmp_path / "train")
    assert read == Game(str(path), game.column, game.goal, game.problem, game.target, game.parent, game.lamp, game.room)
    engine = lease()
    assert moves_to_win(read, engine) == moves_to_win(game, engine)
    give_back(engine)


def test_bad_games_are_left_out_with_path_and_reason(tmp_path: Path) -> None:
    game = generate("valid_seen", 3)
    write(tmp_path / "good", game)
    half = write(tmp_path / "half", game)
    half.write_text(half.read_text()[: half.stat().st_size // 2])
    unknown = write(tmp_path / "unknown", game, task_type="pick_and_juggle")
    unsolvable = write(tmp_path / "unsolvable", game, solvable=False)
    cut = write(tmp_path / "cut", game, pddl_problem=game.problem[: len(game.problem) // 2])
    alone = write(tmp_path / "alone", game)
    alone.with_name("traj_data.json").unlink()
    listed = write(tmp_path / "listed", game)
    listed.write_text("[]")
    found = Official(tmp_path)
    assert len(found) == 1
    reasons = {half: "damaged", unknown: "of another task type", unsolvable: "not known to be solvable", cut: "cut off"}
    reasons |= {alone: "unreadable", listed: "damaged"}
    assert {path: reason.partition(":")[0] for path, reason in found.skipped.items()} == reasons
    assert all(str(path.parent) in reason for path, reason in found.skipped.items())
    assert found.summary().startswith("1 games, left out 6: 2 damaged")


def test_no_games_at_all_is_an_error_that_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    games.cache_clear()
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(BenchError, match=VARIABLE):
        games("train", "official")
    assert len(games("train")) == GENERATED["train"]
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BenchError, match=str(tmp_path / FOLDER / "train")):
        games("train", "official")
    games.cache_clear()
    (tmp_path / FOLDER / "train").mkdir(parents=True)
    with pytest.raises(BenchError, match=str(tmp_path / FOLDER / "train")):
        games("train")
    games.cache_clear()


@pytest.mark.skipif(not TEST_DATA.is_dir(), reason="needs the official games in $QSFT_BENCH_TESTDATA/alfworld")
def test_the_expert_wins_the_official_games() -> None:
    found = Official(TEST_DATA / FOLDER / "valid_seen")
    assert found.summary() == "12 games"
    assert {game.column for game in found} == set(COLUMNS.values())
    engine = lease()
    assert all(moves_to_win(game, engine) for game in found)
    give_back(engine)
