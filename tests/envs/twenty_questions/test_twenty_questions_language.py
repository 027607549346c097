"""What questions are understood to ask: names, phrasings, negations, parts, comparisons; and that nonsense is not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.twenty_questions.knowledge import HERE, knowledge, parse
from envs.twenty_questions.language import LONGEST, Question, Reader, understand
from qsft_bench.errors import BenchError

KNOWN = knowledge()
KEYS = [thing.key for thing in KNOWN.things]
ORDINARY = Path(__file__).with_name("ordinary_questions.toml")


def answer(thing: str, text: str) -> str:
    """`yes`, `no`, `right` (the text names `thing`), or why there is no answer."""
    question = understand(text)
    if question.invalid:
        return "invalid"
    if not question.matched:
        return "unmatched"
    if question.guess == KEYS.index(thing):
        return "right"
    return "yes" if question.yes >> KEYS.index(thing) & 1 else "no"


def test_ordinary_questions_are_answered_rightly() -> None:
    """200 questions that somebody wrote without seeing the matcher: at least nine in ten."""
    questions = tomllib.loads(ORDINARY.read_text(encoding="utf-8"))["question"]
    names = {name.lower(): thing.key for thing in KNOWN.things for name in thing.names}
    right = [
        answer(names[question["yes"].lower()], question["text"]) in ("yes", "right")
        and answer(names[question["no"].lower()], question["text"]) == "no"
        for question in questions
    ]
    assert len(right) == 200
    assert sum(right) >= 180


def test_every_phrasing_asks_its_own_attribute() -> None:
    for attribute in KNOWN.attributes:
        for text in (attribute.question, *attribute.also):
            assert understand(text) == Question(yes=attribute.true, key=attribute.key), text
            assert understand(text.upper().rstrip("?")) == understand(text)
        for text in attribute.opposite:
            assert understand(text) == Question(yes=KNOWN.everything & ~attribute.true), text


def test_every_key_asks_what_it_names() -> None:
    for attribute in KNOWN.attributes:
        assert understand(f"{attribute.key}\n") == Question(yes=attribute.true, key=attribute.key)
    for index, key in enumerate(KEYS):
        assert understand(f"{key}\n") == Question(yes=1 << index, guess=index, key=key)


def test_every_name_is_a_guess() -> None:
    for index, thing in enumerate(KNOWN.things):
        for name in thing.names:
            for text in (f"Is it {name}?\n", name, f"Are they {name}?", f"Could it be {name}?", f"My guess is {name}."):
                if text != "Is it orange?\n":  # the colour
                    assert understand(text).guess == index, text


@pytest.mark.parametrize(
    ("thing", "text", "expected"),
    [
        ("cat", "Is it a cat?", "right"),
        ("cat", "is it the cats", "right"),
        ("cat", "Hmm, okay, is it a kind of cat??", "right"),
        ("cat", "Isn't it a cat?", "right"),
        ("cat", "Are you thinking of a cat?", "right"),
        ("cat", "Is it not a cat?", "no"),
        ("dog", "Is it not a cat?", "yes"),
        ("cat", "Is it a cat or a dog?", "yes"),
        ("cat", "Is it cats and dogs?", "no"),
        ("airplane", "Is it a plane?", "right"),
        ("pants", "Is it a pair of pants?", "right"),
        ("couch", "Is it a sofa?", "right"),
        ("orange", "Is it an orange?", "right"),
        ("orange", "Is it orange?", "yes"),
        ("carrot", "Is it orange?", "yes"),
        ("carrot", "Is it an orange?", "no"),
        ("pen", "Is it something that you write with?", "yes"),
        ("pen", "Do people write with it?", "yes"),
        ("pen", "Isn't it used for writing?", "yes"),
        ("pen", "Is it not used for writing?", "no"),
        ("pen", "It's used for writing?", "yes"),
        ("pen", "Would the average person use the object for writing?", "yes"),
        ("rock", "Is it not alive?", "yes"),
        ("rock", "Is it inanimate?", "yes"),
        ("rock", "Is it non-living?", "yes"),
        ("carrot", "Is it a fruit or a vegetable?", "yes"),
        ("carrot", "Is it a fruit, a vehicle or a toy?", "no"),
        ("pillow", "Is it soft and rectangular?", "yes"),
        ("mattress", "Is it soft and small?", "no"),
        ("hammer", "Is it bigger than a microwave?", "no"),
        ("couch", "Is it larger than a toaster?", "yes"),
        ("ring", "Is it smaller than a shoe box?", "yes"),
        ("elephant", "Is it bigger than a car?", "yes"),
        ("cat", "Does it eat?", "yes"),
        ("apple", "Does it eat?", "no"),
        ("apple", "Can you eat it?", "yes"),
        ("cat", "Can you eat it?", "no"),
        ("paper", "Do you write on it?", "yes"),
        ("paper", "Do you write with it?", "no"),
    ],
)
def test_questions_read_by_hand(thing: str, text: str, expected: str) -> None:
    assert answer(thing, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Is it a zebra?",
        "asdf qwer zxcv",
        "The weather is nice today.",
        "What is it?",
        "Tell me the answer!",
        "Does it like jazz on Sundays?",
        "42",
        "not",
        "Is it?",
        "or or or",
        "not not",
    ],
)
def test_nonsense_is_not_understood_and_true_of_nothing(text: str) -> None:
    assert understand(text) == Question(matched=False)


@pytest.mark.parametrize("text", ["", "\n", " ", "?!", ", ,", "\x00", "ok", "\ud800", "猫ですか"])
def test_no_words_no_question(text: str) -> None:
    assert understand(text).invalid == "not a question"


def test_long_texts_are_not_read() -> None:
    longest = "Is it a cat?".rjust(LONGEST)
    assert understand(longest).guess == KEYS.index("cat")
    assert understand(" " + longest).invalid == f"longer than {LONGEST} characters"
    assert understand("cat " * 300_000).invalid is not None


SCRAPS = (
    "is it",
    "not",
    "a",
    "an",
    "the",
    "cat",
    "or",
    "and",
    ",",
    "than",
    "bigger",
    "used for",
    "pen",
    "does",
    "you",
    "isn't",
    "orange",
    "of",
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(SCRAPS), max_size=12).map(" ".join)))
def test_any_text_is_read(text: str) -> None:
    question = understand(text)
    assert 0 <= question.yes <= KNOWN.everything
    assert question == understand(text)
    assert question.matched or (question.yes == 0 and question.guess is None and not question.key)
    assert question.guess is None or question.yes == 1 << question.guess


def test_a_phrasing_claimed_twice_is_refused() -> None:
    objects = '[Animals]\ncat = "a cat"\ndog = "a dog"\n'
    facts = '[barks]\nquestion = "Does it bark?"\ntrue = "dog"\n'
    facts += '[purrs]\nquestion = "Does it purr?"\nalso = ["Does it bark"]\ntrue = "cat"\n'
    words = tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))
    with pytest.raises(BenchError, match="purrs and barks both claim 'Does it bark'"):
        Reader(parse(objects, facts), words)
