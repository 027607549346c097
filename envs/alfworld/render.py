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

`draw` is a pure function of what was `Seen`.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs.alfworld.seen import Seen

Colour = tuple[int, int, int]

PAPER, INK, GREY, RING = (250, 248, 240), (40, 40, 40), (205, 205, 200), (220, 60, 30)
MARKS: dict[str, Colour] = {"hot": (215, 40, 30), "cold": (40, 90, 220), "clean": (255, 255, 255), "on": (255, 200, 0)}
CANVAS = 192  # pixels a side, before it is scaled
LEAST = 32  # pixels a side at which an object is still two pixels wide
SHOWN = 12  # objects of a receptacle that there is room for, in three columns


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
