"""Learning curves: recorded while agents train, summed up in numbers that can be checked by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from baselines.sft import SFT
from qsft_bench.curves import Curve, configurations, read_curve, stability, summarise, whole
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell
from qsft_bench.pipeline import Pipeline
from qsft_bench.registry import env_spec
from qsft_bench.reproduce import make_stability
from qsft_bench.train import Run
from tests.examples import BOUND, TINY

SPEC = env_spec("wordle")


def evaluations(agent: str, seed: int, scores: list[list[float]], before: int = 0) -> pd.DataFrame:
    """Records of one training: `scores[k]` are the episodes of the evaluation at step 10 k."""
    rows = [
        {"agent": agent, "column": "Wordle", "training_seed": seed, "episode_seed": e, "score": x, "step": 10 * k}
        for k, evaluation in enumerate(scores)
        for e, x in enumerate(evaluation)
    ]
    return pd.DataFrame(rows).assign(steps_before=before)


RECORDS = pd.concat(
    [
        evaluations("sft", 0, [[-6, -6], [-2, -4], [-4, -4]]),
        evaluations("sft", 1, [[-6, -4], [-4, -2], [-1, -3]]),
        evaluations("qsft", 0, [[-4, -4], [-2, -2]], before=20),
    ]
)


def test_steadiness_by_hand() -> None:
    found = stability(RECORDS).set_index("agent")
    assert found.loc["sft", ["seeds", "first", "last"]].tolist() == [2, -5.5, -3]
    assert found.loc["sft", "spread"] == pytest.approx(2**0.5)  # of -4 and -2
    assert found.loc["sft", "fall"] == 0.5  # 1 in the first training (-3 to -4), none in the second
    assert found.loc["qsft", "fall"] == 0


def test_a_summary_counts_the_steps_of_the_agent_started_from() -> None:
    found = summarise(RECORDS)
    assert found[found["agent"] == "qsft"]["updates"].tolist() == [20, 30]
    last = found[(found["agent"] == "sft") & (found["step"] == 20)].iloc[0]
    assert (last["mean"], last["n"], last["seeds"]) == (-3, 4, 2)
    assert last["ci_low"] == pytest.approx(-3 - 12.7062, abs=1e-3)  # t of one degree of freedom, standard error 1


def test_an_interrupted_training_replaces_what_it_plays_again(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    agent = SFT()
    agent.meta = {"identity": {}, "dataset": "d", "return_bounds": [-6, 0]}
    agent.meta |= {key: smoke_tokens.meta["recipe"][key] for key in ("context", "state")}
    agent.codec = smoke_tokens.codec
    agent.build(smoke_tokens, Run(tmp_path, TINY))
    curve = Curve(tmp_path / "c.parquet", Cell("sft", "wordle"), SPEC, BOUND, SPEC.validation_seeds[:2], 5, "commit")
    for step in (0, 10, 20, 10, 20):
        curve.add(agent, step)
    records = read_curve(curve.path, 20)
    assert records.groupby(["agent", "step"]).size().to_dict() == {
        (name, step): 2 for name in ("sft", "sft_greedy") for step in (0, 10, 20)
    }
    assert set(records["steps_before"]) == {5}
    with pytest.raises(BenchError, match="ends at step 20 of 30"):
        read_curve(curve.path, 30)
    free = set(records["config_hash"])
    agent.meta["constrained"], agent._decoder = True, None
    curve.add(agent, 0)  # trained anew, to choose among what is listed: another configuration
    assert not free & set(pd.read_parquet(curve.path)["config_hash"])
    assert whole(curve.path, 0, configurations(SFT, curve.cell, {}, BOUND, True))
    assert not whole(curve.path, 0, configurations(SFT, curve.cell, {}, BOUND, False))
    assert set(pd.read_parquet(curve.path)["step"]) == {0}


def test_stability_trains_what_is_missing_and_draws_it(root: Path) -> None:
    pipeline = Pipeline(root=root, scales={"wordle": TINY})
    found = make_stability(pipeline, "wordle", "base", "smoke", ("sft", "qsft"), 2).set_index("agent")
    assert found.index.tolist() == ["sft", "sft_greedy", "qsft"] and set(found["seeds"]) == {2}
    results = pipeline.results("smoke")
    assert {path.suffix for path in results.glob("stability.*")} == {".md", ".csv", ".png", ".pdf"}
    records = pd.read_parquet(results / "curves/wordle/sft-seed1.parquet")
    assert set(records["step"]) == {0, 2, 4, 6} and set(records["episode_seed"]) == set(SPEC.validation_seeds[:4])
    curve = pd.read_csv(results / "stability.csv").set_index(["agent", "step"])
    assert curve.loc[("qsft", 0), "updates"] == 6  # it goes on where sft ended
    both = pd.concat([records, pd.read_parquet(results / "curves/wordle/sft-seed0.parquet")])
    last = both[(both["agent"] == "sft") & (both["step"] == 6)]
    assert curve.loc[("sft", 6), "mean"] == pytest.approx(last["score"].mean())
    shutil.rmtree(root / "runs")
    shutil.rmtree(root / "data")
    again = make_stability(pipeline, "wordle", "base", "smoke", ("sft", "qsft"), 2).set_index("agent")
    assert again.equals(found) and not (root / "runs").exists()  # the curves beside the results are enough


def test_a_checkpoint_that_was_not_watched_is_an_error_that_names_the_way_out(root: Path) -> None:
    pipeline = Pipeline(root=root, scales={"wordle": TINY})
    cell = Cell("sft", "wordle", preset="smoke")
    pipeline.checkpoint(cell)
    pipeline.curve_path(cell).unlink()
    with pytest.raises(BenchError, match="remove the checkpoint"):
        pipeline.curves([cell])
