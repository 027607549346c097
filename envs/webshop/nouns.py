"""The nouns of a product's title, for official catalogues, whose reward compares them; the original asks spaCy's large model.

Titles are lists of names and things: nearly every word that is not small, a number, a measure, an adverb or an adjective is a
noun, and spaCy too takes a capitalised word it does not know for a proper noun. So this drops what is not one, by word and by
ending, and downloads nothing. The generated catalogue stores its nouns and does not need it.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.](?=[^\W\d_]))*")

# Function words, adverbs and verbs; then adjectives and colours that are common in titles and have no telling ending.
_OTHERS = """
a about above after all also am an and any are around as at back be because been before below between both but by can
could did do does don down during each either etc ever every few for from get gets give go goes had has have he her here
hers him his how i if in inside into is it its just keep less let like made make makes many may me more most much my
near no nor not now of off on once one only onto or other our out outside over own per plus she should so some such than
that the their them then there these they this those through to too two three four five six seven eight nine ten under
until up upon us use used using very via was we were what when where which while who will with within without x you your
"""
_ADJECTIVES = """
adult anti assorted basic best big black blue bold brand bright broad brown casual cheap clean clear close cold compact
cool crazy cute daily dark deep different dirty double dry dual easy elastic electric elegant empty extra fancy fast fat
fine firm fit flat fragrant free fresh full fun funny general gentle genuine giant glossy golden good gray great green
grey half happy hard heavy high hot huge ideal indoor inner instant large last late lazy light little long loose loud
low lower lucky main manual matte max mega mens mid mild mini mixed modern moist multi narrow natural neat new next nice
normal novel odd old open opposite orange organic original outdoor outer oval own pale perfect pink plain plump plush
portable premium pretty prime professional proud public pure purple quick quiet raw real rear red regular rich right
rough round royal rustic safe salty same sexy shaggy sharp sheer shiny short shy sick silent silver silky simple single
skinny slim slow small smart smooth soft solid sour special spicy square stiff straight strong stylish super sure sweet
tall tan tart tasty tender thick thin tight tiny top total tough true ultra uncut unique unisex universal unsalted
unscented unsweetened upper usual vacant vast vegan vintage vivid warm waterproof weak wet whole wide wild wireless wise
wooden woolen worn wrong yellow young
"""
_MEASURES = """
oz fl ounce ounces inch inches cm mm ft feet lb lbs kg g ml l mah v w hz ghz mhz pcs pc pk ct qty
"""
_NOT_NOUNS = frozenset((_OTHERS + _ADJECTIVES + _MEASURES).split())
_ADJECTIVE_ENDINGS = re.compile(r".{3,}(?:ful|less|ous|able|ible|ical|ish|ly|est|proof)$")
_STILL_NOUNS = """
table cable vegetable bible dish fish polish assembly family supply jelly belly lily butterfly
"""
_NOUNS_ALL_THE_SAME = frozenset(_STILL_NOUNS.split())


def nouns(title: str) -> tuple[str, ...]:
    """The nouns of `title`, lower case, in order, repetitions kept."""
    words = (word.lower().strip(".'’") for word in _WORD.findall(title))
    return tuple(word for word in words if _is_noun(word))


def _is_noun(word: str) -> bool:
    if len(word) < 2 or word in _NOT_NOUNS:
        return False
    return word in _NOUNS_ALL_THE_SAME or not _ADJECTIVE_ENDINGS.match(word)
