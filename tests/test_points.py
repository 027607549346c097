"""Figure 4: which points there are, how one is made by itself, and the figure from nothing but finished points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qsft_bench import points, reproduce
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import STATISTIC, Cell, write_records
from qsft_bench.files import read_json, write_json
from qsft_bench.pipeline import Pipeline
from qsft_bench.points import Trained
from qsft_bench.preset import Figure4, Point, scale
from qsft_bench.registry import env_spec
from qsft_bench.reproduce import make_figure4
from tests.pretrained import save_model

SPEC = env_spec("20q")
AGENTS, PAIR = ("sft", "ilql", "qsft"), ("sft", "qsft")
SIZES = replace(scale("smoke", SPEC), dataset_episodes=40, evaluation_episodes=4)
POINTS = (
    Point("nano", "10%", replace(SIZES, model="nano")),
    Point("real", "10%", replace(SIZES, model="pip:smollm2-135m", dataset_episodes=400)),
    Point("real", "1%", replace(SIZES, model="pip:smollm2-135m")),
    Point("drawn", "10%", replace(SIZES, model="random:pip:smollm2-135m", dataset_episodes=400)),
)


@pytest.fixture
def pipeline(root: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setattr(reproduce, "figure4", lambda preset, spec: Figure4("10%", ("real", "drawn"), POINTS))
    return Pipeline(root=root)


def trained(point: Point, agent: str) -> Trained:
    return Trained(point, Cell(agent, SPEC.name, preset="smoke"))


def finish(pipeline: Pipeline, folder: Path, own: Trained, scores: Sequence[float], parameters: int, **other: Any) -> None:
    """A finished point by hand."""
    rows = [{"column": "20Q", "training_seed": 0, "episode_seed": seed, "score": score} for seed, score in enumerate(scores)]
    write_records(own.file(folder, ".parquet"), pd.DataFrame(rows))
    write_records(own.file(folder, ".transcripts.parquet"), pd.DataFrame(rows))
    source = {
        "follows_from": points._follows_from(own.pipeline(pipeline), own) | other,
        "parameters": parameters,
        "model": "a model",
        "steps": 3,
        "training_episodes": 39,
        "training_seconds": 1.5,
        "history": [],
        "decoding": "beta=8.0",
        "commit": "c0ffee",
        "hardware": "an abacus",
    }
    write_json(own.file(folder, ".json"), source)


def publish_some(pipeline: Pipeline) -> None:
    folder = pipeline.results("smoke") / "figure4"
    nano, real, share, drawn = POINTS
    finish(pipeline, folder, trained(nano, "qsft"), (-20, -10, -20, -10), 1000)
    finish(pipeline, folder, trained(real, "qsft"), (-8, -10, -8, -10), 100_000)
    finish(pipeline, folder, trained(share, "qsft"), (-18, -16, -18, -16), 100_000)
    finish(pipeline, folder, trained(drawn, "qsft"), (-19, -17, -19, -17), 100_000)
    finish(pipeline, folder, trained(nano, "ilql"), (-1, -2, -1, -2), 1000, evaluation_episodes=99)  # of other sizes


def test_the_figure_from_published_points_trains_nothing_and_is_the_same_every_time(pipeline: Pipeline) -> None:
    publish_some(pipeline)
    found = make_figure4(pipeline, "smoke", AGENTS).set_index(["model", "share", "agent"])
    results = pipeline.results("smoke")
    assert list(found.index) == [
        ("nano", "10%", "qsft"),
        ("real", "10%", "qsft"),
        ("real", "1%", "qsft"),
        ("drawn", "10%", "qsft"),
    ]
    row = found.loc[("nano", "10%", "qsft")]
    assert (row["mean"], row["n"], row["seeds"], row["over"]) == (-15, 4, 1, "episodes")
    assert (
        row["ci_low"] == pytest.approx(-15 - 3.182446 * 5.773503 / 2) and row["parameters"] == 1000
    )  # t, 3 degrees of freedom
    assert list(found["weights"]) == ["random", "pretrained", "pretrained", "random"]
    assert list(found["episodes"]) == [40, 400, 40, 400] and found["held_out"].isna().all()
    pd.testing.assert_frame_equal(pd.read_csv(results / "figure4.csv").set_index(["model", "share", "agent"]), found)
    first = {path.name: path.read_bytes() for path in results.glob("figure4*.*")}
    assert set(first) == {f"figure4.{kind}" for kind in ("png", "pdf", "csv", "md")} | {
        "figure4_pretraining.png",
        "figure4_pretraining.pdf",
    }
    make_figure4(pipeline, "smoke", AGENTS)
    assert {path.name: path.read_bytes() for path in results.glob("figure4*.*")} == first
    assert not (pipeline.root / "runs").exists() and not (pipeline.root / "data").exists()


def test_imitation_has_its_loss_on_held_out_games_beside_its_return(pipeline: Pipeline) -> None:
    publish_some(pipeline)
    own, folder = trained(POINTS[1], "sft"), pipeline.results("smoke") / "figure4"
    finish(pipeline, folder, own, (-20, -20), 100_000)
    source = read_json(own.file(folder, ".json"))
    ends = [{"step": 1.0, "validation_loss": 9.0, "exact_loss": 5.0}, {"step": 3.0, "validation_loss": 7.25, "exact_loss": 5.0}]
    write_json(own.file(folder, ".json"), source | {"history": ends})
    found = make_figure4(pipeline, "smoke", AGENTS).set_index(["model", "share", "agent"])
    assert found.loc[("real", "10%", "sft"), ["held_out", "exact"]].tolist() == [7.25, 5.0]
    assert found["held_out"].notna().sum() == 1
    text = (pipeline.results("smoke") / "figure4.md").read_text()
    assert text.count("held-out loss") == 1 and "held-out loss 7.25 nats an action (the behaviour's own 5.00)" in text


def test_what_the_environment_counts_stands_beside_the_return(pipeline: Pipeline) -> None:
    publish_some(pipeline)
    own, other = trained(POINTS[1], "qsft"), trained(POINTS[2], "qsft")
    path = own.file(pipeline.results("smoke") / "figure4", ".parquet")
    write_records(path, pd.read_parquet(path).assign(**{f"{STATISTIC}matched": (0.5, 1.0, 0.5, 1.0)}))
    found = make_figure4(pipeline, "smoke", AGENTS).set_index(["model", "share", "agent"])
    assert points.counted(found) == [["matched", "matched_low", "matched_high"]]
    row = found.loc[("real", "10%", "qsft")]
    assert row["matched"] == 0.75 and row["matched_high"] - 0.75 == pytest.approx(3.182446 * 0.288675 / 2)
    assert found["matched"].notna().sum() == 1
    lines = (pipeline.results("smoke") / "figure4.md").read_text().splitlines()
    (head,) = (line for line in lines if line.startswith("| model"))
    cells = {line.split(" | ")[4] for line in lines if line.startswith(f"| {own.point.model} |")}
    assert head.split(" | ")[4] == "matched" and cells == {"0.75 [0.29, 1.21]", "-"} and other.point.model == own.point.model


def test_what_is_missing_or_of_other_sizes_is_named_and_never_drawn(pipeline: Pipeline) -> None:
    publish_some(pipeline)
    said: list[str] = []
    make_figure4(replace(pipeline, progress=lambda stage, done, total, note: said.append(f"{stage}: {note}")), "smoke", AGENTS)
    text = (pipeline.results("smoke") / "figure4.md").read_text()
    (missing,) = (line for line in text.splitlines() if line.startswith("Not trained yet"))
    assert set(missing.removeprefix("Not trained yet: ").rstrip(".").split(", ")) == {
        *(f"{place}/{agent}" for place in ("nano/10%", "real/10%", "real/1%", "drawn/10%") for agent in ("sft", "ilql")),
    }
    assert any("nano/10%/ilql" in line and "of another configuration" in line for line in said)
    source = json.loads((pipeline.results("smoke") / "provenance.json").read_text())["figure4"]
    assert source["trained_at"] == ["c0ffee"] and source["trained_on"] == ["an abacus"] and source["hardware"]
    assert "3 steps of 32 on 39 episodes in 2 s, learning rate 0.0015" in source["points"]["nano/10%/qsft"] and "c0ffee" in text


def test_without_points_the_way_to_them_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(BenchError, match=r"no point of Figure 4; `qsft-bench figure 4 --preset smoke --from scratch`"):
        make_figure4(pipeline, "smoke")
    with pytest.raises(BenchError, match=r"no point of the figure is called 'nano/20%'; there are nano/10%/sft"):
        make_figure4(replace(pipeline, source="scratch"), "smoke", only=["nano/20%"])


def test_points_are_chosen_by_name() -> None:
    everything = [trained(point, agent) for point in POINTS for agent in AGENTS]

    def names(*only: str) -> list[str]:
        return [own.name for own in points.chosen(everything, only)]

    assert names() == [own.name for own in everything]
    assert names("real/10%/qsft") == ["real/10%/qsft"]
    assert names("nano", "real/1%") == [f"{place}/{agent}" for place in ("nano/10%", "real/1%") for agent in AGENTS]
    assert names("*/qsft") == [own.name for own in everything if own.cell.agent == "qsft"]
    assert replace(everything[0], cell=replace(everything[0].cell, training_seed=1)).name == "nano/10%/sft/seed1"


# Made by itself -------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(root: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A causal language model of some thousand weights, and the same architecture drawn anew, at the end of a pipeline."""
    model = save_model(root / "model", layers=1, positions=512)
    sizes = replace(
        SIZES, options={"observation": "bound", "action": "word"}, context=400, steps=2, batch_size=4, validation_episodes=2
    )
    made = tuple(
        Point(name, "10%", replace(sizes, model=f"{prefix}{model}")) for name, prefix in (("own", ""), ("new", "random:"))
    )
    monkeypatch.setattr(reproduce, "figure4", lambda preset, spec: Figure4("10%", ("own", "new"), made))
    return Pipeline(root=root, source="scratch")


def test_points_end_to_end(toy: Pipeline) -> None:
    """Trained one by one from a bare folder, published, and drawn from there when the run is gone."""
    found = make_figure4(toy, "smoke", PAIR, only=["own/10%/qsft"])
    assert list(found["agent"]) == ["qsft"] and list(found["n"]) == [4]  # sft was trained for it, and not evaluated
    run = toy.root / "runs" / "smoke" / "figure4"
    assert (run / "figure4.png").exists() and not (toy.root / "results").exists()
    stamps = {path: path.stat().st_mtime_ns for path in run.glob("own/**/*.safetensors")}
    found = make_figure4(replace(toy, publishes=True), "smoke", PAIR)
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}  # nothing is trained twice
    assert list(zip(found["model"], found["agent"], strict=True)) == [(m, agent) for m in ("own", "new") for agent in PAIR]
    assert found["parameters"].nunique() == 1 and list(found["weights"]) == ["pretrained"] * 2 + ["random"] * 2
    source = json.loads((run / "points" / "new" / "10%" / "qsft-seed0.json").read_text())
    assert source["hardware"] and source["versions"]["torch"] and "random weights" in source["model"]
    for folder in ("runs", "data", "model"):
        (toy.root / folder).rename(toy.root / f"{folder}-gone")
    again = make_figure4(Pipeline(root=toy.root), "smoke", PAIR)
    pd.testing.assert_frame_equal(again, found)
    transcripts = pd.read_parquet(toy.results("smoke") / "figure4" / "own" / "10%" / "qsft-seed0.transcripts.parquet")
    assert transcripts["seed"].nunique() == 4


def test_a_point_that_fails_takes_no_other_with_it(toy: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Pipeline.fit

    def fails(self: Pipeline, cell: Cell) -> None:
        if "own" in self.part:
            raise RuntimeError("out of something")
        fit(self, cell)

    monkeypatch.setattr(Pipeline, "fit", fails)
    with pytest.raises(BenchError, match=r"without the points that could not be made: own/10%/sft \(RuntimeError: out of some"):
        make_figure4(toy, "smoke", ["sft"])
    drawn = pd.read_csv(toy.root / "runs" / "smoke" / "figure4" / "figure4.csv")
    assert list(drawn["model"]) == ["new"]
