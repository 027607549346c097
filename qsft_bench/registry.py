"""Names to classes, without importing anything until it is asked for.

Agents are the modules of the `baselines` package (one file an agent, named after it) and environments the folders of
`envs`; other distributions add theirs through the entry-point groups `qsft_bench.agents` (`name = "module:Class"`) and
`qsft_bench.envs` (`name = "module:SPEC"`).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from qsft_bench.agent import Agent
from qsft_bench.errors import BenchError, did_you_mean
from qsft_bench.spec import EnvSpec

if TYPE_CHECKING:
    import gymnasium


def agent_names() -> list[str]:
    """Every agent's name, sorted; nothing is imported."""
    return sorted(_targets("baselines", "qsft_bench.agents"))


def env_names() -> list[str]:
    """Every environment's short name, sorted; nothing is imported."""
    return sorted(_targets("envs", "qsft_bench.envs"))


def agent_class(name: str) -> type[Agent]:
    """The class of the agent called `name`, or of `agent` where the name is `agent@variant`.

    Raises:
        BenchError: unknown (the nearest names are given), not importable, or not an `Agent`.
    """
    name = name.partition("@")[0]
    found = _load("agent", name, _targets("baselines", "qsft_bench.agents"))
    if inspect.ismodule(found):
        classes = [value for value in vars(found).values() if _is_own_agent(value, found.__name__)]
        if len(classes) != 1:
            raise BenchError(f"{found.__name__} must define exactly one Agent, it defines {len(classes)}")
        found = classes[0]
    if not (inspect.isclass(found) and issubclass(found, Agent)):
        raise BenchError(f"agent {name!r} is {found!r}, which is not a subclass of qsft_bench.agent.Agent")
    return found


def env_spec(name: str) -> EnvSpec:
    """The declaration of the environment called `name`, or known by it as an alias.

    Raises:
        BenchError: unknown (the nearest names are given), not importable, or not an `EnvSpec`.
    """
    targets = _targets("envs", "qsft_bench.envs")
    if name not in targets:
        name = next((other for other in targets if name in _aliases(targets[other])), name)
    found = _declaration(_load("environment", name, targets))
    if not isinstance(found, EnvSpec):
        raise BenchError(f"environment {name!r} is {found!r}, which is not a qsft_bench.spec.EnvSpec")
    return found


def make_env(spec: EnvSpec, **options: Any) -> gymnasium.Env:
    """A fresh environment without Gymnasium's wrappers (horizon and checks are the environment's own).

    Raises:
        BenchError: a package it needs is missing, or it does not know an option.
    """
    import gymnasium

    try:
        return gymnasium.make(spec.id, disable_env_checker=True, **options).unwrapped
    except ImportError as error:
        raise BenchError(f"{spec.name} cannot start: {error}; `qsft-bench doctor` says how to install it") from error
    except TypeError as error:
        raise BenchError(f"{spec.name} does not take these options: {error}") from error


def env_defaults(spec: EnvSpec) -> dict[str, Any]:
    """The environment's own keyword arguments and their defaults.

    Raises:
        BenchError: a package it needs is missing.
    """
    import gymnasium

    try:
        made = gymnasium.envs.registration.load_env_creator(str(gymnasium.spec(spec.id).entry_point))
    except ImportError as error:
        raise BenchError(f"{spec.name} cannot start: {error}; `qsft-bench doctor` says how to install it") from error
    parameters = inspect.signature(made).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not each.empty}


def attribute(target: str) -> Any:
    """What `module:attribute` names."""
    module, _, name = target.partition(":")
    value = importlib.import_module(module)
    return getattr(value, name) if name else value


def _declaration(found: Any) -> Any:
    return getattr(found, "SPEC", None) if inspect.ismodule(found) else found


def _aliases(target: str) -> tuple[str, ...]:
    try:
        found = _declaration(attribute(target))
    except (ImportError, AttributeError):  # asking for it by its own name says so
        return ()
    return found.aliases if isinstance(found, EnvSpec) else ()


def _is_own_agent(value: object, module: str) -> bool:
    if not (inspect.isclass(value) and issubclass(value, Agent)) or inspect.isabstract(value):
        return False
    return value.__module__ == module and not value.__name__.startswith("_")


def _targets(package: str, group: str) -> dict[str, str]:
    """name -> `module` or `module:attribute`, from the package's own modules and from entry points."""
    targets: dict[str, str] = {}
    found = importlib.util.find_spec(package)
    if found is not None and found.submodule_search_locations is not None:
        for module in pkgutil.iter_modules(found.submodule_search_locations):
            if not module.name.startswith("_"):
                targets[module.name] = f"{package}.{module.name}"
    for entry in entry_points(group=group):
        if entry.name in targets and targets[entry.name] != entry.value:
            raise BenchError(f"two packages register {entry.name!r} in {group}: {targets[entry.name]} and {entry.value}")
        targets[entry.name] = entry.value
    return targets


def _load(kind: str, name: str, targets: dict[str, str]) -> Any:
    if name not in targets:
        raise BenchError(f"unknown {kind} {name!r}{did_you_mean(name, sorted(targets))}")
    try:
        return attribute(targets[name])
    except ImportError as error:
        raise BenchError(
            f"{kind} {name!r} cannot be imported from {targets[name]}: {error}; see `qsft-bench doctor`"
        ) from error
    except AttributeError:
        raise BenchError(f"{kind} {name!r}: {targets[name]} does not exist in that module") from None
