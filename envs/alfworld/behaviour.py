"""Who plays ALFWorld: an expert that needs no planner, the same with errors, which collects the data, and random play."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from envs.alfworld.engine import wheel
from envs.alfworld.env import Facts, check_options
from envs.alfworld.games import LAMPS, TREATMENTS
from qsft_bench.agent import Agent
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.noise import uniform

VERBS = {"Clean": "clean", "Heat": "heat", "Cool": "cool"}

ERRORS: dict[str, float] = {"take": 0.22, "second": 0.22, "place": 0.22, "use": 0.6, "clean": 0.65, "heat": 0.6, "cool": 0.7}
"""Step of a task -> how probable it is that the data's player gets it wrong, for the whole episode."""


@dataclass(frozen=True)
class Intention:
    """What a player means to do.

    Attributes:
        target, parent, lamp: kinds, as in `Facts`; no lamp means to stand about with the object.
        count: how many objects to place.
        treatment: `clean`, `heat`, `cool` or empty.
    """

    target: str
    parent: str
    lamp: str
    count: int
    treatment: str


class Player(Agent):
    """Chooses among the admissible commands, knowing what the simulator knows.

    Args:
        options: the environment's, which are looked at by nobody here but checked.
    """

    privileged = True

    def __init__(self, **options: Any) -> None:
        check_options(**options)

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return [self.choose(episode.seed, episode.length, _known(episode)) for episode in episodes]

    @abstractmethod
    def choose(self, seed: int, turn: int, facts: Facts) -> str:
        """The command at `turn` of the episode with `seed`."""


class Uniform(Player):
    """Every admissible command alike."""

    def choose(self, seed: int, turn: int, facts: Facts) -> str:
        return any_command(facts, float(uniform(seed, turn)))


class Expert(Player):
    """Goes to what the task needs, the first by name, opens, takes, treats and brings it: the ceiling, without a planner."""

    def choose(self, seed: int, turn: int, facts: Facts) -> str:
        return next_command(intended(facts), facts) or "look"


class Erring(Player):
    """The data: the expert with errors.

    An error is drawn once an episode for each step of the task and lasts: the player takes an object of another kind, brings
    it to a receptacle of another kind, leaves out the second object, forgets to clean, heat, cool or to switch on the lamp.
    Where it believes that it is done and the game is not won, it does anything. Besides, it does anything with probability
    `slip` at every turn.

    With probability `habit`, also drawn once an episode, the player stops where it would take the first object and looks about
    until the end. Those who have seen one `look` there see only more; with more than half it is what the data do most often, so
    that a sharper copy of them does it more often.

    Args:
        errors: what the probabilities of `ERRORS` are multiplied with.
        slip: see above.
        habit: see above.
        options: the environment's.

    Raises:
        BenchError: `slip` and `habit` are not probabilities, or `errors` makes one that is none.
    """

    _SLIP, _WHICH = range(2)  # what the draws of a turn are for
    _STEPS = 2  # from here on, at turn 0: what those of an episode are for

    def __init__(self, *, errors: float = 1.0, slip: float = 0.0, habit: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if errors < 0 or errors * max(ERRORS.values()) > 1 or not (0 <= slip <= 1 and 0 <= habit <= 1):
            raise BenchError(f"alfworld: slip={slip}, habit={habit} and {ERRORS} times errors={errors} must be probabilities")
        self.slip = slip
        self.steps = {step: errors * share for step, share in ERRORS.items()} | {"habit": habit}

    def choose(self, seed: int, turn: int, facts: Facts) -> str:
        slip, which = uniform(seed, turn, range(self._STEPS)).tolist()
        wrong = self.wrong(seed)
        if slip < self.slip:
            return any_command(facts, which)
        command = next_command(mistaken(intended(facts), facts, wrong), facts)
        if command is None:
            return any_command(facts, which)
        return "look" if "habit" in wrong and command.startswith("take ") else command

    def wrong(self, seed: int) -> Mapping[str, float]:
        """The steps that the episode with `seed` gets wrong, each with a draw from [0, 1) of how; and `habit`, if it has it."""
        draws = uniform(seed, 0, range(self._STEPS, self._STEPS + 2 * len(self.steps))).tolist()
        draw_and_how = zip(draws[::2], draws[1::2], strict=True)
        return {step: how for (step, share), (draw, how) in zip(self.steps.items(), draw_and_how, strict=True) if draw < share}


def intended(facts: Facts) -> Intention:
    """What the task asks for."""
    count = 2 if facts.column == "Pick2" else 1
    return Intention(facts.target, facts.parent, facts.lamp, count, VERBS.get(facts.column, ""))


def mistaken(intention: Intention, facts: Facts, wrong: Mapping[str, float]) -> Intention:
    """`intention` with the steps of `wrong` gone wrong; see `Erring`."""
    if "take" in wrong:
        kinds = {facts.kinds[each] for each in facts.inside} - {facts.target, *(lamp.lower() for lamp in LAMPS)}
        others = sorted(kind for kind in kinds if not facts.parent or may_hold(facts.parent, kind))
        intention = replace(intention, target=_pick(others, wrong["take"]) or facts.target)
    if "place" in wrong and intention.parent:
        kinds = {facts.kinds[each] for each in facts.receptacles} - {facts.parent}
        others = sorted(kind for kind in kinds if may_hold(kind, intention.target))
        intention = replace(intention, parent=_pick(others, wrong["place"]) or facts.parent)
    if "second" in wrong and intention.count == 2:
        intention = replace(intention, count=1)
    if "use" in wrong:
        intention = replace(intention, lamp="")
    if intention.treatment in wrong:
        intention = replace(intention, treatment="")
    return intention


def next_command(intention: Intention, facts: Facts) -> str | None:
    """The next command towards `intention`, or None where nothing is left to do or it cannot be done."""
    if intention.parent:
        goals = {each for each in facts.receptacles if facts.kinds[each] == intention.parent}
        placed: dict[str, list[str]] = {goal: [] for goal in goals}
        for thing, place in facts.inside.items():
            if place in goals and facts.kinds[thing] == intention.target and _treated(thing, intention, facts):
                placed[place].append(thing)
        # One receptacle for all of them: the one that has most, else the first by name.
        goal = max(sorted(goals), key=lambda each: len(placed[each]), default="")
        if not goal or len(placed[goal]) >= intention.count:
            return None
        ready = placed[goal]
    else:
        goal, ready = "", []
    if not facts.held:
        fit = [each for each in facts.inside if facts.kinds[each] == intention.target and each not in ready]
        thing = min(fit, key=lambda each: (not _treated(each, intention, facts), each), default="")
        return _reach(facts.inside[thing], f"take {thing} from {facts.inside[thing]}", facts) if thing else None
    if facts.kinds[facts.held] != intention.target:
        return _put_away(facts)
    if not _treated(facts.held, intention, facts):
        by = next((by.lower() for column, (_, by) in TREATMENTS.items() if VERBS[column] == intention.treatment), "")
        place = next((each for each in facts.receptacles if facts.kinds[each] == by), "")
        return _reach(place, f"{intention.treatment} {facts.held} with {place}", facts) if place else None
    if goal:
        return _reach(goal, f"move {facts.held} to {goal}", facts)
    lamps = sorted(each for each in facts.inside if intention.lamp and facts.kinds[each] == intention.lamp)
    return _reach(facts.inside[lamps[0]], f"use {lamps[0]}", facts) if lamps else None


def any_command(facts: Facts, draw: float) -> str:
    """A command that does something, by a draw from [0, 1)."""
    return facts.admissible[int(draw * len(facts.admissible))]


def _reach(place: str, command: str, facts: Facts) -> str | None:
    """`command`, or what has to be done first at `place`."""
    steps = (command, f"open {place}", f"go to {place}")
    return next((step for step in steps if step in facts.admissible), None)


def _put_away(facts: Facts) -> str | None:
    """Free the hand: here if it can be, else at the first place that takes what is held."""
    fit = [each for each in facts.receptacles if may_hold(facts.kinds[each], facts.kinds[facts.held])]
    place = min(fit, key=lambda each: (each not in facts.here, each), default=None)
    return _reach(place, f"move {facts.held} to {place}", facts) if place else None


def _treated(thing: str, intention: Intention, facts: Facts) -> bool:
    done = {"clean": facts.clean, "heat": facts.hot, "cool": facts.cool}.get(intention.treatment)
    return done is None or thing in done


@lru_cache(maxsize=4096)
def may_hold(receptacle: str, kind: str) -> bool:
    """Whether the wheel's affordances let a receptacle of one kind hold an object of another, both in lower case."""
    allowed = wheel().constants.VAL_RECEPTACLE_OBJECTS
    return any(kind == each.lower() for to, those in allowed.items() if to.lower() == receptacle for each in those)


def _pick(those: Sequence[str], draw: float) -> str:
    return those[int(draw * len(those))] if those else ""


def _known(episode: Episode) -> Facts:
    facts = episode.turns[-1].facts
    if not isinstance(facts, Facts):
        raise BenchError("alfworld: its players must know the state; make their environment with privileged=True")
    return facts
