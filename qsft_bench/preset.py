"""Presets: how large everything is. They say scale only; rules and algorithms never depend on them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from qsft_bench.errors import BenchError, did_you_mean
from qsft_bench.spec import EnvSpec


@dataclass(frozen=True)
class Scale:
    """The sizes of one environment at one preset.

    Attributes:
        summary: one line for people; printed with every table.
        options: keyword arguments of the environment (observation format and the like).
        codec: how episodes become tokens: `words`, `characters` or `control:<bins>`; a pretrained model brings its own.
        dataset_episodes: episodes of behaviour data.
        model: size name of a backbone from random weights (`qsft_bench.model.network.SIZES`); or a pretrained one: a folder, a
            name on the hub, or `pip:smollm2-135m`.
        tuning: of a pretrained model: `full`, `lora:<rank>` or `last:<layers>`; every agent of a table is tuned alike.
        checkpointing: recompute activations in the backward pass: a third more time, far less memory, the same numbers.
        context: most tokens of a row; longer transcripts keep the instruction and the newest turns.
        steps: gradient steps of each training stage.
        batch_size: rows a gradient step.
        constrained: whether learned agents choose only among the actions that the environment lists, where it lists them.
        learning_rate: peak of the cosine schedule.
        evaluation_episodes: test episodes of a cell.
        validation_episodes: episodes of each validation evaluation (tuning).
        curve_points: evaluations while training (learning curves), evenly spaced; 0 for none.
        curve_episodes: validation episodes of each of them.
        training_seeds: how many independent trainings each cell averages.
        tiers: tiers whose columns stand in this preset's tables; every one if empty.
        publishes: whether finished cells are copied to `results/<preset>/checkpoints`.
    """

    summary: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    codec: str = "words"
    dataset_episodes: int = 10_000
    model: str = "tiny"
    tuning: str = "full"
    checkpointing: bool = False
    context: int = 256
    steps: int = 1_000
    batch_size: int = 64
    constrained: bool = False
    learning_rate: float = 1e-3
    evaluation_episodes: int = 100
    validation_episodes: int = 100
    curve_points: int = 20
    curve_episodes: int = 200
    training_seeds: int = 1
    tiers: tuple[str, ...] = ()
    publishes: bool = False


def preset_names() -> list[str]:
    """Names of the presets that ship, from smallest to largest."""
    order = ("smoke", "small", "standard", "paper")
    found = {path.name.removesuffix(".toml") for path in files("qsft_bench.presets").iterdir() if path.name.endswith(".toml")}
    return [name for name in order if name in found] + sorted(found - set(order))


def scale(preset: str, spec: EnvSpec) -> Scale:
    """The sizes of `spec` at `preset`: the preset's own values, overridden by `spec.scales[preset]`.

    Raises:
        BenchError: unknown preset or unknown field.
    """
    if preset not in preset_names():
        raise BenchError(f"unknown preset {preset!r}{did_you_mean(preset, preset_names())}")
    values = tomllib.loads((files("qsft_bench.presets") / f"{preset}.toml").read_text())
    values |= spec.scales.get(preset, {})
    known = {field.name for field in fields(Scale)}
    for name in values:
        if name not in known:
            raise BenchError(f"preset {preset!r} sets {name!r} for {spec.name}{did_you_mean(name, known)}")
    return Scale(**values)
