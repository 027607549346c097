"""An agent at work, as a film: every frame that the environment draws, and beside it what the agent thinks of its chances.

```
+-----------+--------------------+
|           |  qsft on pick_place|
|   what    |  step 3 of 12      |
|   env     |  reward 0          |
|   draws   |  1 ----------      |
|           |    __/             |   the value of each step so far, on the scale on which the data's returns span [0, 1]
|           |  0 ----------      |
+-----------+--------------------+
```
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import RenderCollection
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qsft_bench.agent import Agent
from qsft_bench.episode import Episode
from qsft_bench.errors import BenchError
from qsft_bench.files import atomic_path
from qsft_bench.registry import env_names, env_spec
from qsft_bench.rollout import env_for, rollout
from qsft_bench.spec import EnvSpec
from qsft_bench.token_agent import TokenAgent

SMALLEST = 256  # pixels; lower frames are enlarged
PANEL = 232  # pixels, the width of what stands beside the frame
FONT_SIZE = 14  # pixels
END_SECONDS = 2  # that the last picture stays
INK, FAINT, LINE, GOOD, BAD = "#202020", "#b0b0b0", "#20508a", "#1a7a30", "#b02020"


@dataclass(frozen=True)
class Film:
    """One episode, filmed.

    Attributes:
        episode: of T actions.
        frames: T + 1 pictures, RGB (height, width, 3): before the first action and after each.
        values: of the state before each action, (T,), see `TokenAgent.state_values`; None of an agent without values.
        fps: frames a second, as the environment wishes.
    """

    episode: Episode
    frames: Sequence[NDArray[np.uint8]]
    values: NDArray[np.float64] | None
    fps: int


def check_draws(spec: EnvSpec) -> None:
    """Refuse an environment that draws no frames.

    Raises:
        BenchError: it draws none (those that do are named), or its package is missing.
    """
    try:
        modes = _render_modes(spec)
    except ImportError as error:
        raise BenchError(f"{spec.name} cannot start: {error}; `qsft-bench doctor` says how to install it") from error
    if "rgb_array" in modes:
        return
    drawn = []
    for name in env_names():
        with contextlib.suppress(BenchError, ImportError):
            if "rgb_array" in _render_modes(env_spec(name)):
                drawn.append(name)
    raise BenchError(
        f"{spec.name} draws nothing to watch, only {' and '.join(drawn) or 'no environment here'} can; "
        f"`qsft-bench inspect --agent AGENT --env {spec.name}` shows the value of every token"
    )


def check_film(path: Path) -> None:
    """Refuse a file name under which no film can be written.

    Raises:
        BenchError: its suffix is neither .gif nor .mp4, or .mp4 without the package that writes it.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise BenchError(f"{path}: a film is a .gif or an .mp4")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise BenchError(f"{path}: .mp4 needs a package (pip install 'qsft-bench[video]'); a .gif needs nothing more")


def film(agent: Agent, spec: EnvSpec, options: dict[str, Any], seed: int) -> Film:
    """Play one episode and keep every frame.

    Args:
        options: of the environment, beside its render mode.

    Raises:
        BenchError: as `check_draws`; or the environment cannot start.
    """
    check_draws(spec)
    env = RenderCollection(env_for(agent, spec, {**options, "render_mode": "rgb_array"}), pop_frames=False)
    (episode,) = rollout(agent, lambda: env, [seed], name=spec.name)
    frames = [np.asarray(frame, np.uint8) for frame in env.frame_list]
    return Film(episode, frames, step_values(agent, episode), int(env.metadata.get("render_fps", 4)))


def step_values(agent: Agent, episode: Episode) -> NDArray[np.float64] | None:
    """Value of the state before each action of a finished episode, (T,); None of an agent without values.

    Where an action has several tokens it is the value at its first: what the agent expects before it does anything.
    """
    if not isinstance(agent, TokenAgent):
        return None
    return agent.state_values([episode.awaiting(turn) for turn in range(episode.length)])


def pictures(shot: Film, title: str) -> list[Image.Image]:
    """The film's T + 1 pictures, each frame beside its panel.

    Args:
        title: its lines stand at the top of the panel.
    """
    return [_picture(shot, title, taken) for taken in range(len(shot.frames))]


def write_film(path: Path, shown: Sequence[Image.Image], fps: int) -> None:
    """Write pictures of one size as .gif or .mp4, atomically; the last one stays for `END_SECONDS`.

    Raises:
        BenchError: as `check_film` and `atomic_path`.
    """
    check_film(path)
    rest = [*shown[1:], *[shown[-1]] * (END_SECONDS * fps)]
    with atomic_path(path) as temporary:
        if path.suffix == ".gif":
            shown[0].save(temporary, format="GIF", save_all=True, append_images=rest, duration=1000 // fps, loop=0)
            return
        writer = importlib.import_module("imageio_ffmpeg").write_frames(
            str(temporary), shown[0].size, fps=fps, macro_block_size=2, output_params=["-f", "mp4"]
        )
        writer.send(None)
        for picture in (shown[0], *rest):
            writer.send(picture.tobytes())
        writer.close()


def _render_modes(spec: EnvSpec) -> Sequence[str]:
    made_by = gymnasium.spec(spec.id).entry_point
    maker = load_env_creator(made_by) if isinstance(made_by, str) else made_by
    return getattr(maker, "metadata", {}).get("render_modes", ())


def _picture(shot: Film, title: str, taken: int) -> Image.Image:
    """The picture after `taken` actions."""
    frame = shot.frames[taken]
    enlarged = max(1, -(-SMALLEST // frame.shape[0]))
    frame = frame.repeat(enlarged, 0).repeat(enlarged, 1)
    height, width, _ = frame.shape
    picture = Image.new("RGB", (width + PANEL, height), "white")
    picture.paste(Image.fromarray(frame))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    episode = shot.episode
    so_far = sum(turn.reward for turn in episode.turns[:taken])
    lines = [*title.splitlines(), f"step {taken} of {episode.length}", f"reward {so_far:g}"]
    colours = [INK] * len(lines)
    if taken == episode.length:
        lines.append("success" if episode.success else "no success")
        colours.append(GOOD if episode.success else BAD)
    left, step = width + 14, FONT_SIZE + 5
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True)):
        draw.text((left, 10 + number * step), line, colour, font)
    top = 10 + (len(title.splitlines()) + 3) * step + 6
    if shot.values is None:
        draw.text((left, top), "no values: it learns none", FAINT, font)
    else:
        draw.text((left, top), f"value {shot.values[min(taken, episode.length - 1)]:.2f}", LINE, font)
        _curve(draw, font, shot.values, taken, (left, top + step + 8, width + PANEL - 14, height - 14))
    return picture


def _curve(
    draw: ImageDraw.ImageDraw, font: Any, values: NDArray[np.float64], taken: int, box: tuple[int, int, int, int]
) -> None:
    """The values up to the newest, between lines at 0 and 1, in the box (left, top, right, bottom) in pixels."""
    left, top, right, bottom = box
    left += 16  # for the labels
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))

    def place(number: float, value: float) -> tuple[float, float]:
        across = number / max(1, len(values) - 1)
        return left + across * (right - left), bottom - (value - low) / (high - low) * (bottom - top)

    for level in (0, 1):
        _, y = place(0, level)
        draw.line([(left, y), (right, y)], FAINT)
        draw.text((left - 16, y), str(level), FAINT, font, anchor="lm")
    points = [place(number, float(value)) for number, value in enumerate(values[: taken + 1])]
    if len(points) > 1:
        draw.line(points, LINE, 2)
    x, y = points[-1]
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), LINE)
