"""Who plays ALFWorld: an expert that knows where everything is, the player that collects the data, and random play."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.alfworld.env import Facts, check_options
from envs.alfworld.formats import ActionFormat, write_action
from envs.alfworld.notes import Aim, Notes, in_order, kind, may_hold, take_notes
from envs.alfworld.seen import Seen
from qsft_bench.agent import Agent, tempered
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError
from qsft_bench.noise import logarithms, uniform

ERRORS: dict[str, float] = {"take": 0.15, "second": 0.3, "place": 0.4, "use": 0.65, "clean": 0.75, "heat": 0.75, "cool": 0.8}
"""Step of a task -> how probable it is that the data's player gets it wrong, each time it comes to it."""

STOP = 0.9  # probability of taking the task for done where something was put down and the game is not won
LINGER = 0.99  # of going on to look about
NOTICE = 0.5  # of putting a wrong object back rather than bringing it


class Player(Agent):
    """A known distribution over the admissible commands; acts by inverse transform of one draw of the episode's noise.

    Args:
        action: how commands are written.
        options: the environment's others, which are looked at by nobody here but checked.
    """

    privileged = True

    def __init__(self, action: ActionFormat = "engine", **options: Any) -> None:
        check_options(action=action, **options)
        self.action = action
        self._weighed: list[tuple[Facts, NDArray[np.float64]]] = []  # by the latest `act`, which `log_likelihood` follows

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        actions: list[Action] = []
        self._weighed = [(facts, self._shares(facts)) for facts in map(_known, episodes)]
        for episode, (facts, shares) in zip(episodes, self._weighed, strict=True):
            cumulative = shares.cumsum()
            draw = float(uniform(episode.seed, episode.length)) * cumulative[-1]
            chosen = facts.admissible[int(np.searchsorted(cumulative, draw, side="right"))]
            actions.append(write_action(chosen, self.action) + "\n")
        return actions

    def log_likelihood(self, episodes: Sequence[Episode], actions: Sequence[Action]) -> NDArray[np.float64]:
        """Exact log-probability (nats) of `actions`, shape (episodes,); -inf for what `act` never writes."""
        found = []
        weighed = {id(facts): shares for facts, shares in self._weighed}
        for facts, action in zip(map(_known, episodes), actions, strict=True):
            shares = weighed[id(facts)] if id(facts) in weighed else self._shares(facts)
            written = [write_action(command, self.action) + "\n" for command in facts.admissible]
            found.append(shares[[text == action for text in written]].sum())
        return logarithms(found)

    def _shares(self, facts: Facts) -> NDArray[np.float64]:
        """Probability of every admissible command."""
        weights = self.weights(facts)
        return np.array([weights.get(command, 0.0) for command in facts.admissible])

    @abstractmethod
    def weights(self, facts: Facts) -> Mapping[str, float]:
        """Admissible commands and their probabilities, which add up to 1."""


class Uniform(Player):
    """Every admissible command alike."""

    def weights(self, facts: Facts) -> Mapping[str, float]:
        return dict.fromkeys(facts.admissible, 1 / len(facts.admissible))


class Expert(Player):
    """Goes to what the task needs, the first by name, opens, takes, treats and brings it: the ceiling, without a planner.

    It knows where everything is, so no player that has read the texts alone can be expected to do as well.
    """

    def weights(self, facts: Facts) -> Mapping[str, float]:
        return {next_command(facts) or "look": 1.0}


class Erring(Player):
    """The data: a player that has read the texts, and errs.

    It knows the receptacles that the opening names and what it saw in those it looked into. Until it has seen what it needs it
    looks into the next one where that may be, those that stand open first, then by name and number. Then it takes the object,
    treats it where the task says so, and brings it. Each time it comes to a step it may get it wrong (`ERRORS`):

    - `take`: it takes something else that lies there, and half of the time brings that;
    - `clean`, `heat`, `cool`: it brings the object as it is;
    - `place`: it brings it somewhere else, anywhere that may hold it;
    - `use`: before the lamp it puts the object down;
    - `second`: of two objects it is content with one.

    Where it has put something down and the game is not won, it mostly takes the task for done (`STOP`) and looks about, hardly
    ever to begin again (`LINGER`). All this follows from the texts, so the probability of every command is known exactly.

    Args:
        errors: what the probabilities of `ERRORS` are multiplied with.
        slip: probability of any admissible command, at every turn but while it looks about.
        habit: probability of looking about where it would take the object that it has found. Whoever looks about goes on to, so
            a sharper copy of a player that does so more often than not never takes anything.
        temperature: below 1 sharpens the exact behaviour; 0 is its mode, ties drawn uniformly.
        action, options: the environment's.

    Raises:
        BenchError: `slip` and `habit` are not probabilities, `errors` makes one that is none, or `temperature` is negative.
    """

    def __init__(
        self,
        action: ActionFormat = "engine",
        *,
        errors: float = 1.0,
        slip: float = 0.0,
        habit: float = 0.0,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(action, **options)
        if errors < 0 or errors * max(ERRORS.values()) > 1 or not (0 <= slip <= 1 and 0 <= habit <= 1):
            raise BenchError(f"alfworld: slip={slip}, habit={habit} and {ERRORS} times errors={errors} must be probabilities")
        if temperature < 0:
            raise BenchError(f"alfworld: temperature={temperature} must be >= 0")
        self.errors = {step: errors * share for step, share in ERRORS.items()}
        self.slip = slip
        self.habit = habit
        self.temperature = temperature

    def weights(self, facts: Facts) -> Mapping[str, float]:
        meant = self.meant(facts.aim, facts.seen, frozenset(facts.admissible))
        slip = 0.0 if facts.seen.last == "look" else self.slip
        found = _mixed((slip, _any(facts.admissible)), (1 - slip, meant))
        if self.temperature == 1:
            return found
        shares = tempered(np.array(list(found.values())), self.temperature)
        return dict(zip(found, shares.tolist(), strict=True))

    def meant(self, aim: Aim, seen: Seen, admissible: frozenset[str]) -> Mapping[str, float]:
        """The probability of each command, but for slips."""
        notes = take_notes(aim, seen)
        look = 0.0
        if seen.last == "look":
            look = LINGER
        elif seen.last == "put" and (kind(seen.here) == aim.parent or kind(seen.contents[seen.here][-1]) == aim.target):
            look = self.errors["second"] if notes.placed else STOP
        plans = _mixed((look, {"look": 1.0}), (1 - look, self._next(aim, seen, notes, admissible)))
        able = {command: share for command, share in plans.items() if command in admissible}
        rest = 1 - math.fsum(able.values())  # of what cannot be done here and now
        return _mixed((1.0, able), (rest, {"look": 1.0})) if rest > 1e-9 else able

    def _next(self, aim: Aim, seen: Seen, notes: Notes, admissible: frozenset[str]) -> dict[str, float]:
        if notes.hand == "empty":
            return self._find(aim, seen, notes, admissible)
        if notes.hand == "raw":
            if notes.spot == "treats" and seen.last != "take":
                return {f"{aim.treatment} {seen.held} with {seen.here}": 1.0}
            wrong = self.errors[aim.treatment]
            treat = f"{aim.treatment} {seen.held} with {seen.here}" if notes.spot == "treats" else f"go to {notes.treats}"
            return self._bring(aim, seen, notes, wrong, treat)
        if notes.hand == "other":
            back = f"move {seen.held} to {seen.here}"
            return self._bring(aim, seen, notes, 1 - NOTICE, back) if aim.parent else {back: 1.0}
        if aim.lamp:
            return self._light(seen, notes)
        others = [place for place in sorted(seen.places, key=in_order) if kind(place) != aim.parent]
        others = [place for place in others if may_hold(kind(place), aim.target)]
        if seen.last in ("go", "open") and (kind(seen.here) == aim.parent or seen.here in others):  # it came to leave it here
            return {_there(seen.here, f"move {seen.held} to {seen.here}", seen): 1.0}
        wrong = self.errors["place"] if others else 0.0
        right = _there(notes.goal, f"move {seen.held} to {notes.goal}", seen)
        astray = _any(_there(place, f"move {seen.held} to {place}", seen) for place in others)
        return _mixed((1 - wrong, {right: 1.0}), (wrong, astray))

    def _find(self, aim: Aim, seen: Seen, notes: Notes, admissible: frozenset[str]) -> dict[str, float]:
        """With an empty hand: take what is needed, or go where it is or may be."""
        if notes.spot == "sees":
            things = [each for each in seen.contents[seen.here] if kind(each) != aim.target]
            fit = [each for each in things if not aim.parent or may_hold(aim.parent, kind(each))]
            others = [command for each in fit if (command := f"take {each} from {seen.here}") in admissible]
            wrong = self.errors["take"] if others else 0.0
            right = {f"take {notes.sees} from {seen.here}": 1.0}
            took = _mixed((1 - wrong, right), (wrong, _any(others)))
            return _mixed((self.habit, {"look": 1.0}), (1 - self.habit, took))
        return {self._look_into(seen, notes): 1.0}

    def _light(self, seen: Seen, notes: Notes) -> dict[str, float]:
        """With the object to be examined in hand: find the lamp and use it."""
        if not notes.sees:
            return {self._look_into(seen, notes): 1.0}
        wrong = self.errors["use"]
        return {f"use {notes.sees}": 1 - wrong, f"move {seen.held} to {seen.here}": wrong}

    def _look_into(self, seen: Seen, notes: Notes) -> str:
        """The command that leads to what is needed: open what is closed, or go there."""
        place = notes.known or notes.unsearched
        return f"open {place}" if place == seen.here else f"go to {place}"

    def _bring(self, aim: Aim, seen: Seen, notes: Notes, wrong: float, right: str) -> dict[str, float]:
        """Bring what is not as it should be with probability `wrong`, else do what is `right`; once under way, bring it."""
        bring = _there(notes.goal, f"move {seen.held} to {notes.goal}", seen)
        if seen.last in ("go", "open") and kind(seen.here) == aim.parent:
            return {bring: 1.0}
        return _mixed((wrong, {bring: 1.0}), (1 - wrong, {right: 1.0}))


def next_command(facts: Facts) -> str | None:
    """The expert's next command, or None where nothing is left to do or it cannot be done."""
    aim = facts.aim
    if aim.parent:
        goals = {each for each in facts.receptacles if facts.kinds[each] == aim.parent}
        placed: dict[str, list[str]] = {goal: [] for goal in goals}
        for thing, place in facts.inside.items():
            if place in goals and facts.kinds[thing] == aim.target and _treated(thing, facts):
                placed[place].append(thing)
        # One receptacle for all of them: the one that has most, else the first by name.
        goal = max(sorted(goals), key=lambda each: len(placed[each]), default="")
        if not goal or len(placed[goal]) >= aim.count:
            return None
        ready = placed[goal]
    else:
        goal, ready = "", []
    if not facts.held:
        fit = [each for each in facts.inside if facts.kinds[each] == aim.target and each not in ready]
        thing = min(fit, key=lambda each: (not _treated(each, facts), each), default="")
        return _reach(facts.inside[thing], f"take {thing} from {facts.inside[thing]}", facts) if thing else None
    if facts.kinds[facts.held] != aim.target:
        return _put_away(facts)
    if not _treated(facts.held, facts):
        place = next((each for each in facts.receptacles if facts.kinds[each] == aim.by), "")
        return _reach(place, f"{aim.treatment} {facts.held} with {place}", facts) if place else None
    if goal:
        return _reach(goal, f"move {facts.held} to {goal}", facts)
    lamps = sorted(each for each in facts.inside if aim.lamp and facts.kinds[each] == aim.lamp)
    return _reach(facts.inside[lamps[0]], f"use {lamps[0]}", facts) if lamps else None


def _there(place: str, command: str, seen: Seen) -> str:
    """`command` where the player stands at `place` and it is open, else what has to be done first."""
    if place != seen.here:
        return f"go to {place}"
    return f"open {place}" if seen.opened.get(place) is False else command


def _any(commands: Iterable[str]) -> dict[str, float]:
    """Every one of `commands` alike."""
    each = list(commands)
    return dict.fromkeys(each, 1 / len(each)) if each else {}


def _mixed(*parts: tuple[float, Mapping[str, float]]) -> dict[str, float]:
    """The sum of distributions, each times its share."""
    total: dict[str, float] = {}
    for share, plans in parts:
        for command, each in plans.items():
            total[command] = total.get(command, 0.0) + share * each
    return total


def _reach(place: str, command: str, facts: Facts) -> str | None:
    """`command`, or what has to be done first at `place`."""
    steps = (command, f"open {place}", f"go to {place}")
    return next((step for step in steps if step in facts.admissible), None)


def _put_away(facts: Facts) -> str | None:
    """Free the hand: here if it can be, else at the first place that takes what is held."""
    fit = [each for each in facts.receptacles if may_hold(facts.kinds[each], facts.kinds[facts.held])]
    place = min(fit, key=lambda each: (each not in facts.here, each), default=None)
    return _reach(place, f"move {facts.held} to {place}", facts) if place else None


def _treated(thing: str, facts: Facts) -> bool:
    done = {"clean": facts.clean, "heat": facts.hot, "cool": facts.cool}.get(facts.aim.treatment)
    return done is None or thing in done


def _known(episode: Episode) -> Facts:
    facts = episode.turns[-1].facts
    if not isinstance(facts, Facts):
        raise BenchError("alfworld: its players must know the state; make their environment with privileged=True")
    return facts
