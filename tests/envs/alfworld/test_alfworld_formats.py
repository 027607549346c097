"""The short format says what the texts said, in few words that bind what belongs together; its actions are understood."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("alfworld", reason="needs the extra `alfworld`")
pytest.importorskip("fast_downward", reason="needs textworld[pddl]")

from envs.alfworld.env import ALFWorld
from envs.alfworld.formats import write_action, write_observation
from envs.alfworld.games import generate
from envs.alfworld.notes import Aim
from envs.alfworld.seen import Seen
from qsft_bench.codec import TextCodec
from qsft_bench.preset import scale
from qsft_bench.registry import attribute, env_spec
from qsft_bench.rollout import play_episodes
from qsft_bench.tokens import rows

OPENING = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a cabinet 2, a cabinet 10, a fridge 1, a countertop 1, a sinkbasin 1, and a cabinet 1.\n\nYour task is to: put a clean "
    "apple in fridge."
)
AIM = Aim("apple", "fridge", "", 1, "clean")


def told(aim: Aim, *texts: str) -> str:
    seen = Seen()
    for text in texts:
        seen.hear(text)
    return write_observation(aim, seen)


COUNTER = "You arrive at countertop 1. On the countertop 1, you see a fork 2, and a apple 1."
TAKE = "You pick up the apple 1 from the countertop 1."
SINK = "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."
CLEAN = "You clean the apple 1 using the sinkbasin 1."
FRIDGE = "You arrive at fridge 1. The fridge 1 is closed."
OPEN = "You open the fridge 1. The fridge 1 is open. In it, you see a egg 1."
AIMS = "want_apple in_fridge clean_it"


def test_an_episode_in_short() -> None:
    texts = [OPENING, COUNTER, TAKE, SINK, CLEAN, FRIDGE, OPEN]
    assert [told(AIM, *texts[: count + 1]) for count in range(len(texts))] == [
        f"countertop1 sinkbasin1 cabinet1 cabinet2 cabinet10 fridge1 {AIMS} next_countertop1 start_empty_away\n",
        f"at_countertop1 apple1 fork2 {AIMS} moved_empty_sees\n",
        f"at_countertop1 fork2 hold_apple1 {AIMS} took_raw_away\n",
        f"at_sinkbasin1 hold_apple1 {AIMS} moved_raw_treats\n",
        f"at_sinkbasin1 hold_apple1 clean {AIMS} took_ready_away\n",
        f"at_fridge1 closed hold_apple1 clean {AIMS} moved_ready_closed\n",
        f"at_fridge1 open egg1 hold_apple1 clean {AIMS} moved_ready_goal\n",
    ]


def test_what_was_seen_elsewhere_is_remembered_and_what_lies_in_place_counted() -> None:
    two = Aim("apple", "fridge", "", 2, "")
    counter = COUNTER.replace("a fork 2", "a apple 2")
    there = told(two, OPENING, counter, TAKE, FRIDGE, OPEN, "You move the apple 1 to the fridge 1.")
    assert there == "at_fridge1 open apple1 egg1 want_apple in_fridge two seen_countertop1 one put_empty_away\n"
    lamp = Aim("apple", "", "desklamp", 1, "")
    assert told(lamp, OPENING, COUNTER, TAKE).split()[-2:] == ["next_sinkbasin1", "took_ready_away"]
    lit = told(lamp, OPENING, "You arrive at desk 1. On the desk 1, you see a desklamp 1.", COUNTER, TAKE)
    assert lit == "at_countertop1 fork2 hold_apple1 want_apple under_desklamp seen_desk1 took_ready_away\n"


@pytest.mark.parametrize(
    ("command", "short"),
    [
        ("go to cabinet 10", "go cabinet10"),
        ("take apple 1 from fridge 1", "take apple1"),
        ("move apple 1 to fridge 1", "put fridge1"),
        ("clean apple 1 with sinkbasin 1", "clean apple1"),
        ("use desklamp 1", "use desklamp1"),
        ("examine fridge 1", "examine fridge1"),
        ("inventory", "inventory"),
    ],
)
def test_a_command_in_short(command: str, short: str) -> None:
    assert write_action(command, "short") == short
    assert write_action(command, "engine") == command


def test_either_way_of_writing_is_understood_with_and_without_a_newline() -> None:
    """Four games side by side, one for each way, tell the same."""
    envs = [ALFWorld(games="generated", split="valid_seen", action=action) for action in ("engine", "short")]
    envs += [ALFWorld(games="generated", split="valid_seen") for _ in range(2)]
    infos = [env.reset(seed=0, options={"game": 1})[1] for env in envs]
    for turn in range(12):
        commands, short = infos[0]["admissible"], infos[1]["admissible"]
        assert [write_action(command, "short") for command in commands] == short
        assert len(set(short)) == len(short)
        index = turn * 7 % len(commands)
        said = [commands[index], short[index], f"{commands[index]}\n", f"{short[index]}\n"]
        found = [env.step(action) for env, action in zip(envs, said, strict=True)]
        assert len({observation for observation, *_ in found}) == 1
        infos = [info for *_, info in found]
        assert not any("invalid" in info for info in infos)


def test_what_is_noted_is_read_off_the_texts_alone() -> None:
    """The same texts in two games give the same notes: nothing of the game but its task comes in."""
    game = generate("valid_seen", 2)
    aim = Aim.of(game)
    assert (aim.target, aim.parent, aim.treatment) == (game.target, game.parent, "clean")
    assert game.target in game.goal and game.parent in game.goal


def test_whole_episodes_fit_into_few_words() -> None:
    spec = env_spec("alfworld")
    sizes = scale("small", spec)
    player = attribute(spec.behaviour)(**sizes.options, **spec.tiers["base"].behaviour)
    episodes = play_episodes(player, spec, sizes.options, range(6))
    texts = [str(text) for episode in episodes for turn in episode.turns for text in (turn.observation, turn.action) if text]
    assert all(re.fullmatch(r"[\w ]+\n", text) for text in texts)
    codec = TextCodec.learn("words", dict.fromkeys(texts, 1), [str(turn.action) for e in episodes for turn in e.turns[:-1]])
    assert codec.action_limit <= 2
    for episode in episodes:
        assert len(list(rows(codec, episode, sizes.context, "transcript"))) == 1
