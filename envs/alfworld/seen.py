"""Seen: what the texts of a game have told so far, read in order, as a player reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Seen:
    """What the texts of a game have told so far.

    Attributes:
        places: the receptacles that were named, in order.
        visited: those that the player was at.
        here: the one that it is at, or empty.
        opened: receptacle -> whether it was last said to be open; those that neither open nor close are not in it.
        contents: receptacle -> the objects last said to be in it.
        held: the object in hand, or empty.
        marks: object -> which of `hot`, `cold`, `clean`, `on` it has.
        last: what the newest text answers, one of `ANSWERS`, `start` at first and `other` where it is none of them.
    """

    places: list[str] = field(default_factory=list)
    visited: set[str] = field(default_factory=set)
    here: str = ""
    opened: dict[str, bool] = field(default_factory=dict)
    contents: dict[str, list[str]] = field(default_factory=dict)
    held: str = ""
    marks: dict[str, set[str]] = field(default_factory=dict)
    last: str = ""

    def hear(self, text: str) -> None:
        """Take in the engine's next answer; what is not understood tells nothing."""
        for pattern, learn in _SENTENCES:
            for found in re.finditer(pattern, text):
                learn(self, *found.groups())
        self.last = next((name for name, pattern in ANSWERS.items() if re.search(pattern, text)), "other")

    def copy(self) -> Seen:
        """The same, to be kept."""
        contents = {place: list(things) for place, things in self.contents.items()}
        marks = {thing: set(has) for thing, has in self.marks.items()}
        return Seen(list(self.places), set(self.visited), self.here, dict(self.opened), contents, self.held, marks, self.last)

    def _arrive(self, place: str) -> None:
        if place not in self.places:
            self.places.append(place)
        self.visited.add(place)
        self.here = place

    def _list(self, places: str) -> None:
        self.places += [place for place in _listed(places) if place not in self.places]

    def _open(self, place: str, is_open: bool) -> None:
        self.opened[place] = is_open

    def _holds(self, place: str, things: str) -> None:
        self.contents[place] = _listed(things)

    def _take(self, thing: str, place: str) -> None:
        self.held = thing
        self.contents[place] = [each for each in self.contents.get(place, []) if each != thing]

    def _put(self, thing: str, place: str) -> None:
        self.held = ""
        self.contents.setdefault(place, []).append(thing)

    def _mark(self, thing: str, mark: str, instead_of: str = "") -> None:
        marks = self.marks.setdefault(thing, set())
        marks.discard(instead_of)
        marks.add(mark)


def _listed(things: str) -> list[str]:
    return [] if things == "nothing" else re.findall(r"an? (\w+ \d+)", things)


_SENTENCES: list[tuple[str, Callable[..., None]]] = [
    (r"Looking quickly around you, you see (.+?)\.", Seen._list),
    (r"You (?:arrive at|are facing the) (\w+ \d+)", Seen._arrive),
    (r"The (\w+ \d+) is open\.", lambda seen, place: seen._open(place, True)),
    (r"The (\w+ \d+) is closed\.", lambda seen, place: seen._open(place, False)),
    (r"You close the (\w+ \d+)\.", lambda seen, place: seen._open(place, False)),
    (r"On the (\w+ \d+), you see (.+?)\.", Seen._holds),
    (r"The (\w+ \d+) is open\. In it, you see (.+?)\.", Seen._holds),
    (r"You pick up the (\w+ \d+) from the (\w+ \d+)\.", Seen._take),
    (r"You move the (\w+ \d+) to the (\w+ \d+)\.", Seen._put),
    (r"You heat the (\w+ \d+) using", lambda seen, thing: seen._mark(thing, "hot", "cold")),
    (r"You cool the (\w+ \d+) using", lambda seen, thing: seen._mark(thing, "cold", "hot")),
    (r"You clean the (\w+ \d+) using", lambda seen, thing: seen._mark(thing, "clean")),
    (r"You turn on the (\w+ \d+)\.", lambda seen, thing: seen._mark(thing, "on")),
    (r"You turn off the (\w+ \d+)\.", lambda seen, thing: seen.marks.get(thing, set()).discard("on")),
]
"""What the grammar's sentences tell."""

ANSWERS = {
    "start": "^-= Welcome",
    "nothing": r"^Nothing happens\.",
    "look": "^You are (?:facing|in the middle)",
    "go": "^You arrive at",
    "open": "^You open",
    "close": "^You close",
    "take": "You pick up",
    "put": "^You move",
    "treat": "^You (?:heat|cool|clean) ",
    "use": "^You turn",
}
"""What was done -> how the engine's answer to it begins."""
