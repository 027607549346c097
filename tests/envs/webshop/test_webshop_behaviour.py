"""The shoppers: what they choose is what their likelihood says, in both formats, and they score what the tiers state."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from envs.webshop import SPEC
from envs.webshop.behaviour import Reader, Shopper, fit, understand, ways_to_keep
from envs.webshop.env import WebShop
from envs.webshop.pages import WRITINGS
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout
from tests.envs.webshop.shop import DEAR, GOAL, HAT, RACK

COMPACT: dict[str, Any] = {"observation": "compact", "action": "compact", "results_per_page": 5}
WRITING = WRITINGS["compact"]
START = WRITING.start(GOAL.instruction)
RESULTS = WRITING.results([RACK, HAT, DEAR], 1, 4, 12)
SEARCH = ("search sun hat .\n", RESULTS)
NOISE = {"keep": 0.7, "careful": 0.4, "browse": 0.1, "returns": 0.5, "looks": 0.2, "sets": 0.5, "slips": 0.1}
DRAWS = 4_000


def play(player: Reader, episodes: int, first: int = 2**32, **options: Any) -> list[Episode]:
    options = options or COMPACT
    seeds = range(first, first + episodes)
    return list(rollout(player, lambda: WebShop(**options), seeds, name="webshop", batch_size=128))


def mean(player: Reader, episodes: int = 400) -> float:
    return fmean(episode.total_return for episode in play(player, episodes))


def at(*moves: tuple[str, str], seed: int = 0) -> Episode:
    """A visit in which these (action, answer) happened."""
    turns = [Turn(START)]
    for action, answer in moves:
        turns[-1].action = action
        turns.append(Turn(answer))
    return Episode("webshop", seed, turns)


STATES = {
    "results": (SEARCH,),
    "one opened": (SEARCH, ("2\n", WRITING.item(HAT)), ("back\n", "page 1 / 4\n")),
    "all opened": (
        SEARCH,
        ("1\n", WRITING.item(RACK)),
        ("back\n", "page 1 / 4\n"),
        ("2\n", WRITING.item(HAT)),
        ("back\n", "page 1 / 4\n"),
        ("3\n", WRITING.item(DEAR)),
        ("back\n", "page 1 / 4\n"),
    ),
    "the hat": (SEARCH, ("2\n", WRITING.item(HAT))),
    "the hat, one option set": (SEARCH, ("2\n", WRITING.item(HAT)), ("navy\n", "set\n")),
    "too dear": (SEARCH, ("3\n", WRITING.item(DEAR))),
    "an accessory": (SEARCH, ("1\n", WRITING.item(RACK))),
    "features": (SEARCH, ("2\n", WRITING.item(HAT)), ("features\n", WRITING.part(HAT, "features"))),
    "back at the hat": (
        SEARCH,
        ("2\n", WRITING.item(HAT)),
        ("features\n", WRITING.part(HAT, "features")),
        ("back\n", "item again\n"),
    ),
    "refused": (SEARCH, ("nonsense\n", "nothing\n")),
}


@pytest.mark.parametrize("habit", [0.0, 0.3])
@pytest.mark.parametrize("state", STATES)
def test_clicks_are_as_frequent_as_their_likelihood_says(state: str, habit: float) -> None:
    player = Shopper(**COMPACT, **NOISE, habit=habit)
    stated = player.choices(player.visit(at(*STATES[state])))
    assert sum(stated.values()) == pytest.approx(1)
    found = Counter(player.act([at(*STATES[state], seed=seed) for seed in range(DRAWS)]))
    assert set(found) <= set(stated)
    for action, chance in stated.items():
        assert found[action] / DRAWS == pytest.approx(chance, abs=4 * math.sqrt(0.25 / DRAWS))
        (likelihood,) = player.log_likelihood([at(*STATES[state])], [action])  # type: ignore[misc]
        assert math.exp(likelihood) == pytest.approx(chance)
    assert player.log_likelihood([at(*STATES[state])], ["nonsense\n"]) == [-math.inf]


def test_the_choices_by_hand() -> None:
    player = Shopper(**COMPACT, **NOISE)

    def choices(state: str) -> dict[str, float]:
        return player.choices(player.visit(at(*STATES[state])))

    # careful .4 on the only match; browse .1 on two buttons; the other .5 halves from the top: .25, .125, .125
    assert choices("results") == pytest.approx({"1\n": 0.25, "2\n": 0.525, "3\n": 0.125, "next\n": 0.05, "home\n": 0.05})
    # neither of the others matches: .2 each, then .25 and .25
    assert choices("one opened") == pytest.approx({"1\n": 0.45, "3\n": 0.45, "next\n": 0.05, "home\n": 0.05})
    assert choices("all opened") == {"next\n": 1.0}
    looks = {"features\n": 0.12, "description\n": 0.05, "reviews\n": 0.03}
    assert choices("the hat") == pytest.approx({**looks, "navy\n": 0.5, "dark_blue\n": 0.1, "buy\n": 0.2})
    assert choices("the hat, one option set") == pytest.approx({**looks, "large\n": 0.5, "small\n": 0.1, "buy\n": 0.2})
    assert choices("back at the hat") == pytest.approx({"navy\n": 0.5, "dark_blue\n": 0.1, "buy\n": 0.4})
    assert choices("too dear")["back\n"] == choices("an accessory")["back\n"] == 0.5
    assert choices("too dear")["navy\n"] == 0.25
    assert choices("features") == {"back\n": 1.0}
    habit = Shopper(**COMPACT, **NOISE, habit=0.5)
    assert habit.choices(habit.visit(at(*STATES["results"])))["3\n"] == pytest.approx(0.5 + 0.125 / 2)
    assert habit.choices(habit.visit(at(*STATES["the hat"])))["buy\n"] == pytest.approx(0.5 + 0.2 / 2)


def test_queries_are_as_frequent_as_their_likelihood_says() -> None:
    player = Shopper(**COMPACT, **NOISE)
    found = Counter(player.act([at(seed=seed) for seed in range(DRAWS)]))
    total = 0.0
    for action, count in found.items():
        (likelihood,) = player.log_likelihood([at()], [action])  # type: ignore[misc]
        total += math.exp(likelihood)
        assert count / DRAWS == pytest.approx(math.exp(likelihood), abs=4 * math.sqrt(math.exp(likelihood) / DRAWS) + 1e-3)
    assert 0.95 < total <= 1 + 1e-9
    assert player.probability(at(), "search machine_washable sun hat navy size large .\n") == pytest.approx(0.7**6 + 0.3**6)
    assert player.probability(at(), "search hat sun .\n") == 0  # words keep their order
    assert player.probability(at(), "search .\n") == player.probability(at(), "buy\n") == 0


def test_ways_to_keep() -> None:
    assert ways_to_keep("abc", "") == ways_to_keep("abc", "ac") == 1
    assert ways_to_keep("abab", "ab") == 3 and ways_to_keep("aaa", "a") == 3 and ways_to_keep("abc", "cb") == 0


def test_all_queries_add_up_to_one_even_with_a_word_twice() -> None:
    player = Shopper(**COMPACT, keep=0.6)
    words = ("red", "hat", "red")
    episode = Episode("webshop", 0, [Turn("want red hat red under any\n")])
    kept = {tuple(w for w, bit in zip(words, np.binary_repr(code, 3), strict=True) if bit == "1") for code in range(1, 8)}
    assert sum(player.probability(episode, WRITING.search(one)) for one in kept) == pytest.approx(1)


def test_the_mode_is_the_most_likely_action() -> None:
    player, mode = Shopper(**COMPACT, **NOISE), Shopper(**COMPACT, **NOISE, temperature=0.0)
    for name in ("results", "the hat", "too dear", "features"):
        stated = player.choices(player.visit(at(*STATES[name])))
        best = max(stated.values())
        assert {stated[str(a)] for a in mode.act([at(*STATES[name], seed=seed) for seed in range(50)])} == {best}
    assert set(mode.act([at(seed=seed) for seed in range(20)])) == {"search machine_washable sun hat navy size large .\n"}
    assert mode.log_likelihood([at()], ["buy\n"]) is None


@pytest.mark.parametrize("tier", SPEC.tiers)
def test_both_formats_are_shopped_in_alike(tier: str) -> None:
    """The same noise makes the same choices, whatever the pages look like."""
    played = []
    for writing in ("original", "compact"):
        options = {"observation": writing, "action": writing, "results_per_page": 5}
        played.append(play(Shopper(**options, **SPEC.tier(tier).behaviour), 60, **options))
    for left, right in zip(*played, strict=True):
        assert (left.length, left.total_return, left.statistics) == (right.length, right.total_return, right.statistics)


def test_instructions_are_understood() -> None:
    wish = understand(("storm_ready", "padded", "belt", "bag", "dark_blue", "size", "s"))
    assert wish.kind == {"waist", "pouch"} and wish.attributes == {"weatherproof", "padded"}
    assert {"navy", "small"} <= wish.said
    assert fit(wish, ("drift", "waist", "pouch", "padded", "weatherproof")) == 2
    assert fit(wish, ("drift", "waist", "pouch", "floating")) == 0
    assert fit(wish, ("drift", "yoga", "mat", "padded")) == -1  # another thing
    assert fit(wish, ("drift", "carry", "sack", "waist", "pouch", "padded")) == -1  # only an accessory
    assert understand(("something", "else")).kind == frozenset()


def test_imitation_of_the_habit_stays_below_its_data() -> None:
    references = SPEC.tier("habit").references_of("Score")
    assert references["greedy_behaviour"] < references["behaviour"] - 0.08


def test_the_data_has_every_score_and_some_long_visits() -> None:
    played = play(Shopper(**COMPACT, **SPEC.tier("base").behaviour), 500)
    scores = [episode.total_return for episode in played]
    assert min(scores) == 0 and max(scores) == 1
    assert all(any(low <= score < low + 0.25 for score in scores) for low in (0, 0.25, 0.5, 0.75))
    assert max(episode.length for episode in played) >= 12 and not any(episode.invalid_actions for episode in played)


def test_what_a_player_says_depends_on_the_visit_alone() -> None:
    player = Shopper(**COMPACT, **SPEC.tier("base").behaviour)
    together = play(player, 20)
    for episode in together[:5]:
        (alone,) = play(Shopper(**COMPACT, **SPEC.tier("base").behaviour), 1, first=episode.seed)
        assert [turn.action for turn in alone.turns] == [turn.action for turn in episode.turns]
    player.forget(together)
    assert not player._visits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 1.5}, "keep=1.5 is not a probability"),
        ({"habit": -0.1}, "habit=-0.1"),
        ({"careful": 0.8, "browse": 0.3}, "careful . browse"),
        ({"looks": 0.5, "sets": 0.5, "slips": 0.1}, "looks . sets . slips"),
        ({"temperature": -1.0}, "temperature=-1.0 must be >= 0"),
        ({"observation": "pieces"}, "does not exist"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        Shopper(**options)
