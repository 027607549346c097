"""The knowledge base: 158 objects, and which attributes are true of which; the facts stand in the two TOML files beside this.

A set of objects is an integer whose bit `i` stands for object `i`, so that to learn an answer is one `&`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qsft_bench.errors import BenchError, did_you_mean

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Thing:
    """An object that can be hidden.

    Attributes:
        key: one word that names it, e.g. `soccer_ball`.
        category: one of the 17.
        spoken: how a guess names it, with its article: `a soccer ball`.
        names: every name that counts as a guess.
    """

    key: str
    category: str
    spoken: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """Something that is true of some objects.

    Attributes:
        key: one word that names it, e.g. `two_wheels`.
        question: the canonical question.
        also: other ways to ask it.
        opposite: questions whose answer is the other one.
        true: the objects of which it is true.
    """

    key: str
    question: str
    also: tuple[str, ...]
    opposite: tuple[str, ...]
    true: int


@dataclass(frozen=True)
class Knowledge:
    """Everything that is known, in the order of the files."""

    things: tuple[Thing, ...]
    attributes: tuple[Attribute, ...]

    @property
    def everything(self) -> int:
        """The set of all objects."""
        return (1 << len(self.things)) - 1


@lru_cache(maxsize=1)
def knowledge() -> Knowledge:
    """What the committed files say."""
    return parse(
        (HERE / "objects.toml").read_text(encoding="utf-8"),
        (HERE / "attributes.toml").read_text(encoding="utf-8"),
    )


def parse(objects: str, attributes: str) -> Knowledge:
    """Read the two files' text.

    Raises:
        BenchError: not TOML, a fact about an object that does not exist, a key used twice, or two objects that no attribute
            tells apart.
    """
    try:
        categories, tables = tomllib.loads(objects), tomllib.loads(attributes)
    except tomllib.TOMLDecodeError as error:
        raise BenchError(f"twenty_questions: the knowledge base is not TOML: {error}") from error
    things = tuple(_thing(key, category, names) for category, table in categories.items() for key, names in table.items())
    found = Knowledge(things, tuple(_attribute(key, table, things) for key, table in tables.items()))
    keys = [thing.key for thing in things] + list(tables)
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise BenchError(f"twenty_questions: the key {', '.join(sorted(twice))} names two things; rename one")
    seen: dict[int, str] = {}
    for index, thing in enumerate(things):
        signature = sum((attribute.true >> index & 1) << k for k, attribute in enumerate(found.attributes))
        if signature in seen:
            raise BenchError(f"twenty_questions: no attribute tells {seen[signature]} from {thing.key}; add one")
        seen[signature] = thing.key
    return found


def _thing(key: str, category: str, names: str) -> Thing:
    spoken, *further = (name.strip() for name in names.split(";"))
    return Thing(key, category, spoken, (key.replace("_", " "), spoken, *further))


def _attribute(key: str, table: Mapping[str, Any], things: tuple[Thing, ...]) -> Attribute:
    groups = {"all": (1 << len(things)) - 1}
    for index, thing in enumerate(things):
        groups[thing.key] = 1 << index
        category = thing.category.replace(" ", "_")
        groups[category] = groups.get(category, 0) | 1 << index
    true = 0
    for word in str(table["true"]).split():
        name = word.removeprefix("-")
        if name not in groups:
            raise BenchError(f"twenty_questions: {key} is said of {name!r}, which does not exist{did_you_mean(name, groups)}")
        true = true & ~groups[name] if word.startswith("-") else true | groups[name]
    also, opposite = (tuple(str(text) for text in table.get(name, ())) for name in ("also", "opposite"))
    return Attribute(key, str(table["question"]), also, opposite, true)
