"""An episode seen through an agent's eyes: every token coloured by its value, beside the alternatives that it weighed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qsft_bench.episode import Episode, Turn
from qsft_bench.token_agent import TokenAgent


@dataclass(frozen=True)
class Choice:
    """A token that could be chosen: its text, the policy's probability and the agent's value (None without values)."""

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
    """One token of play: what was chosen in which turn, and what else was weighed, the likeliest first."""

    turn: int
    observation: str
    chosen: Choice
    alternatives: list[Choice]


def decisions(agent: TokenAgent, episode: Episode, alternatives: int = 5) -> Iterator[Decision]:
    """Every decision of a finished episode of text, weighed again by `agent`."""
    for turn in range(episode.length):
        so_far = Episode(episode.env, episode.seed, [*episode.turns[:turn], Turn(episode.turns[turn].observation)])
        action = episode.turns[turn].action
        assert isinstance(action, str)
        begun: list[int] = []
        for token in agent.codec.action(action):
            probabilities, values = agent.weigh([so_far], [begun])
            order = probabilities[0].argsort(descending=True)
            shown = [token, *(int(index) for index in order[: alternatives + 1] if int(index) != token)][: alternatives + 1]
            chosen, *others = (
                Choice(
                    str(agent.codec.decode([index])),
                    float(probabilities[0, index]),
                    None if values is None else float(values[0, index]),
                )
                for index in shown
            )
            yield Decision(turn, str(episode.turns[turn].observation), chosen, others)
            begun.append(token)


def terminal(episode: Episode, found: list[Decision]) -> RenderableType:
    """The episode for a terminal."""
    table = Table("turn", "saw", "did", "value", "probability", "instead (value, probability)", box=None)
    for decision in found:
        others = Text(", ").join(
            Text(f"{other.label} ({_number(other.value)}, {other.probability:.0%})", style=other.colour)
            for other in decision.alternatives
        )
        table.add_row(
            str(decision.turn + 1),
            Text(decision.observation.strip()),
            Text(decision.chosen.label, style=f"bold {decision.chosen.colour}"),
            _number(decision.chosen.value),
            f"{decision.chosen.probability:.0%}",
            others,
        )
    return Group(table, Text(_ending(episode)))


def page(title: str, episode: Episode, found: list[Decision]) -> str:
    """The episode as one self-contained HTML page; everything that an agent or environment wrote is escaped."""
    from jinja2 import Environment

    template = (files("qsft_bench.report") / "inspect.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    return environment.from_string(template).render(title=title, decisions=found, ending=_ending(episode))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ending(episode: Episode) -> str:
    last = str(episode.turns[-1].observation).strip()
    return f"{last}\n{'success' if episode.success else 'no success'}, return {episode.total_return:g}, seed {episode.seed}"
