"""What scripted players that learn nothing score, beside what a tier declares of them (`Tier.references`)."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qsft_bench.agent import Agent
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import episode_scores
from qsft_bench.registry import attribute
from qsft_bench.rollout import stream
from qsft_bench.spec import EnvSpec

HALVINGS = 11  # of the range in which `calibrated` looks


@dataclass(frozen=True)
class Reference:
    """A player's score in one column.

    Attributes:
        tier, column: where.
        player: its name in `Tier.references`, or `behaviour at temperature T`.
        mean, error: of the score, and its standard error; NaN of one episode.
        episodes: that have a score in this column.
        declared: what the tier says, or None where it says nothing of this player.
    """

    tier: str
    column: str
    player: str
    mean: float
    error: float
    episodes: int
    declared: float | None

    @property
    def differs(self) -> bool:
        """Whether the declared score is more than four standard errors away."""
        return self.declared is not None and abs(self.mean - self.declared) > 4 * max(self.error, 1 / self.episodes)


def reference_players(
    spec: EnvSpec, tier: str, options: Mapping[str, Any], temperatures: Sequence[float] = ()
) -> dict[str, Callable[[], Agent]]:
    """Makers of the players of a tier by their names in `Tier.references`, those alone that the environment has.

    Args:
        options: the environment's, which its players take too.
        temperatures: at which the exact behaviour plays besides.
    """
    declared = spec.tier(tier)

    def maker(target: str, **settings: Any) -> Callable[[], Agent]:
        return lambda: attribute(target)(**options, **settings)

    found = {"random": maker(spec.random), "behaviour": maker(spec.behaviour, **declared.behaviour)}
    if declared.mode is not None:
        found["greedy_behaviour"] = maker(spec.behaviour, **{**declared.behaviour, **declared.mode})
    for temperature in temperatures:
        name = f"behaviour at temperature {temperature:g}"
        found[name] = maker(spec.behaviour, **declared.behaviour, temperature=temperature)
    if spec.solver:
        found["ceiling"] = maker(spec.solver)
    return found


def measure(
    spec: EnvSpec, tiers: Sequence[str], options: Mapping[str, Any], episodes: int, temperatures: Sequence[float] = ()
) -> Iterator[Reference]:
    """Play every player of the tiers through the same first `episodes` dataset seeds; one reference a player and column.

    Raises:
        BenchError: there is no such tier, or the behaviour has no temperature.
    """
    known: dict[str, Mapping[str, Sequence[float]]] = {}
    for tier in tiers:
        for player, make in reference_players(spec, tier, options, temperatures).items():
            everywhere = player in ("random", "ceiling")
            scores = known.get(player) or _scores(spec, make, options, episodes)
            if everywhere:
                known[player] = scores
            for column in spec.columns:
                values = scores.get(column)
                if values:
                    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
                    declared = spec.tier(tier).references_of(column).get(player)
                    yield Reference(tier, column, player, statistics.fmean(values), error, len(values), declared)


def calibrated(
    spec: EnvSpec, tier: str, options: Mapping[str, Any], name: str, target: float, span: tuple[float, float], episodes: int
) -> float:
    """The value in `span` of the behaviour's setting `name` with which the data score `target` on average, by bisection.

    Raises:
        BenchError: `target` does not lie between what the ends of `span` score.
    """
    base = {**options, **spec.tier(tier).behaviour}

    def mean(value: float) -> float:
        scores = _scores(spec, lambda: attribute(spec.behaviour)(**{**base, name: value}), options, episodes)
        return statistics.fmean(score for values in scores.values() for score in values)

    low, high = span
    ends = mean(low), mean(high)
    if not min(ends) <= target <= max(ends):
        raise BenchError(
            f"{spec.name}: with {name} from {low:g} to {high:g} the data score {ends[0]:.3f} to {ends[1]:.3f}, never {target:g}"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = (mean(middle) < target) == (ends[0] < ends[1])
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def _scores(
    spec: EnvSpec, make: Callable[[], Agent], options: Mapping[str, Any], episodes: int
) -> Mapping[str, Sequence[float]]:
    """Scores by column."""
    try:
        player = make()
    except TypeError as error:
        raise BenchError(f"{spec.name}: its players do not take this: {error}") from error
    found: defaultdict[str, list[float]] = defaultdict(list)
    for episode in stream(player, spec, dict(options), spec.dataset_seeds[:episodes]):
        for column, score in episode_scores(episode, spec).items():
            found[column].append(score)
    return found
