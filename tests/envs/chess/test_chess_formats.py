"""How boards and moves are written: by hand, read back, and how the word codec cuts them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsft_bench.codec import TextCodec

chess = pytest.importorskip("chess", reason="needs python-chess: pip install chess")

from envs.chess.formats import (  # noqa: E402 - needs python-chess
    LONGEST_BOARD,
    read_board,
    read_move,
    write_board,
    write_move,
    write_moves,
    write_refused,
)

CROWDED = "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1"


def walks(choices: list[int], fen: str) -> Any:
    board = chess.Board(fen)
    for choice in choices:
        if board.is_game_over():
            break
        legal = list(board.legal_moves)
        board.push(legal[choice % len(legal)])
    return board


BOARDS = st.builds(walks, st.lists(st.integers(0, 10**6), max_size=40), st.sampled_from([chess.STARTING_FEN, CROWDED]))


@settings(max_examples=50)
@given(BOARDS)
def test_boards_and_moves_survive_the_round_trip(board: Any) -> None:
    told = write_board(board, "lmrl")
    assert told == " ".join(board.fen()) + "\n" and read_board(told, "lmrl").fen() == board.fen()
    if board.turn == chess.BLACK:  # `pieces` tells boards on which White is to move
        board.push(chess.Move.null())
    told = write_board(board, "pieces")
    assert len(told) <= LONGEST_BOARD
    assert read_board(told, "pieces").epd() == board.epd()
    assert read_board(told + "Nf3\n", "pieces").epd() == board.epd()  # what was refused is no part of it
    legal = list(board.legal_moves)
    for action in ("lmrl", "word"):
        written = [write_move(board, move, action) for move in legal]
        if action == "word":  # python-chess writes SAN too
            assert written == [board.san(move).rstrip("+#").replace("=", "").replace("-", "") + "\n" for move in legal]
        assert write_moves(board, legal, action) == written and len(set(written)) == len(legal)
        assert [read_move(board, text) for text in written] == legal


def test_pieces_by_hand() -> None:
    board = chess.Board("4k2r/8/8/3pP3/8/8/8/RN2K2R w KQk d6 0 9")
    assert write_board(board, "pieces") == "Ke1 Ra1 Rh1 Nb1 Pe5 ke8 rh8 pd5 xd6 KQk\n"
    board.ep_square = None
    assert write_board(board, "pieces") == "Ke1 Ra1 Rh1 Nb1 Pe5 ke8 rh8 pd5 KQk\n"


@pytest.mark.parametrize(
    ("fen", "uci", "lmrl", "word"),
    [
        (chess.STARTING_FEN, "g1f3", "N f 3\n", "Nf3\n"),
        ("4k2r/8/8/8/8/8/8/4K2R w K - 0 1", "h1h8", "R x h 8 +\n", "Rxh8\n"),
        ("4k2r/8/8/8/8/8/8/4K2R w K - 0 1", "e1g1", "O - O\n", "OO\n"),
        ("4k3/8/8/8/8/8/8/R3K3 w Q - 0 1", "e1c1", "O - O - O\n", "OOO\n"),
        ("3r2k1/4P3/8/8/8/8/8/4K3 w - - 0 1", "e7d8q", "e x d 8 = Q +\n", "exd8Q\n"),
        ("6k1/5ppp/8/8/8/8/8/R3K2R w - - 0 1", "a1a8", "R a 8 #\n", "Ra8\n"),
        ("6k1/5ppp/8/8/8/8/4K3/R6R w - - 0 1", "a1d1", "R a d 1\n", "Rad1\n"),
        ("6k1/R4ppp/8/8/8/8/4K3/R7 w - - 0 1", "a1a4", "R 1 a 4\n", "R1a4\n"),
        ("1k6/8/8/8/4Q2Q/8/8/K6Q w - - 0 1", "h4e1", "Q h 4 e 1\n", "Qh4e1\n"),
    ],
)
def test_moves_by_hand(fen: str, uci: str, lmrl: str, word: str) -> None:
    board, move = chess.Board(fen), chess.Move.from_uci(uci)
    assert (write_move(board, move, "lmrl"), write_move(board, move, "word")) == (lmrl, word)
    for text in (lmrl, word, lmrl.replace(" ", ""), word.strip(), f"  {word}"):
        assert read_move(board, text) == move


def test_what_is_no_move() -> None:
    board = chess.Board()
    for text in ("", "\n", "Nf4", "e5", "--", "Z0", "0000", "@@@@", "Nf3 Nc3", "nf3x", None, 3, b"e4", "e4" * 10_000, "\ud800"):
        assert read_move(board, text) is None


def test_refused_moves_are_cut_and_cleaned() -> None:
    assert write_refused("Nf3\n", "word") == "Nf3\n"
    assert write_refused("N f 3 +\n", "lmrl") == "N f 3 +\n"
    assert write_refused("<script>\n\nO-O-O-O", "word") == "scriptO-\n"
    assert write_refused("\u00e9 !", "word") == write_refused(None, "word") == "?\n"


@settings(max_examples=50)
@given(BOARDS)
def test_a_move_is_one_token_and_a_piece_is_one(board: Any) -> None:
    told = write_board(board, "pieces")
    assert len(TextCodec.pieces("words", told)) == len(told.split()) <= 34
    for move in board.legal_moves:
        assert len(TextCodec.pieces("words", write_move(board, move, "word"))) == 1
