"""Weak play: the best moves of a position as engine and symmetry tell them, and Stockfish's own way of choosing worse ones.

Stockfish's weak play seeds itself from the clock. Here the engine always plays at full strength and the draw is ours, so that
a game is a function of its seed. There is no "Elo 1200" in Stockfish 15.1: it silently ignores a UCI_Elo below 1350, which is
level 0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from sys import intern

import chess

from envs.chess.engine import Analysis, analyse

Scored = list[tuple[chess.Move, int]]
KEPT = 2**17  # positions: a small ending's all; about 90 MB
LEVELS = range(20)  # Stockfish's; 20 is full strength
_PAWN = 35  # centipawns: Stockfish 15.1's PawnValueMg, 126 of 361 to the pawn that its scores count in


def scored_moves(board: chess.Board, depth: int) -> Scored:
    """The best moves of `board` and their scores in centipawns for the side to move, best first, searched to `depth` plies.

    Answers are kept. Positions without pawns and castling rights are looked at in one of their eight mirror images, so that a
    small ending has an eighth of the positions.

    Raises:
        BenchError: as `engine.analyse`.
    """
    if board.pawns or board.castling_rights:
        return [(chess.Move.from_uci(move), score) for move, score in _kept(board, depth)]
    king = board.king(chess.WHITE)
    image, back = _IMAGES[_IMAGE_OF[0 if king is None else king]]
    turned = chess.Board(None)
    turned.turn = board.turn
    for square, piece in board.piece_map().items():
        turned.set_piece_at(image[square], piece)
    found = []
    for uci, score in _kept(turned, depth):
        start, target = _SQUARES[uci[:2]], _SQUARES[uci[2:]]
        found.append((chess.Move(back[start], back[target]), score))
    return found


def _kept(board: chess.Board, depth: int) -> Analysis:
    passing = board.ep_square if board.ep_square is not None and board.has_legal_en_passant() else 0
    key = _KEY.pack(
        *(board.occupied_co[chess.WHITE], board.occupied, board.castling_rights),
        *(board.kings, board.queens, board.rooks, board.bishops, board.knights),  # what else is there, are pawns
        *(depth, board.turn, passing),
    )
    found = _known.get(key)
    if found is None:
        found = tuple((intern(move), score) for move, score in analyse(board.epd(), depth))
        while len(_known) >= KEPT:
            _known.pop(next(iter(_known)), None)
        _known[key] = found
    return found


def forget() -> None:
    """Drop every answer that was kept."""
    _known.clear()


def choose(scored: Scored, level: int, draws: Sequence[float]) -> chess.Move:
    """The move that Stockfish 15.1 plays at skill `level`, 0 to 19 (`Skill::pick_best` in its search.cpp).

    Args:
        scored: as `scored_moves` gives them.
        draws: numbers in [0, 1), one for each.
    """
    weakness = 120 - 2 * level
    top, last = scored[0][1], scored[-1][1]
    delta = min(top - last, _PAWN)
    chosen, best = scored[0][0], scored[-1][1]
    for (move, score), draw in zip(scored, draws, strict=True):
        worth = score + (weakness * (top - score) + delta * int(draw * weakness)) // 128
        if worth >= best:
            chosen, best = move, worth
    return chosen


def depth_of(level: int) -> int:
    """How deep, in plies, a player of `level` looks: Stockfish chooses its weak move once it has searched this far."""
    return level + 1


def _images() -> list[tuple[list[int], list[int]]]:
    """The eight symmetries of the board, as the square that each square goes to, and that it comes from."""
    found = []
    for swap in (False, True):
        for flip in (0, 7, 56, 63):  # none, files, ranks, both
            image = [(chess.square(chess.square_rank(s), chess.square_file(s)) if swap else s) ^ flip for s in chess.SQUARES]
            found.append((image, [image.index(square) for square in chess.SQUARES]))
    return found


_IMAGES = _images()
# For each square the image that takes it into the triangle a1, d1, d4.
_TRIANGLE = {chess.square(file, rank) for file in range(4) for rank in range(file + 1)}
_IMAGE_OF = [next(k for k, (image, _) in enumerate(_IMAGES) if image[square] in _TRIANGLE) for square in chess.SQUARES]

_SQUARES = {name: square for square, name in enumerate(chess.SQUARE_NAMES)}
_KEY = struct.Struct("<8Q3H")
_known: dict[bytes, Analysis] = {}
