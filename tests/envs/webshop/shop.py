"""A shop of four products, small enough to know by heart."""

from __future__ import annotations

from typing import Any

import pytest

from envs.webshop import env as env_module
from envs.webshop.catalogue import Catalogue, Goal, Product
from envs.webshop.env import WebShop


def product(asin: str, title: str, price: float, **fields: Any) -> Product:
    """A hat, unless `fields` say otherwise."""
    usual: dict[str, Any] = {
        "description": "Made by hand.",
        "bullets": ("Machine-washable straw", "Keeps its shape"),
        "rating": "4.1",
        "reviews": ("5 stars: a good buy",),
        "price_tag": f"${price:.2f}",
        "query": "sun hat",
        "categories": ("Clothing", "Hats"),
        "nouns": ("sun", "hat"),
        "attributes": ("machine-washable",),
        "options": {"color": ("navy", "dark-blue"), "size": ("small", "large")},
    }
    return Product(asin=asin, title=title, price=price, **(usual | fields))


HAT = product("B000000001", "Norvale Sun Hat for Men, Foldable", 19.99)
DEAR = product("B000000002", "Verano Sun Hat, Foldable and Lightweight", 55.0)
RACK = product(
    "B000000003", "Kestrel Hanger for Sun Hat", 7.49, nouns=("hanger",), query="sun hat accessories", options={}, attributes=()
)
ODD = product("B000000004", "Crème Brûlée ☃ Hat", 12.0, options={"style": ("features", "größe")}, bullets=(), reviews=())
GOAL = Goal(
    HAT.asin,
    "i need a machine-washable sun hat in navy in size large, and price lower than 30.00 dollars",
    HAT.query,
    HAT.categories,
    HAT.nouns,
    HAT.attributes,
    ("navy", "large"),
    30.0,
)
SMALL = Catalogue("four products", "four products of the tests", (HAT, DEAR, RACK, ODD), (GOAL,) * 8, 2, 3)


def small_shop(monkeypatch: pytest.MonkeyPatch, **options: Any) -> WebShop:
    """The environment over `SMALL`, reset."""
    monkeypatch.setattr(env_module, "load_catalogue", lambda source, products: SMALL)
    env = WebShop(**options)
    env.reset(seed=0)
    return env
