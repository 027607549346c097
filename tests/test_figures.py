"""Figure 3 and learning curves: from which records they are made, and what stands in the files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from qsft_bench.curves import configurations
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, write_records
from qsft_bench.figures import bands
from qsft_bench.pipeline import Pipeline
from qsft_bench.registry import agent_class, env_spec
from qsft_bench.reproduce import learning_curves, make_figure3
from qsft_bench.token_agent import identity

SPEC = env_spec("pick-place")
PAIR = ("qsft", "q_transformer")
QSFT, RIVAL = (Cell(agent, SPEC.name, preset="smoke") for agent in PAIR)


@pytest.fixture
def pipeline(root: Path) -> Pipeline:
    return Pipeline(root=root)


def steps(pipeline: Pipeline, cell: Cell) -> int:
    return pipeline.config(cell).training.gradient_steps(pipeline.scale(cell))


def write_curve(pipeline: Pipeline, path: Path, cell: Cell, successes: Sequence[int], before: int = 0, batch: int = 0) -> None:
    """Records of one training, evaluated on 4 episodes at its start and at its end, of which so many are successes.

    Args:
        batch: what the training's batch size differs from the configured one by.
    """
    cls, sizes = agent_class(cell.agent), pipeline.scale(cell)
    trained = identity(cls, pipeline.config(cell), sizes, pipeline.recipe(cell).sha256, cell.training_seed)  # type: ignore[arg-type]
    trained["scale"]["batch_size"] += batch
    (config_hash,) = configurations(cls, cell, trained, sizes.options, sizes.constrained)  # type: ignore[arg-type]
    rows = [
        {"column": column, "episode_seed": seed, "score": float(seed < count), "step": step}
        for step, count in zip((0, steps(pipeline, cell)), successes, strict=True)
        for column in SPEC.columns
        for seed in range(4)
    ]
    fixed = {"agent": cell.agent, "training_seed": cell.training_seed, "steps_before": before, "commit": "c0ffee"}
    write_records(path, pd.DataFrame(rows).assign(**fixed, config_hash=config_hash))


def committed(pipeline: Pipeline, cell: Cell) -> Path:
    return pipeline.results("smoke") / "curves" / SPEC.name / f"{cell.agent}-seed{cell.training_seed}.parquet"


def commit_both(pipeline: Pipeline) -> None:
    for seed in (0, 1):
        own, rival = (Cell(cell.agent, SPEC.name, preset="smoke", training_seed=seed) for cell in (QSFT, RIVAL))
        write_curve(pipeline, committed(pipeline, own), own, (1, 2 + seed), before=steps(pipeline, QSFT))
        write_curve(pipeline, committed(pipeline, rival), rival, (0, 3))


def test_figure_3_from_committed_curves_trains_nothing_and_is_the_same_every_time(pipeline: Pipeline) -> None:
    commit_both(pipeline)
    make_figure3(pipeline, "smoke", PAIR, seeds=2)
    results = pipeline.results("smoke")
    first = {path.name: path.read_bytes() for path in results.glob("figure3.*")}
    assert set(first) == {"figure3.png", "figure3.pdf", "figure3.csv", "figure3.md"}
    make_figure3(pipeline, "smoke", PAIR, seeds=2)
    assert {path.name: path.read_bytes() for path in results.glob("figure3.*")} == first
    assert not (pipeline.root / "runs").exists() and not (pipeline.root / "data").exists()


def test_figure_3_counts_the_samples_of_both_stages(pipeline: Pipeline) -> None:
    commit_both(pipeline)
    found = make_figure3(pipeline, "smoke", PAIR, seeds=2).set_index(["agent", "column", "step"])
    size, own, rival = pipeline.scale(QSFT).batch_size, steps(pipeline, QSFT), steps(pipeline, RIVAL)
    last = found.loc[("qsft", "Pick Object", own)]
    assert last["samples"] == 2 * own * size  # it went on where another training had ended
    assert (last["mean"], last["n"], last["seeds"], last["over"]) == (0.625, 8, 2, "training seeds")
    assert found.loc[("qsft", "Pick Object", 0), "samples"] == own * size
    assert found.loc[("q_transformer", "Place Object Near Target", rival), "samples"] == rival * size
    assert list(found.index.unique("column")) == ["Pick Object", "Place Object Near Target"]  # the paper's own first


def test_figure_3_says_what_it_shows_and_where_it_came_from(pipeline: Pipeline) -> None:
    commit_both(pipeline)
    make_figure3(pipeline, "smoke", PAIR, seeds=2)
    results = pipeline.results("smoke")
    source = json.loads((results / "provenance.json").read_text())["figure3"]
    assert source["preset"] == "smoke" and source["trained_at"] == ["c0ffee"] and source["hardware"]
    assert source["agents"]["q_transformer"].items() >= {"n": 8, "seeds": 2, "interval": "95% over training seeds"}.items()
    text = (results / "figure3.md").read_text()
    for words in ("95% over training seeds", "(qsft starts from sft)", "](figure3.png)", "c0ffee", "Pick Object"):
        assert words in text


def test_one_training_has_bands_over_episodes(pipeline: Pipeline) -> None:
    commit_both(pipeline)
    found = make_figure3(pipeline, "smoke", PAIR, seeds=1)
    assert set(found["over"]) == {"episodes"} and set(found["n"]) == {4}
    assert found["ci_low"].notna().all()  # Wilson's, where 0 of 4 succeed too
    assert "95% over episodes" in (pipeline.results("smoke") / "figure3.md").read_text()


def test_bands_that_differ_are_told_apart() -> None:
    summary = pd.DataFrame({"agent": ["a", "b", "c"], "over": ["episodes", "training seeds", "episodes"]})
    assert bands(summary) == "episodes (a and c), training seeds (b)"
    assert bands(summary[:1]) == "episodes"


# Which records --------------------------------------------------------------------------------------------------------


def final(records: pd.DataFrame) -> float:
    return float(records[records["step"] > 0]["score"].mean())


def test_the_runs_own_curve_comes_first_and_is_put_beside_the_results(pipeline: Pipeline) -> None:
    write_curve(pipeline, committed(pipeline, RIVAL), RIVAL, (0, 1))
    write_curve(pipeline, pipeline.curve_path(RIVAL), RIVAL, (0, 4))
    assert final(learning_curves(pipeline, [RIVAL])) == 1
    assert committed(pipeline, RIVAL).read_bytes() == pipeline.curve_path(RIVAL).read_bytes()


@pytest.mark.parametrize("source", ["published", "scratch"])
def test_only_what_is_missing_or_another_configurations_is_trained(
    source: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Cell] = []

    def curves(self: Pipeline, cells: Sequence[Cell]) -> None:
        assert self.source == "scratch"  # published checkpoints have no curve
        trained.extend(cells)
        for cell in cells:
            write_curve(self, self.curve_path(cell), cell, (0, 4))

    monkeypatch.setattr(Pipeline, "curves", curves)
    pipeline = Pipeline(root=pipeline.root, source=source)  # type: ignore[arg-type]
    write_curve(pipeline, committed(pipeline, RIVAL), RIVAL, (0, 1))
    write_curve(pipeline, committed(pipeline, QSFT), QSFT, (0, 1), batch=1)
    found = learning_curves(pipeline, [QSFT, RIVAL])
    assert trained == ([QSFT] if source == "published" else [QSFT, RIVAL])
    assert final(found[found["agent"] == "qsft"]) == 1
    assert final(found[found["agent"] == "q_transformer"]) == (0.25 if source == "published" else 1)


def test_a_curve_recorded_otherwise_than_now_is_an_error_that_names_the_way_out(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_curve(pipeline, pipeline.curve_path(RIVAL), RIVAL, (0, 1), batch=1)
    monkeypatch.setattr(Pipeline, "curves", lambda self, cells: None)  # its checkpoint is there, and fits
    with pytest.raises(BenchError, match="recorded otherwise than now; remove"):
        learning_curves(pipeline, [RIVAL])


def test_an_agent_that_does_not_train_has_no_curve(pipeline: Pipeline) -> None:
    with pytest.raises(BenchError, match="random does not train"):
        make_figure3(pipeline, "smoke", ("random",))
