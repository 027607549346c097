"""Regenerate `words.txt`: the 400 most frequent five-letter words of a Debian word list, in alphabetical order.

```
apt-get install -y wamerican=2020.12.07-2      # SCOWL (Kevin Atkinson), /usr/share/dict/american-english
pip install wordfreq==3.1.1                    # ranks the words; ties go to the alphabetically earlier
python -m envs.wordle.build_words
```
"""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version
from pathlib import Path

from envs.wordle.words import WORD_FILE
from qsft_bench.errors import BenchError

DICTIONARY = Path("/usr/share/dict/american-english")
DICTIONARY_SHA256 = "9f513f1ceadb6a01c5485b7dbdfd5118dc66cd70b59cae2851292112d4066a32"  # wamerican 2020.12.07-2
WORDFREQ_VERSION = "3.1.1"
SIZE = 400
OFFENSIVE = frozenset({"bitch"})  # every such word that would otherwise be in


def main() -> None:
    """Write `words.txt` and print its SHA-256, which belongs in `words.py`.

    Raises:
        BenchError: a source is missing or not the version named above.
    """
    try:
        dictionary = DICTIONARY.read_bytes()
    except FileNotFoundError:
        raise BenchError(f"{DICTIONARY} is missing: apt-get install wamerican") from None
    if (found := hashlib.sha256(dictionary).hexdigest()) != DICTIONARY_SHA256:
        raise BenchError(f"{DICTIONARY} has SHA-256 {found}, wamerican 2020.12.07-2 has {DICTIONARY_SHA256}")
    if (found := version("wordfreq")) != WORDFREQ_VERSION:
        raise BenchError(f"wordfreq is {found}: pip install wordfreq=={WORDFREQ_VERSION}")
    from wordfreq import word_frequency

    words = set(re.findall(r"^[a-z]{5}$", dictionary.decode(), flags=re.MULTILINE)) - OFFENSIVE
    ranked = sorted(words, key=lambda word: (-word_frequency(word, "en"), word))
    content = "".join(f"{word}\n" for word in sorted(ranked[:SIZE])).encode()
    WORD_FILE.write_bytes(content)
    print(f"{WORD_FILE}: {SIZE} words, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
