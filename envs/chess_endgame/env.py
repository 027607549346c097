"""Theoretical endings: White has a queen, a rook, or two of them against the lone king (after LMRL-Gym's endgame task)."""

from __future__ import annotations

from collections.abc import Sequence

import chess

from envs.chess.env import Chess
from envs.chess.formats import ActionFormat, ObservationFormat
from qsft_bench.errors import BenchError

ENDINGS = ("Q", "R", "QR", "RR")  # what White has beside the king
MOVES = 50


class ChessEndgame(Chess):
    """`Chess` from a random position of one of `ENDINGS`: White is to move, Black is not in check, nothing is over.

    Args:
        observation, action, show_refused, level: as `Chess`.
        moves: as `Chess`; a game that is not won by then returns 0 for its legal moves.
        endings: those that are played, with equal probability.

    Raises:
        BenchError: as `Chess`, or `endings` names an unknown one.
    """

    def __init__(
        self,
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "lmrl",
        show_refused: bool = True,
        level: int = 0,
        moves: int = MOVES,
        endings: Sequence[str] = ENDINGS,
    ) -> None:
        super().__init__(observation, action, show_refused, level, moves)
        if not endings or not set(endings) <= set(ENDINGS):
            raise BenchError(f"chess_endgame: endings={endings!r} must be some of {', '.join(ENDINGS)}")
        self._endings = tuple(endings)

    def _start(self) -> chess.Board:
        pieces = self._endings[int(self.np_random.integers(len(self._endings)))]
        while True:
            squares = self.np_random.choice(64, size=len(pieces) + 2, replace=False).tolist()
            board = chess.Board(None)
            for symbol, square in zip(f"kK{pieces}", squares, strict=True):
                board.set_piece_at(square, chess.Piece.from_symbol(symbol))
            if board.is_valid() and not board.is_game_over():
                return board
