"""The shop's rules: where each button leads, what an action is, what a seed names, what is paid."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.webshop import SPEC
from envs.webshop.catalogue import load_catalogue
from envs.webshop.env import RESULTS, TEST_SEEDS, TURNS, VALIDATION_SEEDS, WebShop
from qsft_bench.errors import BenchError
from qsft_bench.play import Person
from qsft_bench.registry import make_env
from qsft_bench.rollout import play
from tests.envs.webshop.shop import DEAR, HAT, ODD, RACK, small_shop

COMPACT: dict[str, Any] = {"observation": "compact", "action": "compact"}


def do(env: WebShop, *actions: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
    """Take the actions; returns what came of the last. None but the last may be refused."""
    for action in actions[:-1]:
        assert "invalid" not in env.step(action)[4]
    return env.step(actions[-1])


def clicks(env: WebShop, *actions: str) -> set[str]:
    """What can be clicked after the actions."""
    return {action.strip() for action in do(env, *actions)[4]["admissible"]}


def test_a_visit_from_the_door_to_the_till(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch)
    observation, info = env.reset(seed=1)
    assert observation == (
        "WebShop [SEP] Instruction: [SEP] i need a machine-washable sun hat in navy in size large, "
        "and price lower than 30.00 dollars [SEP] Search\n"
    )
    assert info == {"admissible": [], "search": True}
    observation, *_, info = env.step("search[sun hat norvale]\n")
    assert observation.startswith(
        "Back to Search [SEP] Page 1 (Total results: 4) [SEP] B000000001 [SEP] Norvale Sun Hat for Men, Foldable [SEP] $19.99"
    )
    labels = [*(one.asin.lower() for one in (HAT, RACK, DEAR, ODD)), "back to search"]
    assert sorted(info["admissible"]) == sorted(f"click[{label}]\n" for label in labels) and not info["search"]
    observation, *_ = env.step("click[b000000001]")
    assert observation == (
        "Back to Search [SEP] < Prev [SEP] color [SEP] navy [SEP] dark-blue [SEP] size [SEP] small [SEP] large [SEP] "
        "Norvale Sun Hat for Men, Foldable [SEP] Price: $19.99 [SEP] Rating: 4.1 [SEP] Description [SEP] Features [SEP] "
        "Reviews [SEP] Buy Now\n"
    )
    assert env.step("click[NAVY]")[0] == "You have clicked navy.\n"
    assert env.step("click[large]")[1:4] == (0.0, False, False)
    observation, reward, terminated, truncated, info = env.step("click[Buy Now]")
    assert observation.endswith("Your score (min 0.0, max 1.0) [SEP] 1.000\n")
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert info["parts"] == {"type": 1.0, "attributes": 1.0, "options": 1.0, "price": 1.0}
    assert info["statistics"] == {"success": 1.0, "bought": 1.0, **info["parts"]} and info["admissible"] == []
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("search[hat]")


@pytest.mark.parametrize(
    ("actions", "paid"),
    [
        (["search[hat]", "click[b000000001]", "click[buy now]"], 2 / 4),
        (["search[hat]", "click[b000000001]", "click[navy]", "click[buy now]"], 3 / 4),
        (["search[hat]", "click[b000000001]", "click[navy]", "click[dark-blue]", "click[buy now]"], 2 / 4),  # the last counts
        (["search[hat]", "click[b000000002]", "click[navy]", "click[large]", "click[buy now]"], 3 / 4),  # too dear
        (["search[hat]", "click[b000000003]", "click[buy now]"], 0.0),  # a hanger
        # Options are forgotten on the way back to the results, but not on the way to a part of the item:
        (["search[hat]", "click[b000000001]", "click[navy]", "click[< prev]", "click[b000000001]", "click[buy now]"], 2 / 4),
        (["search[hat]", "click[b000000001]", "click[navy]", "click[features]", "click[< prev]", "click[buy now]"], 3 / 4),
    ],
)
def test_what_is_paid(monkeypatch: pytest.MonkeyPatch, actions: list[str], paid: float) -> None:
    env = small_shop(monkeypatch)
    _, reward, terminated, _, info = do(env, *actions)
    assert terminated and reward == pytest.approx(paid) and info["success"] is (paid == 1)


def test_where_the_buttons_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {
        "click[back to search]",
        "click[< prev]",
        "click[description]",
        "click[features]",
        "click[reviews]",
        "click[buy now]",
    }
    options = {"click[navy]", "click[dark-blue]", "click[small]", "click[large]"}
    env = small_shop(monkeypatch)
    assert clicks(env, "search[hat]", "click[b000000001]") == item | options
    assert clicks(env, "click[description]") == {"click[back to search]", "click[< prev]"}
    assert clicks(env, "click[< prev]") == item | options
    assert "click[b000000002]" in clicks(env, "click[< prev]")
    assert env.step("click[back to search]")[0] == "WebShop [SEP] Search\n"
    assert clicks(env, "search[kestrel]") == {"click[b000000003]", "click[back to search]"}
    assert "click[< prev]" in clicks(env, "click[b000000003]") and not env.step("click[features]")[0].startswith("Nothing")


def test_pages_end_where_the_results_do(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch, results_per_page=3, **COMPACT)
    assert clicks(env, "search hat .") == {"1", "2", "3", "next", "home"}
    assert clicks(env, "next") == {"1", "back", "home"}  # the original offered Next for ever
    assert "invalid" in env.step("next")[4]
    first = env.step("back")
    assert first[0] == "page 1 / 2\n" and {"1\n", "next\n"} < set(first[4]["admissible"])
    assert env.step("2")[0].startswith("item ")
    observation, _, _, _, info = do(small_shop(monkeypatch), "search[nothing of this kind]")
    assert observation == "Back to Search [SEP] Page 1 (Total results: 0)\n" and info["admissible"] == [
        "click[back to search]\n"
    ]


REFUSED = [
    "",
    "\n",
    "buy",
    "click",
    "click[]",
    "search[]",
    "[hat]",
    "click[search]",  # the original leaves out its own search button
    "click[nowhere]",
    "Search[hat]",
    "search [hat]",
    "search[a[hat]]",  # the original's pattern reads it as the verb "search[a"
    "click[buy now]",  # not on this page
    "please search[hat]",
    "]search[",
    "搜索[帽子]",
    "a\nsearch[hat]",
]


@pytest.mark.parametrize("action", REFUSED)
def test_malformed_actions_do_nothing(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    env = small_shop(monkeypatch)
    observation, reward, terminated, truncated, info = env.step(action)
    assert (observation, reward, terminated, truncated) == ("Nothing happened.\n", 0.0, False, False)
    assert info["invalid"] and info["search"]


@pytest.mark.parametrize(
    "action", ["search[hat]", "search[hat]\n", "  search[hat]", "search[hat] and more", "search[HAT]", "search[hat\u2603]"]
)
def test_what_the_original_understands_is_understood(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    _, _, _, _, info = small_shop(monkeypatch).step(action)
    assert "invalid" not in info and "click[b000000001]\n" in info["admissible"]


def test_an_empty_query_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for query in ("search[ ]", "search[the of]", "search[???]", "search[☃]"):
        assert do(small_shop(monkeypatch), query)[4]["admissible"] == ["click[back to search]\n"]


def test_searching_needs_the_search_page(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch)
    assert "no search bar" in do(env, "search[hat]", "search[hat]")[4]["invalid"]


@pytest.mark.parametrize("text", ["a" * 10**6, "search[" + "hat " * 250_000 + "]", "[" * 10**6, "search" + "[" * 500_000 + "]"])
def test_a_megabyte_is_an_action(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for options in ({}, COMPACT):
        observation, *_, info = small_shop(monkeypatch, **options).step(text)
        assert len(observation) < 2_000 and len(info.get("invalid", "")) < 200


def test_actions_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for action in (None, 7, b"search[hat]", ["search[hat]"]):
        assert "is not text" in small_shop(monkeypatch).step(action)[4]["invalid"]  # type: ignore[arg-type]


def test_buttons_come_before_options_of_the_same_name_and_texts_are_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch)
    observation, _, _, _, info = do(env, "search[hat]", "click[b000000004]")
    assert "Creme Brulee ? Hat" in observation and observation in env.observation_space
    assert info["admissible"].count("click[features]\n") == 1
    assert do(env, "click[features]")[0] == "Back to Search [SEP] < Prev [SEP] No features\n"
    assert do(env, "click[< prev]", "click[grosse]")[4].get("invalid")  # ß has no plain form
    assert "invalid" not in do(env, "click[gro?e]")[4]


def test_long_pages_are_cut_but_their_buttons_work(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch, obs_length=100)
    observation, _, _, _, info = do(env, "search[hat]", "click[b000000001]")
    assert len(observation) == 100 and observation.endswith("\n") and "click[large]\n" in info["admissible"]


def test_turns_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch)
    for turn in range(1, TURNS + 1):
        _, reward, terminated, truncated, info = env.step("nonsense")
        assert (reward, terminated, truncated) == (0.0, False, turn == TURNS)
    assert info["success"] is False and set(info["parts"].values()) == {0.0} and info["statistics"]["bought"] == 0


def test_the_compact_format_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    env = small_shop(monkeypatch, **COMPACT)
    observation, _ = env.reset(seed=0)
    assert observation == "want machine_washable sun hat navy size large under 30\n"
    assert env.step("search sun hat norvale .\n")[0] == (
        "page 1 / 1\n1 norvale sun hat men foldable 20\n2 kestrel hanger sun hat 8\n3 verano sun hat foldable lightweight 55\n"
        "4 creme brulee hat 12\n"
    )
    assert env.step("1\n")[0] == "item norvale sun hat men foldable : color navy dark_blue : size small large : 20\n"
    assert env.step("dark_blue\n")[0] == "set\n"
    assert env.step("features\n")[0] == "features machine_washable straw keeps its shape\n"
    assert env.step("back\n")[0] == "item again\n"
    assert do(env, "navy", "large", "buy")[1] == 1.0


def test_test_seeds_go_round_the_held_out_instructions_in_order() -> None:
    env, goals = WebShop(**COMPACT, privileged=True), load_catalogue().goals
    assert SPEC.test_tasks == load_catalogue().test == 100

    def number(seed: int | None) -> int:
        return goals.index(env.reset(seed=seed)[1]["goal"])

    assert [number(TEST_SEEDS.start + k) for k in (0, 1, 99, 100, 499)] == [0, 1, 99, 0, 99]
    assert [number(VALIDATION_SEEDS.start + k) for k in (0, 1, 199, 200)] == [100, 101, 299, 100]
    assert (SPEC.test_seeds, SPEC.validation_seeds) == (TEST_SEEDS, VALIDATION_SEEDS)
    drawn = [number(seed) for seed in (*range(2**32, 2**32 + 200), 0, 7, None)]
    assert min(drawn) >= 300 and len(set(drawn)) > 150
    assert number(2**32) == drawn[0]
    assert goals[5] == env.reset(options={"goal": 5})[1]["goal"]
    for bad in (-1, len(goals), "5"):
        with pytest.raises(BenchError, match="must be a number from 0 to"):
            env.reset(options={"goal": bad})


@given(st.integers(0, 2**40), st.lists(st.integers(0, 99), min_size=1, max_size=12))
def test_the_same_clicks_are_answered_alike(seed: int, choices: list[int]) -> None:
    """Whatever else the environment has played before; and every admissible action is accepted."""
    seen = []
    for env in shops():
        observation, info = env.reset(seed=seed)
        pages: list[Any] = [observation]
        for choice in choices:
            listed = info["admissible"] or ["search hat for men .\n"]
            observation, reward, terminated, truncated, info = env.step(listed[choice % len(listed)])
            assert "invalid" not in info
            pages.append((observation, reward, terminated, truncated))
            if terminated or truncated:
                break
        seen.append(pages)
    assert seen[0] == seen[1]


@functools.cache
def shops() -> tuple[WebShop, WebShop]:
    """Two environments for all examples."""
    return WebShop(**COMPACT, results_per_page=5), WebShop(**COMPACT, results_per_page=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observation": "pieces"}, "observation='pieces' does not exist"),
        ({"action": "lmrl"}, "action='lmrl' does not exist"),
        ({"results_per_page": 0}, "results_per_page=0 must be a whole number from 1 to 50"),
        ({"results_per_page": RESULTS + 1}, "from 1 to 50"),
        ({"obs_length": 10}, "obs_length=10 must be"),
        ({"obs_length": "all"}, "obs_length='all' must be"),
        ({"catalogue": "amazon"}, "catalogue='amazon' does not exist"),
        ({"products": -1}, "products=-1 must be"),
        ({"products": 20}, None),
    ],
)
def test_options(options: dict[str, Any], message: str | None) -> None:
    if message is None:
        with pytest.raises(BenchError, match="too few to test on 100"):
            WebShop(**options)
        return
    with pytest.raises(BenchError, match=message):
        WebShop(**options)


def test_another_size_is_another_shop() -> None:
    small = load_catalogue(products=300)
    assert len(small.products) == 300 and len(small.goals) == 600
    assert asdict(small.products[0]) != asdict(load_catalogue().products[0])
    assert WebShop(products=300, **COMPACT).reset(seed=3)[0].startswith("want ")


def test_a_person_shops_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """`qsft-bench play webshop`: pages as a screen shows them, answered by what stands in brackets."""
    typed = iter(["search no-cooking granola peppermint", "1", "nonsense", "peppermint", "6_pack", "features", "back", "buy"])
    player = Person(read=lambda prompt: next(typed))
    (episode,) = play(player, [make_env(SPEC, **SPEC.play)], [TEST_SEEDS.start], SPEC.name)
    shown = capsys.readouterr().out
    assert "You want:\n  i am looking for a no-cooking granola with peppermint flavor" in shown
    assert "  [1] " in shown and "flavor: " in shown and "Features:\n  - " in shown and "Nothing happened." in shown
    assert episode.terminated and "Your score, between 0 and 1: " in str(episode.turns[-1].observation)
    assert [turn.invalid is not None for turn in episode.turns].count(True) >= 1
