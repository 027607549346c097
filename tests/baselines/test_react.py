"""ReAct: what the model reads, what becomes of what it writes, whole games against a small server, and every prompt's truth."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.react import HISTORY, React, read_answer, read_rules
from envs.stitching.env import PLACES, read_door
from envs.wordle.env import OPENING, Wordle
from envs.wordle.words import word_list
from qsft_bench import llm
from qsft_bench.dataset.store import episodes_from_table, read_table
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell
from qsft_bench.llm import Endpoint, Messages
from qsft_bench.pipeline import Pipeline
from qsft_bench.registry import agent_class, env_names, env_spec, make_env
from qsft_bench.rollout import play_episodes
from tests.test_llm import KEY, Server, reply

WORDLE, STITCHING = env_spec("wordle"), env_spec("stitching")
asks = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs the openai package")


class Script:
    """A model that says what a function of the prompt says."""

    identity = {"model": "script"}  # noqa: RUF012 - as a model's own

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer
        self.prompts: list[str] = []

    def complete(self, messages: Messages, **settings: Any) -> str:
        (message,) = messages
        assert message["role"] == "user" and settings == {"max_tokens": 256, "stop": ["\nObservation:"]}
        self.prompts.append(message["content"])
        return self.answer(message["content"])

    def complete_many(self, conversations: Sequence[Messages], **settings: Any) -> list[str]:
        return [self.complete(messages, **settings) for messages in conversations]

    def summary(self) -> str:
        return f"{len(self.prompts)} answers"


def own(prompt: str) -> str:
    """The part of a prompt that is the episode."""
    return prompt.partition("Now it is your turn.")[2].partition("\n\n")[2]


# Reading and writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "thought", "action"),
    [
        (" I guess.\nAction: s m a r t", "I guess.", "s m a r t"),
        ("Thought: I\nguess. \n\n  Action:  smart  \n", "I guess.", "smart"),
        ("One.\nAction: first\nThought: no, two.\nAction: second\nSo.", "One. Action: first Thought: no, two.", "second"),
        ("One.\nAction: first\nObservation: made up\nThought: x\nAction: second", "One.", "first"),
        ("Action: red", "", "red"),
        ("I would say red", "I would say red", ""),
        ("Hm.\nAction:", "Hm. Action:", ""),
        ("Hm.\nAction:   \nAction:\n", "Hm. Action: Action:", ""),
        ("The Action: red is good", "The Action: red is good", ""),
        ("Hm.\nAction:\nred", "Hm. Action: red", ""),
        ("", "", ""),
    ],
)
def test_the_last_action_counts(text: str, thought: str, action: str) -> None:
    assert read_answer(text) == (thought, action)


def test_the_model_reads_rules_then_its_own_episode() -> None:
    model = Script(lambda prompt: "A thought,\nand more.\nAction: r a t e s")
    agent = React(WORDLE, model)
    episode = Episode("wordle", 5, [Turn("Wordle:\n")])
    assert agent.act([episode]) == ["r a t e s\n"]
    assert model.prompts[0].startswith("You play Wordle.") and "h o v e l" in model.prompts[0]
    assert own(model.prompts[0]) == "Observation: Wordle:\nThought:"
    episode.step("r a t e s\n", "b b b g y\n", -1.0, False, False, {})
    agent.act([episode])
    first = "Observation: Wordle:\nThought: A thought, and more.\nAction: r a t e s\n"
    assert own(model.prompts[1]) == first + "Observation: b b b g y\nThought:"
    agent.forget([episode])
    agent.forget([episode])  # twice is once
    agent.act([episode])
    assert own(model.prompts[2]) == "Observation: Wordle:\nAction: r a t e s\nObservation: b b b g y\nThought:"


def test_thoughts_belong_to_their_episode() -> None:
    model = Script(lambda prompt: f"{prompt.count('oak')}\nAction: red")
    agent = React(STITCHING, model)
    episodes = [Episode("stitching", seed, [Turn(gate)]) for seed, gate in enumerate(("oak gate\n", "ivy gate\n"))]
    agent.act(episodes)
    for episode in episodes:
        episode.step("red\n", "low hall\n", 0.0, False, False, {})
    agent.act(episodes[::-1])
    thoughts = [re.findall("Thought: (.*)\nAction: red\nObservation: low", own(prompt)) for prompt in model.prompts[2:]]
    oaks = read_rules(STITCHING).count("oak")
    assert thoughts == [[str(oaks)], [str(oaks + 1)]]


def test_a_long_episode_keeps_its_opening_and_its_newest_turns() -> None:
    model = Script(lambda prompt: "Action: go")
    episode = Episode("toy", 1, [Turn("instruction\n")])
    for number in range(300):
        episode.step("go\n", f"place {number} {'x' * 40}\n", 0.0, False, False, {})
    spec = replace(WORDLE, prompt="", summary="walk on")
    transcript = React(spec, model).prompt(episode)
    assert transcript.startswith("The task: walk on.\n")
    text = own(transcript)
    assert text.startswith("Observation: instruction\nAction: go\nObservation: place 2")
    assert text.endswith(f"Observation: place 299 {'x' * 40}\nThought:")
    assert HISTORY - 200 < len(text) < HISTORY + 300
    seen = [int(number) for number in re.findall(r"place (\d+)", text)]
    assert seen == list(range(seen[0], 300))
    assert "instruction" not in React(replace(spec, state="observation"), model).prompt(episode)


def test_what_is_not_text_is_refused() -> None:
    agent = React(WORDLE, Script(lambda prompt: "Action: go"))
    with pytest.raises(BenchError, match="react plays in text, and arm does not"):
        agent.act([Episode("arm", 1, [Turn(np.zeros(3))])])


def test_a_missing_prompt_is_named() -> None:
    for missing in ("envs.wordle:none.md", "nopackage:prompt.md"):
        with pytest.raises(BenchError, match=f"wordle declares the prompt {missing}, which cannot be read"):
            React(replace(WORDLE, prompt=missing), Script(str))


def test_what_it_plays_with() -> None:
    assert agent_class("react") is React
    options = {"observation": "bound", "action": "word", "rules": "official"}
    assert React.env_options(options) == {"rules": "official"}
    agent = React(WORDLE, Script(str))
    other = Script(str)
    other.identity = {"model": "another"}
    identities = [agent.identity, React(STITCHING, Script(str)).identity, React(WORDLE, other).identity]
    assert agent.identity == React(WORDLE, Script(str)).identity
    assert not any(left == right for left, right in zip(identities, identities[1:] + identities[:1], strict=True))
    assert agent.note() == "0 answers"


def test_says_whether_it_can_play(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "QSFT_BENCH_LLM", "QSFT_BENCH_LLM_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    assert React.unavailable() == "needs an endpoint"
    with pytest.raises(BenchError, match="set OPENAI_API_KEY and QSFT_BENCH_LLM"):
        React.create(WORDLE, "base", {})
    monkeypatch.setenv("QSFT_BENCH_LLM_LOCAL", "a/model")
    monkeypatch.setattr(llm, "local_model", Script)
    assert React.unavailable() == ""
    assert isinstance(React.create(WORDLE, "base", {}), React)


# Whole games ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server.running() as running:
        yield running


def endpoint(server: Server, tmp_path: Path) -> Endpoint:
    return Endpoint("m", KEY, server.url, tmp_path, sleep=lambda seconds: None)


@asks
def test_plays_wordle(server: Server, tmp_path: Path) -> None:
    """The model guesses the list's words in order, and says nothing to the point in its third turn."""

    def model(body: dict[str, Any]) -> Any:
        turn = own(body["messages"][0]["content"]).count("Observation:") - 1
        if turn == 2:
            return reply("I give up \u2014 Action: about")
        return reply(f"Word {turn}.\nAction: {' '.join(word_list()[turn])}\nObservation: g g g g g\nAction: y o u t h")

    server.model = model
    asked = endpoint(server, tmp_path)
    agent, seeds = React(WORDLE, asked), WORDLE.test_seeds[:30]
    episodes = play_episodes(agent, WORDLE, {}, seeds, batch_size=7)
    for episode in episodes:
        assert episode.total_return == -6 and not episode.success and episode.invalid_actions == 1
        turns = episode.turns
        assert [turn.action for turn in turns[:3]] == ["a b o u t\n", "a b o v e\n", ""]
        assert (turns[2].invalid, turns[3].observation) == ("not a word of the list", "\n")
    assert len(server.bodies) < 30 * 6  # equal transcripts were asked once
    assert own(server.bodies[0]["messages"][0]["content"]) == "Observation: Wordle:\nThought:"

    before = len(server.bodies)
    again = play_episodes(React(WORDLE, endpoint(server, tmp_path)), WORDLE, {}, seeds, batch_size=30)
    assert again == episodes and len(server.bodies) == before  # from the cache alone
    assert asked.summary().startswith("m at 127.0.0.1:") and f": {before} answers" in asked.summary()
    assert not agent._thoughts


@asks
def test_plays_stitching(server: Server, tmp_path: Path) -> None:
    """A model that knows the doors gets what the doors pay; one that is answered badly every other time still ends."""

    def model(body: dict[str, Any]) -> Any:
        place = own(body["messages"][0]["content"]).splitlines()[-2].removeprefix("Observation: ")
        door = ("red", "green", "blue", "white")[PLACES[f"{place}\n"][1]]
        return reply(f"Here {door} is right.\nAction: {door}")

    server.model = model
    seeds = STITCHING.test_seeds[:40]
    episodes = play_episodes(React(STITCHING, endpoint(server, tmp_path)), STITCHING, {}, seeds)
    assert all(episode.success for episode in episodes)
    assert {episode.total_return for episode in episodes} == {1.0, 2.0}
    server.model = lambda body: reply(None if "hall" in own(body["messages"][0]["content"]) else "Action: a\x00\u2028\ud800b")
    episodes = play_episodes(React(STITCHING, endpoint(server, tmp_path / "other")), STITCHING, {}, seeds)
    assert all(episode.invalid_actions == 2 and episode.turns[1].action == "" for episode in episodes)


@asks
def test_records_of_two_models_are_never_mixed(server: Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it plays in LMRL-Gym's format, whatever the preset's models are trained in."""
    server.model = lambda body: reply("Hm.\nAction: a b o u t" if body["model"] == "one" else "Hm.\nAction: about")
    monkeypatch.delenv("QSFT_BENCH_LLM_LOCAL", raising=False)
    for name, value in {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, "QSFT_BENCH_CACHE": str(root / "cache")}.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []
    pipeline = Pipeline(root=root, progress=lambda stage, done, total, note: told.append(note))
    records = {}
    for model in ("one", "two", "one"):
        monkeypatch.setenv("QSFT_BENCH_LLM", model)
        records[model] = pipeline.records(Cell("react", "wordle", preset="small"), 8)
    assert {len(found) for found in records.values()} == {8}
    assert not set(records["one"]["config_hash"]) & set(records["two"]["config_hash"])
    files = sorted((root / "runs/small/wordle/records").glob("react-seed0-????????.parquet"))
    assert len(files) == 2
    for path in files:
        episode = next(episodes_from_table(read_table(path.with_suffix(".transcripts.parquet")), "wordle", ""))
        assert re.fullmatch("([byg] ){4}[byg]\n", str(episode.turns[1].observation))
    assert any(note.startswith("one at 127.0.0.1:") for note in told)


# Prompts --------------------------------------------------------------------------------------------------------------


def worked(rules: str) -> list[list[tuple[str, str, str]]]:
    """The (observation, thought, action) of each worked episode of a prompt."""
    found = []
    for block in re.split(r"\n\n+(?=Observation:)", rules):
        if block.startswith("Observation:"):
            parts = re.split(r"^(?:Observation|Thought|Action):[ ]?", block, flags=re.MULTILINE)[1:]
            parts = [part.rstrip("\n") for part in parts]
            last = parts[3 * (len(parts) // 3) :]
            found.append([(parts[k], parts[k + 1], parts[k + 2]) for k in range(0, len(parts) - len(last), 3)])
            found[-1].append((last[0] if last else "", "", ""))
    return found


@pytest.mark.parametrize("name", env_names())
def test_every_prompt_has_rules_and_worked_episodes(name: str) -> None:
    spec = env_spec(name)
    if not spec.prompt:
        pytest.skip("has none")
    examples = worked(read_rules(spec))
    assert 1 <= len(examples) <= 2
    assert all(observation and thought and action for example in examples for observation, thought, action in example[:-1])


def test_wordles_examples_are_true() -> None:
    rules = read_rules(WORDLE)
    assert rules.partition("The list:\n\n")[2].partition("\n\n")[0].split() == list(word_list())
    for example in worked(rules):
        env = Wordle()
        assert env.reset(options={"word": example[-2][2].replace(" ", "")})[0] == OPENING == f"{example[0][0]}\n"
        for (_, _, action), (observation, _, _) in pairwise(example):
            answer, _, over, _, info = env.step(f"{action}\n")
            assert answer == f"{observation}\n" and "invalid" not in info
        assert over and info["success"]


def test_alfworlds_examples_are_true() -> None:
    """Both are games of training, which the engine answers word by word as they stand there."""
    pytest.importorskip("alfworld")
    pytest.importorskip("fast_downward")
    env = make_env(env_spec("alfworld"), games="generated", split="train")
    for game, example in zip((2, 1), worked(read_rules(env_spec("alfworld"))), strict=True):
        observation, _ = env.reset(seed=0, options={"game": game})
        assert observation.strip() == example[0][0]
        for (_, _, action), (told, _, _) in pairwise(example):
            observation, _, over, _, info = env.step(f"{action}\n")
            assert observation == told and "invalid" not in info
        assert over and info["success"]


def test_stitchings_examples_are_as_its_data() -> None:
    for gate, hall, _ in worked(read_rules(STITCHING)):
        doors = [read_door(action) for _, _, action in (gate, hall)]
        places = [PLACES[f"{place}\n"] for place, _, _ in (gate, hall)]
        assert [leg for leg, _, _ in places] == [0, 1]
        right = [door == rightful for door, (_, rightful, _) in zip(doors, places, strict=True)]
        assert None not in doors and sum(right) == 1  # never the right door twice


@pytest.mark.parametrize("name", ["chess", "chess_endgame"])
def test_the_games_of_chess_are_true(name: str) -> None:
    """Every move is what the board above it allows, and the board below what became of it."""
    chess = pytest.importorskip("chess")
    from envs.chess.formats import read_board, read_move, write_refused

    examples = worked(read_rules(replace(WORDLE, prompt=f"envs.{name}:prompt.md")))
    assert examples and any(observation.count("\n") for example in examples for observation, _, _ in example)
    for example in examples:
        refused = ""
        for (told, _, action), (following, _, _) in pairwise(example):
            board = read_board(told, "lmrl")
            assert told.partition("\n")[2] == refused.rstrip("\n")
            move = read_move(board, action)
            if move is None:
                refused += write_refused(action, "lmrl")
                assert following == f"{told.partition(chr(10))[0]}\n{refused}".rstrip("\n")
                continue
            refused = ""
            assert action == " ".join(board.san(move))
            board.push(move)
            after = read_board(following, "lmrl")
            if not board.is_checkmate():
                replies = {reply.uci() for reply in board.legal_moves if _after(board, reply).fen() == after.fen()}
                assert len(replies) == 1
        assert after.is_checkmate() and after.turn == chess.BLACK


def _after(board: Any, move: Any) -> Any:
    following = board.copy()
    following.push(move)
    return following
