"""Presets: how large everything is, and what Figure 4 compares. Rules and algorithms never depend on them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from typing import Any

from qsft_bench.errors import BenchError, did_you_mean
from qsft_bench.spec import EnvSpec


@dataclass(frozen=True)
class Scale:
    """The sizes of one environment at one preset.

    Attributes:
        summary: one line for people; printed with every table.
        options: keyword arguments of the environment (observation format and the like); those that a preset does not set have
            the environment's defaults, and `--scale.options.NAME VALUE` sets any of them.
        codec: how episodes become tokens: `words`, `characters` or `control:<bins>`; a pretrained model brings its own, and is
            spoken to by its chat template if this is `chat`.
        dataset_episodes: episodes of behaviour data.
        model: size name of a backbone from random weights (`qsft_bench.model.network.SIZES`); or a pretrained one: a folder, a
            name on the hub, or `pip:smollm2-135m`; or `random:` and one of these, its architecture with random weights.
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


@dataclass(frozen=True)
class Point:
    """One place on the axes of Figure 4, for every agent: a model that learns from a share of the games.

    Attributes:
        model: its name in the figure.
        share: of the games, as `10%`.
        scale: what is trained, and how large; `dataset_episodes` is the share.
    """

    model: str
    share: str
    scale: Scale


@dataclass(frozen=True)
class Figure4:
    """What Figure 4 and its companion compare at a preset.

    Attributes:
        share: at which Figure 4 shows return against the size of the model.
        companion: the models whose return the companion shows against the share.
        points: every model at each of its shares.
    """

    share: str = "10%"
    companion: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()


def scale(preset: str, spec: EnvSpec) -> Scale:
    """The sizes of `spec` at `preset`: the preset's own values, overridden by `spec.scales[preset]`.

    Raises:
        BenchError: unknown preset or unknown field.
    """
    values = _read(preset)
    values.pop("figure4", None)
    return _scale(values | dict(spec.scales.get(preset, {})), f"preset {preset!r}", spec.name)


def figure4(preset: str, spec: EnvSpec) -> Figure4:
    """What Figure 4 compares at `preset`, from the section `figure4` of its file.

    A point's scale is that of `spec`, overridden by the section's own `scale`, the model's and the share's.

    Raises:
        BenchError: unknown preset or unknown field.
    """
    section = _read(preset).get("figure4", {})
    given, games = asdict(scale(preset, spec)), section.get("games", 0)
    points = []
    for model, entry in section.get("models", {}).items():
        for share, own in entry["shares"].items():
            episodes = {"dataset_episodes": round(games * float(share.removesuffix("%")) / 100)}
            values = given | section.get("scale", {}) | entry.get("scale", {}) | episodes | own
            points.append(Point(model, share, _scale(values, f"figure4 of preset {preset!r}", model)))
    return Figure4(section.get("share", Figure4.share), tuple(section.get("companion", ())), tuple(points))


def _read(preset: str) -> dict[str, Any]:
    if preset not in preset_names():
        raise BenchError(f"unknown preset {preset!r}{did_you_mean(preset, preset_names())}")
    return tomllib.loads((files("qsft_bench.presets") / f"{preset}.toml").read_text())


def _scale(values: Mapping[str, Any], place: str, name: str) -> Scale:
    known = {field.name for field in fields(Scale)}
    for field_name in values:
        if field_name not in known:
            raise BenchError(f"{place} sets {field_name!r} for {name}{did_you_mean(field_name, known)}")
    return Scale(**values)
