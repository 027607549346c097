"""What a question in ordinary English asks: a direct guess, a known phrasing, or the attribute whose phrasings are nearest.

```
"Isn't it something you can write with?"  ->  is not it something you can write with     words, contractions written out
                                          ->  write with                                 what carries meaning (`content`)
                                          ->  Question(key="writes", yes={pen, pencil, sharpie, marker})
```
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from envs.twenty_questions.knowledge import HERE, Knowledge, knowledge
from qsft_bench.errors import BenchError

LONGEST = 400  # characters of a question; what is longer is not read
NEAR = 0.58  # least similarity, in [0, 1], at which content words name an attribute
NOT_A_QUESTION = "not a question"

Content = tuple[str, ...]

NOT = "<not>"  # the word, apart from the stem of `notes`
_IS = frozenset(("is", "are", "was", "were", "could", "can", "would", "might", "may", "must", "be"))  # what may open a guess
_HAS = frozenset(("is", "are", "was", "were", "has", "have"))  # after which the object does nothing
_AUXILIARIES = _IS | _HAS | frozenset(("do", "does", "did", "will", "should"))
_JOINTS = frozenset(("or", "and", ","))
_KIND_OF = re.compile(r"\b(?:type|kind|sort|form|example|category|class|member|group)s? of\b")
_THINKING_OF = re.compile(r"^(?:are you thinking (?:of|about)|do you (?:mean|have)|did you (?:mean|choose|pick)) ")
_HIDDEN = re.compile(r"\b(?:the|this|that|your|my) (?:hidden |mystery |secret )?(?:object|item|thing|word|answer)s?\b")
_NUMBERS = {"1": "one", "2": "two", "3": "three", "4": "four", "10": "ten", "100": "hundred", "1000": "thousand"}
_WORDS = {**_NUMBERS, "not": NOT, "non": NOT, "never": NOT}
_CONTRACTIONS = {"can't": "can not", "cannot": "can not", "won't": "will not", "n't": " not", "'re": " are", "'s": " ", "'": ""}


@dataclass(frozen=True)
class Question:
    """What was asked.

    Attributes:
        yes: the objects for which the answer is yes.
        guess: index of the object that it names, where it is a guess at one.
        key: word for what it asks, where that is one attribute or object, not negated.
        matched: whether it was understood; otherwise the answer is no for every object.
        invalid: why it is no question at all, or None.
    """

    yes: int = 0
    guess: int | None = None
    key: str = ""
    matched: bool = True
    invalid: str | None = None


UNMATCHED = Question(matched=False)
UNREAD = Question(matched=False, invalid=f"longer than {LONGEST} characters")


def understand(text: str) -> Question:
    """What `text` asks about the objects of the knowledge base; whatever it is, this answers."""
    return UNREAD if len(text) > LONGEST else _understand(text)


@lru_cache(maxsize=2**16)
def _understand(text: str) -> Question:
    return reader().read(text)


@lru_cache(maxsize=1)
def reader() -> Reader:
    """The reader of the committed files."""
    return Reader(knowledge(), tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8")))


class Reader:
    """Reads questions about the objects of `known`.

    Args:
        known: the knowledge base.
        words: what `words.toml` holds.

    Raises:
        BenchError: two attributes claim one phrasing.
    """

    def __init__(self, known: Knowledge, words: Mapping[str, Any]) -> None:
        self.known = known
        self._openings, self._fillers, self._it, self._you, self._grammar = (
            frozenset(str(words[name]).split()) for name in ("openings", "fillers", "it", "you", "grammar")
        )
        self._synonyms = {word: line.split()[0] for line in words["synonyms"] for word in line.split()}
        self._sizes = {word: size for size, line in words["sizes"].items() for word in line.split()}
        self._keys = {thing.key: self._guess(index) for index, thing in enumerate(known.things)}
        self._names: dict[Content, int] = {}
        for index, thing in enumerate(known.things):
            for name in thing.names:
                stems = _stems(name.lower().split())
                self._names[stems[1:] if stems[0] in ("a", "an") else stems] = index
        self._phrasings: dict[Content, Question] = {}
        self._verbatim: set[Content] = set()
        for attribute in known.attributes:
            right = Question(yes=attribute.true, key=attribute.key)
            wrong = Question(yes=known.everything & ~attribute.true)
            self._keys[attribute.key] = right
            for question, texts in ((right, (attribute.question, *attribute.also)), (wrong, attribute.opposite)):
                for text in texts:
                    content = self.content(_words(text))
                    self._verbatim.add(self._unfilled(_words(text)))
                    if self._phrasings.setdefault(content, question) != question:
                        other = self._phrasings[content].key or "an opposite"
                        raise BenchError(f"twenty_questions: {attribute.key} and {other} both claim {text!r}; drop one")
        self._nearest = Nearest(self._phrasings)

    def read(self, text: str) -> Question:
        """What `text` asks."""
        if (found := self._keys.get(text.strip())) is not None:
            return found
        words = _words(text)
        while words and (words[0] in self._openings or words[0] == ","):
            words = words[1:]
        if words[1:2] == [NOT]:  # `isn't it a cat?` asks whether it is one
            words = [words[0], *words[2:]]
        if not any(word != "," for word in words):
            return Question(matched=False, invalid=NOT_A_QUESTION)
        return self._whole(words) or self._parts(words) or self._near(words)

    def content(self, words: Sequence[str]) -> Content:
        """The stems that carry meaning, in order."""
        words = list(words)
        acts = False  # `does it eat?` is not `do you eat it?`
        if words and words[0] in _AUXILIARIES:  # `do most people eat it?` asks what `do you eat it?` asks
            for place, word in enumerate(words[1:5], 1):
                if word in self._you or word in self._it:
                    rest = words[place + 1 :]
                    acts = word in self._it and words[0] not in _HAS and not self._grammar.issuperset(rest[:1])
                    words = [words[0], *rest]
                    break
                if word not in self._fillers and word not in ("a", "an", "the"):
                    break
        kept = [word for word in words if word not in self._grammar and word not in self._fillers and word not in _JOINTS]
        if "than" in kept:  # `bigger than a microwave` compares with the nearest size that is known
            place = kept.index("than")
            sizes = [self._sizes[word] for word in words[words.index("than") + 1 :] if word in self._sizes]
            if sizes:
                kept = [*kept[: place + 1], sizes[0]]
        return (("it",) if acts else ()) + tuple(_stem(self._synonyms.get(word, word)) for word in kept)

    def _unfilled(self, words: Sequence[str]) -> Content:
        """`words` as they are, without fillers."""
        return tuple(word for word in words if word not in self._fillers)

    def _guess(self, index: int) -> Question:
        return Question(yes=1 << index, guess=index, key=self.known.things[index].key)

    def _whole(self, words: Sequence[str]) -> Question | None:
        """A direct guess or a known phrasing; a name without an article yields to the very words of one (`is it orange?`)."""
        named, article = self._named(words)
        if named is not None and (article or self._unfilled(words) not in self._verbatim):
            return self._guess(named)
        content = self.content(words)
        phrasing = self._phrasings.get(content) if content else None
        if phrasing is None and NOT in content:
            without = self._whole([word for word in words if word != NOT])
            return None if without is None else self._negated(without)
        return phrasing or self._both(content)

    def _both(self, content: Content) -> Question | None:
        """Two known phrasings in one, of which something is true (`is it a green vegetable?`)."""
        for place in range(1, len(content)):
            first, second = self._phrasings.get(content[:place]), self._phrasings.get(content[place:])
            if first and second and first.yes & second.yes:
                return Question(yes=first.yes & second.yes)
        return None

    def _parts(self, words: Sequence[str]) -> Question | None:
        """`a or b` and `a and b`, where every part is understood by itself."""
        for joint in ("or", "and"):
            if joint in words:
                parts = [part for part in _split(words, {joint, ","}) if part]
                found = [self._whole(part) or self._near(part) for part in parts]
                if len(parts) > 1 and all(part.matched for part in found):
                    yes = found[0].yes
                    for part in found[1:]:
                        yes = yes | part.yes if joint == "or" else yes & part.yes
                    return Question(yes=yes)
        return None

    def _near(self, words: Sequence[str]) -> Question:
        """The attribute of the most similar phrasing."""
        content = self.content(words)
        if NOT in content:
            return self._negated(self._near([word for word in words if word != NOT]))
        return self._nearest(content)

    def _negated(self, question: Question) -> Question:
        if not question.matched:
            return question
        return Question(yes=self.known.everything & ~question.yes)

    def _named(self, words: Sequence[str]) -> tuple[int | None, bool]:
        """The object that `words` name and nothing else, and whether an article stands before the name."""
        rest = list(words)
        if rest and rest[0] in _IS:
            rest = rest[1:]
            while rest and (rest[0] in self._it or rest[0] in self._fillers or rest[0] in ("the", "be")):
                rest = rest[1:]
        article = False
        while rest and (rest[0] in ("a", "an", "the", "of", "called") or rest[0] in self._fillers):
            article = article or rest[0] in ("a", "an")
            rest = rest[1:]
        return self._names.get(_stems(rest)), article


class Nearest:
    """The phrasing most similar to given content: the cosine between bags of stems weighted by how rare they are.

    A stem's weight is the logarithm of (attributes) / (attributes whose phrasings have it); a stem that none has weighs as
    much as one that a single attribute has, so that what was not understood lowers the similarity.

    Args:
        phrasings: content -> question.
    """

    def __init__(self, phrasings: Mapping[Content, Question]) -> None:
        self._questions = list(phrasings.values())
        spread: dict[str, set[int]] = defaultdict(set)
        for content, question in phrasings.items():
            for stem in content:
                spread[stem].add(question.yes)
        count = len({question.yes for question in self._questions})
        self._weights = {stem: math.log(count / len(sets)) for stem, sets in spread.items()}
        self._rarest = math.log(count)
        self._holding: dict[str, list[int]] = defaultdict(list)
        self._norms = []
        for index, content in enumerate(phrasings):
            self._norms.append(self._norm(content))
            for stem in dict.fromkeys(content):
                self._holding[stem].append(index)

    def __call__(self, content: Content) -> Question:
        """The question of the nearest phrasing, or `UNMATCHED` where none is at least `NEAR`."""
        shared: dict[int, float] = defaultdict(float)
        for stem in dict.fromkeys(content):  # in order, as sums of floats depend on it
            for index in self._holding.get(stem, ()):
                shared[index] += self._weights[stem] ** 2
        norm = self._norm(content)
        best = max(shared, key=lambda index: (shared[index] / self._norms[index], -index), default=None)
        if best is None or norm == 0 or shared[best] < NEAR * norm * self._norms[best]:
            return UNMATCHED
        return self._questions[best]

    def _norm(self, content: Iterable[str]) -> float:
        return math.sqrt(sum(self._weights.get(stem, self._rarest) ** 2 for stem in dict.fromkeys(content)))


def _words(text: str) -> list[str]:
    """Lower-case words and commas, contractions written out, hyphens and accents gone, small numbers as words."""
    text = unicodedata.normalize("NFKD", text).lower().replace("\u2019", "'")
    for short, full in _CONTRACTIONS.items():
        text = text.replace(short, full)
    text = _THINKING_OF.sub("is it ", text.strip()).replace("$", " dollars ")
    return [_WORDS.get(word, word) for word in re.findall(r"[a-z0-9]+|,", _KIND_OF.sub("", _HIDDEN.sub("it", text)))]


def _split(words: Iterable[str], joints: set[str]) -> list[list[str]]:
    """The parts between `joints`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in joints:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
        return word[:-1] if word.endswith(("she", "che", "sse", "xe", "use")) else word
    return word


def _stems(words: Iterable[str]) -> Content:
    """Singulars, without commas."""
    return tuple(_singular(word) for word in words if word != ",")


def _stem(word: str) -> str:
    """A crude stem: `writing` and `write` have the same."""
    word = _singular(word)
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 4 else word
