"""Presets say scale, and say no to what they do not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qsft_bench.errors import BenchError
from qsft_bench.model.network import SIZES
from qsft_bench.model.pretrained import Tuning
from qsft_bench.preset import figure4, preset_names, scale
from qsft_bench.registry import env_names, env_spec


def test_the_presets_in_order_of_size() -> None:
    assert preset_names() == ["smoke", "small", "standard", "paper"]
    steps = [scale(name, env_spec("wordle")).steps for name in preset_names()]
    assert steps == sorted(steps)


@pytest.mark.parametrize("env", env_names())
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_fits_every_environment(preset: str, env: str) -> None:
    spec = env_spec(env)
    sizes = scale(preset, spec)
    assert sizes.summary
    assert sizes.model in SIZES or (preset == "paper" and sizes.model.count("/") == 1)  # of the hub
    assert Tuning.parse(sizes.tuning).kind in ("full", "lora", "last")
    assert 1 <= sizes.evaluation_episodes <= len(spec.test_seeds)
    assert 1 <= sizes.validation_episodes <= len(spec.validation_seeds)
    assert spec.scales.get(preset, {}).items() <= vars(sizes).items()


def test_the_environment_overrides_the_preset() -> None:
    spec = replace(env_spec("wordle"), scales={"smoke": {"dataset_episodes": 3}})
    assert scale("smoke", spec).dataset_episodes == 3
    assert scale("smoke", spec).steps == scale("smoke", env_spec("wordle")).steps


@pytest.mark.parametrize("preset", preset_names())
def test_figure_4_of_every_preset(preset: str) -> None:
    spec = env_spec("20q")
    found = figure4(preset, spec)
    assert set(found.companion) <= {point.model for point in found.points}
    for point in found.points:
        assert point.scale.dataset_episodes >= point.scale.batch_size and point.scale.steps > 0
        assert 1 <= point.scale.evaluation_episodes <= len(spec.test_seeds)
    pairs = [{point.share: point.scale for point in found.points if point.model == model} for model in found.companion]
    for share in set(pairs[0]) & set(pairs[1]) if pairs else ():  # they differ by their weights, and by what suits these
        pretrained, drawn = (pair[share] for pair in pairs)
        assert drawn.model == f"random:{pretrained.model}"
        alike = {"model": pretrained.model, "learning_rate": pretrained.learning_rate, "tuning": pretrained.tuning}
        assert replace(drawn, **alike) == pretrained


def test_a_share_is_of_the_games_and_overrides_the_model() -> None:
    small = {(point.model, point.share): point.scale for point in figure4("small", env_spec("20q")).points}
    assert small["nano", "10%"].dataset_episodes == 10_000 and small["smollm2", "1%"].dataset_episodes == 1_000
    assert small["smollm2", "1%"].steps < small["smollm2", "10%"].steps
    assert small["nano", "10%"].options == scale("small", env_spec("20q")).options != small["smollm2", "10%"].options


def test_unknown_names() -> None:
    with pytest.raises(BenchError, match=r"^unknown preset 'smal'; did you mean small"):
        scale("smal", env_spec("wordle"))
    spec = replace(env_spec("wordle"), scales={"smoke": {"stepz": 3}})
    with pytest.raises(BenchError, match=r"^preset 'smoke' sets 'stepz' for wordle; did you mean steps"):
        scale("smoke", spec)
