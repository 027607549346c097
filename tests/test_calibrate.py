"""Reference scores: what the tiers declare is what their players score, and a behaviour's setting is found from a score."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qsft_bench.calibrate import Reference, calibrated, measure, reference_players
from qsft_bench.cli import main
from qsft_bench.errors import BenchError
from qsft_bench.preset import scale
from qsft_bench.registry import env_spec, make_env
from qsft_bench.spec import EnvSpec

SLOW = pytest.mark.nightly
STITCHING = env_spec("stitching")


def declared_and_measured(spec: EnvSpec, episodes: int) -> list[Reference]:
    return list(measure(spec, tuple(spec.tiers), scale("small", spec).options, episodes))


@pytest.mark.parametrize(
    ("env", "episodes"),
    [
        ("stitching", 2_000),
        ("wordle", 4_000),
        ("twenty_questions", 800),
        ("webshop", 800),  # four standard errors of a careless customer are .05
        pytest.param("chess", 50, marks=SLOW),
        pytest.param("chess_endgame", 150, marks=SLOW),
        pytest.param("alfworld", 240, marks=SLOW),
        pytest.param("pick_place", 300, marks=SLOW),
        pytest.param("drawer_grasp", 300, marks=SLOW),
    ],
)
def test_references_are_measured_scores(env: str, episodes: int) -> None:
    spec = env_spec(env)
    try:
        world = make_env(spec)
        world.reset(seed=0)
        world.close()
    except BenchError as missing:
        pytest.skip(str(missing))
    found = declared_and_measured(spec, episodes)
    assert [each for each in found if each.differs] == []
    for name, tier in spec.tiers.items():
        exact = set() if spec.solver else {"ceiling"}  # known without a player
        assert {each.player for each in found if each.tier == name} == set(tier.references) - exact


def test_a_score_far_from_the_declared_one_is_marked() -> None:
    base = STITCHING.tiers["base"]
    wrong = replace(base, references={**base.references, "random": 0.9, "greedy_behaviour": 0.5})
    spec = replace(STITCHING, tiers={"base": wrong})
    assert {each.player for each in declared_and_measured(spec, 2_000) if each.differs} == {"random", "greedy_behaviour"}
    (only, *_) = measure(STITCHING, ["base"], {}, 1)
    assert only.error != only.error and not only.differs  # one episode says nothing of its error


def test_players_are_those_that_the_environment_has() -> None:
    assert list(reference_players(STITCHING, "base", {})) == ["random", "behaviour", "greedy_behaviour"]  # no solver
    chess = env_spec("chess")
    assert list(reference_players(chess, "base", {})) == ["random", "behaviour", "ceiling"]  # its mode is not known
    wordle = reference_players(env_spec("wordle"), "habit", {}, (0.85, 0.5))
    assert list(wordle)[3:5] == ["behaviour at temperature 0.85", "behaviour at temperature 0.5"]


def test_a_setting_is_found_from_the_score_of_the_data() -> None:
    wordle = env_spec("wordle")
    options = scale("small", wordle).options
    rises = calibrated(wordle, "base", options, "consistent", -4.122, (0.0, 1.0), 1_000)
    assert rises == pytest.approx(wordle.tier("base").behaviour["consistent"], abs=0.03)
    falls = calibrated(wordle, "habit", options, "habit", -4.113, (0.0, 0.65), 1_000)
    assert falls == pytest.approx(wordle.tier("habit").behaviour["habit"], abs=0.06)


def test_what_cannot_be_measured_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="never 5"):
        calibrated(STITCHING, "base", {}, "gate", 5.0, (0.0, 1.0), 10)
    with pytest.raises(BenchError, match=r"do not take this: .*temperature"):
        list(measure(STITCHING, ["base"], {}, 1, (0.5,)))
    for words, message in (
        (["--episodes", "0"], "at least 1"),
        (["--tier", "hobby"], "no tier 'hobby'"),
        (["--env", "wordle", "--find", "consistent", "--target", "-4"], "--tier base or habit"),
    ):
        with pytest.raises(SystemExit):
            main(["calibrate", *([] if "--env" in words else ["--env", "stitching"]), *words])
        assert message in capsys.readouterr().err


def test_the_command_prints_both_scores(capsys: pytest.CaptureFixture[str]) -> None:
    main(["calibrate", "--env", "stitching", "--episodes", "50"])
    shown = capsys.readouterr().out
    assert "greedy_behaviour" in shown and "0.400" in shown
    main(["calibrate", "--env", "stitching", "--tier", "base", "--episodes", "200", "--find", "gate", "--target", "0.9"])
    assert "stitching, base: gate=" in capsys.readouterr().out
