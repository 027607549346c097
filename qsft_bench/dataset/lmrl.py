"""LMRL-Gym's data files (Abdulhai et al. 2023) as datasets: three kinds of record, told apart by their keys.

| kind | a record | who reads it there |
|---|---|---|
| trajectory | `{"sequence": [[text, is_action], ...], "reward": [...], "done": true}` | `wordle/bc`, `twenty_questions/ilql` |
| conversation | `{"lines": ["Is it big? Yes.", ...], "correct": true, "word": ["Bus"]}` | `twenty_questions/bc` |
| game | `[{"state": FEN, "action": SAN, "reward": 0}, ...]` | `chess/ilql` |
| game | `{"from_state": FEN, "action": SAN, "reward": 0, "done": false}`, a move each | `chess/env/data.py` |

Files are JSON lines or one JSON list, plain or gzipped. Texts come out as LMRL-Gym's environments speak, which is how ours do
under the `paper` preset. A record that cannot be learned from is reported and left out, one whose game stops before its end
too: what it would have returned is not known.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
import reprlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qsft_bench.dataset.store import (
    EpisodeDataset,
    Manifest,
    Recipe,
    Shard,
    make_manifest,
    write_manifest,
    write_shard,
)
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_directory, check_free, file_sha256, write_text
from qsft_bench.preset import scale
from qsft_bench.spec import EnvSpec

TIER = "imported"
SHARD_EPISODES = 2_000  # in memory at a time
GAME_CAP = 200  # moves after which LMRL-Gym's chess data break a game off

# What a trajectory opens with says which game it is, and so what can be answered.
ANSWERS = {
    "Wordle:\n": re.compile(r"[byg]( [byg]){4}\n|\n"),  # an empty line: not a word
    "Questions:\n": re.compile(r"(Yes|No)\.\n"),
}
FEN = re.compile(r"[1-8pnbrqkPNBRQK]+(/[1-8pnbrqkPNBRQK]+){7} [wb] (-|[KQkq]{1,4}) (-|[a-h][36]) [0-9]{1,5} [0-9]{1,5}")
BLANK = object()  # an empty line, which ends a game
Report = Callable[[str, str], None]


class BadRecordError(ValueError):
    """Why a record is left out."""


@dataclass(frozen=True)
class Imported:
    """What came of a file."""

    dataset: EpisodeDataset
    skipped: int


@dataclass(frozen=True)
class Play:
    """A record in the terms of `Episode`; there is one observation more than there are actions and rewards."""

    observations: list[str]
    actions: list[str]
    rewards: list[float]
    success: bool
    truncated: bool = False


def import_lmrl(
    path: Path, spec: EnvSpec, directory: Path, *, strict: bool = False, report: Report = lambda place, reason: None
) -> Imported:
    """Read the file at `path` as data of `spec` and write it as a dataset into `directory`, all of it or nothing.

    The recipe holds the kind of the records and the file's SHA-256; an episode's seed is the number of its record (the line,
    from 1, or the place in the list). One shard of episodes is in memory at a time, and a file that is one JSON list.

    Args:
        strict: whether a bad record is an error.
        report: told about every bad record: where it stands (`line 7`, `record 7`) and what is wrong with it.

    Raises:
        BenchError: the file cannot be read or holds no good record, `directory` holds something else, or `strict` (see above).
    """
    paper = scale("paper", spec)
    if paper.codec.startswith("control"):
        raise BenchError(f"{spec.name} is no text game: LMRL-Gym has no data of it")
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from error
    check_free(directory, directory / "manifest.json", lambda found: _same_file(found, spec, sha256))
    place = "record" if _is_one_list(path) else "line"
    kind, skipped = "", 0

    def episodes() -> Iterator[Episode]:
        nonlocal kind, skipped
        for number, value in _whole_games(_values(path, place)):
            try:
                found, play = _read(value, spec.horizon)
                if kind and found != kind:
                    raise BadRecordError(f"a {found}, where the records before are each a {kind}")
                episode = _episode(play, spec, number)
            except BadRecordError as error:
                if strict:
                    raise BenchError(f"{path}, {place} {number}: {error}; mend it, or leave out --strict to skip it") from None
                report(f"{place} {number}", str(error))
                skipped += 1
            else:
                kind = found
                yield episode

    with atomic_directory(directory) as temporary:
        good = episodes()
        shards: list[Shard] = []
        first = 0
        while batch := list(itertools.islice(good, SHARD_EPISODES)):
            shards.append(write_shard(temporary, len(shards), first, batch))
            first += len(batch)
        if not shards:
            raise BenchError(f"{path} holds no record that {spec.name} can be learned from, and {skipped:,} others")
        recipe = Recipe(
            env=spec.name,
            env_id=spec.id,
            tier=TIER,
            options=dict(paper.options),
            behaviour={"source": "LMRL-Gym", "kind": kind, "sha256": sha256, "skipped": skipped},
            episodes=first,
            seed=0,
            shard_episodes=SHARD_EPISODES,
        )
        manifest = make_manifest(recipe, shards)
        write_text(temporary / "card.md", _card(manifest))
        write_manifest(temporary / "manifest.json", manifest)
    return Imported(EpisodeDataset(directory), skipped)


def _same_file(manifest: Any, spec: EnvSpec, sha256: str) -> bool:
    """Whether a manifest is that of an import of the same file for the same environment."""
    made = manifest.get("recipe")
    if not isinstance(made, dict) or not isinstance(made.get("behaviour"), dict):
        return False
    return (made.get("env"), made.get("tier"), made["behaviour"].get("sha256")) == (spec.name, TIER, sha256)


def _card(manifest: Manifest) -> str:
    made, (low, high) = manifest.recipe, manifest.return_bounds
    source = made.behaviour
    lines = [
        f"# {made.env}, {made.tier}",
        "",
        f"Data of `{made.env_id}`, imported from a file of LMRL-Gym's with SHA-256 `{source['sha256']}`.",
        "",
        f"- episodes: {manifest.episodes:,} in {len(manifest.shards)} Parquet shards, one row a turn",
        f"- records there: a {source['kind']} each",
        f"- left out: {source['skipped']:,} records that could not be learned from",
        f"- return: mean {manifest.mean_return:.3f}, sd {manifest.return_sd:.3f}, {low:g} to {high:g}",
        f"- success: {manifest.success_rate:.1%}",
        f"- environment options that speak the same way: `{made.options}`",
        "- seed: the number of the record in that file; the environment was not reset with it",
        f"- content hash: `{manifest.content}`",
    ]
    return "\n".join(lines) + "\n"


# Files to records -----------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, unpacked if it is gzipped.

    Raises:
        BenchError: it is cut off, damaged or unreadable.
    """
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if gzipped else path.open("rb") as file:
            yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise BenchError(f"{path} is damaged or cut off ({error}); get it again") from error


def _is_one_list(path: Path) -> bool:
    """Whether a file is one JSON list of records, not a record a line: a list whose first line is not one of moves."""
    lines = (line for line in _lines(path) if line.strip())
    first, second = next(lines, b""), next(lines, b"")
    if not first.lstrip().startswith(b"["):
        return False
    value = _parsed(first)
    if isinstance(value, BadRecordError):
        return isinstance(_parsed(second), BadRecordError)
    return not second and not any(_is_move(item) for item in value)


def _values(path: Path, place: str) -> Iterator[tuple[int, Any]]:
    """Numbered JSON values from 1; a `BadRecordError` stands for a line that is none, `BLANK` for an empty one.

    Raises:
        BenchError: the file is damaged, or begins like one JSON list but is none.
    """
    if place == "line":
        for number, line in enumerate(_lines(path), 1):
            yield number, _parsed(line) if line.strip() else BLANK
        return
    whole = _parsed(b"".join(_lines(path)))
    if isinstance(whole, BadRecordError):
        raise BenchError(f"{path} is {whole}: neither a JSON record a line nor one JSON list")
    yield from enumerate(whole, 1)


def _parsed(text: bytes) -> Any:
    """A JSON value, or the `BadRecordError` that says why there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRecordError(f"not JSON ({error})")


def _whole_games(values: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """The same values, moves that stand a line each put together to games, under the number of the first.

    A game ends with `done`, an empty line, or where another begins: at move 1 with another position (LMRL-Gym breaks games
    off without a mark). Shuffled moves, as its behavioural cloning reads them, make no games.
    """
    game: list[Any] = []
    start = 0
    for number, value in values:
        move = _is_move(value)
        if game and (value is BLANK or not (move or isinstance(value, BadRecordError)) or _begins(value, game[-1])):
            yield start, _from_move_one(game)
            game = []
        if move or (game and isinstance(value, BadRecordError)):
            start = start if game else number
            game.append(value if move else BadRecordError(f"line {number}, inside the game, is {value}"))
            if move and value.get("done"):
                yield start, _from_move_one(game)
                game = []
        elif value is not BLANK:
            yield number, value
    if game:
        yield start, _from_move_one(game)


def _is_move(value: Any) -> bool:
    return isinstance(value, dict) and "action" in value and ("from_state" in value or "state" in value)


def _begins(move: Any, before: Any) -> bool:
    """Whether a game begins with `move`; a refused first move leaves the position as it was."""
    here = _state(move)
    return here is not None and here != _state(before) and _move_number(here) == 1


def _from_move_one(game: list[Any]) -> Any:
    """The game, or what is wrong with it if it does not begin with its first move."""
    first = _state(game[0])
    if first is None or _move_number(first) == 1:
        return game
    return BadRecordError(
        f"the game begins at move {_move_number(first)}; are the moves shuffled, or is its beginning cut off?"
    )


# Records to episodes --------------------------------------------------------------------------------------------------


def _episode(play: Play, spec: EnvSpec, number: int) -> Episode:
    """A play as an episode of `spec`.

    Raises:
        BadRecordError: it is longer than the environment allows, its return is impossible, or a text is no Unicode.
    """
    if len(play.actions) > spec.horizon:
        raise BadRecordError(f"{len(play.actions)} actions; {spec.name} ends after {spec.horizon}")
    total, (low, high) = math.fsum(play.rewards), spec.return_range
    if not low <= total <= high:
        raise BadRecordError(f"return {total:g}; those of {spec.name} are {low:g} to {high:g}")
    for text in (*play.observations, *play.actions):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRecordError(f"{reprlib.repr(text)} is not Unicode text") from None
    turns = [Turn(*turn) for turn in zip(play.observations, play.actions, play.rewards, strict=False)]
    return Episode(spec.name, number, [*turns, Turn(play.observations[-1])], not play.truncated, play.truncated, play.success)


def _read(value: Any, horizon: int) -> tuple[str, Play]:
    """The kind of a record and what it tells.

    Raises:
        BadRecordError: it is of no kind, or not as its kind is.
    """
    if isinstance(value, BadRecordError):
        raise value
    if isinstance(value, dict) and "sequence" in value:
        return "trajectory", _trajectory(value, horizon)
    if isinstance(value, dict) and "lines" in value:
        return "conversation", _conversation(value, horizon)
    if isinstance(value, list):
        return "game", _game(value)
    raise BadRecordError(f"{reprlib.repr(value)} has neither `sequence`, nor `lines`, nor `state` and `action`")


def _trajectory(record: dict[str, Any], horizon: int) -> Play:
    """Texts in turn, with a reward each as in LMRL-Gym's `TextTrajectory`, or each but the opening as in its files."""
    sequence = record["sequence"]
    if not isinstance(sequence, list):
        raise BadRecordError(f"`sequence` is {reprlib.repr(sequence)}, not a list")
    texts: list[str] = []
    for index, pair in enumerate(sequence):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise BadRecordError(f"text {index} of `sequence` is {reprlib.repr(pair)}, not [text, is_action]")
        if _flag(pair[1], "is_action") != bool(index % 2):
            raise BadRecordError(
                f"text {index} of `sequence` is out of turn: observation, action, observation, ... is expected"
            )
        texts.append(pair[0])
    if len(texts) < 3 or len(texts) % 2 == 0:
        raise BadRecordError(f"`sequence` has {len(texts)} texts; an opening and pairs of action and answer are expected")
    rewards = record.get("reward")
    if not isinstance(rewards, list) or len(texts) - len(rewards) not in (0, 1):
        found = f"{len(rewards)} rewards" if isinstance(rewards, list) else f"`reward` {reprlib.repr(rewards)}"
        raise BadRecordError(f"{found} for {len(texts)} texts; as many are expected, or one fewer")
    rewards = [0.0] * (len(texts) - len(rewards)) + [_number(reward) for reward in rewards]
    if any(rewards[::2]):
        raise BadRecordError("an observation has a reward; only actions earn any")
    if not _flag(record.get("done"), "done"):
        raise BadRecordError("`done` is false: the game stops before its end")
    return _guesses(texts, rewards[1::2], horizon)


def _conversation(record: dict[str, Any], horizon: int) -> Play:
    """Questions with their answers; each costs 1, but for the last if it names the word."""
    lines, word = record["lines"], record.get("word")
    if not isinstance(lines, list) or not lines:
        raise BadRecordError(f"`lines` is {reprlib.repr(lines)}, not a list of questions with answers")
    if not isinstance(word, list) or not word or not all(isinstance(name, str) and name for name in word):
        raise BadRecordError(f"`word` is {reprlib.repr(word)}, not a list of the word's names")
    texts = ["Questions:\n"]
    for line in lines:
        question, found, answer = line.rpartition("? ") if isinstance(line, str) else ("", "", "")
        if not found:
            raise BadRecordError(f"{reprlib.repr(line)} is not a question and its answer, `Is it ...? Yes.`")
        texts += [f"{question}?\n", f"{answer}\n"]
    correct = _flag(record.get("correct"), "correct")
    if correct and texts[-1] != "Yes.\n":
        raise BadRecordError(f"`correct` is true, but the last answer is {reprlib.repr(texts[-1])}")
    return _guesses(texts, [-1.0] * (len(lines) - correct) + [0.0] * correct, horizon)


def _guesses(texts: list[str], rewards: list[float], horizon: int) -> Play:
    """A game that ends with the first action that earns 0, the right guess, or after `horizon` actions."""
    known = ANSWERS.get(texts[0])
    if known is None:
        raise BadRecordError(f"it opens with {reprlib.repr(texts[0])}; known: {', '.join(map(repr, ANSWERS))}")
    for action, answer in zip(texts[1::2], texts[2::2], strict=True):
        if not action.strip() or not action.endswith("\n"):
            raise BadRecordError(f"the action {reprlib.repr(action)} is not a line of text")
        if not known.fullmatch(answer):
            raise BadRecordError(f"{reprlib.repr(answer)} is no answer in a game that opens with {texts[0]!r}")
    if 0 in rewards[:-1]:
        raise BadRecordError(f"it goes on after action {rewards.index(0) + 1}, which earned 0 and so was right")
    right = rewards[-1] == 0
    if not right and len(rewards) < horizon:
        raise BadRecordError(f"it stops after {len(rewards)} of {horizon} actions, none of them right")
    return Play(texts[::2], texts[1::2], rewards, right)


def _game(moves: list[Any]) -> Play:
    """White's moves, each with the board before it. The board after the last is not told: its observation is empty."""
    boards: list[str] = []
    actions, rewards = [], []
    for index, move in enumerate(moves):
        if isinstance(move, BadRecordError):
            raise move
        board, told = _state(move), f"move {index + 1} of the game"
        if board is None:
            raise BadRecordError(f"{told} has no position in FEN: {reprlib.repr(move)}")
        if board.split()[1] != "w":
            raise BadRecordError(f"{told} is Black's; the agent is White")
        if boards and board != boards[-1] and _move_number(board) != _move_number(boards[-1]) + 1:
            numbers = f"{_move_number(board)} follows {_move_number(boards[-1])}"
            raise BadRecordError(f"{told} does not follow from the one before it (move number {numbers})")
        san = move["action"].replace(" ", "").strip() if isinstance(move["action"], str) else ""
        if not san:
            raise BadRecordError(f"{told} is {reprlib.repr(move['action'])}, not text")
        if index + 1 < len(moves) and _flag(move.get("done", False), "done"):
            raise BadRecordError(f"the game goes on after {told}, which is `done`")
        boards.append(board)
        actions.append(" ".join(san) + "\n")
        rewards.append(_number(move.get("reward")))
    if not moves:
        raise BadRecordError("a game without moves")
    over = _flag(moves[-1].get("done", len(moves) < GAME_CAP), "done")
    if not over and len(moves) < GAME_CAP:
        raise BadRecordError(f"the game stops after {len(moves)} moves, before its end")
    observations = [" ".join(board) + "\n" for board in boards]
    return Play([*observations, ""], actions, rewards, success=over and rewards[-1] > 0, truncated=not over)


def _state(move: Any) -> str | None:
    """The position of a move in FEN, written with a space after every character or as it is; None if it is none."""
    text = move.get("from_state", move.get("state")) if _is_move(move) else None
    return _fen(text) if isinstance(text, str) else None


@lru_cache(maxsize=2 * GAME_CAP)  # each is asked for several times while its game is read
def _fen(text: str) -> str | None:
    text = text.strip("\n")
    if len(text) % 2 and not text[1::2].strip(" "):
        text = text[::2]
    if not FEN.fullmatch(text):
        return None
    ranks = text.split(" ", 1)[0].split("/")
    return text if all(sum(int(one) if one.isdigit() else 1 for one in rank) == 8 for rank in ranks) else None


def _move_number(board: str) -> int:
    return int(board.rsplit(" ", 1)[1])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecordError(f"the reward {reprlib.repr(value)} is not a number")
    if not abs(value) <= 1e9:
        raise BadRecordError(f"the reward {reprlib.repr(value)} is not a finite number below 1e9")
    return float(value)


def _flag(value: Any, name: str) -> bool:
    """A truth value, which LMRL-Gym writes as true, 1 or 1.0."""
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise BadRecordError(f"`{name}` is {reprlib.repr(value)}, not true or false")
    return bool(value)
