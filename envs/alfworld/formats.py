"""How observations and actions are written: as the engine does, or shorter, for models that begin with random weights.

The short observation says what the engine's text says of the place where the player stands, and keeps the books on what the
earlier texts said (`notes`), every turn, because a small model reads the newest line best. What belongs together is one word:

```
countertop1 fridge1 sinkbasin1 cabinet1 cabinet2 want_apple in_fridge clean_it next_countertop1 start_empty_away        opening
at_countertop1 apple1 fork2 want_apple in_fridge clean_it moved_empty_sees
at_countertop1 fork2 hold_apple1 want_apple in_fridge clean_it took_raw_away
at_sinkbasin1 hold_apple1 want_apple in_fridge clean_it moved_raw_treats
```

`next_x` names the first place not yet looked into where what is needed may be, `seen_x` where it was seen last. The last word
binds what the newest answer answered, what is in hand, and what the player stands before (`Notes.hand`, `Notes.spot`); `one`
before it says that one of two objects is in place. An action is a verb and what it is done to: `go fridge1`, `take apple1`,
`put fridge1`, `clean apple1`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from envs.alfworld.notes import Aim, in_order, take_notes
from envs.alfworld.seen import Seen

ObservationFormat = Literal["engine", "short"]
ActionFormat = Literal["engine", "short"]

ANSWERED = {"go": "moved", "open": "moved", "close": "moved", "take": "took", "treat": "took"}
"""What the last word of an observation says for `Seen.last`, where that is not the word."""


def write_observation(aim: Aim, seen: Seen) -> str:
    """The short observation."""
    notes = take_notes(aim, seen)
    words = [_bind(place) for place in sorted(seen.places, key=in_order)] if seen.last == "start" else []
    if seen.here:
        words.append(f"at_{_bind(seen.here)}")
        opened = seen.opened.get(seen.here)
        words += [] if opened is None else ["open" if opened else "closed"]
        things = () if opened is False else seen.contents.get(seen.here, ())
        words += [_bind(thing) for thing in sorted(things, key=in_order)]
    if seen.held:
        words += [f"hold_{_bind(seen.held)}", *sorted(seen.marks.get(seen.held, ()))]
    words.append(f"want_{aim.target}")
    words += [f"in_{aim.parent}"] if aim.parent else []
    words += [f"under_{aim.lamp}"] if aim.lamp else []
    words += [f"{aim.treatment}_it"] if aim.treatment else []
    words += ["two"] if aim.count == 2 else []
    if notes.known:
        words.append(f"seen_{_bind(notes.known)}")
    elif notes.unsearched and not notes.sees:
        words.append(f"next_{_bind(notes.unsearched)}")
    words += ["one"] if notes.placed else []
    words.append(f"{ANSWERED.get(seen.last, seen.last)}_{notes.hand}_{notes.spot}")
    return " ".join(words) + "\n"


@lru_cache(maxsize=2**16)
def write_action(command: str, action: ActionFormat) -> str:
    """One of the engine's commands in a format, without the newline that ends an action."""
    if action == "engine":
        return command
    put = re.fullmatch(r"(?:move|put) .+ (?:to|in|into) (\w+ \d+)", command)
    if put is not None:
        return f"put {_bind(put[1])}"
    verb, *named = re.findall(r"\w+ \d+|\w+", command)
    things = [_bind(each) for each in named if each[-1].isdigit()]
    return " ".join([verb, *things[:1]])


def _bind(entity: str) -> str:
    return entity.replace(" ", "")
