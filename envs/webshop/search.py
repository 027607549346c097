"""The shop's search: Lucene's BM25 as the original used it (Pyserini's defaults), on bm25s.

```
text -> words (Lucene's StandardTokenizer, lower case, no stop words, Porter stems)
score(q, d) = sum_t ln(1 + (N - df + .5) / (df + .5)) * tf / (tf + k1 (1 - b + b dl / avgdl))     k1 = .9, b = .4
```

`dl` is the length that Lucene keeps in one byte: exact below 40 words, four significant bits above that. Equal scores: the
product that comes first in the catalogue.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import Stemmer
from numpy.typing import NDArray

from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_directory, cache_folder, json_sha256
from qsft_bench.noise import logarithms

K1, B = 0.9, 0.4
VERSION = 1  # of this file: another way to cut or weigh words is another index
LONGEST_QUERY = 2_000  # characters that are read; a person types no more, and a megabyte would only cost time

_STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""The 33 of Lucene's EnglishAnalyzer."""

# Letters and digits, with what UAX 29 allows between them: apostrophe, full stop and colon between letters, full stop,
# comma and apostrophe between digits. A hyphen separates.
_WORD = re.compile(r"(?:[^\W\d_]+(?:['’.:](?=[^\W\d_]))?|\d+(?:['’.,;](?=\d))?|_+)+")

_stem = lru_cache(maxsize=2**16)(Stemmer.Stemmer("porter").stemWord)


def words(text: str) -> list[str]:
    """What the index keeps of `text`: stems, in order."""
    found = []
    for word in _WORD.findall(text.lower()):
        word = word.removesuffix("'s").removesuffix("’s")
        if word and word not in STOP_WORDS:
            found.append(_stem(word))
    return found


def stored_length(length: int) -> int:
    """The document length that Lucene reads back after keeping `length` in one byte (`SmallFloat.intToByte4`)."""
    free = 24  # values that are kept exactly before the four-bit form begins
    rest = length - free
    if rest < 16:
        return length
    shift = rest.bit_length() - 4
    return free + ((rest >> shift) << shift)


class _LuceneIndex(bm25s.BM25):
    """bm25s with the document lengths of `stored_length`, and every posting worked out at once."""

    def build_index_from_ids(
        self, unique_token_ids: Sequence[int], corpus_token_ids: Sequence[Sequence[int]], **_: Any
    ) -> dict[str, Any]:
        documents, size = len(corpus_token_ids), len(unique_token_ids)
        lengths = np.fromiter(map(len, corpus_token_ids), np.int64, documents)
        flat = np.fromiter((token for ids in corpus_token_ids for token in ids), np.int64, int(lengths.sum()))
        cells, counts = np.unique(flat * documents + np.repeat(np.arange(documents), lengths), return_counts=True)
        token, document = cells // documents, cells % documents
        frequency = np.bincount(token, minlength=size)
        idf = logarithms(1 + (documents - frequency + 0.5) / (frequency + 0.5))
        stored = np.array([stored_length(length) for length in lengths.tolist()])
        norm = K1 * (1 - B + B * stored / max(lengths.mean(), 1e-9))
        self.nonoccurrence_array = None
        return {
            "data": (idf[token] * counts / (counts + norm[document])).astype(np.float32),
            "indices": document.astype(np.int32),
            "indptr": np.concatenate([[0], frequency.cumsum()]).astype(np.int64),
            "num_docs": documents,
        }


class Search:
    """An index over documents that are numbered as they came, kept in the cache folder and memory-mapped from there.

    Args:
        folder: where it is.

    Raises:
        BenchError: it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = bm25s.BM25.load(folder, mmap=True)
        except (OSError, ValueError, KeyError) as error:
            raise BenchError(f"the search index {folder} is damaged ({error}); delete that folder, it is made again") from error
        self.size = int(index.scores["num_docs"])
        self._numbers: dict[str, int] = index.vocab_dict
        # Plain views of the mapped files: the class that maps them makes every slice slow.
        self._parts, self._documents, self._starts = (np.asarray(index.scores[name]) for name in ("data", "indices", "indptr"))

    @classmethod
    def over(cls, documents: Iterable[str], identity: str) -> Search:
        """The index of `documents`, from the cache if it was made before.

        Args:
            documents: read only where there is none yet.
            identity: a hash of them.

        Raises:
            BenchError: the cache folder cannot be written.
        """
        folder = cache_folder("webshop") / f"index-{json_sha256([VERSION, bm25s.__version__, identity])[:16]}"
        if not (folder / "params.index.json").exists():
            numbers: dict[str, int] = {}
            cut = [[numbers.setdefault(word, len(numbers)) for word in words(text)] for text in documents]
            index = _LuceneIndex(k1=K1, b=B, method="lucene")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an empty vocabulary is no error here
                index.index((cut, numbers or {"": 0}), create_empty_token=False, show_progress=False)
            with atomic_directory(folder) as temporary:
                index.save(temporary, show_progress=False)
        return cls(folder)

    def scores(self, query: str) -> NDArray[np.float32]:
        """The BM25 score of every document."""
        total = np.zeros(self.size, np.float32)
        for token in self._known(query):
            part = slice(int(self._starts[token]), int(self._starts[token + 1]))
            total[self._documents[part]] += self._parts[part]  # a document stands once among a word's
        return total

    def top(self, query: str, count: int) -> tuple[int, ...]:
        """Numbers of the `count` best documents, best first; fewer where fewer share a word with `query`."""
        scores = self.scores(query)
        if count < self.size:
            least = np.partition(scores, self.size - count)[self.size - count]
            candidates = np.flatnonzero(scores >= max(least, np.float32(1e-30)))
        else:
            candidates = np.flatnonzero(scores > 0)
        order = np.lexsort((candidates, -scores[candidates]))[:count]
        return tuple(candidates[order].tolist())

    def _known(self, query: str) -> list[int]:
        return [self._numbers[word] for word in words(query[:LONGEST_QUERY]) if word in self._numbers]
