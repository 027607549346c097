"""Notes: what a player who has read the texts, and remembers them, can tell of its task; nothing that is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from envs.alfworld.engine import wheel
from envs.alfworld.games import LAMP_STANDS, TREATMENTS, Game
from envs.alfworld.seen import Seen

VERBS = {"Clean": "clean", "Heat": "heat", "Cool": "cool"}
BY = {VERBS[column]: by.lower() for column, (_, by) in TREATMENTS.items()}
MARKS = {"clean": "clean", "heat": "hot", "cool": "cold"}

Hand = Literal["empty", "other", "raw", "ready"]
Spot = Literal["treats", "closed", "goal", "sees", "away"]


@dataclass(frozen=True)
class Aim:
    """What the task asks for, as its sentence says.

    Attributes:
        target, parent, lamp: kinds of the object, of the receptacle it is to go to and of the lamp, as in `Game`.
        count: how many objects to place.
        treatment: `clean`, `heat`, `cool` or empty.
    """

    target: str
    parent: str
    lamp: str
    count: int
    treatment: str

    @classmethod
    def of(cls, game: Game) -> Aim:
        count = 2 if game.column == "Pick2" else 1
        return cls(game.target, game.parent, game.lamp, count, VERBS.get(game.column, ""))

    @property
    def by(self) -> str:
        """Kind of the receptacle that treats, in lower case, or empty."""
        return BY.get(self.treatment, "")


@dataclass(frozen=True)
class Notes:
    """What follows from an `Aim` and what was `Seen`.

    Attributes:
        hand: `empty`, or what it holds: something `other`, the object still `raw` (its treatment is to come), or `ready`.
        placed: how many objects lie ready where they are to go.
        goal: the receptacle they are to go to: the one with most of them, else the first; empty for a task with a lamp.
        treats: the first receptacle that treats, or empty.
        sees: what is needed next and lies in sight, or empty.
        known: where it was last seen elsewhere, or empty.
        unsearched: the first place not yet looked into where it may be, or empty.
        spot: where the player is: where the object in hand is treated, before a closed receptacle, where the object is to go,
            where something needed is in sight, or elsewhere.
    """

    hand: Hand
    placed: int
    goal: str
    treats: str
    sees: str
    known: str
    unsearched: str
    spot: Spot


def take_notes(aim: Aim, seen: Seen) -> Notes:
    """Work out everything anew."""
    places = sorted(seen.places, key=in_order)

    def ready(thing: str) -> bool:
        return not aim.treatment or MARKS[aim.treatment] in seen.marks.get(thing, ())

    lying = {
        place: [thing for thing in seen.contents.get(place, ()) if kind(thing) == aim.target and ready(thing)]
        for place in places
        if kind(place) == aim.parent
    }
    goal = max(lying, key=lambda place: len(lying[place]), default="")
    done = lying.get(goal, [])
    hand: Hand = "empty"
    if seen.held:
        hand = "other" if kind(seen.held) != aim.target else "ready" if ready(seen.held) else "raw"
    needed = aim.target if hand == "empty" else aim.lamp if hand == "ready" else ""
    found = {place: first for place in places if (first := _first(seen.contents.get(place, ()), needed, done))}
    closed = seen.opened.get(seen.here) is False
    sees = "" if closed else found.get(seen.here, "")
    known = "" if sees else next(iter(found), "")
    unsearched = min(
        (place for place in places if needed and place not in seen.contents),
        key=lambda place: (not may_lie(aim, needed, kind(place)), in_order(place)),
        default="",
    )
    spot: Spot = "away"
    if hand == "raw" and kind(seen.here) == aim.by:
        spot = "treats"
    elif closed:
        spot = "closed"
    elif hand != "empty" and aim.parent and kind(seen.here) == aim.parent:
        spot = "goal"
    elif sees:
        spot = "sees"
    treats = next((place for place in places if aim.by and kind(place) == aim.by), "")
    return Notes(hand, len(done), goal, treats, sees, known, unsearched, spot)


@lru_cache(maxsize=4096)
def in_order(entity: str) -> tuple[bool, str, int]:
    """The order in which places are noted and searched: those that stand open first, then by name and number."""
    name, _, number = entity.partition(" ")
    return name in _openable(), name, int(number or 0)


def kind(entity: str) -> str:
    """`apple` for `apple 1`."""
    return entity.partition(" ")[0]


def may_lie(aim: Aim, needed: str, place: str) -> bool:
    """Whether what is needed may be at a place of that kind: never where it is to go."""
    if needed == aim.lamp:
        return place in {stand.lower() for stand in LAMP_STANDS}
    return place != aim.parent and may_hold(place, needed)


@lru_cache(maxsize=4096)
def may_hold(receptacle: str, thing: str) -> bool:
    """Whether the wheel's affordances let a receptacle of one kind hold an object of another, both in lower case."""
    allowed = wheel().constants.VAL_RECEPTACLE_OBJECTS
    return any(thing == each.lower() for to, those in allowed.items() if to.lower() == receptacle for each in those)


@lru_cache(maxsize=1)
def _openable() -> frozenset[str]:
    return frozenset(each.lower() for each in wheel().constants.OPENABLE_CLASS_SET)


def _first(things: list[str] | tuple[str, ...], needed: str, done: list[str]) -> str:
    return min((each for each in things if needed and kind(each) == needed and each not in done), key=in_order, default="")
