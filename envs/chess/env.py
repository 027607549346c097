"""Chess by LMRL-Gym's rules (Abdulhai et al.): White against a weak Stockfish; illegal moves cost 1 and change nothing."""

from __future__ import annotations

from typing import Any

import chess
import gymnasium
from gymnasium import spaces

from envs.chess import engine
from envs.chess.formats import (
    LETTERS,
    LONGEST_BOARD,
    LONGEST_MOVE,
    ActionFormat,
    LegalMoves,
    ObservationFormat,
    check_options,
    read_move,
    write_board,
    write_refused,
)
from envs.chess.skill import LEVELS, choose, depth_of, scored_moves
from qsft_bench.errors import BenchError

MOVES = 400
REFUSED_SHOWN = 4


class Chess(gymnasium.Env[str, str]):
    """One game; the observation is the board alone (fifty-move clock and history are no part of it, but in `lmrl`'s FEN).

    Winning pays 1, losing -1, any other legal move 0. An illegal or unreadable move pays -1, the board stays, `info["invalid"]`
    says why. `info["admissible"]` lists the legal moves. The game ends by checkmate, stalemate, insufficient material, the
    75-move rule or fivefold repetition; draws that a player would have to claim are not claimed. At the end `info["success"]`
    says whether White won; the outcome, 1, 0 or -1, is the return plus the number of refused moves; `info["statistics"]` has
    it, and the share of legal moves.

    Args:
        observation, action: how boards and moves are written; see `formats`. Either way of writing a move is understood.
        show_refused: show the moves refused since the last legal one (the newest `REFUSED_SHOWN`) behind the board. Without,
            as in LMRL-Gym, a player who knows the board alone and draws nothing at random repeats an illegal move to the end.
        level: Black's skill, 0 to 19; LMRL-Gym's "Elo 1200" is 0.
        moves: White's moves, refused ones included, after which the game is truncated.

    Raises:
        BenchError: an option has no such value, or there is no Stockfish.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "lmrl",
        show_refused: bool = True,
        level: int = 0,
        moves: int = MOVES,
    ) -> None:
        check_options(observation, action)
        if level not in LEVELS:
            raise BenchError(f"chess: level={level!r} is not one of 0 to {LEVELS[-1]}")
        if moves < 1:
            raise BenchError(f"chess: moves={moves!r} must be at least 1")
        engine.find()
        self._observation = observation
        self._action = action
        self._show_refused = show_refused
        self._level = level
        self._moves = moves
        self._board = chess.Board(None)
        self._left = 0
        self._refused: list[str] = []
        self._illegal = 0
        spaced = 2 if action == "lmrl" else 1
        longest = LONGEST_BOARD + REFUSED_SHOWN * spaced * (LONGEST_MOVE + 1)
        self.observation_space = spaces.Text(longest, charset=f"{LETTERS}/ \n")
        self.action_space = spaces.Text(spaced * (LONGEST_MOVE + 1), charset=f"{LETTERS} \n")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Set up the pieces, or the position `options["fen"]`. `info["engine"]` names the opponent.

        Raises:
            BenchError: `options["fen"]` is no position with White to move, or there is no Stockfish.
        """
        super().reset(seed=seed)
        self._board = self._start() if not options or "fen" not in options else _position(options["fen"])
        self._left = self._moves
        self._refused = []
        self._illegal = 0
        return self._told(), {"engine": engine.name(), "admissible": LegalMoves(self._board, self._action)}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Move; Black replies.

        Raises:
            gymnasium.error.ResetNeeded: the game is over or never began.
            BenchError: there is no Stockfish any more.
        """
        if self._left == 0:
            raise gymnasium.error.ResetNeeded("chess: the game is over; call reset()")
        self._left -= 1
        moves = self._moves - self._left
        info: dict[str, Any] = {}
        reward, over = 0.0, False
        move = read_move(self._board, action)
        if move is None:
            reward = -1.0
            info["invalid"] = "not a legal move" if isinstance(action, str) else f"{type(action).__name__} is not text"
            self._illegal += 1
            self._refused.append(write_refused(action, self._action))
        else:
            self._refused.clear()
            self._board.push(move)
            over = self._board.is_game_over()
            if not over:
                self._board.push(self._reply())
                over = self._board.is_game_over()
            if over and self._board.is_checkmate():
                reward = 1.0 if self._board.turn == chess.BLACK else -1.0
        if over:
            self._left = 0
        else:
            info["admissible"] = LegalMoves(self._board, self._action)
        if self._left == 0:
            info["success"] = over and reward == 1
            info["statistics"] = self._statistics(moves, over, reward)
        return self._told(), reward, over, self._left == 0 and not over, info

    def _statistics(self, moves: int, over: bool, reward: float) -> dict[str, float]:
        outcomes = {"won": over and reward > 0, "drawn": over and not reward, "lost": over and reward < 0, "cut off": not over}
        return {"legal moves": (moves - self._illegal) / moves} | {name: float(value) for name, value in outcomes.items()}

    def _start(self) -> chess.Board:
        """Where a game begins; White is to move."""
        return chess.Board()

    def _reply(self) -> chess.Move:
        scored = scored_moves(self._board, depth_of(self._level))
        return choose(scored, self._level, self.np_random.random(len(scored)).tolist())

    def _told(self) -> str:
        refused = self._refused[-REFUSED_SHOWN:] if self._show_refused else []
        return write_board(self._board, self._observation) + "".join(refused)


def _position(fen: object) -> chess.Board:
    """The board that `fen` describes.

    Raises:
        BenchError: no game can go on from there with White to move.
    """
    try:
        board = chess.Board(str(fen))
    except ValueError as error:
        raise BenchError(f"chess: {fen!r} is not FEN: {error}") from None
    if not board.is_valid() or board.turn != chess.WHITE or board.is_game_over():
        raise BenchError(f"chess: {fen!r} is not a position in which White is to move")
    return board
