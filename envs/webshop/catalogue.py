"""What a shop holds: products, the instructions of its customers, and the search over both catalogues' one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from qsft_bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from envs.webshop.search import Search

Source = Literal["generated", "official", "official-synthetic"]
SOURCES: tuple[Source, ...] = ("generated", "official", "official-synthetic")
NO_LIMIT = 1_000_000.0  # the original's price limit where an instruction names none
LIMITS = tuple(10.0 * step for step in range(1, 100))
"""Price limits that instructions name, in dollars."""


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One product, as the original keeps it after cleaning; equal to itself alone, so that its pages can be kept by it.

    Attributes:
        asin: its identifier.
        title, description, bullets, rating, reviews: what its pages show.
        price_tag: the price as shown, which may be a range; `price`: what it costs, in dollars.
        query: the search term it was found under; `categories`: its path, from the root.
        nouns: the nouns of the title, lower case, in order.
        attributes: what the reward knows of it; never shown.
        options: name -> values, lower case.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    rating: str
    reviews: tuple[str, ...]
    price_tag: str
    price: float
    query: str
    categories: tuple[str, ...]
    nouns: tuple[str, ...]
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]

    @property
    def indexed(self) -> str:
        """What the search reads: title, description, the first bullet and the options, as in the original."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        return " ".join([self.title, self.description, *self.bullets[:1], options]).lower()


@dataclass(frozen=True, slots=True)
class Goal:
    """What a customer wants.

    Attributes:
        asin: the product that it was written for.
        instruction: what the customer says, the price limit included.
        query, categories, nouns: of that product.
        attributes, options: those asked for, in the catalogue's own words.
        price_limit: dollars; `NO_LIMIT` for none.
    """

    asin: str
    instruction: str
    query: str
    categories: tuple[str, ...]
    nouns: tuple[str, ...]
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    price_limit: float


@dataclass(frozen=True)
class Catalogue:
    """A shop's stock and its customers.

    Attributes:
        name: what it is, for people.
        identity: a hash of the products; the key of the cached index.
        products: in the order of the index.
        goals: shuffled once; the first `test` are for testing, the next `validation` for tuning, the others for data.
    """

    name: str
    identity: str
    products: Sequence[Product]
    goals: Sequence[Goal]
    test: int
    validation: int

    def __post_init__(self) -> None:
        if not self.products or self.test < 1 or self.validation < 1 or self.test + self.validation >= len(self.goals):
            raise BenchError(
                f"{self.name}: {len(self.products)} products and {len(self.goals)} instructions are too few to test on "
                f"{self.test}, to tune on {self.validation} and to learn from the rest"
            )

    @cached_property
    def search(self) -> Search:
        """The search over all products, made once and then read from the cache folder."""
        from envs.webshop.search import Search

        found = Search.over((product.indexed for product in self.products), self.identity)
        if found.size != len(self.products):
            raise BenchError(
                f"the index of {self.name} holds {found.size} products, not {len(self.products)}; delete the cache"
            )
        return found

    @cached_property
    def by_asin(self) -> dict[str, Product]:
        return {product.asin: product for product in self.products}


def load_catalogue(source: Source = "generated", products: int = 0) -> Catalogue:
    """A catalogue, made or read once a process.

    Args:
        source: `generated`, or what `qsft-bench data import webshop PATH` has read: `official` with the instructions that
            people wrote, `official-synthetic` with the original's synthetic ones.
        products: how many; 0 for the usual number (generated) or for all (official).

    Raises:
        BenchError: there is no such catalogue.
    """
    if source not in SOURCES:
        raise BenchError(f"webshop: catalogue={source!r} does not exist{did_you_mean(str(source), SOURCES)}")
    if not isinstance(products, int) or products < 0:
        raise BenchError(f"webshop: products={products!r} must be a number of products, or 0 for all")
    if source == "generated":
        from envs.webshop.generate import PRODUCTS, generated_catalogue

        return generated_catalogue(products or PRODUCTS)
    from envs.webshop.official import official_catalogue

    return official_catalogue(source == "official", products)
