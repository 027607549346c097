"""The knowledge base: LMRL-Gym's objects, a truth for each attribute and object, no two objects alike, facts spot-checked."""

from __future__ import annotations

from collections import Counter

import pytest

from envs.twenty_questions.knowledge import Attribute, knowledge, parse
from qsft_bench.errors import BenchError

KNOWN = knowledge()
ATTRIBUTES = {attribute.key: attribute for attribute in KNOWN.attributes}
COUNTS = {
    "Sports": 10,
    "Animals": 10,
    "Fruits": 10,
    "Vehicles": 10,
    "Clothes": 11,
    "Electronics": 10,
    "Musical Instruments": 10,
    "Furniture": 10,
    "Office Supplies": 14,
    "Vegetables": 10,
    "Art": 7,
    "Kitchen Tools": 10,
    "Nature": 11,
    "Toys": 5,
    "Jewelry": 9,
    "Garden Supplies": 5,
    "Tools": 6,
}


def having(attribute: Attribute) -> set[str]:
    return {thing.key for index, thing in enumerate(KNOWN.things) if attribute.true >> index & 1}


def test_the_objects_are_those_of_lmrl_gym() -> None:
    assert dict(Counter(thing.category for thing in KNOWN.things)) == COUNTS
    assert len(KNOWN.things) == 158


def test_attributes_are_many_and_asked_in_many_ways() -> None:
    assert len(KNOWN.attributes) >= 110
    for attribute in KNOWN.attributes:
        assert len({attribute.question, *attribute.also}) >= 3, attribute.key
        assert 0 <= attribute.true <= KNOWN.everything


def test_every_object_has_a_signature_of_its_own() -> None:
    signatures = {tuple(attribute.true >> index & 1 for attribute in KNOWN.attributes) for index in range(len(KNOWN.things))}
    assert len(signatures) == 158


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("feline", {"cat", "lion", "tiger"}),
        ("writes", {"pen", "pencil", "sharpie", "marker"}),
        ("water_body", {"ocean", "sea", "lake", "river"}),
        ("salt_water", {"ocean", "sea"}),
        ("blown", {"saxophone", "flute", "trumpet", "clarinet", "trombone"}),
        ("on_feet", {"shoes", "boots", "socks"}),
        ("rails", {"train"}),
        ("human", set()),
        ("cutlery", {"knife", "spoon", "fork"}),
    ],
)
def test_facts_known_beforehand(key: str, expected: set[str]) -> None:
    assert having(ATTRIBUTES[key]) == expected


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("animal", "alive"),
        ("plant", "alive"),
        ("alive", "natural"),
        ("pet", "domesticated"),
        ("feline", "predator"),
        ("citrus", "fruit"),
        ("fruit", "edible"),
        ("leafy_green", "vegetable"),
        ("edible", "food_related"),
        ("smaller_than_hand", "hand_sized"),
        ("fits_in_pocket", "hand_sized"),
        ("hand_sized", "one_hand"),
        ("fits_in_pocket", "in_backpack"),
        ("in_backpack", "fits_in_car"),
        ("fits_in_car", "fits_in_room"),
        ("bigger_than_house", "bigger_than_car"),
        ("bigger_than_car", "bigger_than_person"),
        ("bigger_than_person", "bigger_than_breadbox"),
        ("very_expensive", "expensive"),
        ("metal", "has_metal"),
        ("glass", "has_glass"),
        ("ball", "sport"),
        ("sphere", "round"),
        ("long_thin", "long"),
        ("plugged_in", "electricity"),
        ("battery_powered", "electricity"),
        ("electronic", "electricity"),
        ("string_instrument", "instrument"),
        ("brass", "blown"),
        ("on_head", "worn"),
        ("clothing", "worn"),
        ("jewelry", "worn"),
        ("four_legs", "legs"),
        ("cuts_wood", "cuts"),
        ("toolbox", "tool"),
        ("toy", "fun"),
        ("kitchen_tool", "kitchen"),
        ("many_passengers", "vehicle"),
    ],
)
def test_what_implies_what(narrow: str, wide: str) -> None:
    assert having(ATTRIBUTES[narrow]) <= having(ATTRIBUTES[wide])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("natural", "vehicle"),
        ("natural", "furniture"),
        ("light", "heavy"),
        ("portable", "heavy"),
        ("fits_in_pocket", "bigger_than_breadbox"),
        ("fruit", "vegetable"),
        ("alive", "electricity"),
        ("edible", "worn"),
        ("predator", "herbivore"),
        ("bigger_than_car", "fits_in_room"),
        ("wild", "pet"),
    ],
)
def test_what_excludes_what(one: str, other: str) -> None:
    assert having(ATTRIBUTES[one]).isdisjoint(having(ATTRIBUTES[other]))


OBJECTS = '[Animals]\ncat = "a cat"\ndog = "a dog; hound"\n'
FACTS = '[barks]\nquestion = "Does it bark?"\nalso = ["Does it say woof?"]\ntrue = "dog"\n'


def test_a_small_knowledge_base() -> None:
    known = parse(OBJECTS, FACTS)
    assert known.things[1].names == ("dog", "a dog", "hound")
    assert known.attributes[0].true == 0b10
    assert known.everything == 0b11


@pytest.mark.parametrize(
    ("true", "expected"), [("all", 0b11), ("Animals -cat", 0b10), ("all -Animals dog", 0b10), ("cat", 0b01)]
)
def test_sets_are_read_from_left_to_right(true: str, expected: int) -> None:
    known = parse(OBJECTS, FACTS + f'[other]\nquestion = "Other?"\nalso = []\ntrue = "{true}"\n')
    assert known.attributes[1].true == expected


def test_mistakes_in_the_files_are_named() -> None:
    with pytest.raises(BenchError, match="barks is said of 'dogg', which does not exist; did you mean dog"):
        parse(OBJECTS, FACTS.replace('"dog"', '"dogg"'))
    with pytest.raises(BenchError, match="no attribute tells cat from dog"):
        parse(OBJECTS, FACTS.replace('"dog"', '"all"'))
    with pytest.raises(BenchError, match="the key cat names two things"):
        parse(OBJECTS, FACTS + '[cat]\nquestion = "Is it feline?"\nalso = []\ntrue = "cat"\n')
    with pytest.raises(BenchError, match="not TOML"):
        parse(OBJECTS, "[barks")
