"""LMRL-Gym's files, written by hand, come out as the episodes they tell; what is wrong with a record is said by its line."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from qsft_bench.cli import main
from qsft_bench.dataset.lmrl import import_lmrl
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import tokenise
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.registry import env_spec
from qsft_bench.spec import EnvSpec, Tier


def spec(name: str, horizon: int, low: float, high: float, state: Any) -> EnvSpec:
    return EnvSpec(
        name=name,
        id=f"qsft_bench/{name}-v0",
        summary="",
        table=0,
        columns=(name,),
        horizon=horizon,
        return_range=(low, high),
        state=state,
        discount=1.0,
        metric="return",
        behaviour="",
        random="",
        tiers={"base": Tier({}, "")},
    )


WORDLE = env_spec("wordle")
QUESTIONS = spec("questions", 20, -20, 0, "transcript")
BOARDS = spec("boards", 400, -401, 1, "observation")


def imported(
    tmp_path: Path, lines: Iterable[Any], env: EnvSpec, **options: Any
) -> tuple[EpisodeDataset, list[Episode], dict[str, str]]:
    """What comes of a file of these lines (texts as they are, all else as JSON), and what was reported."""
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    said: dict[str, str] = {}
    found = import_lmrl(path, env, tmp_path / "out", report=said.__setitem__, **options)
    assert found.skipped == len(said)
    found.dataset.verify()
    return found.dataset, list(found.dataset.episodes()), said


def refused(tmp_path: Path, record: Any, env: EnvSpec, good: Any) -> str:
    """Why `record` is left out between two good ones, which stay."""
    _, episodes, said = imported(tmp_path, [good, record, good], env)
    assert len(episodes) == 2
    assert list(said) == ["line 2"]
    return said["line 2"]


# Wordle ---------------------------------------------------------------------------------------------------------------

SOLVED = {
    "sequence": [
        ["Wordle:\n", 0.0],
        ["h o v e l\n", 1.0],
        ["b y b b g\n", 0.0],
        ["z z z z z\n", 1.0],
        ["\n", 0.0],
        ["s p o i l\n", 1.0],
        ["g g g g g\n", 0.0],
    ],
    "reward": [-1, 0.0, -1, 0.0, 0, 0.0],
    "done": True,
}
LOST = {
    "sequence": [["Wordle:\n", False], *[["h o v e l\n", True], ["b b b b b\n", False]] * 6],
    "reward": [-1.0, 0.0] * 6,
    "done": True,
}
SOLVED_TURNS = [
    Turn("Wordle:\n", "h o v e l\n", -1.0),
    Turn("b y b b g\n", "z z z z z\n", -1.0),
    Turn("\n", "s p o i l\n", 0.0),
    Turn("g g g g g\n"),
]


def test_wordle(tmp_path: Path) -> None:
    dataset, (solved, lost), said = imported(tmp_path, [SOLVED, "", LOST], WORDLE)
    assert not said
    assert solved == Episode("wordle", 1, SOLVED_TURNS, True, False, True)
    assert (lost.seed, lost.length, lost.total_return, lost.success, lost.terminated) == (3, 6, -6.0, False, True)
    manifest = dataset.manifest
    assert (manifest.episodes, manifest.mean_return, manifest.return_bounds) == (2, -4.0, (-6.0, -2.0))
    assert manifest.success_rate == 0.5
    sha256 = hashlib.sha256((tmp_path / "data.jsonl").read_bytes()).hexdigest()
    recipe = manifest.recipe
    assert (recipe.env, recipe.env_id, recipe.tier, recipe.options) == ("wordle", "qsft_bench/Wordle-v0", "imported", {})
    assert recipe.behaviour == {"source": "LMRL-Gym", "kind": "trajectory", "sha256": sha256, "skipped": 0}
    assert sha256 in (tmp_path / "out" / "card.md").read_text()


def test_a_reward_for_every_text(tmp_path: Path) -> None:
    """LMRL-Gym's `TextTrajectory` has one for the opening too; its files have not."""
    _, (episode, other), _ = imported(tmp_path, [SOLVED | {"reward": [0.0, *SOLVED["reward"]]}, SOLVED], WORDLE)
    assert episode.turns == other.turns == SOLVED_TURNS


def test_what_is_imported_can_be_learned_from(tmp_path: Path) -> None:
    dataset, _, _ = imported(tmp_path, [SOLVED, LOST], WORDLE)
    tokens = tokenise(dataset, tmp_path / "tokens", codec="characters", context=160, state="transcript", discount=1.0)
    assert tokens.returns.tolist() == [-2.0, -6.0]


def with_sequence(*changes: tuple[int, Any]) -> dict[str, Any]:
    sequence: list[Any] = [list(pair) for pair in SOLVED["sequence"]]  # type: ignore[attr-defined]
    for index, value in changes:
        sequence[index] = value
    return SOLVED | {"sequence": sequence}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("null", "None has neither `sequence`, nor `lines`, nor `state` and `action`"),
        ("[]", "a game without moves"),
        ({"text": "x"}, "has neither `sequence`"),
        (SOLVED | {"sequence": "Wordle"}, "`sequence` is 'Wordle', not a list"),
        (with_sequence((2, ["b b b b b\n"])), "text 2 of `sequence` is ['b b b b b\\n'], not [text, is_action]"),
        (with_sequence((2, [5, False])), "text 2 of `sequence` is [5, False], not [text, is_action]"),
        (with_sequence((2, ["b b b b b\n", "no"])), "`is_action` is 'no', not true or false"),
        (with_sequence((2, ["b b b b b\n", True])), "text 2 of `sequence` is out of turn"),
        (with_sequence((0, ["Wordle:\n", True])), "text 0 of `sequence` is out of turn"),
        (SOLVED | {"sequence": SOLVED["sequence"][:6], "reward": [0.0] * 6}, "`sequence` has 6 texts"),  # type: ignore[index]
        (SOLVED | {"sequence": SOLVED["sequence"][:1], "reward": []}, "`sequence` has 1 texts"),  # type: ignore[index]
        (SOLVED | {"reward": [-1.0]}, "1 rewards for 7 texts; as many are expected, or one fewer"),
        (SOLVED | {"reward": None}, "`reward` None for 7 texts"),
        (SOLVED | {"reward": [-1, 0, "0", 0, 0, 0]}, "the reward '0' is not a number"),
        (SOLVED | {"reward": [-1, 0, True, 0, 0, 0]}, "the reward True is not a number"),
        (SOLVED | {"reward": [-1, 0, float("nan"), 0, 0, 0]}, "the reward nan is not a finite number"),
        (SOLVED | {"reward": [-1, 0, float("-inf"), 0, 0, 0]}, "the reward -inf is not a finite number"),
        (SOLVED | {"reward": [-1, 0, 10**400, 0, 0, 0]}, "is not a finite number"),
        (SOLVED | {"reward": [0, -1, 0, -1, 0, 0]}, "an observation has a reward"),
        (SOLVED | {"reward": [-10, 0, -1, 0, 0, 0]}, "return -11; those of wordle are -6 to 0"),
        (SOLVED | {"reward": [0, 0, -1, 0, 0, 0]}, "it goes on after action 1, which earned 0"),
        (SOLVED | {"reward": [-1, 0, -1, 0, -1, 0]}, "it stops after 3 of 6 actions, none of them right"),
        (SOLVED | {"done": False}, "`done` is false: the game stops before its end"),
        (SOLVED | {"done": None}, "`done` is None, not true or false"),
        (with_sequence((0, ["Wordl:\n", False])), "it opens with 'Wordl:\\n'; known: 'Wordle:\\n', 'Questions:\\n'"),
        (with_sequence((2, ["b b b b r\n", False])), "'b b b b r\\n' is no answer in a game that opens with 'Wordle:\\n'"),
        (with_sequence((1, ["h o v e l", True])), "the action 'h o v e l' is not a line of text"),
        (with_sequence((1, ["\n", True])), "the action '\\n' is not a line of text"),
        (with_sequence((1, ["\ud800\n", True])), "'\\ud800\\n' is not Unicode text"),
        (
            {"sequence": [*LOST["sequence"], *LOST["sequence"][1:3]], "reward": [-1.0, 0.0] * 7, "done": True},  # type: ignore[misc, index]
            "7 actions; wordle ends after 6",
        ),
        (
            {"lines": ["Is it big? Yes."], "correct": True, "word": ["Bus"]},
            "a conversation, where the records before are each a",
        ),
    ],
    ids=range(34),
)
def test_bad_trajectories(tmp_path: Path, record: Any, reason: str) -> None:
    assert reason in refused(tmp_path, record, WORDLE, SOLVED)


# Twenty Questions -----------------------------------------------------------------------------------------------------

GUESSED = {"lines": ["Is it a thing? Really? No.", "Is it a bus? Yes."], "correct": True, "word": ["Bus"]}
NEVER = {"lines": ["Is it big? No."] * 20, "correct": False, "word": ["Airplane", "Plane"]}


def test_twenty_questions(tmp_path: Path) -> None:
    late = NEVER | {"lines": [*NEVER["lines"][:19], "Is it a plane? Yes."], "correct": True}  # type: ignore[index]
    dataset, (guessed, never, last), said = imported(tmp_path, [GUESSED, NEVER, late], QUESTIONS)
    assert not said
    assert guessed.turns == [
        Turn("Questions:\n", "Is it a thing? Really?\n", -1.0),
        Turn("No.\n", "Is it a bus?\n", 0.0),
        Turn("Yes.\n"),
    ]
    assert (guessed.success, guessed.terminated) == (True, True)
    assert (never.length, never.total_return, never.success, never.terminated) == (20, -20.0, False, True)
    assert (last.total_return, last.success) == (-19.0, True)
    assert dataset.manifest.recipe.behaviour["kind"] == "conversation"


def test_twenty_questions_as_its_ilql_reads_them(tmp_path: Path) -> None:
    record = {
        "sequence": [["Questions:\n", 0], ["Is it a bus?\n", 1], ["Yes.\n", 0]],
        "reward": [0, 0],
        "done": True,
    }
    _, (episode,), _ = imported(tmp_path, [record], QUESTIONS)
    assert episode.turns == [Turn("Questions:\n", "Is it a bus?\n", 0.0), Turn("Yes.\n")]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (GUESSED | {"lines": []}, "`lines` is [], not a list of questions with answers"),
        (GUESSED | {"lines": "Is it big? Yes."}, "not a list of questions with answers"),
        (GUESSED | {"lines": ["Is it big?Yes."]}, "'Is it big?Yes.' is not a question and its answer"),
        (GUESSED | {"lines": [7]}, "7 is not a question and its answer"),
        (
            GUESSED | {"lines": ["Is it big? Perhaps.", "Is it a bus? Yes."]},
            "'Perhaps.\\n' is no answer in a game that opens with 'Questions:\\n'",
        ),
        (GUESSED | {"lines": ["Is it big? No."]}, "`correct` is true, but the last answer is 'No.\\n'"),
        (GUESSED | {"correct": "yes"}, "`correct` is 'yes', not true or false"),
        (GUESSED | {"correct": False}, "it stops after 2 of 20 actions, none of them right"),
        ({"lines": GUESSED["lines"], "correct": True}, "`word` is None, not a list of the word's names"),
        (GUESSED | {"word": [""]}, "`word` is [''], not a list of the word's names"),
        (NEVER | {"lines": NEVER["lines"] * 2}, "40 actions; questions ends after 20"),  # type: ignore[operator]
    ],
    ids=range(11),
)
def test_bad_conversations(tmp_path: Path, record: Any, reason: str) -> None:
    assert reason in refused(tmp_path, record, QUESTIONS, GUESSED)


# Chess ----------------------------------------------------------------------------------------------------------------

START = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"
SECOND = "rnbqkbnr/pppp1ppp/8/4p3/4P3/8/PPPP1PPP/RNBQKBNR w KQkq - 0 2"
THIRD = "r1bqkbnr/pppp1ppp/2n5/4p2Q/4P3/8/PPPP1PPP/RNB1KBNR w KQkq - 2 3"
ENDGAME = "7k/8/8/8/8/8/Q7/K7 w - - 0 1"


def told(fen: str) -> str:
    return " ".join(fen) + "\n"


def move(fen: str, san: str, reward: float = 0, **more: Any) -> dict[str, Any]:
    return {"state": fen, "action": san, "reward": reward} | more


def row(fen: str, san: str, reward: float = 0, done: Any = False) -> dict[str, Any]:
    return {"from_state": fen, "action": san, "reward": reward, "done": done}


WON = [
    move(told(START), "e 4\n"),
    move(told(SECOND), "K e 3\n", -1),
    move(told(SECOND), "Q h 5\n"),
    move(told(THIRD), "Q x f 7 #\n", 1),
]
WON_TURNS = [
    Turn(
        "r n b q k b n r / p p p p p p p p / 8 / 8 / 8 / 8 / P P P P P P P P / R N B Q K B N R   w   K Q k q   -   0   1\n",
        "e 4\n",
        0.0,
    ),
    Turn(told(SECOND), "K e 3\n", -1.0),
    Turn(told(SECOND), "Q h 5\n", 0.0),
    Turn(told(THIRD), "Q x f 7 #\n", 1.0),
    Turn(""),
]
RAW = [row(START, "e4"), row(SECOND, "Ke3", -1), row(SECOND, "Qh5"), row(THIRD, "Qxf7#", 1, True)]


@pytest.mark.parametrize("last", [{}, {"done": True}, {"done": 1}])
def test_chess_a_game_a_line(tmp_path: Path, last: dict[str, Any]) -> None:
    """The last move is there once, where LMRL-Gym's loaders have it twice."""
    dataset, (episode,), _ = imported(tmp_path, [[*WON[:-1], WON[-1] | last]], BOARDS)
    assert episode.turns == WON_TURNS
    assert (episode.length, episode.total_return, episode.success, episode.terminated) == (4, 0.0, True, True)
    assert dataset.manifest.recipe.behaviour["kind"] == "game"


def test_chess_a_move_a_line_in_plain_notation(tmp_path: Path) -> None:
    lines = [*RAW, row(ENDGAME, "Qa7", 0, True), row(START, "f3", -1, True)]
    dataset, episodes, said = imported(tmp_path, lines, BOARDS)
    assert not said
    assert [(episode.seed, episode.length, episode.success) for episode in episodes] == [
        (1, 4, True),
        (5, 1, False),
        (6, 1, False),
    ]
    assert episodes[0].turns == WON_TURNS
    assert episodes[1].turns[0] == Turn(told(ENDGAME), "Q a 7\n", 0.0)
    tokens = tokenise(dataset, tmp_path / "tokens", codec="characters", context=160, state="observation", discount=1.0)
    assert tokens.returns.tolist() == [0.0, 0.0, -1.0]


def long_game(moves: int, **last: Any) -> list[dict[str, Any]]:
    game = [row(f"7k/8/8/8/8/8/Q7/K7 w - - {number % 50} {number}", "Qa3") for number in range(1, moves + 1)]
    game[-1] |= last
    return game


def test_chess_games_that_the_data_break_off_at_200_moves(tmp_path: Path) -> None:
    _, episodes, said = imported(tmp_path, [*long_game(200), *RAW, *long_game(200)], BOARDS)
    assert not said
    assert [(episode.length, episode.truncated, episode.success) for episode in episodes] == [
        (200, True, False),
        (4, False, True),
        (200, True, False),
    ]


def test_an_empty_line_ends_a_game(tmp_path: Path) -> None:
    _, episodes, said = imported(tmp_path, [*RAW[:2], "", *RAW], BOARDS)
    assert [episode.length for episode in episodes] == [4]
    assert said == {"line 1": "the game stops after 2 moves, before its end"}


def test_shuffled_moves_make_no_games(tmp_path: Path) -> None:
    good = [row(ENDGAME, "Qa7", 0, True)]
    _, episodes, said = imported(tmp_path, [*good, RAW[2], RAW[0], RAW[3], RAW[1], *good], BOARDS)
    assert [episode.seed for episode in episodes] == [1, 6]
    assert said == {
        "line 2": "the game begins at move 2; are the moves shuffled, or is its beginning cut off?",
        "line 3": "move 2 of the game does not follow from the one before it (move number 3 follows 1)",
        "line 5": "the game begins at move 2; are the moves shuffled, or is its beginning cut off?",
    }


def test_a_bad_line_costs_its_game_alone(tmp_path: Path) -> None:
    _, episodes, said = imported(tmp_path, ["{", *RAW, RAW[0], "{", *RAW[2:], *RAW, *RAW[:3]], BOARDS)
    assert [episode.seed for episode in episodes] == [2, 10]
    assert list(said) == ["line 1", "line 6", "line 14"]
    assert said["line 6"].startswith("line 7, inside the game, is not JSON")
    assert said["line 14"] == "the game stops after 3 moves, before its end"


@pytest.mark.parametrize(
    ("game", "reason"),
    [
        ([WON[0], 5], "move 2 of the game has no position in FEN: 5"),
        ([WON[0], {"action": "e4"}], "move 2 of the game has no position in FEN"),
        ([move("nowhere", "e4")], "move 1 of the game has no position in FEN"),
        ([move(START.replace("pppppppp", "ppppppp"), "e4")], "has no position in FEN"),
        ([move(9, "e4")], "has no position in FEN"),  # type: ignore[arg-type]
        ([move(START.replace(" w ", " b "), "e5")], "move 1 of the game is Black's; the agent is White"),
        ([WON[0], WON[3]], "move 2 of the game does not follow from the one before it (move number 3 follows 1)"),
        ([move(START, " \n")], "move 1 of the game is ' \\n', not text"),
        ([move(START, 4)], "move 1 of the game is 4, not text"),  # type: ignore[arg-type]
        ([{"state": START, "action": "e4"}], "the reward None is not a number"),
        ([move(START, "e4", float("inf"))], "the reward inf is not a finite number"),
        ([move(START, "e4", 2)], "return 2; those of boards are -401 to 1"),
        ([WON[0] | {"done": True}, WON[1]], "the game goes on after move 1 of the game, which is `done`"),
        ([WON[0] | {"done": "no"}, WON[1]], "`done` is 'no', not true or false"),
        ([WON[0] | {"done": False}], "the game stops after 1 moves, before its end"),
        (long_game(401, done=True), "401 actions; boards ends after 400"),
    ],
    ids=range(16),
)
def test_bad_games(tmp_path: Path, game: Any, reason: str) -> None:
    assert reason in refused(tmp_path, game, BOARDS, WON)


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("records", [[SOLVED, 5, LOST], [SOLVED]], ids=len)
def test_one_json_list(tmp_path: Path, indent: int | None, records: list[Any]) -> None:
    _, episodes, said = imported(tmp_path, [json.dumps(records, indent=indent)], WORDLE)
    assert [episode.seed for episode in episodes] == [1, 3][: len(episodes)]
    assert list(said) == ["record 2"][: len(records) - 1]


def test_games_in_one_json_list(tmp_path: Path) -> None:
    for records, lengths in ([[WON, WON]], [4, 4]), ([json.dumps(RAW * 2, indent=2)], [4, 4]), ([WON], [4]):
        _, episodes, _ = imported(tmp_path, records, BOARDS)
        assert [episode.length for episode in episodes] == lengths
        for file in (tmp_path / "out").iterdir():
            file.unlink()


def test_a_list_that_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"data\.jsonl is not JSON \(.*: neither a JSON record a line nor one JSON list"):
        imported(tmp_path, [json.dumps([SOLVED, LOST], indent=1)[:-9]], WORDLE)


def test_gzipped_files(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(f"{json.dumps(SOLVED)}\n{json.dumps(LOST)}\n".encode() * 500))
    dataset = import_lmrl(path, WORDLE, tmp_path / "out").dataset
    assert (dataset.manifest.episodes, dataset.manifest.mean_return) == (1000, -4.0)
    assert dataset.manifest.recipe.behaviour["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BenchError, match=r"data\.jsonl\.gz is damaged or cut off"):
        import_lmrl(path, WORDLE, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qsft_bench.dataset.lmrl.SHARD_EPISODES", 100)
    path = tmp_path / "data.jsonl"
    peaks = []
    for episodes in (200, 2_000):
        path.write_text(f"{json.dumps(LOST)}\n" * episodes)
        tracemalloc.start()
        dataset = import_lmrl(path, WORDLE, tmp_path / str(episodes)).dataset
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(dataset.manifest.shards) == episodes // 100
    assert peaks[1] < 1.5 * peaks[0]


def test_nothing_good_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"holds no record that wordle can be learned from, and 2 others"):
        imported(tmp_path, ["{", {"lines": 3}], WORDLE)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BenchError, match=r"nowhere cannot be read: No such file"):
        import_lmrl(tmp_path / "nowhere", WORDLE, tmp_path / "out")


def test_strict(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"data\.jsonl, line 2: not JSON .*; mend it, or leave out --strict to skip it"):
        imported(tmp_path, [SOLVED, "{", LOST], WORDLE, strict=True)
    assert not (tmp_path / "out").exists()
    _, episodes, _ = imported(tmp_path, [SOLVED, LOST], WORDLE, strict=True)
    assert len(episodes) == 2


def test_only_an_import_of_the_same_file_is_replaced(tmp_path: Path) -> None:
    first, _, _ = imported(tmp_path, [SOLVED, LOST], WORDLE)
    again, _, _ = imported(tmp_path, [SOLVED, LOST], WORDLE)
    assert again.manifest == first.manifest
    with pytest.raises(BenchError, match=r"out holds something else; remove it or choose another folder"):
        imported(tmp_path, [SOLVED], WORDLE)
    assert EpisodeDataset(tmp_path / "out").manifest == first.manifest
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    (tmp_path / "folder" / "manifest.json").write_text("[]")
    for taken in (tmp_path / "folder", tmp_path / "folder" / "letter.txt"):
        with pytest.raises(BenchError, match="holds something else"):
            import_lmrl(tmp_path / "data.jsonl", WORDLE, taken)
    assert (tmp_path / "folder" / "letter.txt").read_text() == "dear"


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train.jsonl").write_text(f"{json.dumps(SOLVED)}\n{{\n{json.dumps(LOST)}\n")
    main(["data", "import", "lmrl", "wordle", "train.jsonl"])
    said = capsys.readouterr()
    assert said.err.startswith("train.jsonl, line 2: not JSON")
    assert said.out.startswith("data/imported/wordle: 2 episodes, 1 skipped as bad, mean return -4.000, content ")
    main(["data", "verify", "data/imported/wordle"])
    main(["data", "list"])
    assert "data/imported/wordle" in capsys.readouterr().out
    main(["data", "show", "data/imported/wordle"])
    assert "saw 'Wordle:\\n', did 'h o v e l\\n', got -1" in capsys.readouterr().out
    main(["data", "import", "lmrl", "wordle", "train.jsonl", "--out", "elsewhere"])
    assert EpisodeDataset(root / "elsewhere").manifest.episodes == 2


def test_the_command_refuses(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train.jsonl").write_text("{\n")
    for arguments, message in (
        (["wordl", "train.jsonl"], "unknown environment 'wordl'; did you mean wordle or alfworld?"),
        (["wordle", "train.json"], "train.json cannot be read: No such file or directory"),
        (["wordle", "train.jsonl", "--strict"], "train.jsonl, line 1: not JSON"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["data", "import", "lmrl", *arguments])
        said = capsys.readouterr().err
        assert stopped.value.code == 2
        assert said.startswith(f"qsft-bench: {message}") and said.count("\n") == 1


@pytest.mark.parametrize("name", ["pick_place", "drawer_grasp"])
def test_text_is_no_data_of_the_arm(name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=f"{name} is no text game: LMRL-Gym has no data of it"):
        imported(tmp_path, [SOLVED], env_spec(name))
    assert not (tmp_path / "out").exists()
