"""What a customer sees and does: the pages of the shop as text, in two formats, and reading them back.

```
            action="original", observation="original"                   "compact"
search      search[ultralight hammock in pink]                          search ultralight hammock pink .
click       click[b0g3k2x01c]   click[pink]   click[Buy Now]            2      pink      buy
results     Back to Search [SEP] Page 1 (Total results: 50) [SEP] ...   page 1 / 5 \\n 1 drift hammock ultralight 24 \\n 2 ...
item        Back to Search [SEP] < Prev [SEP] color [SEP] pink ...      item drift hammock ultralight : color pink teal : 24
```

Both say the same, and so does a third, `screen`, for a person in a terminal, with the compact actions. The compact one is for
models that learn words from nothing: one word for one thing (`water_resistant`), no filler, prices in whole dollars rounded up
(limits are whole dollars, so that the comparison stays true), a product named by its place on the page, buttons left out, as
every page of a kind has the same ones, and nothing shown twice. An observation is what is new: the instruction stands on the
first page alone, and a click on an option shows what was clicked.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

from envs.webshop.catalogue import NO_LIMIT, Product
from qsft_bench.errors import BenchError, did_you_mean

Format = Literal["original", "compact", "screen"]
PageKind = Literal["search", "results", "item", "part", "clicked", "end", "nothing"]

PARTS = ("description", "features", "reviews")
BUTTONS = {"home": "back to search", "back": "< prev", "next": "next >", "buy": "buy now", **{part: part for part in PARTS}}
"""Buttons: their compact names and the original's (lower case, as clicks are compared)."""

SEP = " [SEP] "
TITLE_WORDS = 12  # of a title in the compact format; the generated ones have fewer
_OPTION_NAMES = """
color, size, pack, scent, volume, flavor, power, finish, dimensions, style, material, length, width, pattern, flavor name,
item package quantity, special size, fit type, material type, scent name, pattern name, number of items
"""
OPTION_NAMES = frozenset(" ".join(_OPTION_NAMES.split()).split(", "))
"""Headings above the values of an option, by which a reader of the original's text tells them from the values."""

_LIMIT = re.compile(r",? and price lower than (\d+)(?:\.\d+)? dollars")
_WORD = re.compile(r"[^\W_]+(?:['’\-_.][^\W_]+)*")
_SAYS_NOTHING = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with i am need looking find me want buy show can you please get would like sold runs from
"""
_DROPPED = frozenset(_SAYS_NOTHING.split())


@dataclass(frozen=True)
class View:
    """What one observation shows, read back from its text.

    Attributes:
        kind: which page it is.
        words: of the instruction (first page), the item's title, or its description, features or reviews.
        limit: the price limit of the instruction, `NO_LIMIT` if it has none.
        listed: on a page of results, by label: the words of the title and the price (the higher of a range).
        page, pages: number of the page of results, and how many there are.
        price: of the item.
        options: of the item, name -> labels of its values.
        label: what was clicked, or which part of an item is shown.
    """

    kind: PageKind
    words: tuple[str, ...] = ()
    limit: float = NO_LIMIT
    listed: Mapping[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)
    page: int = 0
    pages: int = 0
    price: float = 0.0
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: str = ""


def plain_words(text: str) -> tuple[str, ...]:
    """The words of `text` that mean something, lower case, hyphens as underscores: `water_resistant`."""
    found = (re.sub(r"[-.’']", "_", word) for word in _WORD.findall(plain_text(text).lower()))
    return tuple(word for word in found if word not in _DROPPED)


def check_format(name: str, value: str) -> None:
    """Refuse what there is not.

    Raises:
        BenchError: naming the option and its values.
    """
    if value not in get_args(Format):
        raise BenchError(f"webshop: {name}={value!r} does not exist{did_you_mean(str(value), get_args(Format))}")


class Writing(ABC):
    """One format: pages to text, and text to what it shows. Text ends in a newline."""

    @abstractmethod
    def label(self, button: str) -> str:
        """What a button is called."""

    @abstractmethod
    def option_labels(self, product: Product) -> Mapping[str, tuple[str, str]]:
        """label -> (name, value) of every option; of two with one label the last, as in the original."""

    @abstractmethod
    def product_label(self, product: Product, place: int) -> str:
        """What the product is called on a page of results, where it is the `place`-th, from 1."""

    @abstractmethod
    def click(self, label: str) -> str:
        """The action that clicks what is called `label`."""

    @abstractmethod
    def search(self, words: Sequence[str]) -> str:
        """The action that searches for plain words."""

    @abstractmethod
    def query(self, action: str) -> tuple[str, ...] | None:
        """The plain words for which `search` made `action`, or None if it did not."""

    @abstractmethod
    def start(self, instruction: str) -> str:
        """The first page."""

    @abstractmethod
    def home(self) -> str:
        """The search page, come back to."""

    @abstractmethod
    def results(self, products: Sequence[Product], page: int, pages: int, total: int) -> str:
        """A page of results."""

    @abstractmethod
    def results_again(self, products: Sequence[Product], page: int, pages: int, total: int) -> str:
        """A page of results, come back to."""

    @abstractmethod
    def item(self, product: Product) -> str:
        """A product's page."""

    @abstractmethod
    def item_again(self, product: Product) -> str:
        """A product's page, come back to from one of its parts."""

    @abstractmethod
    def part(self, product: Product, name: str) -> str:
        """A product's description, features or reviews."""

    @abstractmethod
    def clicked(self, label: str) -> str:
        """After a click on an option."""

    @abstractmethod
    def bought(self, total: float) -> str:
        """The last page."""

    @abstractmethod
    def nothing(self) -> str:
        """After an action that does nothing."""

    @abstractmethod
    def read(self, text: str) -> View:
        """What a page shows; text that is no page shows `nothing`."""


class Original(Writing):
    """The original's text mode: what is visible on its pages, in order, `[SEP]` between."""

    def label(self, button: str) -> str:
        return BUTTONS[button]

    def option_labels(self, product: Product) -> Mapping[str, tuple[str, str]]:
        return {plain_text(value): (name, value) for name, values in product.options.items() for value in values}

    def product_label(self, product: Product, place: int) -> str:
        return product.asin.lower()

    def click(self, label: str) -> str:
        return f"click[{label}]\n"

    def search(self, words: Sequence[str]) -> str:
        return f"search[{' '.join(words).replace('_', '-')}]\n"

    def query(self, action: str) -> tuple[str, ...] | None:
        if not (action.startswith("search[") and action.endswith("]\n")):
            return None
        return tuple(action[len("search[") : -2].replace("-", "_").split())

    def start(self, instruction: str) -> str:
        return _line(["WebShop", "Instruction:", instruction, "Search"])

    def home(self) -> str:
        return _line(["WebShop", "Search"])

    def results(self, products: Sequence[Product], page: int, pages: int, total: int) -> str:
        shown = ["Back to Search", f"Page {page} (Total results: {total})"]
        shown += ["< Prev"] if page > 1 else []
        shown += ["Next >"] if page < pages else []
        for product in products:
            shown += [product.asin, product.title, product.price_tag]
        return _line(shown)

    results_again = results

    def item(self, product: Product) -> str:
        shown = ["Back to Search", "< Prev"]
        for name, values in product.options.items():
            shown += [name, *values]
        shown += [product.title, f"Price: {product.price_tag}", f"Rating: {product.rating}"]
        return _line([*shown, "Description", "Features", "Reviews", "Buy Now"])

    item_again = item

    def part(self, product: Product, name: str) -> str:
        return _line(["Back to Search", "< Prev", *_part(product, name)])

    def clicked(self, label: str) -> str:
        return _line([f"You have clicked {label}."])

    def bought(self, total: float) -> str:
        return _line(["Thank you for shopping with us!", "Your score (min 0.0, max 1.0)", f"{total:.3f}"])

    def nothing(self) -> str:
        return "Nothing happened.\n"

    def read(self, text: str) -> View:
        return _read_original(text)


class Compact(Writing):
    """The format for models that learn words from nothing (see the module)."""

    def label(self, button: str) -> str:
        return button

    def option_labels(self, product: Product) -> Mapping[str, tuple[str, str]]:
        labels: dict[str, tuple[str, str]] = {}
        for name, values in product.options.items():
            for value in values:
                labels[compact_label(value)] = (name, value)
        return labels

    def product_label(self, product: Product, place: int) -> str:
        return str(place)

    def click(self, label: str) -> str:
        return f"{label}\n"

    def search(self, words: Sequence[str]) -> str:
        return f"search {' '.join(words)} .\n"

    def query(self, action: str) -> tuple[str, ...] | None:
        if not (action.startswith("search ") and action.endswith(" .\n")):
            return None
        return tuple(action[len("search ") : -3].split())

    def start(self, instruction: str) -> str:
        found = _LIMIT.search(instruction)
        words = plain_words(instruction[: found.start()] if found else instruction)
        return " ".join(["want", *words, "under", found.group(1) if found else "any"]) + "\n"

    def home(self) -> str:
        return "home\n"

    def results(self, products: Sequence[Product], page: int, pages: int, total: int) -> str:
        lines = [f"page {page} / {pages}"]
        lines += [f"{place} {compact_title(product)} {compact_price(product)}" for place, product in enumerate(products, 1)]
        return "\n".join(lines) + "\n"

    def results_again(self, products: Sequence[Product], page: int, pages: int, total: int) -> str:
        return f"page {page} / {pages}\n"

    def item(self, product: Product) -> str:
        shown = ["item " + compact_title(product)]
        for name, values in product.options.items():
            shown.append(" ".join([compact_label(name), *map(compact_label, values)]))
        return " : ".join([*shown, compact_price(product)]) + "\n"

    def item_again(self, product: Product) -> str:
        return "item again\n"

    def part(self, product: Product, name: str) -> str:
        return " ".join([name, *plain_words(" ".join(_part(product, name)))]) + "\n"

    def clicked(self, label: str) -> str:
        return "set\n"

    def bought(self, total: float) -> str:
        return "bought\n"

    def nothing(self) -> str:
        return "nothing\n"

    def read(self, text: str) -> View:
        return _read_compact(text)


class Screen(Compact):
    """The format for people: pages as a terminal shows them, clicked on by the compact names in brackets."""

    def start(self, instruction: str) -> str:
        return _lines(
            ["You want:", f"  {instruction}", "", "Say `search WORDS`; then what stands in [brackets], a word a turn."]
        )

    def home(self) -> str:
        return _lines(["The search page. Say `search WORDS`."])

    def results(self, products: Sequence[Product], page: int, pages: int, total: int) -> str:
        shown = [f"Page {page} of {pages}, {total} results:"]
        for place, product in enumerate(products, 1):
            shown.append(f"  [{place}] {product.title}  {product.price_tag}")
        buttons = ["[back]"] * (page > 1) + ["[next]"] * (page < pages) + ["[home] to search again"]
        return _lines([*shown, "  ".join(buttons)])

    results_again = results

    def item(self, product: Product) -> str:
        shown = [product.title, f"  {product.price_tag}, rated {product.rating}"]
        for name, values in product.options.items():
            shown.append(f"  {name}: " + "  ".join(f"[{compact_label(value)}]" for value in values))
        return _lines([*shown, "[buy]  [back] to the results  [home]  [description]  [features]  [reviews]"])

    item_again = item

    def part(self, product: Product, name: str) -> str:
        return _lines([f"{name.capitalize()}:", *(f"  - {text}" for text in _part(product, name)), "[back]  [home]"])

    def clicked(self, label: str) -> str:
        return _lines([f"[{label}] is set."])

    def bought(self, total: float) -> str:
        return _lines([f"Thank you for shopping with us! Your score, between 0 and 1: {total:.2f}"])

    def nothing(self) -> str:
        return _lines(["Nothing happened."])

    def read(self, text: str) -> View:
        raise BenchError("webshop: observation='screen' is for people; scripted players read 'original' or 'compact'")


WRITINGS: Mapping[str, Writing] = {"original": Original(), "compact": Compact(), "screen": Screen()}


def compact_label(value: str) -> str:
    """An option's value as one word."""
    return "_".join(re.findall(r"[^\W_]+", plain_text(value).lower())) or "_"


@lru_cache(maxsize=2**17)
def compact_title(product: Product) -> str:
    return " ".join(plain_words(product.title)[:TITLE_WORDS])


@lru_cache(maxsize=2**17)
def compact_price(product: Product) -> str:
    """Whole dollars, rounded up; of a range both ends."""
    return " ".join(str(math.ceil(price)) for price in prices(product.price_tag))


def prices(tag: str) -> list[float]:
    """The amounts in a price tag: one, or the two ends of a range."""
    return [float(amount.replace(",", "")) for amount in re.findall(r"\d[\d,]*(?:\.\d+)?", tag)] or [0.0]


def plain_text(text: str) -> str:
    """`text` in printable ASCII on one line: what cannot be written so becomes `?`."""
    import unicodedata

    if text.isascii() and text.isprintable():
        return text
    folded = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return " ".join("".join(sign if " " <= sign <= "~" else " " if sign.isspace() else "?" for sign in folded).split())


def _part(product: Product, name: str) -> list[str]:
    if name == "description":
        return [product.description or "No description"]
    if name == "features":
        return list(product.bullets) or ["No features"]
    return list(product.reviews) or ["No reviews"]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{' ' * (len(line) - len(line.lstrip()))}{plain_text(line.strip())}\n" for line in lines)


def _line(parts: Iterable[str]) -> str:
    return plain_text(SEP.join(parts)) + "\n"


@lru_cache(maxsize=2**14)
def _read_original(text: str) -> View:
    parts = text.strip().split(SEP)
    if parts[0] == "WebShop":
        if len(parts) < 3:
            return View("search")
        said = parts[2]
        found = _LIMIT.search(said)
        words = plain_words(said[: found.start()] if found else said)
        return View("search", words, limit=float(found.group(1)) if found else NO_LIMIT)
    if parts[0].startswith("You have clicked "):
        return View("clicked", label=parts[0].removeprefix("You have clicked ").removesuffix("."))
    if parts[0].startswith("Thank you"):
        return View("end")
    if parts[0] != "Back to Search" or len(parts) < 2:
        return View("nothing")
    heading = re.match(r"Page (\d+) \(Total results: (\d+)\)", parts[1])
    if heading:
        rest = [part for part in parts[2:] if part not in ("< Prev", "Next >")]
        listed = {}
        for asin, title, tag in zip(rest[::3], rest[1::3], rest[2::3], strict=False):
            listed[asin.lower()] = (plain_words(title), max(prices(tag)))
        page = int(heading.group(1))
        return View("results", listed=listed, page=page, pages=page + ("Next >" in parts[2:4]))
    if parts[-1] != "Buy Now":
        return View("part", plain_words(" ".join(parts[2:])))
    tags = [number for number, part in enumerate(parts) if part.startswith("Price: ")]
    if not tags:
        return View("nothing")
    options: dict[str, list[str]] = {}
    for part in parts[2 : tags[-1] - 1]:
        if part in OPTION_NAMES or not options:
            options[part] = []
        else:
            options[next(reversed(options))].append(part)
    return View(
        "item",
        plain_words(parts[tags[-1] - 1]),
        price=max(prices(parts[tags[-1]])),
        options={name: tuple(values) for name, values in options.items()},
    )


@lru_cache(maxsize=2**14)
def _read_compact(text: str) -> View:
    lines = text.rstrip("\n").split("\n")
    first = lines[0].split()
    kind = first[0] if first else ""
    if kind == "want" and len(first) > 2 and first[-2] == "under":
        limit = float(first[-1]) if first[-1].isdigit() else NO_LIMIT
        return View("search", tuple(first[1:-2]), limit=limit)
    if kind == "home":
        return View("search")
    if kind == "page" and len(first) == 4:
        listed = {}
        for line in lines[1:]:
            place, *words = line.split()
            tail = words[-2:] if len(words) > 1 and words[-2].isdigit() else words[-1:]
            listed[place] = (tuple(words[: len(words) - len(tail)]), max(prices(" ".join(tail))))
        return View("results", listed=listed, page=int(first[1]), pages=int(first[3]))
    if kind == "item":
        title, *options, price = text.rstrip("\n").split(" : ") if " : " in text else (text, "0")
        if first[1:] == ["again"]:
            return View("item")
        named = [option.split() for option in options]
        return View(
            "item",
            tuple(title.split()[1:]),
            price=max(prices(price)),
            options={option[0]: tuple(option[1:]) for option in named if option},
        )
    if kind in PARTS:
        return View("part", tuple(first[1:]), label=kind)
    endings: dict[str, PageKind] = {"set": "clicked", "bought": "end"}
    return View(endings.get(kind, "nothing"))
