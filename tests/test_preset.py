"""Presets say scale, and say no to what they do not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qsft_bench.errors import BenchError
from qsft_bench.model.network import SIZES
from qsft_bench.preset import preset_names, scale
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
    assert sizes.model in SIZES
    assert 1 <= sizes.evaluation_episodes <= len(spec.test_seeds)
    assert 1 <= sizes.validation_episodes <= len(spec.validation_seeds)
    assert spec.scales.get(preset, {}).items() <= vars(sizes).items()


def test_the_environment_overrides_the_preset() -> None:
    spec = replace(env_spec("wordle"), scales={"smoke": {"dataset_episodes": 3}})
    assert scale("smoke", spec).dataset_episodes == 3
    assert scale("smoke", spec).steps == scale("smoke", env_spec("wordle")).steps


def test_unknown_names() -> None:
    with pytest.raises(BenchError, match=r"^unknown preset 'smal'; did you mean small"):
        scale("smal", env_spec("wordle"))
    spec = replace(env_spec("wordle"), scales={"smoke": {"stepz": 3}})
    with pytest.raises(BenchError, match=r"^preset 'smoke' sets 'stepz' for wordle; did you mean steps"):
        scale("smoke", spec)
