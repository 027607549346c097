"""The players: the data's player goes by the texts alone, its probabilities are its frequencies, its errors those declared."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("alfworld", reason="needs the extra `alfworld`")
pytest.importorskip("fast_downward", reason="needs textworld[pddl]")

from envs.alfworld import SPEC
from envs.alfworld.behaviour import ERRORS, LINGER, STOP, Erring, Expert, Player, Uniform
from envs.alfworld.env import ALFWorld
from envs.alfworld.notes import Aim
from envs.alfworld.seen import Seen
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout

ROOM = "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
PLACES = "a fridge 1, a countertop 1, a countertop 2, a sinkbasin 1, a microwave 1, a cabinet 1."
CLEAN = Aim("apple", "fridge", "", 1, "clean")
TWO = Aim("apple", "fridge", "", 2, "")
LIGHT = Aim("book", "", "desklamp", 1, "")


def play(player: Player, seeds: range, batch_size: int = 3, **options: Any) -> list[Episode]:
    make = lambda: ALFWorld(games="generated", split="valid_seen", privileged=True, **options)  # noqa: E731
    return list(rollout(player, make, seeds, name="alfworld", batch_size=batch_size))


def actions(episode: Episode) -> list[str]:
    return [str(turn.action) for turn in episode.turns[:-1]]


def meant(player: Erring, aim: Aim, *texts: str) -> dict[str, float]:
    """What the player means to do where everything can be done, after the room and `texts`."""
    seen = Seen()
    for text in (ROOM + PLACES, *texts):
        seen.hear(text)
    verbs = ["look", "use desklamp 1"]
    places = [*seen.places, "desk 1"]
    things = [f"{kind} {number}" for kind in ("apple", "book", "fork", "egg") for number in (1, 2)]
    verbs += [f"{verb} {place}" for verb in ("go to", "open") for place in places]
    verbs += [f"take {thing} from {place}" for thing in things for place in places]
    verbs += [f"{verb} {seen.held} {word} {place}" for verb, word in (("move", "to"), ("clean", "with")) for place in places]
    found = player.meant(aim, seen, frozenset(verbs))
    assert math.fsum(found.values()) == pytest.approx(1)
    return {command: share for command, share in found.items() if share}


HERE = "You arrive at countertop 1. On the countertop 1, you see a apple 1, and a egg 1."
TAKEN = "You pick up the apple 1 from the countertop 1."
CLEANED = "You clean the apple 1 using the sinkbasin 1."
OPEN = "You open the fridge 1. The fridge 1 is open. In it, you see nothing."
PUT = "You move the apple 1 to the fridge 1."


def test_it_looks_into_what_stands_open_first_and_then_by_name_where_the_object_may_be() -> None:
    player = Erring()
    assert meant(player, CLEAN) == {"go to countertop 1": 1.0}
    bare = "You arrive at countertop 1. On the countertop 1, you see nothing."
    assert meant(player, CLEAN, bare) == {"go to countertop 2": 1.0}
    bare2 = bare.replace("countertop 1", "countertop 2")
    sink = "You arrive at sinkbasin 1. On the sinkbasin 1, you see a fork 1."
    assert meant(player, CLEAN, bare, bare2, sink) == {"go to microwave 1": 1.0}  # not a cabinet, where no apple lies
    assert meant(player, CLEAN, bare, bare2, sink, "You arrive at microwave 1. The microwave 1 is closed.") == {
        "open microwave 1": 1.0
    }


def test_each_step_goes_wrong_as_often_as_declared() -> None:
    player = Erring()
    take, place, clean = ERRORS["take"], ERRORS["place"], ERRORS["clean"]
    assert meant(player, CLEAN, HERE) == pytest.approx(
        {"take apple 1 from countertop 1": 1 - take, "take egg 1 from countertop 1": take}
    )
    assert meant(player, CLEAN, HERE, TAKEN) == pytest.approx({"go to sinkbasin 1": 1 - clean, "go to fridge 1": clean})
    sink = "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."
    assert meant(player, CLEAN, HERE, TAKEN, sink) == {"clean apple 1 with sinkbasin 1": 1.0}
    bring = meant(player, CLEAN, HERE, TAKEN, sink, CLEANED)
    assert bring.pop("go to fridge 1") == pytest.approx(1 - place)
    assert bring == pytest.approx(dict.fromkeys(("go to countertop 1", "go to countertop 2", "go to microwave 1"), place / 4)
                                  | {"move apple 1 to sinkbasin 1": place / 4})  # fmt: skip
    arrived = "You arrive at fridge 1. The fridge 1 is closed."
    assert meant(player, CLEAN, HERE, TAKEN, sink, CLEANED, arrived) == {"open fridge 1": 1.0}
    assert meant(player, CLEAN, HERE, TAKEN, sink, CLEANED, arrived, OPEN) == {"move apple 1 to fridge 1": 1.0}


def test_who_forgot_takes_the_task_for_done_and_looks_about() -> None:
    player = Erring()
    arrived = "You arrive at fridge 1. The fridge 1 is closed."
    done = meant(player, CLEAN, HERE, TAKEN, arrived, OPEN, PUT)
    assert done.pop("look") == pytest.approx(STOP)
    assert set(done) == {"take apple 1 from fridge 1"}
    look = "You are facing the fridge 1. Next to it, you see nothing."
    assert meant(player, CLEAN, HERE, TAKEN, arrived, OPEN, PUT, look)["look"] == pytest.approx(LINGER)
    # Of two, the first that is in place is no reason to stop, but for the share that forgets the second.
    assert meant(player, TWO, HERE, TAKEN, arrived, OPEN, PUT)["look"] == pytest.approx(ERRORS["second"])


def test_before_the_lamp() -> None:
    player = Erring()
    desk = "You arrive at desk 1. On the desk 1, you see a book 1, and a desklamp 1."
    took = "You pick up the book 1 from the desk 1."
    use = ERRORS["use"]
    assert meant(player, LIGHT, desk, took) == pytest.approx({"use desklamp 1": 1 - use, "move book 1 to desk 1": use})


def test_the_habit_is_to_look_about_where_an_object_would_be_taken() -> None:
    player = Erring(errors=0.0, habit=0.7)
    assert meant(player, CLEAN, HERE) == pytest.approx({"take apple 1 from countertop 1": 0.3, "look": 0.7})
    for episode in play(Erring(errors=0.0, habit=1.0), range(6)):
        assert not any(action.startswith("take ") for action in actions(episode))
        assert not episode.success


def test_the_mode_of_the_habit_never_wins() -> None:
    mode = Erring(**SPEC.tiers["habit"].behaviour, temperature=0.0)
    assert not any(episode.success for episode in play(mode, range(12)))


def test_without_errors_it_wins_mostly_by_searching_and_the_expert_always() -> None:
    assert all(episode.success for episode in play(Expert(), range(6)))
    episodes = play(Erring(errors=0.0), range(24), batch_size=8)
    assert sum(bool(episode.success) for episode in episodes) >= 20


@pytest.mark.parametrize("tier", SPEC.tiers)
def test_its_probabilities_are_its_frequencies(tier: str) -> None:
    """The command at the start of 600 episodes of one game, and at the first choice between treating and bringing."""
    player = Erring(**SPEC.tiers[tier].behaviour)
    env = ALFWorld(games="generated", split="valid_seen", privileged=True)
    expert = Expert()
    observation, info = env.reset(seed=0, options={"game": 2})
    while not info["facts"].held:
        (action,) = expert.act([Episode("alfworld", 0, [Turn.opened(observation, info)])])
        observation, *_, info = env.step(str(action))
    seeds = range(2_000)
    waiting = [Episode("alfworld", seed, [Turn.opened(observation, info)]) for seed in seeds]
    counts = Counter(player.act(waiting))
    weights = player.weights(info["facts"])
    assert math.fsum(weights.values()) == pytest.approx(1)
    for command, share in weights.items():
        assert counts[f"{command}\n"] / len(seeds) == pytest.approx(share, abs=4 * math.sqrt(share / len(seeds)) + 1e-3)
    likelihood = player.log_likelihood(waiting[:2], [f"{max(weights, key=lambda each: weights[each])}\n", "fly\n"])
    assert likelihood.tolist() == pytest.approx([math.log(max(weights.values())), -math.inf])


@pytest.mark.parametrize("tier", SPEC.tiers)
def test_it_goes_by_the_texts_alone(tier: str) -> None:
    """What it was told is what any reader of the episode knows, and the exact likelihood is beside every action."""
    for episode in play(Erring(**SPEC.tiers[tier].behaviour), range(4)):
        seen = Seen()
        for turn in episode.turns:
            seen.hear(str(turn.observation))
            assert turn.facts.seen == seen
            assert turn.action is None or (turn.log_likelihood is not None and turn.log_likelihood <= 0)


@pytest.mark.parametrize("tier", SPEC.tiers)
def test_an_episode_depends_on_its_seed_alone_and_not_on_how_it_is_written(tier: str) -> None:
    behaviour = SPEC.tiers[tier].behaviour
    player, seeds = Erring(**behaviour), range(20, 24)
    together, alone = play(player, seeds, batch_size=4), play(player, seeds, batch_size=1)
    assert together == alone
    assert not any(episode.invalid_actions for episode in together)
    short = play(Erring("short", **behaviour), seeds, observation="short", action="short")
    for episode, other in zip(together, short, strict=True):
        assert (episode.length, episode.scores) == (other.length, other.scores)
        likelihoods = ([turn.log_likelihood for turn in each.turns[:-1]] for each in (episode, other))
        assert next(likelihoods) == pytest.approx(next(likelihoods))


def test_random_play_is_valid() -> None:
    assert not any(episode.invalid_actions for episode in play(Uniform(), range(3)))


def test_a_player_must_know_the_state() -> None:
    with pytest.raises(BenchError, match="privileged=True"):
        Expert().act([Episode("alfworld", 0, [Turn("You are in the middle of a room.")])])


@pytest.mark.parametrize(
    "wrong", [{"slip": 1.5}, {"habit": -0.1}, {"errors": 2.0}, {"errors": -1.0}, {"obs": "smell"}, {"temperature": -1.0}]
)
def test_probabilities_and_options_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(BenchError, match=next(iter(wrong))):
        Erring(**wrong)  # type: ignore[arg-type]
