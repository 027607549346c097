"""The game: rewards and endings by hand, both formats, the model as oracle, and that nothing a player can say breaks it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.twenty_questions import SPEC
from envs.twenty_questions import env as env_module
from envs.twenty_questions.env import OPENING, TwentyQuestions, read_answer, write_answer
from envs.twenty_questions.knowledge import knowledge
from envs.twenty_questions.oracle import ModelOracle, shared_oracle
from qsft_bench import llm, registry
from qsft_bench.errors import BenchError

UNDERSTOOD = {"matched": True}


def test_a_won_game_by_hand() -> None:
    env = TwentyQuestions()
    assert env.reset(seed=0, options={"object": "cat"}) == (OPENING, {})
    assert env.step("Is it an animal?\n") == ("Yes.\n", -1.0, False, False, UNDERSTOOD)
    assert env.step("Does it bark?\n") == ("No.\n", -1.0, False, False, UNDERSTOOD)
    assert env.step("Is it a dog?\n") == ("No.\n", -1.0, False, False, UNDERSTOOD)
    assert env.step("Does it like jazz on Sundays?\n") == ("No.\n", -1.0, False, False, {"matched": False})
    ending = {"matched": True, "success": True, "statistics": {"matched": 0.8}}
    assert env.step("Is it a cat?\n") == ("Yes.\n", 0.0, True, False, ending)


def test_a_won_game_in_words() -> None:
    env = TwentyQuestions(observation="bound", action="word", privileged=True)
    assert env.reset(seed=0, options={"object": "soccer_ball"}) == (OPENING, {"object": "soccer_ball"})
    assert env.step("animal\n")[0] == "animal_no\n"
    assert env.step("round\n")[0] == "round_yes\n"
    assert env.step("basketball\n")[0] == "basketball_no\n"
    assert env.step("Is it used in sports?\n")[0] == "sport_yes\n"
    assert env.step("Is it not an animal?\n")[0] == "yes\n"
    assert env.step("Is it a zebra?\n")[0] == "no\n"
    assert env.step("soccer_ball\n")[:2] == ("soccer_ball_yes\n", 0.0)


def test_a_lost_game_terminates_at_question_twenty() -> None:
    env = TwentyQuestions()
    env.reset(seed=0, options={"object": "cat"})
    for _ in range(19):
        assert env.step("Is it a dog?")[1:4] == (-1.0, False, False)
    ending = {"matched": True, "success": False, "statistics": {"matched": 1.0}}
    assert env.step("Is it a dog?")[1:] == (-1.0, True, False, ending)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("Is it a cat?")


def test_right_at_question_twenty() -> None:
    env = TwentyQuestions()
    env.reset(seed=0, options={"object": "cat"})
    answers = [env.step(question) for question in ["Is it alive?"] * 19 + ["Is it a cat?"]]
    assert [reward for _, reward, *_ in answers] == [-1.0] * 19 + [0.0]
    assert answers[-1][4]["success"]


def test_an_alias_wins_and_a_category_does_not() -> None:
    env = TwentyQuestions()
    env.reset(seed=0, options={"object": "television"})
    assert env.step("Is it an electronic device?")[:3] == ("Yes.\n", -1.0, False)
    assert env.step("Is it a TV?")[:3] == ("Yes.\n", 0.0, True)


def test_no_question_costs_one_and_says_why() -> None:
    env = TwentyQuestions()
    env.reset(seed=0)
    assert env.step("?!") == ("No.\n", -1.0, False, False, {"matched": False, "invalid": "not a question"})
    assert env.step("") == ("No.\n", -1.0, False, False, {"matched": False, "invalid": "not a question"})
    assert env.step("cat " * 300_000)[4]["invalid"] == "longer than 400 characters"
    assert env.step(None)[4]["invalid"] == "NoneType is not text"  # type: ignore[arg-type]


ANYTHING = st.one_of(st.text(), st.characters().map(lambda c: c * 1_000_000), st.none(), st.integers(), st.lists(st.text()))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["lmrl", "bound"]), st.lists(ANYTHING, min_size=1, max_size=6))
def test_no_action_raises(observation: Any, actions: list) -> None:
    env = TwentyQuestions(observation=observation)
    env.reset(seed=1)
    for action in actions:
        said, reward, terminated, truncated, info = env.step(action)
        assert said in env.observation_space
        assert (read_answer(said) is True) >= terminated
        assert reward in (-1.0, 0.0) and not truncated
        assert isinstance(info["matched"], bool) and not (info["matched"] and "invalid" in info)
        if terminated:
            break


def test_same_seed_same_object() -> None:
    env = TwentyQuestions(privileged=True)
    assert env.reset(seed=2**63 - 1) == TwentyQuestions(privileged=True).reset(seed=2**63 - 1)
    hidden = [env.reset(seed=seed)[1]["object"] for seed in range(7_900)]
    counts = np.array([hidden.count(thing.key) for thing in knowledge().things])
    assert ((counts - 50) ** 2 / 50).sum() < 157 + 4 * (2 * 157) ** 0.5


@pytest.mark.parametrize("options", [{}, {"observation": "bound", "action": "word"}])
def test_gymnasium_finds_nothing_to_say(options: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"envs.twenty_questions:{SPEC.id}", **options).unwrapped)


def test_spaces_hold_what_is_said() -> None:
    for observation in ("lmrl", "bound"):
        env = TwentyQuestions(observation=observation)  # type: ignore[arg-type]
        assert env.reset(seed=3)[0] in env.observation_space
        for attribute in knowledge().attributes:
            assert f"{attribute.question}\n" in env.action_space
            for key in (attribute.key, None):
                assert write_answer(True, key) in env.observation_space


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("key", [None, "", "animal", "in_nature"])
def test_every_answer_reads_back(yes: bool, key: str | None) -> None:
    assert read_answer(write_answer(yes, key)) is yes


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("y", True),
        ("YES!", True),
        ("Yes.", True),
        ("n\n", False),
        ("nope", False),
        ("maybe", None),
        ("", None),
        (OPENING, None),
    ],
)
def test_answers_of_people_are_read(said: str, meant: bool | None) -> None:
    assert read_answer(said) is meant


def test_wrong_options_are_named() -> None:
    with pytest.raises(BenchError, match="oracle='delphi' does not exist; known: embedded, llm"):
        TwentyQuestions(oracle="delphi")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="'zebra' cannot be hidden"):
        TwentyQuestions().reset(options={"object": "zebra"})
    with pytest.raises(BenchError, match="does not take these options"):
        registry.make_env(SPEC, colour="blue")


class FakeModel:
    """Answers from a list, and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def complete(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
        assert [message["role"] for message in messages] == ["system", "user"]
        self.asked.append(messages[-1]["content"])
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("said", "yes"),
    [
        ("Yes", True),
        ("yes.", True),
        (" **Yes**, it is.", True),
        ("No", False),
        ("Yesterday", False),
        ("It depends", False),
        ("", False),
    ],
)
def test_anything_but_a_clear_yes_of_a_model_is_no(said: str, yes: bool) -> None:
    assert ModelOracle(FakeModel(said)).answer("a cat", "Is it nocturnal?") is yes  # type: ignore[arg-type]


def test_one_question_is_one_request_however_it_is_typed() -> None:
    model = FakeModel("Yes", "Yes", "Yes")
    oracle = ModelOracle(model)  # type: ignore[arg-type]
    for text in ("Is it nocturnal?\n", "is it   nocturnal", "IS IT NOCTURNAL?!"):
        oracle.answer("a cat", text)
    assert len(set(model.asked)) == 1
    assert "a cat" in model.asked[0] and "is it nocturnal?" in model.asked[0]


def test_a_model_answers_questions_and_the_rules_answer_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel("No.", "Yes.", "Yes.")
    monkeypatch.setattr(env_module, "shared_oracle", lambda: ModelOracle(model))
    env = TwentyQuestions(oracle="llm", observation="bound")
    env.reset(seed=0, options={"object": "cat"})
    assert env.step("Is it an animal?") == ("animal_no\n", -1.0, False, False, UNDERSTOOD)  # the model's mistake stands
    assert env.step("Is it loved by ancient Egyptians?") == ("yes\n", -1.0, False, False, UNDERSTOOD)
    assert env.step("on_head\n")[0] == "on_head_yes\n"
    assert "is it worn on the head?" in model.asked[-1]
    assert env.step("...")[4]["invalid"] == "not a question"
    assert env.step("Is it a dog?")[0] == "dog_no\n"
    assert env.step("Is it a cat?")[:3] == ("cat_yes\n", 0.0, True)
    assert len(model.asked) == 3


def test_all_games_share_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(llm, "language_model", lambda: made.append(FakeModel("Yes", "No")))
    shared_oracle.cache_clear()
    TwentyQuestions(oracle="llm")
    TwentyQuestions(oracle="llm")
    shared_oracle.cache_clear()
    assert len(made) == 1


def test_a_model_that_nobody_named_is_an_error_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "QSFT_BENCH_LLM", "QSFT_BENCH_LLM_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    shared_oracle.cache_clear()
    with pytest.raises(BenchError, match="OPENAI_API_KEY"):
        TwentyQuestions(oracle="llm")


def test_declaration_is_readable_without_gymnasium_or_numpy() -> None:
    code = "import sys; sys.modules['gymnasium'] = sys.modules['numpy'] = None; import envs.twenty_questions as e; "
    code += "print(e.SPEC.name)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "twenty_questions\n"


def test_the_worked_games_of_the_prompt_happen_so() -> None:
    from importlib import resources

    text = resources.files("envs.twenty_questions").joinpath("prompt.md").read_text(encoding="utf-8")
    games = text.split(f"Observation: {OPENING}")[1:]
    assert len(games) == 2
    for game, hidden in zip(games, ("camera", "sheep"), strict=True):
        env = TwentyQuestions()
        env.reset(options={"object": hidden})
        lines = [line.partition(": ")[2] for line in game.strip().splitlines() if not line.startswith("Thought")]
        results = [env.step(question) for question in lines[::2]]
        assert [result[0].strip() for result in results] == lines[1::2]
        assert results[-1][2]
