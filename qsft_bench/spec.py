"""EnvSpec: what an environment declares about itself; everything the harness needs to know, and no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from qsft_bench.errors import BenchError

AGENTS = ("random", "behaviour", "react", "sft", "sft_greedy", "sft_temp", "filtered_bc", "return_conditioned", "ilql", "qsft")
# A prompted model reads no data; return-conditioned learning was not trained on habit tiers yet.
HABIT_AGENTS = tuple(name for name in AGENTS if name not in ("react", "return_conditioned"))


@dataclass(frozen=True)
class Tier:
    """One recipe of behaviour data for an environment, with the scores that make results on it readable.

    Attributes:
        behaviour: keyword arguments of the behaviour policy.
        summary: one line for people.
        references: measured scores of reference players (success metrics as fractions): `random`, `behaviour` (the data),
            `greedy_behaviour` (the mode of the exact behaviour, never a learned copy), `ceiling`. A score is a number, or
            one a column; `qsft-bench calibrate` measures them.
        agents: the agents that its table runs unless others are asked for; the environment's if empty.
        mode: keyword arguments that, over those of `behaviour`, make it take its likeliest action; None where none do.
    """

    behaviour: Mapping[str, Any]
    summary: str
    references: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    mode: Mapping[str, Any] | None = None

    def references_of(self, column: str) -> dict[str, float]:
        """The reference scores in `column`."""
        return {name: score[column] if isinstance(score, Mapping) else score for name, score in self.references.items()}


@dataclass(frozen=True)
class EnvSpec:
    """A declared environment.

    Attributes:
        name: short name on the command line, e.g. `wordle`.
        id: Gymnasium id, e.g. `qsft_bench/Wordle-v0`.
        summary: one line for people.
        table: the paper's table its columns stand in (1, 2 or 3), or 0 for none of them.
        columns: columns it fills, verbatim as the paper prints them.
        horizon: the most actions in an episode.
        return_range: least and greatest return that the rules allow.
        state: `transcript` (the state is everything said so far) or `observation` (the newest observation alone).
        discount: applied where an utterance or action vector ends; 1 inside it.
        value_range: the returns that learners take for 0 and 1 (Assumption 4.1), None for the least and the greatest in the
            data. Those beyond count as the nearer end: a rare penalty would else leave a win and a loss close together.
        metric: `return` (mean return) or `success` (success rate).
        behaviour: `module:Class` of the scripted behaviour policy, an `Agent`.
        random: `module:Class` of a uniformly random player; both take the environment's options as keyword arguments.
        tiers: data recipes; `base` is the paper's.
        scales: preset name -> overrides of `qsft_bench.preset.Scale` fields for this environment (dataset episodes,
            environment options, codec, model, steps).
        agents: the agents that its table runs unless others are asked for, but for those that cannot play here.
        extra: the pip extra that installs what it needs, or empty.
        aliases: other short names it answers to.
        solver: `module:Class` of the strongest scripted player (the ceiling), made like `random`, or empty.
        prompt: `package:file` of the rules and worked episodes that a prompted model reads, e.g. `envs.wordle:prompt.md`, in
            the formats that the environment has by default; or empty.
        play: options under which a person plays it in a terminal, where they differ from the defaults.
        importer: `module:function` that reads its public files, `(path, report, strict) -> what was found`, or empty.
        side_by_side: most episodes that one process plays at once; fewer where a simulator takes memory.
        shard_episodes: most episodes in a file of a dataset, and in memory when it becomes tokens.
        dataset_seeds, validation_seeds, test_seeds: disjoint and fixed.
        test_tasks: how many different tasks the test seeds go round, in order; 0 where every seed is a task of its own. What
            is played of one task is not independent, so that intervals then run over tasks.
    """

    name: str
    id: str
    summary: str
    table: int
    columns: tuple[str, ...]
    horizon: int
    return_range: tuple[float, float]
    state: Literal["transcript", "observation"]
    discount: float
    metric: Literal["return", "success"]
    behaviour: str
    random: str
    tiers: Mapping[str, Tier]
    scales: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    value_range: tuple[float, float] | None = None
    agents: tuple[str, ...] = AGENTS
    extra: str = ""
    aliases: tuple[str, ...] = ()
    solver: str = ""
    prompt: str = ""
    play: Mapping[str, Any] = field(default_factory=dict)
    importer: str = ""
    side_by_side: int = 256
    shard_episodes: int = 20_000
    dataset_seeds: range = range(2**32, 2**63)
    validation_seeds: range = range(1_000_000, 2_000_000)
    test_seeds: range = range(2_000_000, 3_000_000)
    test_tasks: int = 0

    def __post_init__(self) -> None:
        splits = sorted((self.dataset_seeds, self.validation_seeds, self.test_seeds), key=lambda split: split.start)
        for left, right in pairwise(splits):
            if left.stop > right.start:
                raise ValueError(f"{self.name}: seed ranges {left} and {right} overlap")
        if "base" not in self.tiers:
            raise ValueError(f"{self.name} declares no `base` tier")
        low, high = self.value_range or self.return_range
        if not self.return_range[0] <= low < high <= self.return_range[1]:
            raise ValueError(f"{self.name}: value range {self.value_range} is not within the return range {self.return_range}")
        if not self.return_range[0] < self.return_range[1]:
            raise ValueError(f"{self.name}: return range {self.return_range} is empty")
        if not 0 < self.discount <= 1:
            raise ValueError(f"{self.name}: discount {self.discount} is not in (0, 1]")

    def tier(self, name: str) -> Tier:
        """The tier called `name`.

        Raises:
            BenchError: there is none; the message lists those that exist.
        """
        try:
            return self.tiers[name]
        except KeyError:
            raise BenchError(f"{self.name} has no tier {name!r}; it has {', '.join(self.tiers)}") from None

    def agents_of(self, tier: str) -> tuple[str, ...]:
        """The agents that the table of a tier runs."""
        return self.tier(tier).agents or self.agents

    def test_task(self, seed: int) -> int | None:
        """Which of the `test_tasks` a test seed plays, or None where every seed is a task of its own."""
        return (seed - self.test_seeds.start) % self.test_tasks if self.test_tasks and seed in self.test_seeds else None

    def column(self, column: str, tier: str) -> str:
        """Table heading of `column` on `tier`: the paper's own word on `base`, `<column> <tier>` elsewhere."""
        return column if tier == "base" else f"{column} {tier}"
