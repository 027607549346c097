"""The players that collect the data of chess and of its endings, the uniformly random one, and the strong one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from sys import intern
from typing import Any

import chess
import numpy as np
from numpy.typing import NDArray

from envs.chess.engine import LINES
from envs.chess.formats import (
    ActionFormat,
    ObservationFormat,
    check_options,
    read_board,
    write_illegal,
    write_move,
    write_moves,
)
from envs.chess.skill import LEVELS, choose, depth_of, scored_moves
from qsft_bench.agent import Agent, tempered
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.noise import logarithms, uniform

RULES = {"show_refused", "level", "moves", "endings"}  # the environments' options that concern no player


class Player(Agent):
    """Knows the newest observation alone.

    Args:
        observation, action: the environment's options.
        rules: its other options, which are not looked at.

    Raises:
        BenchError: an option has no such value, or there is none of that name.
    """

    def __init__(self, observation: ObservationFormat = "lmrl", action: ActionFormat = "lmrl", **rules: Any) -> None:
        check_options(observation, action)
        if unknown := rules.keys() - RULES:
            raise BenchError(f"chess: {type(self).__name__} takes no {', '.join(sorted(unknown))}")
        self.observation = observation
        self.action = action


class Levels(Player):
    """The paper's data: Stockfish at a skill drawn for the game, with moves drawn from all legal ones mixed in.

    The skill is uniform over 0 to `levels` - 1; the probability of a random move is drawn for the game too, uniformly from 0 to
    `random`. How likely an action is to those who know neither would take a search at every skill: `log_likelihood` is None.

    Args:
        levels: how many skills, 1 to 20.
        random: the most probable that a random move may be.

    Raises:
        BenchError: `levels` is not 1 to 20, or `random` is not a probability.
    """

    _SKILL, _SHARE, _RANDOM, _WHICH, _WEAK = range(5)  # what the draws are for; from _WEAK on: weak play

    def __init__(
        self,
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "lmrl",
        *,
        levels: int,
        random: float,
        **rules: Any,
    ) -> None:
        super().__init__(observation, action, **rules)
        if levels - 1 not in LEVELS:
            raise BenchError(f"chess: levels={levels!r} must be 1 to {len(LEVELS)}")
        if not 0 <= random <= 1:
            raise BenchError(f"chess: random={random!r} is not a probability")
        self.levels = levels
        self.random = random

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        seeds = np.array([episode.seed for episode in episodes], dtype=np.uint64)[:, None]
        turns = np.array([episode.length for episode in episodes])[:, None]
        games = uniform(seeds, 0, [self._SKILL, self._SHARE]).tolist()
        draws = uniform(seeds, turns, range(self._RANDOM, self._WEAK + LINES)).tolist()
        chosen: list[Action] = []
        for episode, (skill, share), (event, which, *weak) in zip(episodes, games, draws, strict=True):
            board = read_board(str(episode.turns[-1].observation), self.observation)
            if event < share * self.random:
                legal = list(board.legal_moves)
                move = legal[int(which * len(legal))]
            else:
                level = int(skill * self.levels)
                scored = scored_moves(board, depth_of(level))
                move = choose(scored, level, weak[: len(scored)])
            chosen.append(write_move(board, move, self.action))
        return chosen


class BestOrAny(Player):
    """Now the engine's best move, now any legal one, here and there a bad habit: a distribution that is known exactly.

    ```
    pi(a) = (1 - illegal) * p(a)      for each of N legal moves
            illegal / M               for each of M illegal ones: a kind of piece White has, a square none can go to
    p(a)  = (best - h) * [a is the engine's best] + h * [a is the habit's] + (1 - best) / N
    h     = habit where White's king stands on a light square, else 0
    ```

    Acting draws from pi^(1/temperature). By default it is uniformly random play, which needs no engine.

    Args:
        best: probability of the engine's best move.
        habit: how much of it goes to `habitual`'s move where there is a habit; with more than best / 2 that is the mode.
        illegal: probability of an illegal move, so that the data say what those are worth, and show what follows them.
        depth: how deep the engine looks, in plies.
        temperature: below 1 sharpens the exact behaviour; 0 is its mode, ties drawn uniformly among the maximisers.

    Raises:
        BenchError: not 0 <= habit <= best <= 1, or `illegal` is no probability, or `depth` or `temperature` is too small.
    """

    def __init__(
        self,
        observation: ObservationFormat = "lmrl",
        action: ActionFormat = "lmrl",
        *,
        best: float = 0.0,
        habit: float = 0.0,
        illegal: float = 0.0,
        depth: int = 5,
        temperature: float = 1.0,
        **rules: Any,
    ) -> None:
        super().__init__(observation, action, **rules)
        if not 0 <= habit <= best <= 1:
            raise BenchError(f"chess: best={best!r} and habit={habit!r} must be probabilities, habit at most best")
        if not 0 <= illegal <= 1:
            raise BenchError(f"chess: illegal={illegal!r} is not a probability")
        if depth < 1 or temperature < 0:
            raise BenchError(f"chess: depth={depth!r} must be at least 1 and temperature={temperature!r} >= 0")
        self.best = best
        self.habit = habit
        self.illegal = illegal
        self.depth = depth
        self.temperature = temperature
        # Observation -> every action it may be answered with, and the probability of each, shape (N,).
        self.distribution = lru_cache(maxsize=2**17)(self._distribution)

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        draws = uniform([episode.seed for episode in episodes], [episode.length for episode in episodes])
        chosen: list[Action] = []
        for episode, draw in zip(episodes, draws, strict=True):
            actions, probabilities = self.distribution(str(episode.turns[-1].observation))
            chosen.append(actions[int((probabilities.cumsum() > draw * probabilities.sum()).argmax())])
        return chosen

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> NDArray[np.float64]:
        """Exact log-probability (nats) of `actions`, shape (episodes,); -inf for a text that `act` never writes."""
        found = np.zeros(len(episodes))
        for row, (episode, action) in enumerate(zip(episodes, actions, strict=True)):
            known, probabilities = self.distribution(str(episode.turns[-1].observation))
            if isinstance(action, str) and action in known:
                found[row] = probabilities[known.index(action)]
        return logarithms(found)

    def _distribution(self, told: str) -> tuple[list[str], NDArray[np.float64]]:
        board = read_board(told, self.observation)
        legal = list(board.legal_moves)
        weights = np.full(len(legal), (1 - self.best) / len(legal))
        habit = self.habit if has_habit(board) else 0.0
        if self.best:
            weights[legal.index(scored_moves(board, self.depth)[0][0])] += self.best - habit
        if habit:
            weights[legal.index(habitual(board))] += habit
        actions = write_moves(board, legal, self.action)
        if self.illegal:
            refused = write_illegal(board, self.action)
            weights = np.concatenate([weights * (1 - self.illegal), np.full(len(refused), self.illegal / len(refused))])
            actions += refused
        return [intern(action) for action in actions], tempered(weights, self.temperature)


class Strong(BestOrAny):
    """The ceiling: the engine's best move at a depth of eight plies."""

    def __init__(self, observation: ObservationFormat = "lmrl", action: ActionFormat = "lmrl", **rules: Any) -> None:
        super().__init__(observation, action, best=1.0, depth=8, **rules)


def has_habit(board: chess.Board) -> bool:
    """Whether White's king stands on a light square, which no habitual move changes while another piece can make it."""
    return bool(board.kings & board.occupied_co[chess.WHITE] & chess.BB_LIGHT_SQUARES)


def habitual(board: chess.Board) -> chess.Move:
    """The fixed poor move: a piece steps aside. Not the king if another can, along its rank if it can, first in the alphabet.

    A rook on h5 goes to a5, then to b5, to a5 and so on: it gives up little, and gets nowhere.
    """

    def order(move: chess.Move) -> tuple[bool, bool, str]:
        squares = chess.SQUARE_NAMES[move.from_square] + chess.SQUARE_NAMES[move.to_square]
        return bool(board.kings & chess.BB_SQUARES[move.from_square]), squares[1] != squares[3], squares

    return min(board.legal_moves, key=order)
