"""The game: rules of chess and rewards by hand, Gymnasium's own checks, and that nothing a model can say breaks it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.chess import SPEC
from qsft_bench import registry
from qsft_bench.errors import BenchError

chess = pytest.importorskip("chess", reason="needs python-chess: pip install chess")
engine = pytest.importorskip("envs.chess.engine")
try:
    engine.find()
except BenchError as error:
    pytest.skip(str(error), allow_module_level=True)

from envs.chess.env import REFUSED_SHOWN, Chess  # noqa: E402 - needs python-chess

SMALL: dict[str, Any] = dict(SPEC.scales["small"]["options"])
REFUSED = {"invalid": "not a legal move"}


def game(fen: str, replies: str = "", **options: Any) -> Chess:
    """A game at `fen` in which Black answers with `replies` (SAN), as long as there are any."""
    env = Chess(**{**SMALL, **options})
    env.reset(seed=0, options={"fen": fen})
    if replies:
        waiting = iter(replies.split())
        env._reply = lambda: env._board.parse_san(next(waiting))  # type: ignore[method-assign]
    return env


def plain(info: dict[str, Any]) -> dict[str, Any]:
    """Without the statistics."""
    return {name: value for name, value in info.items() if name not in ("statistics", "admissible")}


def after(env: Chess, move: str) -> tuple[Any, ...]:
    """Reward, both flags and the plain info of a move."""
    _, reward, terminated, truncated, info = env.step(move)
    return reward, terminated, truncated, plain(info)


def test_a_scripted_game_by_hand() -> None:
    env = game(chess.STARTING_FEN, "e5 Nc6 Nf6")
    played = [env.step(f"{move}\n") for move in ("e4", "Ke3", "Qh5", "nonsense", "Bc4", "Qxf7")]
    assert [step[1] for step in played] == [0, -1, 0, -1, 0, 1]
    assert [step[2:4] for step in played] == [(False, False)] * 5 + [(True, False)]
    assert [plain(step[4]) for step in played] == [{}, REFUSED, {}, REFUSED, {}, {"success": True}]
    counted = {"legal moves": 4 / 6, "won": 1, "drawn": 0, "lost": 0, "cut off": 0}
    assert played[-1][4]["statistics"] == counted
    assert played[-1][0].startswith("Ke1 Qf7 Ra1")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("e4\n")


def test_being_mated_costs_one() -> None:
    env = game(chess.STARTING_FEN, "e5 Qh4")
    assert after(env, "f3\n") == (0, False, False, {})
    assert after(env, "g4\n") == (-1, True, False, {"success": False})


@pytest.mark.parametrize(
    ("fen", "move", "reply", "rule"),
    [
        ("7k/8/6K1/5Q2/8/8/8/8 w - - 0 1", "Qf7", "", "is_stalemate"),
        ("8/8/8/8/8/2kq4/K7/8 w - - 0 1", "Ka1", "Qc2", "is_stalemate"),
        ("8/8/8/8/8/3k4/1r6/K7 w - - 0 1", "Kxb2", "", "is_insufficient_material"),
        ("8/8/4k3/8/8/8/1R6/K7 w - - 149 200", "Rb3", "", "is_seventyfive_moves"),
        ("8/8/4k3/8/8/8/1R6/K7 w - - 148 200", "Rb3", "Ke5", "is_seventyfive_moves"),
    ],
)
def test_draws_pay_nothing(fen: str, move: str, reply: str, rule: str) -> None:
    env = game(fen, reply)
    assert after(env, f"{move}\n") == (0, True, False, {"success": False})
    assert getattr(env._board, rule)()


def test_draws_that_must_be_claimed_are_not() -> None:
    env = game("8/8/4k3/8/8/8/1R6/K7 w - - 99 200", "Kd6")
    assert not env.step("Rb3\n")[2]
    env = game("8/8/4k3/8/8/8/1R6/K7 w - - 0 1", "Kd6 Ke6 " * 8)
    over = [env.step(move)[2] for move in ("Rb3\n", "Rb2\n") * 4]  # the start comes back with every second reply
    assert over == [False] * 7 + [True]
    assert env._board.is_fivefold_repetition()


def test_promotion_en_passant_and_castling() -> None:
    env = game("8/4P3/8/8/8/k7/8/4K3 w - - 0 1", "Kb3")
    assert env.step("e8R\n")[0] == "Ke1 Re8 kb3 -\n"
    env = game("4k3/8/8/3pP3/8/8/8/4K3 w - d6 0 1", "Kd7")
    assert env.step("Ke5\n")[0] == "Ke1 Pe5 ke8 pd5 xd6 -\nKe5\n"
    assert env.step("exd6\n")[0] == "Ke1 Pd6 kd7 -\n"
    for move, told in (("OO\n", "Kg1 Ra1 Rf1"), ("O - O\n", "Kg1 Ra1 Rf1"), ("OOO\n", "Kc1 Rd1 Rh1"), ("O-O-O", "Kc1 Rd1 Rh1")):
        env = game("4k3/8/8/8/8/8/8/R3K2R w KQ - 0 1", "Ke7")
        assert env.step("Ke8\n")[0] == "Ke1 Ra1 Rh1 ke8 KQ\nKe8\n"
        assert env.step(move)[0] == f"{told} ke7 -\n"


def test_what_was_refused_is_shown_until_a_legal_move() -> None:
    env = game("8/8/4k3/8/8/8/1R6/K7 w - - 0 1", "Kd6")
    board = "Ka1 Rb2 ke6 -\n"
    assert env.step("Rb9\n")[0] == board + "Rb9\n"
    assert env.step("Qh5+\n")[0] == board + "Rb9\nQh5+\n"
    assert env.step("\u00e9\n \n")[0] == board + "Rb9\nQh5+\n?\n"
    for _ in range(REFUSED_SHOWN):
        told = env.step("a very long story\n")[0]
    assert told == board + "averylon\n" * REFUSED_SHOWN
    assert env.step("Rb3\n")[0] == "Ka1 Rb3 kd6 -\n"
    env = game("8/8/4k3/8/8/8/1R6/K7 w - - 0 1", show_refused=False)
    told, *rest = env.step("Rb9\n")
    assert (told, *rest[:3], plain(rest[3])) == (board, -1, False, False, REFUSED)


def test_lmrl_format_by_hand() -> None:
    env = Chess()
    told = "r n b q k b n r / p p p p p p p p / 8 / 8 / 8 / 8 / P P P P P P P P / R N B Q K B N R   w   K Q k q   -   0   1\n"
    assert env.reset(seed=0)[0] == told
    assert env.step("e 5 \n")[:2] == (told + "e 5\n", -1)
    assert after(env, "e 4 \n") == (0, False, False, {})


def test_illegal_moves_count_towards_the_cap() -> None:
    env = game(chess.STARTING_FEN, moves=3)
    assert [after(env, "Ke2\n") for _ in range(3)] == [(-1, False, False, REFUSED)] * 2 + [
        (-1, False, True, {**REFUSED, "success": False})
    ]
    env = game("7k/8/5KQ1/8/8/8/8/8 w - - 0 1", moves=1)
    assert after(env, "Qg7\n") == (1, True, False, {"success": True})  # ended by the rules: not truncated
    assert Chess()._moves == SPEC.horizon == 400


def test_bad_options_are_refused() -> None:
    for options in ({"observation": "fen"}, {"action": "uci"}, {"level": 20}, {"level": "x"}, {"moves": 0}):
        with pytest.raises(BenchError, match="chess: "):
            Chess(**options)
    for fen in ("", 5, "8/8/8/8/8/8/8/8 w - - 0 1", "4k3/8/8/8/8/8/8/4K2R b - - 0 1", "7k/8/5QK1/8/8/8/8/8 b - - 0 1"):
        with pytest.raises(BenchError, match=r"FEN|White is to move"):
            Chess().reset(options={"fen": fen})


ACTIONS = st.one_of(
    st.text(),
    st.none(),
    st.integers(),
    st.from_regex(r"[KQRBN]?[a-h]?x?[a-h][1-8][QN]?[+#]?\n", fullmatch=True),
    st.sampled_from(["--", "Z0", "@@@@", "0000", "e4\n", "e 4\n", "O-O\n", "O-O-O+", "e2e4", "\ud800", "e4\0"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=5), st.sampled_from(["lmrl", "pieces"]), st.sampled_from(["lmrl", "word"]))
def test_no_action_raises(actions: list, observation: Any, action: Any) -> None:
    env = Chess(observation=observation, action=action, moves=5)
    env.reset(seed=1, options={"fen": "r3k2r/P6p/8/3pP3/8/8/5PPP/R3K2R w KQkq d6 0 1"})
    for said in actions:
        told, reward, terminated, truncated, info = env.step(said)
        assert told in env.observation_space
        assert ("invalid" in info) == (reward == -1 and not terminated)
        if terminated or truncated:
            break


def test_same_seed_same_game() -> None:
    def play(seed: int) -> list:
        env = Chess(**SMALL)
        return [env.reset(seed=seed), *(env.step(move) for move in ("e4", "d4", "Nf3", "Nc3", "a3", "h3"))]

    assert play(3) == play(3)
    assert len({str(play(seed)[-1][0]) for seed in range(8)}) > 4


def test_gymnasium_finds_nothing_to_say() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, SMALL):
            check_env(gymnasium.make(f"envs.chess:{SPEC.id}", **options).unwrapped)


def test_found_through_the_registry() -> None:
    assert registry.env_spec("chess") is SPEC
    assert isinstance(registry.make_env(SPEC, **SMALL), Chess)
    assert SPEC.table == 1 and SPEC.columns == ("Chess",)


def test_declarations_need_nothing_but_the_harness() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('gymnasium', 'numpy', 'chess'))); "
        "import envs.chess, envs.chess_endgame; print(envs.chess.SPEC.name)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "chess\n"


@pytest.mark.parametrize("options", [{}, {"observation": "pieces", "action": "word"}])
def test_the_legal_moves_are_listed_until_the_game_is_over(options: Any) -> None:
    env = Chess(**options)
    listed = env.reset(seed=0, options={"fen": "7k/8/5K2/8/8/8/8/6R1 w - - 0 1"})[1]["admissible"]
    king = {"".join(move.split()) for move in listed if move.startswith("K")}
    assert king == {"Kf7", "Ke7", "Kg6", "Ke6", "Kg5", "Kf5", "Ke5"} and len(listed) == len(set(listed)) == 21
    after = env.step(listed[0])[4]["admissible"]
    assert len(listed) == 21 and set(after) != set(listed)  # a list stays what it was
    env.reset(options={"fen": "7k/8/6K1/8/8/8/8/R7 w - - 0 1"})
    assert "admissible" not in env.step("Ra8#")[4]
