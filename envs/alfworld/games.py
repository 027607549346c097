"""The games: the official ones where `ALFWORLD_DATA` holds them, otherwise games generated from what the alfworld wheel ships.

A generated game is a pure function of its split and its number, the same text in any process. Its room is one of the wheel's
120: the receptacles of its layout, and those that the room's list of objects has and the layout lacks. Objects are of kinds in
that list, at places that the wheel's affordances allow. The task is one of six types, in turn, for an object and a place that
this room has, so that every game can be won; the target never lies where it is to go.

Rooms are split as the wheel does: 96 to train in and 24 never seen there. `splits.json` has what each split holds, by hash;
`python -m envs.alfworld.publish` writes it, after the expert has won every game.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, overload

from envs.alfworld.engine import wheel
from qsft_bench.errors import BenchError, did_you_mean

Split = Literal["train", "valid_seen", "valid_unseen"]
Source = Literal["auto", "official", "generated"]

COLUMNS = {
    "pick_and_place_simple": "Pick",
    "look_at_obj_in_light": "Examine",
    "pick_clean_then_place_in_recep": "Clean",
    "pick_heat_then_place_in_recep": "Heat",
    "pick_cool_then_place_in_recep": "Cool",
    "pick_two_obj_and_place": "Pick2",
}
"""Task type -> the paper's column."""

GENERATED: dict[Split, int] = {"train": 1_200, "valid_seen": 120, "valid_unseen": 120}
"""Games of each generated split; one in six is of each type."""

TREATMENTS = {"Clean": ("Cleanable", "SinkBasin"), "Heat": ("Heatable", "Microwave"), "Cool": ("Coolable", "Fridge")}
"""Column -> what must be possible with the object, and the receptacle that does it."""

KINDS = {0: "Kitchen", 2: "LivingRoom", 3: "Bedroom", 4: "Bathroom"}
LAMPS = ("DeskLamp", "FloorLamp")
LAMP_STANDS = ("Desk", "SideTable", "Dresser", "CoffeeTable", "DiningTable", "TVStand", "Shelf")
SAME_KIND = 3  # at most so many objects of a kind beside the task's own
BURNERS = 4
FOLDER = "json_2.1.1"  # of the official download
VARIABLE = "ALFWORLD_DATA"

Location = tuple[int, int, int, int]
"""Where the player stands and looks: x and z in quarters of a metre, quarter turns, degrees down."""


@dataclass(frozen=True)
class Game:
    """One game.

    Attributes:
        name: where it is from, e.g. `train/17`, or the path of an official game.
        column: the paper's column of its task type.
        goal: the task in words, as it is told.
        problem: the PDDL problem, for the wheel's domain.
        target, parent, lamp: kinds of the object, of the receptacle it is to go to and of the lamp, in lower case; empty where
            the task has none.
        room: number of the floor plan.
    """

    name: str
    column: str
    goal: str
    problem: str
    target: str
    parent: str
    lamp: str
    room: int


@lru_cache(maxsize=8)
def games(split: Split, source: Source = "auto") -> Sequence[Game]:
    """The games of `split`; with `auto` the official ones if `$ALFWORLD_DATA` has that split, else generated ones.

    Raises:
        BenchError: there is no such split or source, or no game; the message says where it looked.
    """
    for name, value, kind in (("split", split, Split), ("games", source, Source)):
        if value not in get_args(kind):
            raise BenchError(f"alfworld: {name}={value!r} does not exist{did_you_mean(str(value), get_args(kind))}")
    folder = official_folder(split)
    if source == "generated" or (source == "auto" and (folder is None or not folder.is_dir())):
        return Generated(split)
    if folder is None:
        raise BenchError(f"alfworld: official games are looked for in ${VARIABLE}, which is not set; try games='generated'")
    return Official(folder)


def official_folder(split: Split) -> Path | None:
    """Where the official games of `split` would be, or None without `ALFWORLD_DATA`."""
    root = os.environ.get(VARIABLE)
    return Path(root).expanduser() / FOLDER / split if root else None


def digest(those: Iterable[Game]) -> str:
    """SHA-256 of what the games say and hold."""
    total = hashlib.sha256()
    for game in those:
        total.update(f"{game.column}\n{game.goal}\n{game.problem}\n".encode())
    return total.hexdigest()


class Official(Sequence[Game]):
    """The official games under a folder, each with the wheel's own grammar and domain in place of the older ones it brings.

    A file that is damaged, of an unknown task type or unsolvable is left out.

    Attributes:
        paths: of the games.
        skipped: path -> why it was left out.

    Raises:
        BenchError: no game is left.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self.skipped: dict[Path, str] = {}
        for path in sorted(folder.rglob("game.tw-pddl")):
            try:
                read_official(path)
            except BenchError as error:
                self.skipped[path] = str(error)
            else:
                self.paths.append(path)
        if not self.paths:
            raise BenchError(f"alfworld: no game in {folder} ({self.summary()}); set ${VARIABLE} to where {FOLDER} is")

    def summary(self) -> str:
        """How many games there are, and how many were left out for which reason."""
        reasons = Counter(reason.partition(":")[0] for reason in self.skipped.values())
        left_out = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return f"{len(self.paths)} games" + (f", left out {len(self.skipped)}: {left_out}" if left_out else "")

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Game: ...
    @overload
    def __getitem__(self, index: slice) -> list[Game]: ...
    def __getitem__(self, index: int | slice) -> Game | list[Game]:
        if isinstance(index, slice):
            return [read_official(path) for path in self.paths[index]]
        return read_official(self.paths[index])


@lru_cache(maxsize=256)
def read_official(path: Path) -> Game:
    """The game in a `game.tw-pddl`, whose `traj_data.json` lies beside it.

    Raises:
        BenchError: why it cannot be played, the kind of reason before a colon.
    """
    data, told = _read_json(path), _read_json(path.with_name("traj_data.json"))
    problem, grammar, parameters = data.get("pddl_problem"), data.get("grammar"), told.get("pddl_params")
    if not (isinstance(problem, str) and isinstance(grammar, str) and isinstance(parameters, dict)):
        raise BenchError(f"lacking parts: {path} has no problem, no grammar or no parameters")
    if problem.count("(") != problem.count(")"):
        raise BenchError(f"cut off: the problem in {path} has parentheses that do not close")
    if data.get("solvable") is not True:
        raise BenchError(f"not known to be solvable: {path}")
    task = told.get("task_type")
    if task not in COLUMNS or parameters.get("object_sliced"):
        raise BenchError(f"of another task type: {path} is {task!r}{', sliced' if parameters.get('object_sliced') else ''}")
    goal = re.search(r'"Your task is to: ((?:[^"\\]|\\.)*)\."', grammar)
    if goal is None:
        raise BenchError(f"lacking parts: the grammar of {path} names no task")
    target, parent, lamp = (str(parameters.get(f"{part}_target", "")).lower() for part in ("object", "parent", "toggle"))
    number = told.get("scene", {}).get("scene_num", 0)
    return Game(str(path), COLUMNS[task], json.loads(f'"{goal[1]}"'), problem, target, parent, lamp, number)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"unreadable: {path}: {error.strerror}") from None
    except ValueError as error:
        raise BenchError(f"damaged: {path} is no whole JSON: {error}") from None
    if not isinstance(found, dict):
        raise BenchError(f"damaged: {path} is no JSON object")
    return found


class Generated(Sequence[Game]):
    """The generated games of a split; see the module."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return GENERATED[self.split]

    @overload
    def __getitem__(self, index: int) -> Game: ...
    @overload
    def __getitem__(self, index: slice) -> list[Game]: ...
    def __getitem__(self, index: int | slice) -> Game | list[Game]:
        numbers = range(len(self))
        if isinstance(index, slice):
            return [generate(self.split, number) for number in numbers[index]]
        return generate(self.split, numbers[index])


@dataclass(frozen=True)
class Room:
    """One of the 120 rooms.

    Attributes:
        number: of its floor plan.
        receptacles: id -> where the player stands at it, a place of its own for each: two at one could not both be gone to.
        start: where the player begins.
        objects: kinds of the objects that belong here, sorted, lamps not among them.
        lamps: kinds of the lamps.
    """

    number: int
    receptacles: Mapping[str, Location]
    start: Location
    objects: tuple[str, ...]
    lamps: tuple[str, ...]

    def holders(self, kind: str, but: str = "") -> list[str]:
        """The receptacles that may hold objects of `kind`, but for those of the kind `but`."""
        return [each for each in self.receptacles if may_hold(kind_of(each), kind) and kind_of(each) != but]

    def choices(self, column: str) -> dict[str, list[str]]:
        """Kind of the task's object -> kinds of receptacles (of the lamp, for Examine) it may be for."""
        constants = wheel().constants
        kinds = sorted({kind_of(each) for each in self.receptacles})
        able, by = TREATMENTS.get(column, (None, None))
        if KINDS[self.number // 100] not in constants.GOALS_VALID[task_type(column)] or (by and by not in kinds):
            return {}
        objects = [kind for kind in self.objects if able is None or kind in constants.VAL_ACTION_OBJECTS[able]]
        if column == "Examine":
            lasting = [kind for kind in objects if kind not in constants.MOVABLE_RECEPTACLES_SET]
            return {kind: list(self.lamps) for kind in lasting if self.lamps}
        found = {
            kind: [to for to in kinds if may_hold(to, kind) and to != by and self.holders(kind, but=to)] for kind in objects
        }
        return {kind: places for kind, places in found.items() if places}


@lru_cache(maxsize=1_500)
def generate(split: Split, number: int) -> Game:
    """Game `number` of `split`."""
    rng = random.Random(f"alfworld {split} {number}")
    column = list(COLUMNS.values())[number % len(COLUMNS)]
    able = rooms(split, column)
    chosen = room(able[number // len(COLUMNS) % len(able)])
    choices = chosen.choices(column)
    target = rng.choice(list(choices))
    aim = rng.choice(choices[target])
    parent, lamp = ("", aim) if column == "Examine" else (aim, "")
    things: dict[str, str] = {}  # object -> the receptacle it is in
    for _ in range((2 if column == "Pick2" else 1) + rng.randint(0, 2)):
        things[new_id(rng, target)] = rng.choice(chosen.holders(target, but=parent))
    for kind in chosen.lamps:
        stands = [each for each in chosen.receptacles if kind_of(each) in LAMP_STANDS] or list(chosen.receptacles)
        things[new_id(rng, kind)] = rng.choice(stands)
    others = [kind for kind in chosen.objects if kind != target]
    for kind in rng.choices(others, k=rng.randint(10, 22)):
        if sum(kind_of(each) == kind for each in things) < SAME_KIND:
            things[new_id(rng, kind)] = rng.choice(chosen.holders(kind))
    words = {"obj": target, "recep": parent, "toggle": lamp, "mrecep": ""}
    goals = wheel().goals[task_type(column)]
    goal = rng.choice(goals["templates"]).format(**{name: word.lower() for name, word in words.items()})
    formal = goals["pddl"].format(**words).replace("#", "-")
    problem = write_problem(f"{split}_{number}", chosen, things, formal)
    return Game(f"{split}/{number}", column, goal, problem, target.lower(), parent.lower(), lamp.lower(), chosen.number)


@lru_cache(maxsize=32)
def rooms(split: Split, column: str) -> tuple[int, ...]:
    """Numbers of the rooms in which `split` has tasks of `column`, in the order in which they take turns."""
    constants = wheel().constants
    numbers = constants.TEST_SCENE_NUMBERS if split == "valid_unseen" else constants.TRAIN_SCENE_NUMBERS
    able = [number for number in sorted(numbers) if room(number).choices(column)]
    random.Random(f"alfworld rooms {split} {column}").shuffle(able)
    return tuple(able)


@lru_cache(maxsize=128)
def room(number: int) -> Room:
    """Room `number`, from the wheel's layout and list of its objects."""
    constants, folder = wheel().constants, wheel().layouts
    rng = random.Random(f"alfworld room {number}")
    listed = sorted(set(json.loads((folder / f"FloorPlan{number}-objects.json").read_text())))
    layout = json.loads((folder / f"FloorPlan{number}-openable.json").read_text())
    places: dict[str, Location] = {
        each: (round(4 * x), round(4 * z), int(turn // 90), int(down)) for each, (x, z, turn, down) in sorted(layout.items())
    }
    there = {kind_of(each) for each in places}
    for kind in listed:
        if kind in constants.RECEPTACLES - constants.MOVABLE_RECEPTACLES_SET - there:
            for _ in range(BURNERS if kind == "StoveBurner" else 1):
                places[new_id(rng, kind)] = (rng.randint(-16, 16), rng.randint(-16, 16), rng.randint(0, 3), 30)
    taken: set[Location] = set()
    for each, place in places.items():
        places[each] = _free(place, taken)
        taken.add(places[each])
    start = _free((rng.randint(-16, 16), rng.randint(-16, 16), 0, 30), taken)
    held = [kind for kind in listed if any(may_hold(kind_of(each), kind) for each in places)]
    lamps = tuple(kind for kind in listed if kind in LAMPS)
    return Room(number, dict(sorted(places.items())), start, tuple(kind for kind in held if kind not in lamps), lamps)


def _free(place: Location, taken: set[Location]) -> Location:
    while place in taken:
        place = (place[0] + 1, *place[1:])
    return place


def write_problem(name: str, where: Room, things: Mapping[str, str], goal: str) -> str:
    """A PDDL problem of ALFRED's domain.

    Args:
        things: object -> the receptacle it is in.
        goal: the goal, with the parenthesis that closes the problem.
    """
    constants = wheel().constants
    # The domain names the knives and what treats; it takes no type that the problem does not declare.
    objects = sorted({kind_of(each) for each in things} | {"Knife", "ButterKnife"})
    receptacles = sorted({kind_of(each) for each in where.receptacles} | {by for _, by in TREATMENTS.values()})
    declared = ["agent1 - agent", *(f"{kind}Type - otype" for kind in objects)]
    declared += [f"{kind}Type - rtype" for kind in receptacles]
    declared += [f"{mangle(each)} - object" for each in sorted(things)]
    declared += [f"{mangle(each)} - receptacle" for each in where.receptacles]
    declared += [f"{location(place)} - location" for place in sorted({*where.receptacles.values(), where.start})]
    true = ["(= (total-cost) 0)", f"(atLocation agent1 {location(where.start)})"]
    for each, place in where.receptacles.items():
        kind, called = kind_of(each), mangle(each)
        true += [f"(receptacleType {called} {kind}Type)", f"(receptacleAtLocation {called} {location(place)})"]
        true += [f"(openable {called})"] if kind in constants.OPENABLE_CLASS_SET else []
    for each, holder in sorted(things.items()):
        kind, called = kind_of(each), mangle(each)
        true += [f"(objectType {called} {kind}Type)", f"(inReceptacle {called} {mangle(holder)})"]
        true += [f"(objectAtLocation {called} {location(where.receptacles[holder])})"]
        true += [f"({able.lower()} {called})" for able, kinds in constants.VAL_ACTION_OBJECTS.items() if kind in kinds]
        true += [f"(pickupable {called})"] if kind not in LAMPS else []
        true += [f"(isReceptacleObject {called})"] if kind in constants.MOVABLE_RECEPTACLES_SET else []
    true += [f"(canContain {to}Type {kind}Type)" for to in receptacles for kind in objects if may_hold(to, kind)]
    head = f"(define (problem {name})\n(:domain alfred)"
    return "\n".join((head, "(:objects", *declared, ")", "(:init", *true, ")", goal.strip()))


def task_type(column: str) -> str:
    """`pick_and_place_simple` for `Pick`."""
    return next(task for task, own in COLUMNS.items() if own == column)


def may_hold(receptacle: str, kind: str) -> bool:
    """Whether the wheel's affordances let a receptacle of one kind hold an object of another."""
    return kind in wheel().constants.VAL_RECEPTACLE_OBJECTS.get(receptacle, ())


def kind_of(each: str) -> str:
    """`Sink|-01.2|+00.9|+00.3|SinkBasin` is a SinkBasin, `Apple|...` an Apple."""
    parts = each.split("|")
    return parts[-1] if parts[-1].endswith("Basin") else parts[0]


def new_id(rng: random.Random, kind: str) -> str:
    """An AI2-THOR id somewhere in the room."""
    x, y, z = (f"{rng.uniform(low, 4):+06.2f}" for low in (-4, 0, -4))
    whole = kind.removesuffix("Basin")
    return "|".join((whole, x, y, z, *([kind] if whole != kind else [])))


def mangle(each: str) -> str:
    """An id as PDDL takes it, in ALFRED's way."""
    for sign, word in (("|", "bar"), ("+", "plus"), ("-", "minus"), (".", "dot"), (",", "comma")):
        each = each.replace(sign, f"_{word}_")
    return each


def location(place: Location) -> str:
    """`loc_bar_3_bar__minus_2_bar_1_bar_30`."""
    return mangle("loc|{}|{}|{}|{}".format(*place))
