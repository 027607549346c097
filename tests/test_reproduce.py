"""The tables in results/, from records to files, and the one that the README shows."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from qsft_bench.pipeline import Pipeline
from qsft_bench.preset import scale
from qsft_bench.registry import env_names, env_spec
from qsft_bench.reproduce import make_ablation, make_separation, make_table, separation_tasks
from qsft_bench.tables import TABLES
from tests.examples import TINY

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def pipeline(root: Path) -> Pipeline:
    small = {name: replace(scale("smoke", env_spec(name)), evaluation_episodes=4) for name in env_names()}
    return Pipeline(root=root, scales=small | {"wordle": TINY})


def test_a_table_is_written_with_its_records_and_where_they_came_from(pipeline: Pipeline) -> None:
    make_table(pipeline, 1, "smoke", ("random", "behaviour"))
    results = pipeline.results("smoke")
    cells = pd.read_csv(results / "table1.csv").set_index(["agent", "column"])
    records = pd.read_parquet(results / "records" / "wordle" / "behaviour-seed0.parquet")
    assert cells.loc[("behaviour", "Wordle"), "mean"] == pytest.approx(records["score"].mean())
    assert cells.loc[("behaviour", "Wordle"), "n"] == len(records) == TINY.evaluation_episodes
    assert (results / "records" / "wordle" / "behaviour-seed0.transcripts.parquet").exists()
    assert {path.suffix for path in results.glob("table1.*")} == {".md", ".csv", ".json", ".tex"}
    assert json.loads((results / "provenance.json").read_text())["table1"]["hardware"]
    assert "not built yet" not in (results / "table1.md").read_text()
    if find_spec("alfworld") and find_spec("fast_downward"):  # each of its episodes is of one of the six types
        assert cells.loc["behaviour"].loc[list(TABLES[1][3:]), "n"].sum() == 4


def test_separation_stands_beside_the_table(pipeline: Pipeline) -> None:
    make_table(pipeline, 1, "smoke", ("random",))
    make_separation(pipeline, "smoke", ("random",))
    results = pipeline.results("smoke")
    cells = pd.read_csv(results / "separation.csv")
    assert set(cells["column"]) >= {"Wordle habit", "20Q habit", "Stitching"}
    assert set(json.loads((results / "provenance.json").read_text())) == {"table1", "separation"}
    assert (results / "paired.csv").exists()


def test_a_preset_may_show_some_of_the_tiers() -> None:
    shown = {preset: {(spec.name, tier) for spec, tier in separation_tasks(preset)} for preset in ("smoke", "small")}
    assert shown["smoke"] >= {("wordle", "habit"), ("twenty_questions", "habit"), ("stitching", "base")}
    assert ("wordle", "base") not in shown["smoke"] | shown["small"]
    limited = {name: scale("small", env_spec(name)).tiers for name in env_names()}
    assert all(tier in limited[name] for name, tier in shown["small"] if limited[name])


@pytest.mark.nightly
def test_ablation_compares_every_variant_and_every_decoding(pipeline: Pipeline) -> None:
    table = make_ablation(pipeline, "qsft", "wordle", "habit", "smoke")
    results = pipeline.results("smoke")
    assert {cell.agent for cell in table.cells if cell.interval} >= {
        "sft",
        "sft_greedy",
        "sft_temp",
        "qsft",
        "qsft@paper",
        "qsft@mc",
    }
    assert (results / "qsft_ablation.png").stat().st_size > 1000
    assert len(pd.read_csv(results / "qsft_decodings.csv")) == 40


def test_the_readme_shows_the_committed_tables() -> None:
    """Committed: a reader's own `make table1` may have put other numbers into the working tree since."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    readme = _committed("README.md")
    for name in ("table1", "separation"):
        shown = readme.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0].strip()
        assert shown and shown in _committed(f"results/small/{name}.md")


def _committed(path: str) -> str:
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return shown.stdout
