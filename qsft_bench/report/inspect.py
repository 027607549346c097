"""An episode seen through an agent's eyes: every token coloured by its value, beside the alternatives that it weighed."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qsft_bench.episode import Episode, Observation, brief
from qsft_bench.token_agent import TokenAgent


@dataclass(frozen=True)
class Choice:
    """A token that could be chosen: what it says (`Codec.label`), the policy's probability, the agent's value or None."""

    text: str
    probability: float
    value: float | None

    @property
    def colour(self) -> str:
        """From red (value 0) through yellow to green (value 1), as #rrggbb; grey without a value."""
        if self.value is None:
            return "#808080"
        value = min(1.0, max(0.0, self.value))
        return f"#{round(220 * min(1, 2 * (1 - value))):02x}{round(180 * min(1, 2 * value)):02x}30"

    @property
    def label(self) -> str:
        """The token in readable form: line ends and outer spaces are shown."""
        return self.text.replace("\n", "⏎").replace(" ", "␣") or "∅"


@dataclass(frozen=True)
class Decision:
    """One token of play: in which turn, what was seen there, what was chosen, and what else was weighed, likeliest first."""

    turn: int
    observation: str
    chosen: Choice
    alternatives: list[Choice]


def decisions(agent: TokenAgent, episode: Episode, alternatives: int = 5) -> Iterator[Decision]:
    """Every decision of a finished episode, weighed again by `agent`: a token of text, or one dimension of a control vector.

    Raises:
        BenchError: the agent cannot read the episode.
    """
    codec = agent.codec
    for turn in range(episode.length):
        so_far = episode.awaiting(turn)
        action = episode.turns[turn].action
        if action is None:
            raise ValueError(f"turn {turn} of episode {episode.seed} has no action")
        begun: list[int] = []
        for token in codec.action(action):
            probabilities, values = agent.weigh([so_far], [begun])
            order = probabilities[0].argsort(descending=True).tolist()
            others = [index for index in order if index != token and codec.playable[index]][:alternatives]
            chosen, *weighed = (
                Choice(
                    codec.label(index),
                    float(probabilities[0, index]),
                    None if values is None else float(values[0, index]),
                )
                for index in (token, *others)
            )
            yield Decision(turn, _shown(episode.turns[turn].observation), chosen, weighed)
            begun.append(token)


def terminal(episode: Episode, found: list[Decision]) -> RenderableType:
    """The episode for a terminal."""
    table = Table("turn", "saw", "did", "value", "probability", "instead (value, probability)", box=None)
    turn = None
    for decision in found:
        begins, turn = decision.turn != turn, decision.turn
        others = Text(", ").join(
            Text(f"{other.label} ({_number(other.value)}, {other.probability:.0%})", style=other.colour)
            for other in decision.alternatives
        )
        table.add_row(
            str(turn + 1) if begins else "",
            Text(decision.observation if begins else ""),
            Text(decision.chosen.label, style=f"bold {decision.chosen.colour}"),
            _number(decision.chosen.value),
            f"{decision.chosen.probability:.0%}",
            others,
        )
    return Group(table, Text(_ending(episode)))


def page(title: str, episode: Episode, found: list[Decision]) -> str:
    """The episode as one self-contained HTML page, images within; everything that an agent or environment wrote is escaped."""
    from jinja2 import Environment

    template = (files("qsft_bench.report") / "inspect.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    images = [_image(turn.observation) for turn in episode.turns]
    return environment.from_string(template).render(title=title, decisions=found, images=images, ending=_ending(episode))


def _shown(observation: Observation) -> str:
    """Text as it is but for the space around it, also where an image comes with it; all else in brief."""
    text = observation.get("text") if isinstance(observation, Mapping) else observation
    return text.strip() if isinstance(text, str) else brief(observation)


def _image(observation: Observation) -> str | None:
    """The observation's image as a `data:` URI of a PNG three times its size, or None if it has none."""
    if not isinstance(observation, Mapping) or "image" not in observation:
        return None
    from PIL import Image

    picture, file = Image.fromarray(observation["image"]), io.BytesIO()
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ending(episode: Episode) -> str:
    last = _shown(episode.turns[-1].observation)
    return f"{last}\n{'success' if episode.success else 'no success'}, return {episode.total_return:g}, seed {episode.seed}"
