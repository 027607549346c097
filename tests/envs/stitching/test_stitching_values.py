"""The numbers that the declaration states, worked out exactly, and who reaches what on real data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import envs.stitching
from baselines.filtered_bc import FilteredBCConfig
from baselines.ilql import ILQLDecoding
from baselines.qsft import QSFT, QSFTConfig, QSFTDecoding
from envs.stitching import SPEC
from envs.stitching.env import DECOY, RIGHT
from qsft_bench.evaluate import Cell
from qsft_bench.pipeline import Pipeline
from qsft_bench.preset import scale
from qsft_bench.rollout import play_episodes
from qsft_bench.token_agent import Decoding
from qsft_bench.train import Run, Training

# Doors by what they are, the same in every gate or hall: right, decoy, the other two (which share their probability).
PAYS = np.array([[RIGHT[0], DECOY[0], 0.0], [RIGHT[1], DECOY[1], 0.0]])
DOORS = np.array([1, 1, 2])


def behaviour(share: float) -> np.ndarray:
    noise = SPEC.tier("base").behaviour["noise"]
    return np.array([share, (1 - share) * (1 - noise), (1 - share) * noise])


def episodes() -> dict[tuple[int, int, int], float]:
    """(kind of door at the gate, in the hall, return) -> probability in the data."""
    recipe, found = SPEC.tier("base").behaviour, dict[tuple[int, int, int], float]()
    for first, p in enumerate(behaviour(recipe["gate"])):
        for second, q in enumerate(behaviour(recipe["hall"] if first else 0.0)):
            for pays in np.ndindex(2, 2):
                luck = [
                    PAYS[leg, door] if pay else 1 - PAYS[leg, door]
                    for leg, (door, pay) in enumerate(zip((first, second), pays, strict=True))
                ]
                key = (first, second, sum(pays))
                found[key] = found.get(key, 0.0) + p * q * luck[0] * luck[1]
    return found


DATA = episodes()
TEMPERATURES = [*np.geomspace(0.005, 50, 2000), 1.0]


def imitation(weight: Callable[[int], float], temperature: float = 1.0) -> float:
    """Return of imitating, from the observation, the episodes weighed by their return."""
    policy = np.zeros((2, 3))
    for (first, second, total), p in DATA.items():
        policy[0, first] += p * weight(total)
        policy[1, second] += p * weight(total)
    with np.errstate(divide="ignore"):
        logits = np.log(policy / DOORS) / temperature
    sharpened = np.exp(logits - logits.max(axis=1, keepdims=True)) * DOORS
    return float((sharpened / sharpened.sum(axis=1, keepdims=True) * PAYS).sum())


WEIGHTS: dict[str, Callable[[int], float]] = {
    "all": lambda total: 1.0,
    "at least 1": lambda total: float(total >= 1),
    "0": lambda total: float(total == 0),
    "1": lambda total: float(total == 1),
    "2": lambda total: float(total == 2),
}
BEST_IMITATION = max(imitation(weight, t) for name, weight in WEIGHTS.items() for t in TEMPERATURES)
CAP = max(RIGHT[0] + DECOY[1], DECOY[0] + RIGHT[1])
OPTIMUM = RIGHT[0] + RIGHT[1]


def test_references_are_exact() -> None:
    references = SPEC.tier("base").references
    assert sum(DATA.values()) == pytest.approx(1)
    assert references["random"] == pytest.approx(PAYS[:, :2].sum() / 4)
    assert references["behaviour"] == pytest.approx(sum(total * p for (*_, total), p in DATA.items()), abs=1e-9)
    assert references["ceiling"] == OPTIMUM == 1.6
    # The mode is the decoy twice: at the gate .585 against .35, in the hall .35 x .9 + .65 x .35 x .9 = .52 against .4225.
    hall = [sum(p for (_, second, _), p in DATA.items() if second == kind) for kind in (0, 1)]
    assert hall == pytest.approx([0.4225, 0.51975])
    assert references["greedy_behaviour"] == DECOY[0] + DECOY[1]
    assert imitation(WEIGHTS["all"], 0.005) == pytest.approx(0.4)


def test_no_episode_is_right_twice() -> None:
    assert sum(p for (first, second, _), p in DATA.items() if first == second == 0) == 0


@pytest.mark.parametrize(
    ("weight", "value"), [("all", 0.85345), ("at least 1", 0.9706), ("0", 0.5332), ("1", 0.9595), ("2", 1.0266)]
)
def test_what_imitation_gets(weight: str, value: float) -> None:
    assert imitation(WEIGHTS[weight]) == pytest.approx(value, abs=5e-5)
    assert max(imitation(WEIGHTS[weight], t) for t in TEMPERATURES) <= CAP + 1e-9


def test_imitation_at_its_best() -> None:
    assert max(imitation(WEIGHTS["all"], t) for t in TEMPERATURES) == pytest.approx(0.8589, abs=5e-5)
    assert BEST_IMITATION == pytest.approx(CAP, abs=1e-6) == 1.2


def test_no_reweighing_by_return_passes_the_cap() -> None:
    rng = np.random.default_rng(0)
    for weights in rng.dirichlet([0.3] * 3, 300):
        assert imitation(lambda total, weights=weights: float(weights[total])) <= CAP  # type: ignore[misc]


def test_monte_carlo_values_choose_the_decoy_at_the_gate() -> None:
    def returns(kind: int) -> float:
        chosen = {key: p for key, p in DATA.items() if key[0] == kind}
        return sum(total * p for (*_, total), p in chosen.items()) / sum(chosen.values())

    assert [returns(0), returns(1)] == pytest.approx([0.78, 0.913])


def test_top_tenth_of_the_data_are_the_lucky_ones() -> None:
    share = sum(p for (*_, total), p in DATA.items() if total == 2)
    assert share == pytest.approx(0.1212, abs=5e-5)  # so return-conditioned play asks for 2


def test_docstring_states_them() -> None:
    text = str(envs.stitching.__doc__)
    for value in ("0.853", "0.859", "0.971, 1.027", "0.533, 0.959, 1.027", "0.913 and the right door 0.78"):
        assert value in text


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    sizes = replace(scale("small", SPEC), steps=400, dataset_episodes=8000, publishes=False, validation_episodes=100)
    return Pipeline(
        root=tmp_path_factory.mktemp("stitching"),
        source="scratch",
        scales={"stitching": sizes},
        configs={"filtered_bc": FilteredBCConfig(training=Training(), share=0.1)},  # returns of 2 alone
    )


def mean_return(agent: object, count: int = 1000) -> float:
    played = play_episodes(agent, SPEC, {}, SPEC.test_seeds[:count])  # type: ignore[arg-type]
    return float(np.mean([episode.total_return for episode in played]))


ERROR = 3 * 0.7 / 1000**0.5  # three standard errors of 1,000 episodes


GREEDY = {
    "qsft": QSFTDecoding(greedy=True),
    "ilql": ILQLDecoding(beta=256, greedy=True),
    "archer": Decoding(greedy=True),
}


@pytest.mark.parametrize("agent", GREEDY)
def test_values_put_the_halves_together(pipeline: Pipeline, agent: str) -> None:
    player, _ = pipeline.player(Cell(agent, "stitching"))
    assert mean_return(player) == pytest.approx(OPTIMUM, abs=ERROR)
    right = play_episodes(player.with_decoding(GREEDY[agent]), SPEC, {}, SPEC.validation_seeds[:300])
    assert all(episode.success for episode in right)


@pytest.mark.parametrize("agent", ["filtered_bc", "return_conditioned"])
def test_imitation_cannot(pipeline: Pipeline, agent: str) -> None:
    player, _ = pipeline.player(Cell(agent, "stitching"))
    assert mean_return(player.with_decoding(Decoding())) == pytest.approx(imitation(WEIGHTS["2"]), abs=ERROR + 0.04)
    for decoding in (player.decoding, Decoding(greedy=True), Decoding(temperature=0.5)):
        assert mean_return(player.with_decoding(decoding)) < CAP + ERROR < OPTIMUM - 0.25


def test_monte_carlo_values_cannot(pipeline: Pipeline, tmp_path: Path) -> None:
    """What stitches is the backup through the hall, not the weighted cross-entropy."""
    cell = Cell("sft", "stitching")
    run = Run(tmp_path, pipeline.scale(cell), prerequisite=lambda name: pipeline.player(cell)[0])
    player = QSFT(QSFTConfig(backup="mc"), QSFTDecoding(greedy=True))
    player.fit(pipeline.tokens(cell), run)
    assert mean_return(player) == pytest.approx(CAP, abs=ERROR)


def test_qsft_knows_what_its_halves_are_worth(pipeline: Pipeline) -> None:
    """Values by hand: normalised by the data's bounds (0, 2), soft backup (b = 8) over the data's policy in the hall."""
    player, _ = pipeline.player(Cell("qsft", "stitching"))
    hall = np.array([0.4225, 0.51975, 0.05775])
    v = np.log((hall * np.exp(8 * PAYS[1] / 2)).sum()) / 8
    start = (behaviour(0.35) * (PAYS[0] / 2 + v)).sum()
    assert player.meta["training"]["history"][-1]["start_value"] == pytest.approx(start, abs=0.05)
