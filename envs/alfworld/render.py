"""A symbolic render: a drawing of what the text has revealed and nothing else. It is no picture of AI2-THOR.

```
+----------------------------+
| fridge 1            [open] |   where the player is
|  (o) apple 1  [] cup 2     |   what it was last said to hold, unless it is closed
|----------------------------|
| map              | in hand |   every receptacle that was named: grey, coloured where it was visited, ringed where
|  . . o . o       |   (o)   |   the player is; the object held, with a red, blue or white bar if hot, cold or clean
+----------------------------+
```

`Seen` reads the texts in order, as a player does; `draw` is a pure function of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER, INK, GREY, RING = (250, 248, 240), (40, 40, 40), (205, 205, 200), (220, 60, 30)
MARKS: dict[str, Colour] = {"hot": (215, 40, 30), "cold": (40, 90, 220), "clean": (255, 255, 255), "on": (255, 200, 0)}
CANVAS = 192  # pixels a side, before it is scaled
SHOWN = 12  # objects of a receptacle that there is room for, in three columns


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
        marks: object -> which of `MARKS` it has.
    """

    places: list[str] = field(default_factory=list)
    visited: set[str] = field(default_factory=set)
    here: str = ""
    opened: dict[str, bool] = field(default_factory=dict)
    contents: dict[str, list[str]] = field(default_factory=dict)
    held: str = ""
    marks: dict[str, set[str]] = field(default_factory=dict)

    def hear(self, text: str) -> None:
        """Take in the engine's next answer; what is not understood tells nothing."""
        for pattern, learn in _SENTENCES:
            for found in re.finditer(pattern, text):
                learn(self, *found.groups())

    def _arrive(self, place: str) -> None:
        if place not in self.places:
            self.places.append(place)
        self.visited.add(place)
        self.here = place

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
    (r"Looking quickly around you, you see (.+?)\.", lambda seen, things: seen.places.extend(_listed(things))),
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
]
"""What the grammar's sentences tell."""


def draw(seen: Seen, size: int) -> NDArray[np.uint8]:
    """The render, RGB of shape (size, size, 3)."""
    image = Image.new("RGB", (CANVAS, CANVAS), PAPER)
    pen = ImageDraw.Draw(image)
    pen.fontmode = "1"
    _draw_place(pen, seen)
    pen.line((0, 120, CANVAS, 120), INK)
    pen.line((128, 120, 128, CANVAS), INK)
    _draw_map(pen, seen)
    if seen.held:
        _draw_thing(pen, seen, seen.held, 133, 138)
    pixels = image if size == CANVAS else image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(pixels, dtype=np.uint8)


def _draw_place(pen: ImageDraw.ImageDraw, seen: Seen) -> None:
    if not seen.here:
        _write(pen, 4, 4, "middle of the room")
        return
    is_open = seen.opened.get(seen.here)
    pen.rectangle((2, 2, CANVAS - 3, 117), PAPER if is_open is not False else GREY, _colour(seen.here), 3)
    _write(pen, 8, 5, seen.here)
    if is_open is not None:
        _write(pen, 132, 5, "open" if is_open else "closed")
    if is_open is False:
        return
    for index, thing in enumerate(seen.contents.get(seen.here, [])[:SHOWN]):
        _draw_thing(pen, seen, thing, 8 + 61 * (index % 3), 20 + 24 * (index // 3))


def _draw_map(pen: ImageDraw.ImageDraw, seen: Seen) -> None:
    for index, place in enumerate(seen.places):
        x, y = 4 + 10 * (index % 12), 125 + 10 * (index // 12)
        pen.rectangle((x, y, x + 7, y + 7), _colour(place) if place in seen.visited else GREY)
        if place == seen.here:
            pen.rectangle((x - 1, y - 1, x + 8, y + 8), None, RING, 2)


def _draw_thing(pen: ImageDraw.ImageDraw, seen: Seen, thing: str, x: int, y: int) -> None:
    """An object 10 pixels wide: shape and colour are of its kind, the bars beside it its marks, below it its name."""
    kind, _, number = thing.partition(" ")
    colour = _colour(thing)
    box = (x, y, x + 10, y + 10)
    corners = [(x, y + 10), (x + 5, y), (x + 10, y + 10)], [(x + 5, y), (x + 10, y + 5), (x + 5, y + 10), (x, y + 5)]
    shape = zlib.crc32(kind.encode()) % 4
    if shape == 0:
        pen.ellipse(box, colour, INK)
    elif shape == 1:
        pen.rectangle(box, colour, INK)
    else:
        pen.polygon(corners[shape - 2], colour, INK)
    for index, mark in enumerate(sorted(seen.marks.get(thing, ()))):
        pen.rectangle((x + 13 + 6 * index, y, x + 17 + 6 * index, y + 10), MARKS[mark], INK)
    _write(pen, x, y + 11, f"{kind[:7]} {number}")


def _colour(entity: str) -> Colour:
    """A colour of the kind, the same in any process."""
    value = zlib.crc32(b"colour " + entity.split()[0].encode())
    return (60 + value % 160, 60 + (value >> 8) % 160, 60 + (value >> 16) % 160)


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, text: str) -> None:
    pen.text((x, y), text, INK, _FONT)


_FONT = ImageFont.load_default_imagefont()  # a bitmap within Pillow, so that no font library has a say
