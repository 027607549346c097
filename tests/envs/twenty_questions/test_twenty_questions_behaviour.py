"""The players: exact likelihoods, independence of company and history, and the numbers the declaration states."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from envs.twenty_questions import SPEC
from envs.twenty_questions.behaviour import Mixture, Player, Solver, best_question, common_attributes, informative, members
from envs.twenty_questions.env import OPENING, TwentyQuestions
from envs.twenty_questions.knowledge import knowledge
from qsft_bench.codec import TextCodec
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout
from qsft_bench.tokens import rows

BOUND: dict[str, Any] = {"observation": "bound", "action": "word"}
KNOWN = knowledge()
KEYS = [thing.key for thing in KNOWN.things]
QUESTIONS = [found.key for found in common_attributes()]


def transcript(*said: str, seed: int = 5) -> Episode:
    """The episode of these questions and answers in turn."""
    episode = Episode("twenty_questions", seed, [Turn(OPENING)])
    for question, answer in zip(said[::2], said[1::2], strict=True):
        episode.step(question, answer, -1.0, False, False, {})
    return episode


def named(*keys: str) -> int:
    return sum(1 << KEYS.index(key) for key in keys)


def play(player: Player, count: int, batch_size: int = 128, **options: Any) -> list[Episode]:
    made = rollout(
        player, lambda: TwentyQuestions(**options), range(2**33, 2**33 + count), name="twenty_questions", batch_size=batch_size
    )
    return list(made)


def actions(episodes: list[Episode]) -> list[list]:
    return [[turn.action for turn in episode.turns] for episode in episodes]


def test_questions_are_many_and_each_is_one_word_in_the_compact_form() -> None:
    words, sentences = Mixture(**BOUND).actions, Mixture().actions
    assert len(words) == len(set(words)) == len(sentences) == len(set(sentences))
    assert 250 <= len(words) <= 290
    assert all(len(TextCodec.pieces("words", word)) == 1 for word in words)
    assert sentences[:1] == ["Is it alive?\n"] and "Is it a soccer ball?\n" in sentences


def test_a_row_of_the_compact_form_is_at_most_42_tokens() -> None:
    episode = next(episode for episode in play(Mixture(**BOUND), 40, **BOUND) if episode.length == 20)
    texts = {str(text): 1 for turn in episode.turns for text in (turn.observation, turn.action) if text}
    codec = TextCodec.learn("words", texts, [str(turn.action) for turn in episode.turns[:-1]])
    (row,) = rows(codec, episode, SPEC.scales["small"]["context"], "transcript")
    assert len(row.ids) == 42


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("Is it a feline?", "Yes."), {"cat", "lion", "tiger"}),
        (("feline\n", "feline_yes\n", "lion\n", "lion_no\n"), {"cat", "tiger"}),
        (("Is it not a pet?", "no", "Is it in the cat family?", "y"), {"cat"}),  # a person's answers
        (("Is it a cat or a dog?", "Yes.", "hm?", "Yes.", "Does it bark?", "who knows"), {"cat", "dog"}),  # what says nothing
    ],
)
def test_candidates_are_the_objects_that_would_have_answered_alike(said: tuple[str, ...], expected: set[str]) -> None:
    assert Mixture().candidates(transcript(*said)) == named(*expected)


def test_contradictions_leave_every_object() -> None:
    contradictory = transcript("Is it a cat?", "No.", "Does it meow?", "Yes.")
    assert Mixture().candidates(contradictory) == KNOWN.everything
    assert (Mixture(informed=1).probabilities([contradictory]) > 0).sum() == len(QUESTIONS)


def test_the_solver_goes_on_whatever_a_person_answers() -> None:
    for answer in ("yes", "no", "who knows", ""):
        player, episode = Solver(), transcript()
        for _ in range(20):
            (action,) = player.act([episode])
            episode.step(action, answer, -1.0, False, False, {})
        taken = [turn.action for turn in episode.turns[:-1]]
        if answer != "yes":  # a guess that was right is what it then repeats
            assert len(set(taken)) == 20


def test_latest_own_question() -> None:
    player = Mixture()
    assert player.latest(transcript()) == -1
    assert player.latest(transcript("Is it alive?", "No.", "Is it a zebra?", "No.")) == QUESTIONS.index("alive")
    assert player.latest(transcript("Is it a living thing?", "No.", "Is it a locket?", "No.")) == len(QUESTIONS) + KEYS.index(
        "locket"
    )


def test_probabilities_by_hand() -> None:
    size = len(QUESTIONS) + 158
    (row,) = Mixture(informed=0.4, habit=0.3).probabilities(
        [transcript("Is it a feline?", "Yes.")]
    )  # cat, lion or tiger: guess
    assert row[len(QUESTIONS) + KEYS.index("lion")] == pytest.approx(0.4 / 3 + 0.3 / size)
    assert row[len(QUESTIONS) + KEYS.index("dog")] == pytest.approx(0.3 / size)
    assert row[0] == pytest.approx(0.3 + 0.3 / size)  # `feline` is too narrow to be a player's own: the habit begins
    (row,) = Mixture(informed=0.4).probabilities([transcript("animal\n", "Yes.", "Is it a feline?", "No.")])
    still_open = [key for key in QUESTIONS if 0 < len(having(key) & having("animal") - having("feline")) < 7]
    assert row[QUESTIONS.index("soft")] == pytest.approx(0.4 / len(still_open) + 0.6 / size)
    assert row[QUESTIONS.index("alive")] == pytest.approx(0.6 / size)


def having(key: str) -> set[str]:
    true = next(found.true for found in KNOWN.attributes if found.key == key)
    return {thing for index, thing in enumerate(KEYS) if true >> index & 1}


def test_informative_sets() -> None:
    sets = (named("cat", "dog"), KNOWN.everything, named("sea"))
    chosen = informative(sets)
    assert chosen.sum(axis=1) == pytest.approx(1)
    assert {(QUESTIONS + KEYS)[index] for index in np.flatnonzero(chosen[0])} == {"cat", "dog"}
    assert np.flatnonzero(chosen[1]).tolist() == list(range(len(QUESTIONS)))
    assert (QUESTIONS + KEYS)[int(chosen[2].argmax())] == "sea"
    assert members(sets).sum(axis=1).tolist() == [2, 158, 1]


PLAYERS = [Mixture(informed=0.3), Mixture(informed=0.3, habit=0.3), Mixture(informed=0.7, habit=0.3, temperature=0.5), Solver()]


@pytest.mark.parametrize("player", PLAYERS)
def test_likelihood_sums_to_one(player: Player) -> None:
    for episode in (
        transcript(),
        transcript("Is it alive?", "Yes."),
        transcript("Is it a feline?", "Yes.", "Is it a cat?", "No."),
    ):
        total = np.exp(player.log_likelihood([episode] * len(player.actions), player.actions)).sum()
        assert total == pytest.approx(1, abs=1e-12)


def test_likelihood_of_what_is_never_written() -> None:
    never: list[Any] = ["Is it a zebra?\n", "alive\n", "Is it alive?", "", None, np.zeros(8)]
    assert (Mixture().log_likelihood([transcript()] * len(never), never) == -np.inf).all()


def test_actions_are_drawn_with_the_stated_likelihood() -> None:
    player = Mixture(informed=0.4, habit=0.3)
    episodes = [transcript("Is it alive?", "Yes.", seed=seed) for seed in range(10_000)]
    counts = Counter(player.act(episodes))
    size = len(player.actions)
    expected = np.exp(player.log_likelihood([episodes[0]] * size, player.actions)) * len(episodes)
    observed = np.array([counts[text] for text in player.actions])
    assert ((observed - expected) ** 2 / expected).sum() < size - 1 + 4 * (2 * (size - 1)) ** 0.5


def test_play_depends_on_the_episode_alone() -> None:
    def make() -> Mixture:
        return Mixture(**BOUND, informed=0.4, habit=0.3)

    class Amnesiac(Player):
        """Asks a new player every time."""

        def probabilities(self, episodes: Any) -> Any:
            informative.cache_clear()
            return make().probabilities(episodes)

    together = actions(play(make(), 30, batch_size=30, **BOUND))
    assert together == actions(play(make(), 30, batch_size=7, **BOUND))
    assert together == actions(play(Amnesiac(**BOUND), 30, **BOUND))


def test_format_changes_nothing_but_the_writing() -> None:
    player, plain = Mixture(**BOUND, informed=0.4), Mixture(informed=0.4)
    said = dict(zip(player.actions, plain.actions, strict=True))
    words, sentences = play(player, 30, **BOUND), play(plain, 30)
    assert [[said.get(str(action)) for action in row] for row in actions(words)] == actions(sentences)
    assert [episode.total_return for episode in words] == [episode.total_return for episode in sentences]


def test_the_habit_is_the_next_question_and_the_mode() -> None:
    player = Mixture(**SPEC.tier("habit").behaviour, temperature=0)
    assert player.act([transcript()]) == player.actions[:1]
    assert player.act([transcript("Is it alive?", "No.")]) == player.actions[1:2]
    assert player.act([transcript(player.actions[-1], "No.")]) == player.actions[:1]


@pytest.mark.parametrize("tier", ["base", "habit"])
def test_the_data_score_what_the_paper_s_do(tier: str) -> None:
    assert SPEC.tier(tier).references_of(SPEC.columns[0])["behaviour"] == pytest.approx(-17.3, abs=0.2)


def test_imitation_stays_far_below_the_solver() -> None:
    for tier in SPEC.tiers.values():
        assert tier.references_of(SPEC.columns[0])["greedy_behaviour"] < tier.references["ceiling"] - 1.5


def test_the_solver_names_every_object_in_at_most_ten_questions() -> None:
    player, env = Solver(**BOUND), TwentyQuestions(**BOUND)
    for hidden in KEYS:
        episode = Episode("twenty_questions", 0, [Turn(env.reset(options={"object": hidden})[0])])
        while not episode.done:
            (action,) = player.act([episode])
            episode.step(action, *env.step(str(action)))
        assert episode.success and episode.length <= 10, hidden


def test_the_solver_splits_evenly_then_guesses() -> None:
    first = common_attributes()[best_question(KNOWN.everything)]
    halves = [abs(2 * found.true.bit_count() - 158) for found in common_attributes()]
    assert abs(2 * first.true.bit_count() - 158) == min(halves)
    assert best_question(named("sea", "ocean")) == len(QUESTIONS) + KEYS.index("ocean")
    assert best_question(named("sea", "ocean"), 1 << len(QUESTIONS) + KEYS.index("ocean")) == len(QUESTIONS) + KEYS.index("sea")
    assert best_question(KNOWN.everything, last=True) == len(QUESTIONS)  # the last question is a guess


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(BenchError, match="at most 1"):
        Mixture(informed=0.8, habit=0.3)
    with pytest.raises(BenchError, match="temperature"):
        Mixture(temperature=-1)
    with pytest.raises(BenchError, match="observation='morse'"):
        Mixture(observation="morse")  # type: ignore[arg-type]
