"""The frozen word list: any of its words can be hidden, and only they are valid guesses."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from qsft_bench.errors import BenchError

WORD_FILE = Path(__file__).with_name("words.txt")
WORD_FILE_SHA256 = "f228682b2a42ce5d6003292eb79cec23d8efca580d6fda10f7b40c65cef92c18"  # another list is another environment


def load_words(path: Path = WORD_FILE) -> tuple[str, ...]:
    """The words of `path`, which must be the frozen list.

    Raises:
        BenchError: the file is not the one that results were measured on.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WORD_FILE_SHA256:
        raise BenchError(
            f"{path} was altered: its SHA-256 is {found}, expected {WORD_FILE_SHA256}; "
            "restore it with `git checkout` or `python -m envs.wordle.build_words`"
        )
    return tuple(content.decode().split())


@lru_cache(maxsize=1)
def word_list() -> tuple[str, ...]:
    """The 400 words, alphabetically; a word's index in it names the word everywhere."""
    return load_words()


@lru_cache(maxsize=1)
def word_index() -> dict[str, int]:
    """word -> its index in `word_list`."""
    return {word: index for index, word in enumerate(word_list())}
