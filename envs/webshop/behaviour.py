"""The shoppers that collect WebShop's data, and those whose scores make results on it readable.

They read the pages like anybody else: what the simulator knows of a product stays hidden from them. Like a person they know
that a raincoat is a rain jacket and navy a dark blue (the synonyms of `lexicon.toml`), and that a hanger is not what it is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.webshop.catalogue import NO_LIMIT, Source
from envs.webshop.env import TURNS, check_options
from envs.webshop.generate import kinds, lexicon
from envs.webshop.pages import PARTS, WRITINGS, Format, View, plain_words
from qsft_bench.agent import Agent, tempered
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.noise import logarithms, uniform

LOOKED = {"features": 0.6, "description": 0.25, "reviews": 0.15}  # which part of an item is looked at, if any


@dataclass(slots=True)
class Visit:
    """What the transcript tells so far.

    Attributes:
        turns: how many of its turns have been read.
        words: what the instruction asks for, in order; `limit`: its price limit.
        on: the kind of page the customer is on.
        listed: the results of the latest search by page: label -> words of the title, price.
        page, pages: the page of results.
        opened: what was opened since the latest search, (page, label), in order.
        label: of the item on the page, or opened latest.
        item: what its page shows.
        chosen: its options that were set, name -> label; `looked`: its parts that were looked at.
        items: what the pages of the opened ones show; `told`: words that their parts showed.
    """

    turns: int = 0
    words: tuple[str, ...] = ()
    limit: float = NO_LIMIT
    on: str = "search"
    listed: dict[int, Mapping[str, tuple[tuple[str, ...], float]]] = field(default_factory=dict)
    page: int = 0
    pages: int = 0
    opened: list[tuple[int, str]] = field(default_factory=list)
    label: str = ""
    item: View = field(default_factory=lambda: View("item"))
    chosen: dict[str, str] = field(default_factory=dict)
    looked: set[str] = field(default_factory=set)
    items: dict[tuple[int, str], View] = field(default_factory=dict)
    told: dict[tuple[int, str], frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """An instruction, understood.

    Attributes:
        kind: words of the type's name; empty where no type is named.
        attributes: the attributes asked for.
        said: every word that it says, in its own words and in the catalogue's.
    """

    kind: frozenset[str]
    attributes: frozenset[str]
    said: frozenset[str]


@lru_cache(maxsize=1)
def common_knowledge() -> tuple[dict[str, str], dict[tuple[str, ...], tuple[str, ...]], frozenset[str], frozenset[str]]:
    """Other word -> the catalogue's word; words of a type's name, or of its synonym -> its name; attributes; accessories."""
    others: dict[str, str] = {}
    attributes: set[str] = set()
    accessories: set[str] = set()
    for domain in lexicon()["domain"]:
        for word, other in domain["attributes"].items():
            others["_".join(plain_words(other))] = "_".join(plain_words(word))
            attributes.add("_".join(plain_words(word)))
        accessories.update(word for thing in domain["accessories"] for word in plain_words(thing))
    for values in lexicon()["options"].values():
        for word, other in values.items():
            others["_".join(plain_words(other))] = "_".join(plain_words(word))
    names = {plain_words(kind.name): plain_words(kind.name) for kind in kinds()}
    names |= {plain_words(kind.synonym): plain_words(kind.name) for kind in kinds()}
    known = {word for name in names.values() for word in name}
    return others, names, frozenset(attributes), frozenset(accessories - known)


@lru_cache(maxsize=2**14)
def understand(words: tuple[str, ...]) -> Wish:
    """What the words of an instruction ask for."""
    others, names, attributes, _ = common_knowledge()
    meant = tuple(others.get(word, word) for word in words)
    kind: tuple[str, ...] = ()
    for length in (3, 2, 1):
        for first in range(len(words) - length + 1):
            kind = kind or names.get(words[first : first + length], ())
    return Wish(frozenset(kind), attributes & frozenset(meant), frozenset(words) | frozenset(meant) | frozenset(kind))


@lru_cache(maxsize=2**16)
def fit(wish: Wish, title: tuple[str, ...]) -> int:
    """How well a title fits: attributes it names, -1 where it is another thing or only an accessory."""
    shown = frozenset(title)
    accessories = common_knowledge()[3] - wish.said
    if not wish.kind <= shown or shown & accessories:
        return -1
    return len(wish.attributes & shown) if wish.kind else len(wish.said & shown)


class Reader(Agent):
    """Follows the visits that it plays, from their transcripts alone.

    Args:
        catalogue, products, observation, action, results_per_page, obs_length: the environment's options.
    """

    def __init__(
        self,
        catalogue: Source = "generated",
        products: int = 0,
        observation: Format = "original",
        action: Format = "original",
        results_per_page: int = 10,
        obs_length: int = 2_000,
    ) -> None:
        check_options(observation, action, results_per_page, obs_length)
        self._shown, self._spoken = WRITINGS[observation], WRITINGS[action]
        self._visits: dict[int, tuple[Episode, Visit]] = {}  # by identity of the episode, which it keeps alive

    def forget(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            self._visits.pop(id(episode), None)

    def visit(self, episode: Episode) -> Visit:
        """What the transcript tells. Episodes only grow, so what earlier turns told is kept until they end."""
        _, visit = self._visits.setdefault(id(episode), (episode, Visit()))
        while visit.turns < len(episode.turns):
            turn = episode.turns[visit.turns]
            clicked = str(episode.turns[visit.turns - 1].action).strip() if visit.turns else ""
            self._follow(visit, clicked, self._shown.read(str(turn.observation)))
            visit.turns += 1
        return visit

    def _follow(self, visit: Visit, did: str, view: View) -> None:
        if view.kind == "search":
            visit.on = "search"
            if not visit.turns:
                visit.words, visit.limit = view.words, view.limit
        elif view.kind == "results":
            if visit.on == "search":
                visit.listed, visit.opened, visit.items, visit.told = {}, [], {}, {}
            visit.on, visit.page, visit.pages = "results", view.page, view.pages
            if view.listed:
                visit.listed[view.page] = view.listed
        elif view.kind == "item":
            if visit.on == "results":
                visit.label = self._label(did)
                visit.opened.append((visit.page, visit.label))
                visit.item, visit.chosen, visit.looked = view, {}, set()
                visit.items[visit.opened[-1]] = view
            visit.on = "item"
        elif view.kind == "part":
            visit.looked.add(view.label or self._label(did))
            place = visit.opened[-1] if visit.opened else (0, "")
            visit.told[place] = visit.told.get(place, frozenset()) | frozenset(view.words)
            visit.on = "part"
        elif view.kind == "clicked":
            label = self._label(did)
            for name, labels in visit.item.options.items():
                if label in labels:
                    visit.chosen[name] = label

    def _label(self, did: str) -> str:
        return did.removeprefix("click[").removesuffix("]").lower()

    def click(self, button: str) -> str:
        """The action that clicks a button, by its compact name."""
        return self._spoken.click(self._spoken.label(button))


def asked(visit: Visit, values: Sequence[str]) -> str:
    """The first of an option's values that the instruction asks for, or an empty string."""
    said = understand(visit.words).said
    return next((label for label in values if "_".join(plain_words(label)) in said), "")


class RandomShopper(Reader):
    """Clicks on anything that the page has, each alike; searches for a quarter of what the instruction says."""

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        found: list[Action] = []
        for episode in episodes:
            visit = self.visit(episode)
            if visit.on == "search":
                draws = uniform(episode.seed, episode.length, np.arange(len(visit.words)))
                kept = [word for word, draw in zip(visit.words, draws, strict=True) if draw < 0.25]
                found.append(self._spoken.search(kept or visit.words[:1] or ("anything",)))
                continue
            clicks = [self.click("home")]
            if visit.on == "results":
                clicks += [self._spoken.click(label) for label in visit.listed.get(visit.page, {})]
                clicks += [self.click("next")] * (visit.page < visit.pages) + [self.click("back")] * (visit.page > 1)
            else:
                clicks.append(self.click("back"))
            if visit.on == "item":
                clicks += [self._spoken.click(label) for values in visit.item.options.values() for label in values]
                clicks += [self.click(button) for button in ("buy", *PARTS)]
            found.append(clicks[int(float(uniform(episode.seed, episode.length)) * len(clicks))])
        return found


class Shopper(Reader):
    """The data: a customer who does the sensible thing at some decisions and is careless at others, independently.

    ```
    search page   each word of the instruction with probability `keep`
    results       `careful`: the best unopened title; `browse`: the next page or a new search; else the unopened ones from
                  the top, each with half the probability of the one above       (with `habit`: the last one on the page)
    item          one that is no match (accessory, other type, too dear) is left with probability `returns`; else
                  `looks`: at features, description or reviews; `sets`: the first option that is asked for and not set yet;
                  `slips`: another value of it; else buy                         (with `habit`: buy)
    ```

    `habit` is the probability, at each page of results or item, of the fixed poor move in brackets: of low entropy, so that the
    mode of the data follows it. `temperature` sharpens the exact distribution of each choice; 0 is its mode.

    Raises:
        BenchError: an argument is not a probability, or `temperature` is negative.
    """

    def __init__(
        self,
        catalogue: Source = "generated",
        products: int = 0,
        observation: Format = "original",
        action: Format = "original",
        results_per_page: int = 10,
        obs_length: int = 2_000,
        *,
        keep: float = 0.85,
        careful: float = 0.5,
        browse: float = 0.06,
        returns: float = 0.4,
        looks: float = 0.12,
        sets: float = 0.6,
        slips: float = 0.08,
        habit: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(catalogue, products, observation, action, results_per_page, obs_length)
        chances = {"keep": keep, "returns": returns, "habit": habit, "careful": careful, "browse": browse}
        chances |= {"looks": looks, "sets": sets, "slips": slips}
        chances |= {"careful + browse": careful + browse, "looks + sets + slips": looks + sets + slips}
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise BenchError(f"webshop: {name}={chance} is not a probability")
        if temperature < 0:
            raise BenchError(f"webshop: temperature={temperature} must be >= 0")
        self.keep, self.careful, self.browse, self.returns = keep, careful, browse, returns
        self.looks, self.sets, self.slips, self.habit = looks, sets, slips, habit
        self.temperature = temperature

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return [self._draw(episode) for episode in episodes]

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> NDArray[np.float64] | None:
        """Exact log-probability (nats) of `actions`; None where play is sharpened."""
        if self.temperature != 1:
            return None
        found = [self.probability(episode, str(action)) for episode, action in zip(episodes, actions, strict=True)]
        return logarithms(found)

    def probability(self, episode: Episode, action: str) -> float:
        """The chance of `action` as the next, at temperature 1."""
        visit = self.visit(episode)
        if visit.on != "search":
            return self.choices(visit).get(action, 0.0)
        words = visit.words or ("anything",)
        query = self._spoken.query(action)
        if query is None:
            return 0.0
        count, kept = len(words), len(query)
        ways = ways_to_keep(words, query) if kept else 0
        found = ways * self.keep**kept * (1 - self.keep) ** (count - kept)
        return found + (query == words) * (1 - self.keep) ** count  # nothing kept: everything is said after all

    def choices(self, visit: Visit) -> dict[str, float]:
        """The exact distribution of the next click, action -> probability."""
        found: dict[str, float] = {}
        weighed = {"results": self._on_results, "item": self._on_item}.get(visit.on)
        for action, chance in weighed(visit) if weighed else [(self.click("back"), 1.0)]:
            if chance > 0:
                found[action] = found.get(action, 0.0) + chance
        return found

    def _on_results(self, visit: Visit) -> Iterator[tuple[str, float]]:
        listed = visit.listed.get(visit.page, {})
        fresh = [label for label in listed if (visit.page, label) not in visit.opened]
        if not fresh:
            yield self.click("next" if visit.page < visit.pages else "home"), 1.0
            return
        yield self._spoken.click(list(listed)[-1]), self.habit
        normal = 1 - self.habit
        for label in (best := best_titles(visit, fresh)):
            yield self._spoken.click(label), normal * self.careful / len(best)
        away = ["next", "home"] if visit.page < visit.pages else ["home"]
        for button in away:
            yield self.click(button), normal * self.browse / len(away)
        left = normal * (1 - self.careful - self.browse)
        for label in fresh[:-1]:
            left /= 2
            yield self._spoken.click(label), left
        yield self._spoken.click(fresh[-1]), left

    def _on_item(self, visit: Visit) -> Iterator[tuple[str, float]]:
        yield self.click("buy"), self.habit
        normal = 1 - self.habit
        if not matches(visit, visit.item.words, visit.item.price):
            yield self.click("back"), normal * self.returns
            normal *= 1 - self.returns
        buys = 1.0
        if not visit.looked:
            for part in PARTS:
                yield self.click(part), normal * self.looks * LOOKED[part]
            buys -= self.looks
        for name, values in visit.item.options.items():
            wanted = asked(visit, values)
            if wanted and name not in visit.chosen:
                others = [label for label in values if label != wanted]
                yield self._spoken.click(wanted), normal * self.sets
                for label in others:
                    yield self._spoken.click(label), normal * self.slips / len(others)
                buys -= self.sets + (self.slips if others else 0.0)
                break
        yield self.click("buy"), normal * max(0.0, buys)

    def _draw(self, episode: Episode) -> str:
        visit = self.visit(episode)
        if visit.on != "search":
            found = self.choices(visit)
            chances = tempered(np.array(list(found.values())), self.temperature).cumsum()
            place = float(uniform(episode.seed, episode.length)) * chances[-1]
            return list(found)[int((chances[:-1] <= place).sum())]
        words = visit.words or ("anything",)
        keep = float(tempered(np.array([self.keep, 1 - self.keep]), self.temperature)[0])
        draws = uniform(episode.seed, episode.length, np.arange(len(words)))
        return self._spoken.search([word for word, draw in zip(words, draws, strict=True) if draw < keep] or words)


class Solver(Reader):
    """The ceiling, as far as a careful reader reaches: searches in the shop's own words, opens the best titles, reads the
    features of what does not say everything, and buys the first product that has all that is asked for, else the best seen."""

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return [self._next(self.visit(episode), TURNS - episode.length) for episode in episodes]

    def _next(self, visit: Visit, left: int) -> str:
        wish = understand(visit.words)
        if visit.on == "search":
            others = common_knowledge()[0]
            kind = [word for word in sorted(wish.kind) if word not in visit.words]
            return self._spoken.search([*kind, *(others.get(word, word) for word in visit.words)] or ["anything"])
        if visit.on == "part":
            return self.click("back")
        if visit.on == "results":
            return self._on_results(visit, left)
        here = visit.opened[-1]
        lacking = [name for name in wish.attributes if name not in self._known(visit, here)]
        if lacking and "features" not in visit.looked and left > 4:
            return self.click("features")
        whole = self._worth(visit, here) == len(wish.attributes) + len(_wanted(visit, here)) and not self._short(visit, here)
        best = max(visit.opened, key=lambda place: self._worth(visit, place))
        if (not whole and self._more(visit) and left > 7) or (self._worth(visit, here) < self._worth(visit, best) and left > 4):
            return self.click("back")
        for name, values in visit.item.options.items():
            wanted = asked(visit, values)
            if wanted and name not in visit.chosen and left > 1:
                return self._spoken.click(wanted)
        return self.click("buy")

    def _on_results(self, visit: Visit, left: int) -> str:
        fresh = self._more(visit)
        if fresh and (left > 6 or not visit.opened):
            return self._spoken.click(best_titles(visit, fresh)[0])
        if visit.opened:
            page, label = max(visit.opened, key=lambda place: self._worth(visit, place))
            return self.click("back") if page < visit.page else self._spoken.click(label)
        if visit.page < min(visit.pages, 4):
            return self.click("next")
        listed = list(visit.listed.get(visit.page, {}))
        return self._spoken.click(listed[0]) if listed else self.click("home")

    def _more(self, visit: Visit) -> list[str]:
        """Titles on this page that match and were not opened."""
        listed = visit.listed.get(visit.page, {})
        return [label for label in listed if (visit.page, label) not in visit.opened and matches(visit, *listed[label])]

    def _known(self, visit: Visit, place: tuple[int, str]) -> frozenset[str]:
        return frozenset(visit.items[place].words) | visit.told.get(place, frozenset())

    def _short(self, visit: Visit, place: tuple[int, str]) -> int:
        """How many options that the instruction asks for an item seems not to have."""
        said = understand(visit.words).said
        values = frozenset("_".join(plain_words(word)) for values in lexicon()["options"].values() for word in values)
        return len(said & values) - len(_wanted(visit, place))

    def _worth(self, visit: Visit, place: tuple[int, str]) -> int:
        item = visit.items[place]
        if not matches(visit, item.words, item.price):
            return -1
        return len(understand(visit.words).attributes & self._known(visit, place)) + len(_wanted(visit, place))


def _wanted(visit: Visit, place: tuple[int, str]) -> list[str]:
    return [label for values in visit.items[place].options.values() if (label := asked(visit, values))]


def matches(visit: Visit, title: tuple[str, ...], price: float) -> bool:
    """Whether a product is what the instruction asks for, by its title and price."""
    return price <= visit.limit and fit(understand(visit.words), title) >= 0


def best_titles(visit: Visit, labels: Sequence[str]) -> list[str]:
    """Those of `labels` on the page whose titles fit best, all that are equal."""
    listed, wish = visit.listed[visit.page], understand(visit.words)
    worth = {label: fit(wish, listed[label][0]) if listed[label][1] <= visit.limit else -1 for label in labels}
    return [label for label in labels if worth[label] == max(worth.values())]


def ways_to_keep(words: Sequence[str], kept: Sequence[str]) -> int:
    """In how many ways dropping some of `words` leaves `kept`."""
    ways = [1] + [0] * len(kept)
    for word in words:
        for place in range(len(kept), 0, -1):
            if kept[place - 1] == word:
                ways[place] += ways[place - 1]
    return ways[-1]
