"""The one exception a user is meant to read: its message names what is wrong and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Bad input, a missing piece or a damaged file. The command line prints the message without a traceback."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean x or y?` for the nearest of `known`, or a list of them all if none is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(names)}"
