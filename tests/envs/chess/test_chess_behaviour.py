"""Weak play by hand, mirror images, and the players: exact likelihoods, independence of company, the declared numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from envs.chess import SPEC
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.registry import attribute
from qsft_bench.rollout import rollout

chess = pytest.importorskip("chess", reason="needs python-chess: pip install chess")
engine = pytest.importorskip("envs.chess.engine")
try:
    engine.find()
except BenchError as error:
    pytest.skip(str(error), allow_module_level=True)

from envs.chess import skill  # noqa: E402 - needs python-chess
from envs.chess.behaviour import BestOrAny, Levels, habitual, has_habit  # noqa: E402
from envs.chess.env import Chess  # noqa: E402
from envs.chess.formats import read_board, read_move, write_board, write_illegal  # noqa: E402

SMALL: dict[str, Any] = dict(SPEC.scales["small"]["options"])


def at(told: str, seed: int = 7) -> Episode:
    return Episode("chess", seed, [Turn(told)])


def test_weak_choice_by_hand() -> None:
    good, bad, awful = (chess.Move.from_uci(uci) for uci in ("e2e4", "d2d4", "a2a4"))
    scored = [(good, 100), (bad, 50), (awful, -9900)]
    # Level 0, a draw of 0 to 119: the best is worth 100 + 35 draw / 128, a move 50 worse 50 + (120 x 50 + 35 draw) / 128.
    assert skill.choose(scored, 0, [0.0, 0.0, 0.0]) == good  # 100, 96, -525
    assert skill.choose(scored, 0, [0.0, 0.15, 0.0]) == bad  # 100, 101
    assert skill.choose(scored, 0, [0.999, 0.999, 0.999]) == good  # 132, 129
    assert skill.choose(scored, 0, [0.0, 0.0, 0.999]) == good
    assert skill.choose(scored, 19, [0.0, 0.5, 0.0]) == good  # 100, 50 + (82 x 50 + 35 x 41) / 128 = 93
    assert skill.choose([(good, 30), (bad, 30)], 0, [0.5, 0.5]) == bad  # of equals the later, as in Stockfish
    assert skill.choose([(good, -engine.MATE)], 3, [0.7]) == good


def test_mirror_images_of_an_ending_share_one_answer() -> None:
    board = chess.Board("8/8/8/3k4/8/1Q6/8/2K5 w - - 0 1")
    skill.forget()
    answers = set()
    for image in (
        lambda b: b,
        lambda b: b.transform(chess.flip_horizontal),
        lambda b: b.transform(chess.flip_vertical),
        lambda b: b.transform(chess.flip_diagonal),
        lambda b: b.transform(chess.flip_anti_diagonal),
        lambda b: b.transform(chess.flip_horizontal).transform(chess.flip_diagonal),
    ):
        turned = image(board)
        (move, score), *_ = skill.scored_moves(turned, 3)
        assert move in turned.legal_moves
        distance = chess.square_distance(move.to_square, turned.king(chess.BLACK))
        answers.add((score, turned.piece_type_at(move.from_square), distance))
    assert len(skill._known) == 1 and len(answers) == 1
    pawn = chess.Board("8/8/8/3k4/8/1P6/8/2K5 w - - 0 1")  # a pawn's board has no image
    skill.scored_moves(pawn, 1), skill.scored_moves(pawn.transform(chess.flip_horizontal), 1)
    assert len(skill._known) == 3


def test_only_so_many_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skill, "KEPT", 2)
    skill.forget()
    for fen in (chess.STARTING_FEN, "8/8/8/3k4/8/1Q6/8/2K5 w - - 0 1", "8/8/8/3k4/8/1Q6/8/2K5 b - - 0 1"):
        skill.scored_moves(chess.Board(fen), 1)
    assert len(skill._known) == 2


def test_distribution_by_hand() -> None:
    # The rook on h1 mates on h8; the king on c1 stands on a dark square, on d1 on a light one.
    for fen, light in (("k7/2R5/8/8/8/8/8/2K4R w - - 0 1", False), ("k7/2R5/8/8/8/8/8/3K3R w - - 0 1", True)):
        board = chess.Board(fen)
        assert has_habit(board) == light
        assert board.san(habitual(board)) == "Ra7+"  # c7a7: along its rank, before h1e1
        player = BestOrAny(**SMALL, best=0.8, habit=0.5, depth=4)
        episode = at(write_board(board, "pieces"))
        any_move = 0.2 / board.legal_moves.count()
        said = ["Rh8\n", "Ra7\n", "Rb7\n", "Rh8", "R h 8 #\n", "e4\n"]
        expected = [0.3, 0.5, 0.0, 0, 0, 0] if light else [0.8, 0.0, 0.0, 0, 0, 0]
        expected[:3] = [value + any_move for value in expected[:3]]
        with np.errstate(divide="ignore"):
            assert player.log_likelihood([episode] * len(said), said) == pytest.approx(np.log(expected))
        greedy = BestOrAny(**SMALL, best=0.8, habit=0.5, depth=4, temperature=0)
        assert greedy.act([episode]) == ["Ra7\n" if light else "Rh8\n"]
        assert BestOrAny(**SMALL, best=1, depth=4).act([episode]) == ["Rh8\n"]


@pytest.mark.parametrize("options", [SMALL, {}])
def test_likelihoods_are_frequencies(options: Any) -> None:
    board = chess.Board("8/8/8/3k4/8/8/1Q6/3K4 w - - 0 1")
    told = write_board(board, options.get("observation", "lmrl"))
    player = BestOrAny(**options, best=0.5, habit=0.3, depth=2)
    episodes = [at(told, seed) for seed in range(5000)]
    counts = Counter(player.act(episodes))
    actions, probabilities = player.distribution(told)
    assert len(actions) == board.legal_moves.count() and probabilities.sum() == pytest.approx(1)
    assert [counts[action] / 5000 for action in actions] == pytest.approx(probabilities, abs=0.03)
    assert player.log_likelihood(episodes[:1], actions[:1]) == pytest.approx(np.log(probabilities[:1]))


@pytest.mark.parametrize("options", [SMALL, {}])
def test_illegal_moves_are_drawn_as_declared_and_all_refused(options: Any) -> None:
    board = chess.Board("7k/8/8/8/8/8/8/KQ5R w - - 0 1")
    told = write_board(board, options.get("observation", "lmrl"))
    player = BestOrAny(**options, best=0.5, illegal=0.2, depth=2)
    actions, probabilities = player.distribution(told)
    legal = [read_move(board, action) is not None for action in actions]
    assert len(set(actions)) == len(actions) and sum(legal) == board.legal_moves.count()
    # A queen, rooks and a king, 64 squares each, without those that one of them can go to.
    reached = {(board.piece_type_at(move.from_square), move.to_square) for move in board.legal_moves}
    assert len(actions) - sum(legal) == 3 * 64 - len(reached)
    assert probabilities[~np.array(legal)] == pytest.approx(0.2 / (3 * 64 - len(reached)))
    said = player.act([at(told, seed) for seed in range(5000)])
    assert sum(read_move(board, str(action)) is None for action in said) / 5000 == pytest.approx(0.2, abs=0.02)
    assert player.log_likelihood([at(told)], actions[-1:]) == pytest.approx(np.log(probabilities[-1:]))
    start = write_illegal(chess.Board(), "word")
    assert "Nd5\n" in start and "Nf3\n" not in start and not any(read_move(chess.Board(), word) for word in start)


def test_draws_of_a_game() -> None:
    """Skill and share of random moves are the game's: uniform, and the same at every turn."""
    told = write_board(chess.Board(), "pieces")
    always = Levels(**SMALL, levels=1, random=1.0)
    moves = Counter(always.act([at(told, seed) for seed in range(3000)]))
    best4 = {move for move, _ in skill.scored_moves(chess.Board(), 1)}
    others = sum(count for action, count in moves.items() if chess.Board().parse_san(str(action).strip()) not in best4)
    assert others / 3000 == pytest.approx(0.5 * 16 / 20, abs=0.03)  # half the moves are random, 4 of 20 are among the best
    assert not Counter(Levels(**SMALL, levels=1, random=0.0).act([at(told, seed) for seed in range(200)])).keys() - {
        f"{chess.Board().san(move)}\n" for move in best4
    }


@pytest.mark.parametrize("options", [SMALL, {}, {"observation": "pieces"}])
def test_an_answer_does_not_depend_on_company_or_options(options: Any) -> None:
    def moves(batch_size: int) -> list:
        player = Levels(**options, levels=5, random=0.05)
        played = rollout(player, lambda: Chess(**options, moves=4), range(50, 54), name="chess", batch_size=batch_size)
        return [
            [read_board(str(turn.observation), options.get("observation", "lmrl")).board_fen() for turn in episode.turns]
            for episode in played
        ]

    assert moves(1) == moves(4)


def test_options_of_players() -> None:
    for bad in ({"levels": 0, "random": 0}, {"levels": 21, "random": 0}, {"levels": 5, "random": 2}):
        with pytest.raises(BenchError, match="chess: "):
            Levels(**bad)
    for bad in (
        {"best": 0.2, "habit": 0.3},
        {"best": 1.1},
        {"illegal": -0.1},
        {"depth": 0},
        {"temperature": -1},
        {"bset": 1},
        {"action": "uci"},
    ):
        with pytest.raises(BenchError, match="chess: "):
            BestOrAny(**bad)
    BestOrAny(show_refused=False, level=3, moves=5)


def test_declared_players() -> None:
    assert attribute(SPEC.behaviour) is Levels and attribute(SPEC.random) is BestOrAny
    attribute(SPEC.behaviour)(**SMALL, **SPEC.tier("base").behaviour)
    played = list(rollout(BestOrAny(**SMALL), lambda: Chess(**SMALL), range(10), name="chess"))
    assert {episode.total_return for episode in played} == {-1} == {round(SPEC.tier("base").references["random"])}
    assert not any(episode.invalid_actions for episode in played)
