"""The players: exact likelihoods, independence of company and history, and the numbers the declaration states."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from envs.wordle import SPEC
from envs.wordle.behaviour import Entropy, Mixture, Player, most_informative
from envs.wordle.env import OPENING, Wordle
from envs.wordle.feedback import CODES, feedback, feedback_matrix, write_answer, write_guess
from envs.wordle.words import word_index, word_list
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout

BOUND: dict[str, Any] = {"observation": "bound", "action": "word"}
WORDS = word_list()


def transcript(
    word: str, guesses: list[str], seed: int = 5, rules: Any = "lmrl", observation: Any = "lmrl", action: Any = "lmrl"
) -> Episode:
    """The episode in which `guesses` were made while `word` is hidden."""
    episode = Episode("wordle", seed, [Turn(OPENING)])
    for guess in guesses:
        said = write_answer(guess, feedback(guess, word, rules), observation)
        episode.step(write_guess(guess, action), said, -1.0, False, False, {})
    return episode


def play(player: Player, count: int, batch_size: int = 64, **options: Any) -> list[Episode]:
    return list(rollout(player, lambda: Wordle(**options), range(2**33, 2**33 + count), name="wordle", batch_size=batch_size))


def actions(episodes: list[Episode]) -> list[list]:
    return [[turn.action for turn in episode.turns] for episode in episodes]


@pytest.mark.parametrize("rules", ["lmrl", "official"])
@pytest.mark.parametrize("observation", ["lmrl", "bound"])
@pytest.mark.parametrize("action", ["lmrl", "word"])
def test_candidates_are_the_words_that_would_have_answered_alike(rules: Any, observation: Any, action: Any) -> None:
    options = {"rules": rules, "observation": observation, "action": action}
    games = [("sleep", ["there", "speed"]), ("level", []), ("glass", ["class", "about", "sales", "total", "wrong"])]
    candidates, latest = Mixture(**options).knowledge([transcript(word, guesses, **options) for word, guesses in games])
    for row, (word, guesses) in enumerate(games):
        expected = [all(feedback(g, w, rules) == feedback(g, word, rules) for g in guesses) for w in WORDS]
        assert candidates[row].tolist() == expected
        assert latest[row] == (word_index()[guesses[-1]] if guesses else -1)


def test_transcripts_that_tell_nothing_or_contradict_themselves() -> None:
    refused = Episode("wordle", 5, [Turn(OPENING)])
    refused.step("no such word", "\n", -1.0, False, False, {"invalid": "no"})
    contradictory = Episode("wordle", 5, [Turn(OPENING)])
    for said in ("g b b b b\n", "b b b b b\n"):
        contradictory.step("a b o u t\n", said, -1.0, False, False, {})
    candidates, latest = Mixture().knowledge([refused, contradictory])
    assert candidates.all()
    assert latest.tolist() == [-1, 0]


def test_probabilities_by_hand() -> None:
    episode = transcript("sleep", ["there", "speed"])
    count = int(Mixture().knowledge([episode])[0].sum())
    (row,) = Mixture(consistent=0.5, habit=0.2).probabilities([episode])
    habit = word_index()["speed"] + 1
    assert row[word_index()["sleep"]] == pytest.approx(0.5 / count + 0.3 / 400)
    assert row[word_index()["about"]] == pytest.approx(0.3 / 400)
    assert row[habit] == pytest.approx(0.2 + 0.3 / 400)


@pytest.mark.parametrize(
    "player",
    [
        Mixture(consistent=0.3),
        Mixture(consistent=0.4, habit=0.3),
        Mixture(consistent=0.7, habit=0.3, temperature=0.5),
        Entropy(),
    ],
)
def test_likelihood_sums_to_one(player: Player) -> None:
    for episode in (transcript("sleep", []), transcript("sleep", ["there"]), transcript("sleep", ["there", "speed", "about"])):
        texts = [write_guess(word, "lmrl") for word in WORDS]
        assert np.exp(player.log_likelihood([episode] * 400, texts)).sum() == pytest.approx(1, abs=1e-12)


def test_likelihood_of_what_is_never_written() -> None:
    never: list[Any] = ["zzzzz\n", "about\n", "a b o u t", "", None, np.zeros(8)]
    assert (Mixture().log_likelihood([transcript("sleep", [])] * len(never), never) == -np.inf).all()


def test_actions_are_drawn_with_the_stated_likelihood() -> None:
    player = Mixture(consistent=0.4, habit=0.3)
    episodes = [transcript("sleep", ["there"], seed=seed) for seed in range(40_000)]
    counts = Counter(player.act(episodes))
    texts = [write_guess(word, "lmrl") for word in WORDS]
    expected = np.exp(player.log_likelihood([episodes[0]] * 400, texts)) * len(episodes)
    observed = np.array([counts[text] for text in texts])
    assert ((observed - expected) ** 2 / expected).sum() < 399 + 4 * (2 * 399) ** 0.5


def test_episodes_carry_the_likelihood_and_are_reproducible() -> None:
    player = Mixture(**BOUND, consistent=0.4, habit=0.3)
    episodes = play(player, 50, **BOUND)
    assert actions(episodes) == actions(play(player, 50, **BOUND))
    for episode in episodes:
        for index, turn in enumerate(episode.turns[:-1]):
            prefix = Episode("wordle", episode.seed, [*episode.turns[:index], Turn(turn.observation)])
            assert turn.log_likelihood == pytest.approx(
                float(player.log_likelihood([prefix], [str(turn.action)])[0]), abs=1e-12
            )


@pytest.mark.parametrize("make", [lambda: Mixture(**BOUND, consistent=0.4, habit=0.3), lambda: Entropy(**BOUND)])
def test_neither_company_nor_memory_changes_an_action(make: Callable[[], Player]) -> None:
    class Amnesiac(Player):
        """Asks a new player every time."""

        def probabilities(self, episodes: Sequence[Episode]) -> np.ndarray:
            return make().probabilities(episodes)

    together = actions(play(make(), 60, batch_size=60, **BOUND))
    assert together == actions(play(make(), 60, batch_size=7, **BOUND))
    assert together == actions(play(make(), 60, batch_size=1, **BOUND))
    assert together == actions(play(Amnesiac(**BOUND), 60, **BOUND))


def test_format_changes_nothing_but_the_writing() -> None:
    plain, bound = (play(Mixture(**options, consistent=0.4), 50, **options) for options in ({}, BOUND))
    assert [[str(a).replace(" ", "") for a in row if a] for row in actions(plain)] == [
        [a for a in row if a] for row in actions(bound)
    ]


def test_the_habit_is_the_next_word_and_the_mode() -> None:
    player = Mixture(**SPEC.tier("habit").behaviour, temperature=0)
    assert player.act([transcript("level", [])]) == [write_guess(WORDS[0], "lmrl")]
    assert player.act([transcript("level", ["wrong"])]) == [write_guess(WORDS[word_index()["wrong"] + 1], "lmrl")]
    assert player.act([transcript("level", [WORDS[-1]])]) == [write_guess(WORDS[0], "lmrl")]


def test_the_mode_draws_ties_uniformly() -> None:
    player = Mixture(consistent=0.4, temperature=0)
    episode = transcript("sleep", ["there"])
    candidates = player.knowledge([episode])[0][0]
    assert player.probabilities([episode])[0] == pytest.approx(candidates / candidates.sum())


@pytest.mark.parametrize("tier", ["base", "habit"])
def test_the_data_score_what_the_paper_s_do(tier: str) -> None:
    assert SPEC.tier(tier).references_of(SPEC.columns[0])["behaviour"] == pytest.approx(-4.12, abs=0.03)


def test_the_solver_beats_the_mode_and_never_loses() -> None:
    greedy = play(Mixture(**BOUND, **SPEC.tier("base").behaviour, temperature=0), 1_000, **BOUND)
    solver = play(Entropy(**BOUND), 1_000, **BOUND)
    assert all(episode.success for episode in solver)
    assert statistics.fmean(e.total_return for e in solver) > statistics.fmean(e.total_return for e in greedy) + 0.2


def test_most_informative_guess_is_exhaustively_best() -> None:
    chosen = np.zeros(400, dtype=bool)
    chosen[[word_index()[word] for word in ("eight", "fight", "light", "might", "night", "right")]] = True
    guess = most_informative(np.packbits(chosen).tobytes(), "lmrl", False)
    matrix = feedback_matrix("lmrl")
    classes = [len(set(row)) for row in matrix[:, chosen].tolist()]  # how finely a guess parts the six
    assert classes[guess] == max(classes)
    assert chosen[most_informative(np.packbits(chosen).tobytes(), "lmrl", True)]
    pair = np.zeros(400, dtype=bool)
    pair[[3, 7]] = True
    assert most_informative(np.packbits(pair).tobytes(), "lmrl", False) == 3  # equals: a candidate first
    assert matrix[3, 7] != CODES["ggggg"]


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(BenchError, match="at most 1"):
        Mixture(consistent=0.8, habit=0.3)
    with pytest.raises(BenchError, match="temperature"):
        Mixture(temperature=-1)
    with pytest.raises(BenchError, match="observation='morse'"):
        Mixture(observation="morse")  # type: ignore[arg-type]
