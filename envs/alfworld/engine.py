"""The real engine, made fast from the outside: TextWorld's grammar and Fast Downward's simulator under a driver of our own.

What happens is decided by Fast Downward's library, what is said by the domain and the grammar that the alfworld wheel ships,
read by TextWorld's parsers. TextWorld's own driver (`textworld.envs.PddlEnv`) parses the same expressions again and copies the
whole game for every word it says, and translates a game twice whenever it begins: 45 ms a step. This one parses an expression
once, copies nothing, translates a game once and reads a command's text once a game: under 1 ms. A test replays 30 games on both
and compares every text, command list and flag; other versions than those compared are refused. Nothing of TextWorld is patched.

Importing alfworld makes a folder in the user's home and changes the environment, and translating a game overwrites `sys.argv`:
both are undone here.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsft_bench.errors import BenchError

if TYPE_CHECKING:
    from types import CodeType

    from envs.alfworld.games import Game

VERSIONS = {"textworld": "1.7.0", "alfworld": "0.4.2"}  # those compared
INSTALL = "pip install alfworld==0.4.2 'textworld[pddl]==1.7.0'"
NOTHING = "Nothing happens."
KEPT = 1_500  # translated games in memory, all of training: translating takes .3 s, keeping 0.1 MB

Facts = Mapping[str, set[tuple[str, ...]]]
"""Predicate -> the arguments it is true of; `not_` before a predicate that an action has made false."""

Bound = dict[tuple[str, str], str]
"""(name, type) of a placeholder -> id of the entity it stands for."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a player is told after a command.

    Attributes:
        text: the engine's answer.
        admissible: every command that does something, sorted.
        won: whether the task is done.
    """

    text: str
    admissible: tuple[str, ...]
    won: bool


class Engine:
    """One simulator, for one game at a time; make it by `lease`, which uses them again, since a discarded one leaks 4 MB."""

    def __init__(self) -> None:
        self._library = _fast_downward().load_lib()
        self._grammar = grammar()

    def start(self, game: Game) -> Scene:
        """Begin `game`.

        Raises:
            BenchError: it is no game that Fast Downward can read.
        """
        self._translated = translate(game.problem)
        self._goal = game.goal
        self._library.load_sas(zlib.decompress(self._translated.sas))
        self._facts: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        for predicate, *arguments in self._translated.facts:
            self._facts[predicate].add(tuple(arguments))
        self._commands: dict[str, str] = {}  # operator -> command
        return self._scene(self._say("#intro#", {}))

    def step(self, command: str) -> Scene:
        """Do `command`, or nothing where it is not admissible."""
        operator = self._operators.get(command.strip())
        if operator is None:
            return self._scene(NOTHING)
        atoms = (_fast_downward().Atom * operator.nb_effect_atoms)()
        self._library.apply_operator(operator.id, atoms)
        for atom in atoms:
            sign, _, rest = atom.name.partition(" ")
            predicate, _, arguments = rest[:-1].partition("(")
            entities = tuple(filter(None, arguments.split(", ")))
            true, false = predicate, f"not_{predicate}"
            if sign == "NegatedAtom":
                true, false = false, true
            self._facts[false].discard(entities)
            self._facts[true].add(entities)
        action, bound = self._bind(operator.name)
        return self._scene(self._say(self._grammar.feedback[action], bound))

    def facts(self, predicates: Iterable[str]) -> Facts:
        """What `predicates` are true of now, with entities by the names that the texts use (`apple 1`)."""
        names = self._translated.names
        return {
            predicate: {tuple([names.get(entity, entity) for entity in arguments]) for arguments in self._facts[predicate]}
            for predicate in predicates
        }

    def _scene(self, text: str) -> Scene:
        operators = (_fast_downward().Operator * self._library.get_applicable_operators_count())()
        self._library.get_applicable_operators(operators)
        self._operators: dict[str, Any] = {}
        for operator in operators:
            name = operator.name
            command = self._commands.get(name)
            if command is None:  # what it names never changes, so its text is the same throughout the game
                action, bound = self._bind(name)
                command = self._commands[name] = self._say(self._grammar.template[action], bound)
            self._operators.setdefault(command, operator)
        return Scene(text, tuple(sorted(self._operators)), bool(self._library.check_goal()))

    def _bind(self, operator: str) -> tuple[str, Bound]:
        action, *entities = operator.split()
        return action, dict(zip(self._translated.parameters[action], entities, strict=False))

    def _say(self, start: str, bound: Bound) -> str:
        rules = {**self._grammar.rules, "task": self._grammar.task(self._goal)}
        return Speaker(rules, self._facts, self._translated.entities).say(symbols(start), bound)


class Speaker:
    """Derives texts from a context-sensitive grammar, as TextWorld does, without copying.

    Args:
        rules: symbol -> its productions.
        facts: what is true.
        entities: id -> what expressions may ask of it.
    """

    def __init__(self, rules: Mapping[str, Sequence[Any]], facts: Facts, entities: Mapping[str, Any]) -> None:
        self._rules = rules
        self._facts = facts
        self._entities = entities

    def say(self, parts: Sequence[Any], bound: Bound) -> str:
        """The text of symbols, one after the other; the first production that applies stands for a nonterminal."""
        text = _textgen()
        said = []
        for part in parts:
            if isinstance(part, text.NonterminalSymbol):
                rule = next(rule for rule in self._rules[part.symbol] if not rule.condition or self._any(rule.condition, bound))
                said.append(self.say(rule.rhs, bound))
            elif isinstance(part, text.EvalSymbol):
                entities = {name: self._entities[entity] for (name, _), entity in bound.items() if entity in self._entities}
                said.append(str(eval(_compiled(part.expression), {}, entities)))
            elif isinstance(part, text.ListSymbol):
                said.append(self._enumerate(self._each(part.symbol, bound)))
            elif isinstance(part, text.ConditionalSymbol):
                said.extend(self._each(part, bound))
            else:
                said.append(str(part.symbol))
        return "".join(said)

    def _each(self, part: Any, bound: Bound) -> list[str]:
        if not isinstance(part, _textgen().ConditionalSymbol):
            return [self.say([part], bound)]
        found = self._all(part.given, bound) if part.given else [bound]
        return [self.say([part.expression], each) for each in found]

    def _enumerate(self, items: list[str]) -> str:
        comma, last = (self.say(symbols(name), {}) for name in ("#list_separator#", "#list_last_separator#"))
        if not items:
            return self.say(symbols("#list_empty#"), {})
        return last.join(filter(None, (comma.join(items[:-1]), items[-1])))

    def _any(self, query: str, bound: Bound) -> bool:
        return next(iter(self._all(query, bound)), None) is not None

    def _all(self, query: str, bound: Bound) -> Iterator[Bound]:
        """Every way to bind the placeholders of a conjunction, different ones to different entities, in sorted order."""
        return self._match(conjunction(query), 0, bound)

    def _match(self, query: Conjunction, depth: int, bound: Bound) -> Iterator[Bound]:
        if depth == len(query):
            yield bound
            return
        predicate, placeholders = query[depth]
        if all(placeholder in bound for placeholder in placeholders):
            if tuple(bound[placeholder] for placeholder in placeholders) in self._facts.get(predicate, ()):
                yield from self._match(query, depth + 1, bound)
            return
        for entities in sorted(self._facts.get(predicate, ())):
            longer = dict(bound)
            taken = set(bound.values())
            for placeholder, entity in zip(placeholders, entities, strict=True):
                known = longer.get(placeholder)
                if known is None and entity not in taken:
                    longer[placeholder] = entity
                    taken.add(entity)
                elif known != entity:
                    break
            else:
                yield from self._match(query, depth + 1, longer)


Conjunction = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""(predicate, placeholders as (name, type)) of each of its terms."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the wheel's grammar says.

    Attributes:
        rules: symbol -> its productions, but for `task`.
        template: action, in lower case -> how it is commanded, as symbols.
        feedback: action -> the symbol of its answer.
    """

    rules: Mapping[str, Sequence[Any]]
    template: Mapping[str, str]
    feedback: Mapping[str, str]

    @staticmethod
    def task(goal: str) -> list[Any]:
        """The production that names the task; whatever the goal holds is said as it is."""
        text = _textgen()
        return [text.ProductionRule("task", [text.TerminalSymbol(f"Your task is to: {goal}.")])]


@dataclass(frozen=True, slots=True)
class Translated:
    """A game as the simulator reads it.

    Attributes:
        sas: its finite-domain representation, compressed.
        facts: what is true at first, (predicate, argument, ...).
        names: id of an entity -> the name that texts use.
        entities: id -> what the grammar's expressions may ask of it.
        parameters: action -> its placeholders, (name, type).
    """

    sas: bytes
    facts: tuple[tuple[str, ...], ...]
    names: Mapping[str, str]
    entities: Mapping[str, Any]
    parameters: Mapping[str, tuple[tuple[str, str], ...]]


@lru_cache(maxsize=KEPT)
def translate(problem: str) -> Translated:
    """A problem of the wheel's domain, translated; takes a second for the largest rooms.

    Raises:
        BenchError: Fast Downward cannot read it.
    """
    pddl2sas = _fast_downward().pddl2sas
    with _untouched_arguments():
        try:
            task, sas = pddl2sas(domain(), problem)
        except (Exception, SystemExit) as error:  # its parser raises whatever comes
            raise BenchError(f"alfworld: this game's PDDL cannot be read: {type(error).__name__}: {error}") from error
    # Assignments (of costs) are no facts; nothing that is said asks which type may hold which.
    atoms = [atom for atom in task.init if hasattr(atom, "predicate") and atom.predicate != "="]
    facts = tuple(tuple(map(sys.intern, (atom.predicate, *atom.args))) for atom in atoms if atom.predicate != "cancontain")
    entities = _entities({argument for atom in atoms for argument in atom.args})
    parameters = {
        action.name: tuple((parameter.name.strip("?"), parameter.type_name) for parameter in action.parameters)
        for action in task.actions
    }
    names = {entity: info.name for entity, info in entities.items()}
    return Translated(zlib.compress(sas.encode(), level=6), facts, names, entities, parameters)


def _entities(ids: set[str]) -> dict[str, Any]:
    from textworld.generator.game import EntityInfo

    infos = {each: EntityInfo(each, "") for each in sorted(ids)}
    naming = wheel().Demangler(game_infos=infos)
    for each, info in infos.items():
        info.name = naming.demangle_alfred_name(each)
        info.definite, info.indefinite = "the", "a"
    return infos


@lru_cache(maxsize=1)
def grammar() -> Grammar:
    """The wheel's grammar, parsed."""
    from textworld.envs.pddl.logic import GameLogic

    logic = GameLogic(domain(), (wheel().data / "alfred.twl2").read_text())
    return Grammar(
        rules={name: rules for name, rules in logic.grammar._rules.items() if name != "task"},
        template={name: action.template for name, action in logic.actions.items()},
        feedback={name: action.feedback_rule for name, action in logic.actions.items()},
    )


@lru_cache(maxsize=1)
def domain() -> str:
    """The wheel's PDDL domain."""
    return str((wheel().data / "alfred.pddl").read_text())


@lru_cache(maxsize=256)
def symbols(text: str) -> tuple[Any, ...]:
    """`text`, parsed as a sequence of the grammar's symbols."""
    return tuple(_textgen()._parse_and_convert(text, rule_name="symbols"))


@lru_cache(maxsize=256)
def conjunction(query: str) -> Conjunction:
    """A condition of the grammar, parsed."""
    from textworld.logic import Rule

    terms = Rule.parse_conjunctive_query(query).preconditions
    return tuple((term.name, tuple((each.name, each.type) for each in term.parameters)) for term in terms)


@lru_cache(maxsize=256)
def _compiled(expression: str) -> CodeType:
    return compile(expression, "<grammar>", "eval")


@dataclass(frozen=True, slots=True)
class Wheel:
    """What is used of the alfworld wheel.

    Attributes:
        data: folder of the domain and the grammar.
        layouts: folder of the rooms.
        constants: what may lie where and what may be done to it.
        goals: task type -> `pddl` and `templates` of its goal.
        Demangler: names entities.
    """

    data: Path
    layouts: Path
    constants: Any
    goals: Mapping[str, Mapping[str, Any]]
    Demangler: Any


@lru_cache(maxsize=1)
def wheel() -> Wheel:
    """The alfworld wheel, imported with nothing made in the user's home and the environment as before.

    Raises:
        BenchError: alfworld or TextWorld is not installed, or in another version than was compared.
    """
    for package, wanted in VERSIONS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            raise BenchError(f"alfworld: {package} is not installed; {INSTALL}") from None
        if found != wanted:
            raise BenchError(f"alfworld: {package} {found} was never compared with this engine, {wanted} was; {INSTALL}")
    with _no_folder_made():
        import alfworld.gen.constants as constants
        import alfworld.gen.goal_library as goals
        from alfworld.agents.utils.misc import Demangler
    folder = Path(constants.__file__).parent
    return Wheel(folder.parent / "data", folder / "layouts", constants, goals.gdict, Demangler)


@contextmanager
def _no_folder_made() -> Iterator[None]:
    """alfworld makes the folder that ALFWORLD_DATA names, else one in the home, and sets the variable: name one that exists."""
    before = os.environ.get("ALFWORLD_DATA")
    os.environ["ALFWORLD_DATA"] = tempfile.gettempdir()
    try:
        yield
    finally:
        del os.environ["ALFWORLD_DATA"]
        if before is not None:
            os.environ["ALFWORLD_DATA"] = before


@contextmanager
def _untouched_arguments() -> Iterator[None]:
    arguments = sys.argv
    try:
        yield
    finally:
        sys.argv = arguments


@lru_cache(maxsize=1)
def _fast_downward() -> Any:
    wheel()
    with _untouched_arguments():
        try:
            import fast_downward
        except ImportError as error:
            raise BenchError(f"alfworld: {error}; {INSTALL}") from error
    return fast_downward


@lru_cache(maxsize=1)
def _textgen() -> Any:
    wheel()
    with _untouched_arguments():
        from textworld.envs.pddl import textgen
    return textgen


def check_installed() -> None:
    """Refuse to begin where no game could be played.

    Raises:
        BenchError: alfworld or TextWorld's planner is not installed, or in another version than was compared.
    """
    _fast_downward()


_idle: list[Engine] = []
_owner = 0


def lease() -> Engine:
    """An engine that nobody uses; give it back by `give_back`. A process has as many as it plays games at once."""
    global _owner
    if _owner != os.getpid():  # a fork's engines are its parent's
        _idle.clear()
        _owner = os.getpid()
    return _idle.pop() if _idle else Engine()


def give_back(engine: Engine) -> None:
    """The game is over, or no longer played."""
    _idle.append(engine)
