"""ALFWorld (Shridhar et al. 2021): household tasks in text, on the real engine. Winning pays 1 and ends the game."""

from __future__ import annotations

import re
import string
import weakref
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.alfworld.engine import Engine, Scene, check_installed, give_back, grammar, lease
from envs.alfworld.formats import ActionFormat, ObservationFormat, write_action, write_observation
from envs.alfworld.games import Game, Source, Split, games
from envs.alfworld.notes import Aim
from envs.alfworld.render import CANVAS, LEAST, draw
from envs.alfworld.seen import Seen
from qsft_bench.errors import BenchError, did_you_mean

HORIZON = 30
IMAGE_SIZE = 48  # pixels a side of the observation's image: a quarter of what a person is shown
LONGEST = 8192  # characters of an observation; the largest official room takes 1,100
KNOWN = (
    *("atlocation", "holds", "inreceptacle", "ishot", "iscool", "isclean", "istoggled"),
    *("objecttype", "receptacletype", "receptacleatlocation"),
)  # the predicates that `Facts` is made of
TEST, HELD_OUT = 2_000_000, 2**32  # seeds from the first on test, those from the second on are datasets'; below, they validate

Observed = Literal["text", "text+image"]
Observation = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the simulator knows, by the names that the texts use.

    Attributes:
        aim: what the task asks for.
        seen: what the texts have told so far, as any player knows it.
        admissible: the commands that do something, as the engine writes them.
        held: the object in hand, or empty.
        inside: object -> the receptacle it is in.
        kinds: object or receptacle -> its kind.
        receptacles: all of them, sorted.
        here: those that the player stands at.
        hot, cool, clean, toggled: the objects that are so.
    """

    aim: Aim
    seen: Seen
    admissible: tuple[str, ...]
    held: str
    inside: dict[str, str]
    kinds: dict[str, str]
    receptacles: tuple[str, ...]
    here: frozenset[str]
    hot: frozenset[str]
    cool: frozenset[str]
    clean: frozenset[str]
    toggled: frozenset[str]


class ALFWorld(gymnasium.Env[Observation, str]):
    """One game; the observation is the engine's answer.

    Every text is an action. One that does nothing is answered as the engine does, and `info["invalid"]` says why; `put x in/on
    y`, the older way to say it, is understood as `move x to y`, and a newline at the end makes no difference.
    `info["admissible"]` lists the commands that do something, `info["task"]` has the paper's column of the task and
    `info["game"]` where the game is from. Winning terminates the episode, the horizon truncates it; then `info["success"]` says
    which, and `info["scores"]` has 1 or 0 for the one column it fills.

    Args:
        observation, action: how texts are written, see `formats`; commands are understood either way.
        obs: `text`, or `text+image` for a mapping of `text` and `image`, a symbolic render of what the text has revealed.
        split: of the games; with `by_seed` those of training where a dataset's seed is given (2**32 and above, or none),
            `valid_seen`, other games in the same rooms, where one that tests is, and `valid_unseen`, games in rooms that no
            dataset has, where one that validates is. The seeds that test or validate take the games of their split in turn.
        games: `official`, `generated`, or `auto`: official ones where `$ALFWORLD_DATA` holds them.
        image_size: pixels a side of the observation's image.
        render_mode: `rgb_array` or None.
        render_size: pixels a side of what `render` draws.
        privileged: put `Facts` into `info["facts"]`.

    Raises:
        BenchError: an option has no such value, alfworld is not installed, or there are no games.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        observation: ObservationFormat = "engine",
        action: ActionFormat = "engine",
        obs: Observed = "text",
        split: Split | Literal["by_seed"] = "by_seed",
        games: Source = "auto",
        image_size: int = IMAGE_SIZE,
        render_mode: str | None = None,
        render_size: int = CANVAS,
        privileged: bool = False,
    ) -> None:
        check_options(observation, action, obs, split, games, image_size, render_mode, render_size)
        check_installed()
        self.render_mode = render_mode
        self._observation: ObservationFormat = observation
        self._action: ActionFormat = action
        self._with_image = obs == "text+image"
        self._split = split
        self._source = games
        self._image_size = image_size
        self._render_size = render_size
        self._privileged = privileged
        self._engine: Engine | None = None
        self._left = 0  # actions
        text = spaces.Text(LONGEST, charset=string.printable)
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = spaces.Dict({"text": text, "image": image}) if self._with_image else text
        self.action_space = spaces.Text(256, charset=string.ascii_lowercase + string.digits + " /\n")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin a game drawn from `self.np_random` (see `split`), or `options["game"]`: a `Game`, or its number in the split.

        Raises:
            BenchError: there are no games, none of that number, or one that the engine cannot read.
        """
        super().reset(seed=seed)
        split = self._split
        if split == "by_seed":
            split = "train" if seed is None or seed >= HELD_OUT else "valid_seen" if seed >= TEST else "valid_unseen"
        pool = games(split, self._source)
        game = int(self.np_random.integers(len(pool)))
        if self._split == "by_seed" and seed is not None and seed < HELD_OUT:
            game = seed % len(pool)
        if options and "game" in options:
            game = options["game"]
            if not isinstance(game, Game) and game not in range(len(pool)):
                raise BenchError(f"alfworld: game={game!r} must be a `Game` or a number from 0 to {len(pool) - 1}")
        if self._engine is None:
            self._engine = lease()
            self._give_back = weakref.finalize(self, give_back, self._engine)
        self._game = game if isinstance(game, Game) else pool[game]
        self._seen = Seen()
        self._hear(self._engine.start(self._game))
        self._left = HORIZON
        return self._observe(), self._info(self._engine)

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act.

        Raises:
            gymnasium.error.ResetNeeded: the game is over or never began.
        """
        if self._engine is None or self._left == 0:
            raise gymnasium.error.ResetNeeded("alfworld: the game is over; call reset()")
        command = self._spelt.get(action.strip(), modern(action)) if isinstance(action, str) else ""
        refused = why_refused(command, self._scene) if isinstance(action, str) else f"{type(action).__name__} is not text"
        scene = self._engine.step(command)
        self._hear(scene)
        won = scene.won
        self._left = 0 if won else self._left - 1
        info = self._info(self._engine)
        if refused is not None:
            info["invalid"] = refused
        if self._left == 0:
            info["success"] = won
            info["scores"] = {self._game.column: float(won)}
        return self._observe(), float(won), won, self._left == 0 and not won, info

    def render(self) -> NDArray[np.uint8] | None:
        """What the text has revealed, drawn, RGB of shape (render_size, render_size, 3), or None without a render mode.

        Raises:
            gymnasium.error.ResetNeeded: there was no reset yet.
        """
        if self.render_mode is None:
            return None
        if self._engine is None:
            raise gymnasium.error.ResetNeeded("alfworld: nothing to draw; call reset()")
        return draw(self._seen, self._render_size)

    def close(self) -> None:
        """Leave the engine to others."""
        if self._engine is not None:
            self._give_back()
            self._engine = None
            self._left = 0

    def _hear(self, scene: Scene) -> None:
        self._scene = scene
        self._text = "".join(sign if sign in string.printable else "?" for sign in scene.text)[:LONGEST]
        self._seen.hear(self._text)

    def _observe(self) -> Observation:
        text = write_observation(Aim.of(self._game), self._seen) if self._observation == "short" else self._text
        return {"text": text, "image": draw(self._seen, self._image_size)} if self._with_image else text

    def _info(self, engine: Engine) -> dict[str, Any]:
        self._spelt: dict[str, str] = {}  # short command -> the engine's, the first of those it stands for
        for command in self._scene.admissible:
            self._spelt.setdefault(write_action(command, "short"), command)
        info: dict[str, Any] = {
            "admissible": list(self._scene.admissible if self._action == "engine" else self._spelt),
            "task": self._game.column,
            "game": self._game.name,
        }
        if self._privileged:
            info["facts"] = know(self._game, engine, self._scene, self._seen)
        return info


def check_options(
    observation: str = "engine",
    action: str = "engine",
    obs: str = "text",
    split: str = "by_seed",
    games: str = "auto",
    image_size: int = IMAGE_SIZE,
    render_mode: str | None = None,
    render_size: int = CANVAS,
) -> None:
    """Refuse what the game does not offer.

    Raises:
        BenchError: naming the option and its values.
    """
    splits = ("by_seed", *get_args(Split))
    formats = ("observation", observation, get_args(ObservationFormat)), ("action", action, get_args(ActionFormat))
    others = ("obs", obs, get_args(Observed)), ("split", split, splits), ("games", games, get_args(Source))
    for name, value, known in (*formats, *others):
        if value not in known:
            raise BenchError(f"alfworld: {name}={value!r} does not exist{did_you_mean(str(value), known)}")
    if render_mode not in (None, "rgb_array"):
        raise BenchError(f"alfworld: render_mode={render_mode!r} must be 'rgb_array' or None")
    for name, size in (("image_size", image_size), ("render_size", render_size)):
        if not isinstance(size, int) or size < LEAST:
            raise BenchError(f"alfworld: {name}={size!r} must be a number of pixels, at least {LEAST}")


def modern(command: str) -> str:
    """`move x to y` for `put x in/on y`; anything else as it is, without spaces around it."""
    return re.sub(r"^put (.+?) (?:in/on|into|onto|in|on) (.+)$", r"move \1 to \2", command.strip())


def why_refused(command: str, scene: Scene) -> str | None:
    """Why `command` does nothing in `scene`, or None where it does something."""
    if command in scene.admissible:
        return None
    verbs = sorted({template.split()[0] for template in grammar().template.values()} | {"put"})
    if command.split(maxsplit=1)[:1] and command.split()[0] in verbs:
        return f"{command[:80]!r} cannot be done here and now"
    return f"{command[:80]!r} is no command; they begin with {', '.join(verbs)}"


def know(game: Game, engine: Engine, scene: Scene, seen: Seen) -> Facts:
    """What the simulator knows of the game it is playing, and what its texts have told."""
    facts = engine.facts(KNOWN)

    def pairs(predicate: str) -> dict[str, str]:
        return {first: second.strip() for first, second in facts.get(predicate, ())}

    def those(predicate: str) -> frozenset[str]:
        return frozenset(each for (each,) in facts.get(predicate, ()))

    standing = {place for _, place in facts.get("atlocation", ())}
    receptacles = pairs("receptacletype")
    kinds = {**pairs("objecttype"), **receptacles}
    return Facts(
        aim=Aim.of(game),
        seen=seen.copy(),
        admissible=scene.admissible,
        held=next((each for _, each in facts.get("holds", ())), ""),
        inside=pairs("inreceptacle"),
        kinds={each: kind.removesuffix("type") for each, kind in kinds.items()},
        receptacles=tuple(sorted(receptacles)),
        here=frozenset(each for each, place in facts.get("receptacleatlocation", ()) if place in standing),
        hot=those("ishot"),
        cool=those("iscool"),
        clean=those("isclean"),
        toggled=those("istoggled"),
    )
