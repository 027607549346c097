"""Imports run one way, and the harness knows no environment and no algorithm by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
# From the top down; a module imports from its own floor or a lower one. (What only a type checker imports does not count.)
FLOORS = [
    {"cli"},
    {"check"},
    {"reproduce", "report", "progress", "play", "watch", "doctor", "plan", "points", "calibrate"},
    {"pipeline", "figures", "tables"},
    {"curves"},
    {"evaluate", "token_agent", "stats"},
    {"train", "dataset", "model", "sharding"},
    {"tokens", "rollout", "preset", "registry", "workers", "muon", "ranks"},
    {"agent"},
    {"spec", "episode", "control", "noise", "files", "errors", "llm", "weights", "chat", "codec"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FOR_ENVS = {"agent", "control", "episode", "errors", "files", "llm", "noise", "registry", "spec"}


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, wherever in the file, but for `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def files(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def own(module: str) -> str:
    """`tokens` for `qsft_bench.tokens`, `dataset` for `qsft_bench.dataset.store`."""
    return module.split(".")[1]


@pytest.mark.parametrize("path", files("qsft_bench"), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_harness_imports_downwards_and_nobody_by_name(path: Path) -> None:
    here = path.relative_to(REPOSITORY / "qsft_bench").parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for module in imported(path):
        assert module.split(".")[0] not in ("envs", "baselines", "tests", "benchmarks")
        if module.startswith("qsft_bench."):
            assert FLOOR[own(module)] >= FLOOR[here], f"{here} imports {module}, which stands above it"


@pytest.mark.parametrize("path", files("envs"), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_environments_know_only_the_contracts(path: Path) -> None:
    for module in imported(path):
        assert module.split(".")[0] != "baselines"
        assert not module.startswith("qsft_bench.") or own(module) in FOR_ENVS


@pytest.mark.parametrize("path", files("baselines"), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_algorithms_stand_on_the_token_agent(path: Path) -> None:
    for module in imported(path):
        assert module.split(".")[0] != "envs"
        assert not module.startswith("qsft_bench.") or FLOOR[own(module)] >= FLOOR["token_agent"]
