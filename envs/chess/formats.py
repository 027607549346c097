"""How a board is told and a move is written, and how both are read back.

| option | value | what it looks like |
|---|---|---|
| observation | `lmrl` | FEN, a space after every character, as LMRL-Gym writes it |
| | `pieces` | `Ke1 Qd1 Ra1 Rh1 ... ke8 ... xe6 KQkq`: a word binds a piece to its square; no clocks |
| action | `lmrl` | SAN, a space after every character: `N x f 3 +` |
| | `word` | SAN as one word: no `+`, `#`, `=` or hyphen: `Nxf3`, `e8Q`, `OO` |

Every text ends in a newline. `pieces` names White's pieces first, then Black's, each side from king to pawns, squares from
a1 to h8 by rank; then the square on which a pawn can be taken en passant, if any, behind an `x`; last the castling rights,
or `-`.
A refused move stands behind the board on a line of its own, as an action of that format.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args, overload

import chess

from qsft_bench.errors import BenchError

ObservationFormat = Literal["lmrl", "pieces"]
ActionFormat = Literal["lmrl", "word"]

LONGEST_BOARD = 220  # characters: a FEN of at most 100 spaced, or 32 pieces and the rest
LONGEST_MOVE = 8  # letters: Qa1xb2 and room for what models make up
LETTERS = string.ascii_letters + string.digits + "+#=-?"
_LETTERS = ("", "P", "N", "B", "R", "Q", "K")  # by python-chess's number of the kind of piece
_CASTLING = {"OO": "O-O", "OOO": "O-O-O"}


def check_options(observation: str, action: str) -> None:
    """Refuse unknown formats.

    Raises:
        BenchError: an option has no such value.
    """
    for option, value, known in (
        ("observation", observation, get_args(ObservationFormat)),
        ("action", action, get_args(ActionFormat)),
    ):
        if value not in known:
            raise BenchError(f"chess: {option}={value!r}; known: {', '.join(known)}")


def write_board(board: chess.Board, observation: ObservationFormat) -> str:
    """The observation of `board` (White to move)."""
    if observation == "lmrl":
        return " ".join(board.fen()) + "\n"
    words = []
    for colour, symbols in ((chess.WHITE, "KQRBNP"), (chess.BLACK, "kqrbnp")):
        own = board.occupied_co[colour]
        masks = (board.kings, board.queens, board.rooks, board.bishops, board.knights, board.pawns)
        for symbol, mask in zip(symbols, masks, strict=True):
            words += [symbol + chess.SQUARE_NAMES[square] for square in chess.scan_forward(mask & own)]
    if board.ep_square is not None and board.has_legal_en_passant():
        words.append(f"x{chess.SQUARE_NAMES[board.ep_square]}")
    words.append(board.castling_xfen())
    return " ".join(words) + "\n"


def read_board(text: str, observation: ObservationFormat) -> chess.Board:
    """The board that `write_board` told; in the format `pieces` its clocks are new.

    Raises:
        ValueError: it tells none.
    """
    told = text.split("\n", 1)[0]
    if observation == "lmrl":
        return chess.Board(told[::2])
    *words, rights = told.split(" ")
    board = chess.Board(None)
    for word in words:
        square = chess.parse_square(word[1:])
        if word[0] == "x":
            board.ep_square = square
        else:
            board.set_piece_at(square, chess.Piece.from_symbol(word[0]))
    board.set_castling_fen(rights)
    return board


def write_move(board: chess.Board, move: chess.Move, action: ActionFormat) -> str:
    """The action that plays `move`, which is legal, on `board`."""
    if action == "lmrl":
        return " ".join(board.san(move)) + "\n"
    alike = board.pieces_mask(board.piece_type_at(move.from_square) or chess.PAWN, board.turn)
    return _word(board, move, [m.from_square for m in board.generate_legal_moves(alike, chess.BB_SQUARES[move.to_square])])


def write_moves(board: chess.Board, legal: Sequence[chess.Move], action: ActionFormat) -> list[str]:
    """As `write_move` for each of all `legal` moves, in less time."""
    if action == "lmrl":
        return [write_move(board, move, action) for move in legal]
    alike: dict[tuple[int | None, int], list[int]] = {}
    for move in legal:
        alike.setdefault((board.piece_type_at(move.from_square), move.to_square), []).append(move.from_square)
    return [_word(board, move, alike[board.piece_type_at(move.from_square), move.to_square]) for move in legal]


class LegalMoves(Sequence[str]):
    """Every legal move of a board, written when it is first looked at: writing them takes as long as a step.

    Args:
        board: copied, without its history.
        action: the format.
    """

    def __init__(self, board: chess.Board, action: ActionFormat) -> None:
        self._board = board.copy(stack=False)
        self._action: ActionFormat = action

    @cached_property
    def _written(self) -> list[str]:
        return write_moves(self._board, list(self._board.legal_moves), self._action)

    def __len__(self) -> int:
        return len(self._written)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LegalMoves) and self._written == other._written

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._written[index]


def write_illegal(board: chess.Board, action: ActionFormat) -> list[str]:
    """Moves that are refused: each kind of piece that the side to move has, to each square where none of that kind can go.

    Pawns are left out: what they write without a piece's letter can be legal.
    """
    possible = {(board.piece_type_at(move.from_square), move.to_square) for move in board.legal_moves}
    found = []
    for kind in (chess.KNIGHT, chess.BISHOP, chess.ROOK, chess.QUEEN, chess.KING):
        if board.pieces_mask(kind, board.turn):
            for square, name in enumerate(chess.SQUARE_NAMES):
                if (kind, square) not in possible:
                    word = f"{_LETTERS[kind]}{name}"
                    found.append((" ".join(word) if action == "lmrl" else word) + "\n")
    return found


def _word(board: chess.Board, move: chess.Move, starts: Sequence[int]) -> str:
    """SAN as one word, where pieces of `move`'s kind can go to its target from `starts`.

    By itself because python-chess finds out, at some cost, whether the move gives check.
    """
    kind = board.piece_type_at(move.from_square) or chess.PAWN
    start, target = chess.SQUARE_NAMES[move.from_square], chess.SQUARE_NAMES[move.to_square]
    if kind == chess.KING and board.is_castling(move):
        return "OO\n" if target > start else "OOO\n"
    if kind == chess.PAWN:
        takes = f"{start[0]}x" if start[0] != target[0] else ""
        return f"{takes}{target}{_LETTERS[move.promotion or 0]}\n"
    others = [chess.SQUARE_NAMES[square] for square in starts if square != move.from_square]
    if not others:
        start = ""
    elif all(other[0] != start[0] for other in others):
        start = start[0]
    elif all(other[1] != start[1] for other in others):
        start = start[1]
    takes = "x" if board.occupied & chess.BB_SQUARES[move.to_square] else ""
    return f"{_LETTERS[kind]}{start}{takes}{target}\n"


def read_move(board: chess.Board, action: object) -> chess.Move | None:
    """The legal move that `action` writes, in either format, or None."""
    if not isinstance(action, str):
        return None
    san = "".join(action.split())
    try:
        move = board.parse_san(_CASTLING.get(san, san))
    except ValueError:
        return None
    return move or None  # SAN has a null move, which is no legal one


def write_refused(action: object, form: ActionFormat) -> str:
    """The line that shows what was refused: at most `LONGEST_MOVE` letters of it."""
    letters = [letter for letter in str(action) if letter in LETTERS] if isinstance(action, str) else []
    shown = "".join(letters[:LONGEST_MOVE]) or "?"
    return (" ".join(shown) if form == "lmrl" else shown) + "\n"
