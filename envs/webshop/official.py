"""The original's catalogue files, where the user has them: read, checked record by record, and kept in the cache folder.

```
items_shuffle*.json    the products              required; 1,000 of them, or all 1.18 million
items_ins_v2*.json     attributes and synthetic instructions, by product
items_human_ins.json   instructions that people wrote, by product
```

A product that lacks a field or has one of the wrong type, or whose id came before, is reported and left out, as is an
instruction; so are, without a word, the records that the original passes over too (no id, or one of more than ten signs).
HTML in a text is reported and its tags are taken out. Nothing of a file is ever executed, and no text of it is shown but as
plain text.

Instructions stand in the original's order (its seed, 233). It tests on the first 500 and tunes on the next 1,000: here test
seeds go round the first 100 and validation seeds round the other 1,400, and the rest is to learn from; of a smaller set a
fifth each. Where a price is a range the original draws it anew every time; here it is a fixed function of the product.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from html import unescape
from pathlib import Path
from typing import Any

from envs.webshop.catalogue import Catalogue, Goal, Product
from envs.webshop.generate import TEST, limit_text, price_limit
from envs.webshop.nouns import nouns
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_directory, cache_folder, file_sha256, read_json, write_json

VERSION = 1
SHUFFLE = 233  # the original's seed for the order of instructions
HELD_OUT = 1_500  # the original's instructions to test and to tune on
USUAL_PRICE = 100.0  # of a product that has none, as in the original
NO_ATTRIBUTE = "DUMMY_ATTR"  # what the original gives a product without any
CHUNK = 2**22  # characters of a file in memory

Report = Callable[[str, str], None]  # place, what is wrong

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Imported:
    """What an import found: products and instructions kept, and records left out."""

    folder: Path
    products: int
    human: int
    synthetic: int
    skipped: int

    def __str__(self) -> str:
        found = f"{self.products:,} products, {self.human:,} instructions by people, {self.synthetic:,} synthetic ones"
        return (
            f"{self.folder}: {found}, {self.skipped:,} records left out; play with catalogue=official (or official-synthetic)"
        )


def import_files(path: Path, report: Report = lambda place, reason: None, strict: bool = False) -> Imported:
    """Read the official files at `path` (their folder, or the products' file in it) into the cache folder.

    Args:
        report: called with every record that is left out or mended.
        strict: stop at the first.

    Raises:
        BenchError: a file is missing or no JSON, nothing in it can be used, or `strict` and a record is bad.
    """
    items = _items_file(path)
    skipped = 0

    def bad(place: str, reason: str) -> None:
        nonlocal skipped
        if strict:
            raise BenchError(f"{items.parent}: {place}: {reason}")
        skipped += 1
        report(place, reason)

    synthetic = _by_product(items.parent, _partner(items), bad)
    human = _by_product(items.parent, items.with_name("items_human_ins.json"), bad)
    known: set[str] = set()
    counts = {"human": 0, "synthetic": 0}
    target = cache_folder("webshop") / "official"
    with atomic_directory(target) as folder:
        with (folder / "products.jsonl").open("w", encoding="utf-8") as kept:
            for number, record in enumerate(_records(items)):
                asin = record.get("asin") if isinstance(record, dict) else None
                place = f"{items.name}, record {number} ({asin})"
                if isinstance(record, dict) and isinstance(asin, str) and (asin == "nan" or len(asin) > 10):
                    continue  # as the original does
                if asin in known:
                    bad(place, "this id came before")
                    continue
                try:
                    product, marked = _product(record, synthetic.get(str(asin), {}))
                except (TypeError, ValueError, KeyError) as error:
                    bad(place, _said(error))
                    continue
                known.add(product.asin)
                for field in marked:
                    report(place, f"HTML in {field}, taken out")
                line: dict[str, Any] = asdict(product)
                line["human"] = list(_human(human.get(product.asin, []), product.asin, bad))
                line["synthetic"] = _synthetic(synthetic.get(product.asin, {}))
                counts["human"] += sum(bool(entry["attributes"]) for entry in line["human"])
                if line["synthetic"]:
                    counts["synthetic"] += _combinations(product)
                kept.write(json.dumps(line, ensure_ascii=False) + "\n")
        if not known:
            raise BenchError(f"{items} holds no product that can be used; the first lines above say why")
        content = file_sha256(folder / "products.jsonl")
        write_json(folder / "manifest.json", {"version": VERSION, "content": content, "products": len(known), **counts})
    return Imported(target, len(known), counts["human"], counts["synthetic"], skipped)


@lru_cache(maxsize=2)
def official_catalogue(human: bool = True, products: int = 0) -> Catalogue:
    """What `import_files` has kept.

    Args:
        human: the instructions that people wrote, else the synthetic ones.
        products: only the first so many products; 0 for all.

    Raises:
        BenchError: nothing was imported, or there are too few instructions.
    """
    folder = cache_folder("webshop") / "official"
    if not (folder / "manifest.json").exists():
        raise BenchError("the official WebShop files are not here; `qsft-bench data import webshop PATH` reads them")
    manifest = read_json(folder / "manifest.json")
    if manifest.get("version") != VERSION:
        raise BenchError(f"{folder} was written by another version; import the official files again")
    stock: list[Product] = []
    goals: list[Goal] = []
    with (folder / "products.jsonl").open(encoding="utf-8") as lines:
        for line in itertools.islice(lines, products or None):
            record = json.loads(line)
            wanted = record.pop("human"), record.pop("synthetic")
            options = {name: tuple(values) for name, values in record.pop("options").items()}
            fields: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in record.items()}
            product = Product(**fields, options=options)
            stock.append(product)
            goals += _human_goals(product, wanted[0]) if human else _synthetic_goals(product, wanted[1])
    random.Random(SHUFFLE).shuffle(goals)
    held_out = HELD_OUT if len(goals) > HELD_OUT else 2 * (len(goals) // 5)
    test = min(TEST, held_out // 2)
    name = f"official catalogue, {len(stock):,} products, {'human' if human else 'synthetic'} instructions"
    return Catalogue(name, f"{manifest['content']}-{len(stock)}", tuple(stock), tuple(goals), test, held_out - test)


def _items_file(path: Path) -> Path:
    """The products' file that `path` names or holds."""
    if path.is_file():
        return path
    found = sorted(path.glob("items_shuffle*.json")) if path.is_dir() else []
    if len(found) != 1:
        seen = ", ".join(file.name for file in found) or "none"
        raise BenchError(f"{path} must be items_shuffle*.json or a folder with one of them (here: {seen}); name the file")
    return found[0]


def _partner(items: Path) -> Path:
    """items_ins_v2_1000.json for items_shuffle_1000.json, and items_ins_v2.json for the whole."""
    return items.with_name(items.name.replace("items_shuffle", "items_ins_v2"))


def _records(path: Path) -> Iterator[Any]:
    """The elements of a JSON list, one at a time: the whole catalogue has gigabytes.

    Raises:
        BenchError: the file is no JSON list.
    """
    decoder, text, started, whole = json.JSONDecoder(), "", False, False
    try:
        with path.open(encoding="utf-8") as file:
            while True:
                text = text.lstrip(" \t\r\n," if started else " \t\r\n")
                if not started and text:
                    if text[0] != "[":
                        raise BenchError(f"{path} is no JSON list of products")
                    started, text = True, text[1:]
                    continue
                if started and text.startswith("]"):
                    return
                try:
                    if not text:
                        raise ValueError("the list does not end")
                    record, end = decoder.raw_decode(text)
                    if end == len(text) and not whole:
                        raise ValueError("cut")
                except ValueError as error:
                    more = file.read(CHUNK)
                    whole = not more
                    if whole:
                        raise BenchError(f"{path} is not whole or no JSON ({error}); get it again") from error
                    text += more
                    continue
                yield record
                text = text[end:]
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path} cannot be read: {error}") from error


def _by_product(folder: Path, path: Path, bad: Report) -> dict[str, Any]:
    """A JSON object by product id; empty where there is no such file."""
    if not path.exists():
        bad(path.name, f"is not in {folder}; there are no instructions and attributes from it")
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise BenchError(f"{path} is no JSON object by product id")
    return found


def _said(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _text(record: Mapping[str, Any], name: str, marked: list[str]) -> str:
    """A text field; tags are taken out, and its name is added to `marked`."""
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(f"{name!r} is {type(value).__name__}, not text")
    return _plain(value, name, marked)


def _plain(text: str, name: str, marked: list[str]) -> str:
    if "<" not in text or not _TAG.search(text):
        return text
    if name not in marked:
        marked.append(name)
    return " ".join(unescape(_TAG.sub(" ", text)).split())


def _product(record: Any, known: Any) -> tuple[Product, list[str]]:
    """A product from its record and its entry among the attributes, and the fields that held HTML.

    Raises:
        TypeError, ValueError, KeyError: saying what is wrong.
    """
    if not isinstance(record, dict):
        raise TypeError(f"{type(record).__name__} is no product")
    marked: list[str] = []
    asin = _text(record, "asin", marked)
    if not asin.isalnum():
        raise ValueError(f"the id {asin!r} is not made of letters and digits")
    title = _text(record, "name", marked)
    bullets = record["small_description"]
    bullets = bullets if isinstance(bullets, list) else [bullets]
    if not all(isinstance(bullet, str) for bullet in bullets):
        raise TypeError("'small_description' is not text or a list of texts")
    tag, (low, high) = _pricing(record.get("pricing"))
    attributes = known.get("attributes", []) if isinstance(known, dict) else []
    if not isinstance(attributes, list) or not all(isinstance(name, str) for name in attributes):
        raise TypeError("its attributes are not a list of texts")
    product = Product(
        asin=asin,
        title=title,
        description=_text(record, "full_description", marked),
        bullets=tuple(_plain(bullet, "small_description", marked) for bullet in bullets),
        rating="N.A.",
        reviews=(),
        price_tag=tag,
        price=low + (high - low) * _fixed_draw(asin, 0),
        query=_text(record, "query", marked).lower().strip(),
        categories=tuple(part.strip() for part in _text(record, "product_category", marked).split("›")),
        nouns=nouns(title),
        attributes=tuple(attributes) if isinstance(known, dict) and "attributes" in known else (NO_ATTRIBUTE,),
        options=_options(record.get("customization_options"), marked),
    )
    return product, marked


def _pricing(value: Any) -> tuple[str, tuple[float, float]]:
    """The price tag as the original writes it, and the range it names."""
    if value is None or value == "":
        return f"${USUAL_PRICE}", (USUAL_PRICE, USUAL_PRICE)
    if not isinstance(value, str):
        raise TypeError(f"'pricing' is {type(value).__name__}, not text")
    amounts = [re.sub(r"[^\d.]", "", part) for part in value.split("$")[1:]]
    try:
        found = [float(amount) for amount in amounts][:2]
    except ValueError:
        raise ValueError(f"'pricing' {value[:40]!r} is no price") from None
    if not found:
        raise ValueError(f"'pricing' {value[:40]!r} is no price")
    return " to ".join(f"${amount}" for amount in found), (found[0], found[-1])


def _options(value: Any, marked: list[str]) -> dict[str, tuple[str, ...]]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"'customization_options' is {type(value).__name__}, not an object")
    found: dict[str, tuple[str, ...]] = {}
    for name, entries in value.items():
        if entries is None:
            continue
        if not isinstance(entries, list) or not all(isinstance(e, dict) and isinstance(e.get("value"), str) for e in entries):
            raise TypeError(f"the option {name!r} is not a list of values")
        values = (_plain(entry["value"], "customization_options", marked) for entry in entries)
        found[name.lower()] = tuple(text.strip().replace("/", " | ").lower() for text in values)
    return found


def _human(entries: Any, asin: str, bad: Report) -> Iterator[dict[str, Any]]:
    """The instructions that people wrote for a product."""
    if not isinstance(entries, list):
        bad(f"items_human_ins.json, {asin}", "is no list of instructions")
        return
    for entry in entries:
        names = ("instruction_attributes", "instruction_options")
        if not isinstance(entry, dict) or not isinstance(entry.get("instruction"), str):
            bad(f"items_human_ins.json, {asin}", "an instruction lacks its text")
        elif not all(isinstance(entry.get(name), list) and all(isinstance(e, str) for e in entry[name]) for name in names):
            bad(f"items_human_ins.json, {asin}", "'instruction_attributes' or 'instruction_options' is no list of texts")
        else:
            said, attributes, options = (entry[name] for name in ("instruction", *names))
            yield {"instruction": said, "attributes": attributes, "options": options}


def _synthetic(known: Any) -> dict[str, Any]:
    """The synthetic instruction of a product, or nothing."""
    if not isinstance(known, dict) or not isinstance(known.get("instruction"), str):
        return {}
    attributes = known.get("instruction_attributes")
    return {"instruction": known["instruction"], "attributes": attributes} if isinstance(attributes, list) else {}


def _combinations(product: Product) -> int:
    count = 1
    for values in product.options.values():
        count *= len(values)
    return count


def _human_goals(product: Product, entries: list[dict[str, Any]]) -> Iterator[Goal]:
    for number, entry in enumerate(entries):
        if entry["attributes"]:
            said = entry["instruction"].strip(".")
            yield _goal(product, said, entry["attributes"], tuple(entry["options"]), number)


def _synthetic_goals(product: Product, entry: dict[str, Any]) -> Iterator[Goal]:
    """One for every combination of the product's options, as in the original; all with one price limit."""
    if entry:
        names = sorted(product.options)
        for values in itertools.product(*(product.options[name] for name in names)):
            chosen = ", and ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
            said = entry["instruction"] + (f" with {chosen}" if chosen else "")
            yield _goal(product, said, entry["attributes"], values, 0)


def _goal(product: Product, said: str, attributes: list[str], options: tuple[str, ...], number: int) -> Goal:
    limit = price_limit(product.price, *(_fixed_draw(product.asin, 2 * number + k) for k in (1, 2)))
    return Goal(
        asin=product.asin,
        instruction=said + limit_text(limit),
        query=product.query,
        categories=product.categories,
        nouns=product.nouns,
        attributes=tuple(attributes),
        options=options,
        price_limit=limit,
    )


def _fixed_draw(asin: str, number: int) -> float:
    """A number in [0, 1) that is a function of its arguments."""
    return int.from_bytes(hashlib.sha256(f"{asin} {number}".encode()).digest()[:7], "big") / 2**56
