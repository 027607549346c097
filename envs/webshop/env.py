"""WebShop by the original's rules (Yao et al. 2022): find among thousands of products one that fits an instruction; buy it."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
from gymnasium import spaces

from envs.webshop.catalogue import Goal, Product, Source, load_catalogue
from envs.webshop.pages import PARTS, WRITINGS, Compact, Format, check_format
from envs.webshop.reward import reward
from qsft_bench.errors import BenchError

TURNS = 15  # the original never ends an episode by itself
RESULTS = 50  # the most that a search finds
HELD_OUT_BELOW = 2**32  # dataset seeds begin here; the seeds that validate and test are below
VALIDATION_SEEDS, TEST_SEEDS = range(1_000_000, 2_000_000), range(2_000_000, 3_000_000)
LONGEST_ACTION = 2_000  # characters in the action space; a longer text is an action all the same


class WebShop(gymnasium.Env[str, str]):
    """One customer's visit; the observation is what is new on the page (`envs.webshop.pages` has the formats).

    `search[...]` works while the search bar is shown, `click[...]` on every button, product and option of the page; anything
    else does nothing, and `info["invalid"]` says why. `info["admissible"]` lists every click, as actions; while the search bar
    is shown there is none, and `info["search"]` is True. Buying ends the episode with the reward; `info["parts"]` then has the
    reward's four parts, and `info["success"]` says whether it is 1. After `TURNS` actions without a purchase it is truncated
    with nothing. Texts are ASCII: other letters of an official catalogue are written without their accents, or as `?`.

    A seed names an instruction: test seeds go round the 100 held-out ones in order, validation seeds round 200 others that are
    held out too, every other seed draws one of the rest.

    Args:
        catalogue: see `load_catalogue`.
        products: how many the shop has; 0 for the usual number.
        observation: `original`, `compact` or `screen`.
        action: `original` or `compact`; the original's verbs are understood in any case, with the labels of the format.
        results_per_page: 10 in the original.
        obs_length: characters after which an observation is cut; its buttons work all the same.
        privileged: put the goal into `info["goal"]`.

    Raises:
        BenchError: an option has no such value, or the catalogue is not there.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        catalogue: Source = "generated",
        products: int = 0,
        observation: Format = "original",
        action: Format = "original",
        results_per_page: int = 10,
        obs_length: int = 2_000,
        privileged: bool = False,
    ) -> None:
        check_options(observation, action, results_per_page, obs_length)
        self._shop = load_catalogue(catalogue, products)
        self._search = self._shop.search
        self._shown, self._spoken = WRITINGS[observation], WRITINGS[action]
        self._per_page = results_per_page
        self._length = obs_length
        self._privileged = privileged
        self._goal: Goal | None = None
        self._left = 0  # actions
        self._item: Product | None = None
        self._targets: dict[str, Any] = {}  # label -> what a click on it does
        letters = "".join(sign for sign in string.printable if " " <= sign <= "~") + "\n"
        self.observation_space = spaces.Text(obs_length, charset=letters)
        self.action_space = spaces.Text(LONGEST_ACTION, charset=letters)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Open the shop to a customer: the one that `seed` names, or number `options["goal"]` of all instructions.

        Raises:
            BenchError: there is no instruction of that number.
        """
        super().reset(seed=seed)
        goals, held_out = self._shop.goals, self._shop.test + self._shop.validation
        if options and "goal" in options:
            if options["goal"] not in range(len(goals)):
                raise BenchError(f"webshop: goal={options['goal']!r} must be a number from 0 to {len(goals) - 1}")
            number = int(options["goal"])
        elif seed is not None and seed in TEST_SEEDS:
            number = (seed - TEST_SEEDS.start) % self._shop.test
        elif seed is not None and seed in VALIDATION_SEEDS:
            number = self._shop.test + (seed - VALIDATION_SEEDS.start) % self._shop.validation
        else:
            number = held_out + int(self.np_random.integers(len(goals) - held_out))
        self._goal = goals[number]
        self._left = TURNS
        self._found: tuple[int, ...] = ()
        self._open_search()
        return self._cut(self._shown.start(self._goal.instruction)), self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Search or click.

        Raises:
            gymnasium.error.ResetNeeded: the visit is over or never began.
        """
        if self._goal is None or self._left == 0:
            raise gymnasium.error.ResetNeeded("webshop: the visit is over; call reset()")
        self._left -= 1
        verb, argument = self._parse(action)
        refused = self._why_refused(verb, argument, action)
        paid = None
        if refused is not None:
            page = self._shown.nothing()
        elif verb == "search":
            self._found = self._search.top(argument, RESULTS)
            page = self._open_results(1)
        elif self._targets[argument] == "buy":
            assert self._item is not None
            paid = reward(self._item, self._chosen.values(), self._goal)
            page, self._left = self._shown.bought(paid.total), 0
        else:
            page = self._follow(self._targets[argument], argument)
        info = self._info()
        if refused is not None:
            info["invalid"] = refused
        if self._left == 0:
            info["success"] = paid is not None and paid.total == 1
            parts = {"type": 0.0, "attributes": 0.0, "options": 0.0, "price": 0.0}
            if paid is not None:
                parts = {"type": paid.type, "attributes": paid.attributes, "options": paid.options, "price": paid.price}
            info["parts"] = parts
            info["statistics"] = {"success": float(info["success"]), "bought": float(paid is not None), **parts}
        return self._cut(page), paid.total if paid else 0.0, paid is not None, self._left == 0 and paid is None, info

    def _parse(self, action: object) -> tuple[str, str]:
        """What an action says to do, and with what: `search` or `click` and its argument, or two empty strings."""
        if not isinstance(action, str):
            return "", ""
        line = action.strip().partition("\n")[0]
        # The original's pattern, (.+)\[(.+)\] from the start, whose groups are greedy; without its quadratic backtracking.
        end = line.rfind("]")
        start = line.rfind("[", 1, max(1, end - 1))
        if start > 0:
            verb = line[:start]
            return (verb, line[start + 1 : end].lower()) if verb in ("search", "click") else ("", "")
        if isinstance(self._spoken, Compact):
            if line.startswith("search "):
                return "search", line.removeprefix("search ").removesuffix(".").replace("_", "-").lower()
            return "click", line.lower()
        return "", ""

    def _why_refused(self, verb: str, argument: str, action: object) -> str | None:
        """Why an action does nothing, or None where it does something."""
        if not isinstance(action, str):
            return f"{type(action).__name__} is not text"
        if verb == "search":
            return None if not self._targets else "there is no search bar on this page"
        if verb == "click":
            return None if argument in self._targets else f"there is nothing called {argument[:80]!r} to click on this page"
        return f"{action[:80]!r} is neither search[...] nor click[...]"

    def _follow(self, target: Any, label: str) -> str:
        """Carry out a click that buys nothing; returns the page it leads to."""
        if isinstance(target, Product):
            self._chosen = {}
            return self._open_item(target, self._shown.item)
        if isinstance(target, tuple):
            name, value = target
            self._chosen[name] = value
            return self._shown.clicked(label)
        if target == "home":
            self._open_search()
            return self._shown.home()
        if target == "next":
            return self._open_results(self._page + 1)
        if target == "results":
            return self._open_results(self._page, again=True)
        if target == "before":
            return self._open_results(self._page - 1, again=True)
        assert self._item is not None
        if target == "item":
            return self._open_item(self._item, self._shown.item_again)
        self._targets = self._buttons(home="home", back="item")
        return self._shown.part(self._item, target)

    def _open_search(self) -> None:
        self._item, self._chosen, self._page = None, {}, 1
        self._targets = {}

    def _open_results(self, page: int, again: bool = False) -> str:
        self._item, self._chosen, self._page = None, {}, page
        pages = max(1, -(-len(self._found) // self._per_page))
        first = (page - 1) * self._per_page
        products = [self._shop.products[number] for number in self._found[first : first + self._per_page]]
        buttons = {"home": "home"} | ({"back": "before"} if page > 1 else {}) | ({"next": "next"} if page < pages else {})
        listed = {self._spoken.product_label(product, place): product for place, product in enumerate(products, 1)}
        self._targets = listed | self._buttons(**buttons)
        write = self._shown.results_again if again else self._shown.results
        return write(products, page, pages, len(self._found))

    def _open_item(self, product: Product, write: Any) -> str:
        self._item = product
        buttons = self._buttons(home="home", back="results", buy="buy", **{part: part for part in PARTS})
        self._targets = dict(self._spoken.option_labels(product)) | buttons  # a button before an option of the same name
        return write(product)

    def _buttons(self, **targets: str) -> dict[str, Any]:
        return {self._spoken.label(button): target for button, target in targets.items()}

    def _cut(self, page: str) -> str:
        return page if len(page) <= self._length else page[: self._length - 1] + "\n"

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {
            "admissible": [] if self._left == 0 else [self._spoken.click(label) for label in self._targets],
            "search": not self._targets and self._left > 0,
        }
        if self._privileged:
            info["goal"] = self._goal
        return info


def check_options(observation: str, action: str, results_per_page: int, obs_length: int) -> None:
    """Refuse what the shop does not offer.

    Raises:
        BenchError: naming the option and its values.
    """
    check_format("observation", observation)
    check_format("action", action)
    for name, value, low, high in (("results_per_page", results_per_page, 1, RESULTS), ("obs_length", obs_length, 100, 10**6)):
        if not isinstance(value, int) or not low <= value <= high:
            raise BenchError(f"webshop: {name}={value!r} must be a whole number from {low} to {high}")
