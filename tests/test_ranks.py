"""Two processes of one launch train as one process does, sharded or not, and each goes on from where another number stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from baselines.sft import SFT, SFTConfig
from qsft_bench import ranks
from qsft_bench.cli import main
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.files import read_json
from qsft_bench.model.precision import computes_bfloat16
from qsft_bench.train import Run, Training
from tests.two_ranks import SCALE, StoppedError, fit, two_blocks

TOLERANCE = 1e-4  # of losses, relative, and of weights, absolute: sums of float32 in another order, eight steps on
HERE = Path(__file__).parents[1]


def launch(*words: str) -> None:
    """Run a module in two processes of one launch."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def folder(smoke_tokens: TokenDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks made, and one process before and after them."""
    folder = tmp_path_factory.mktemp("ranks")
    cache = Path(smoke_tokens.arrays.ids.filename).parent  # type: ignore[attr-defined]
    (folder / "tokens.txt").write_text(str(cache))
    sft = SFT(SFTConfig(training=Training(precision="no")))
    with two_blocks():
        sft.fit(smoke_tokens, Run(folder / "sft", SCALE))
    sft.save(folder / "sft")
    fit(folder, "alone")
    for name in ("one, then two", "one, then sharded"):
        with pytest.raises(StoppedError):
            fit(folder, name, stop=True)
    launch("tests.two_ranks", str(folder))
    for name in ("two, then one", "sharded, then one"):
        fit(folder, name)
    return folder


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_json(folder / "config.json")["meta"]["training"]["history"]]


@pytest.mark.parametrize(
    "name", ["whole", "one, then two", "two, then one", "sharded", "one, then sharded", "sharded, then one"]
)
def test_the_loss_curve_and_the_weights_are_those_of_one_process(folder: Path, name: str) -> None:
    """Of which each took half of every batch, of rows of different lengths: a mean over tokens is not a mean of means."""
    assert losses(folder / name) == pytest.approx(losses(folder / "alone"), rel=TOLERANCE)
    assert len(losses(folder / name)) == SCALE.steps
    for network in ("value", "value_target"):
        found, wanted = (load_file(folder / of / f"{network}.safetensors") for of in (name, "alone"))
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["whole", "sharded"])
def test_the_first_rank_alone_watches_and_diagnoses(folder: Path, name: str) -> None:
    assert read_json(folder / name / "watched.json") == [0, 4, 8]
    found, wanted = (read_json(folder / of / "config.json")["meta"]["training"]["history"][-1] for of in (name, "alone"))
    assert found.keys() == wanted.keys()
    assert found["start_value"] == pytest.approx(wanted["start_value"], abs=TOLERANCE)
    assert found["gradient_norm"] == pytest.approx(wanted["gradient_norm"], rel=1e-3)


def test_the_command_line_trains_in_two_processes(root: Path) -> None:
    """A prerequisite, its dependant, and its decoding; everything is made once."""
    words = ["train", "--agent", "qsft", "--env", "stitching", "--preset", "smoke", "--scale.dataset-episodes", "200"]
    words += ["--scale.steps", "12", "--config.training.precision", "no"]
    main([*words, "--root", "one"])
    launch("qsft_bench.cli", *words, "--root", "two")
    one, two = (root / name / "runs/smoke/stitching" for name in ("one", "two"))
    made, again = ([path.relative_to(of) for path in sorted(of.rglob("*")) if path.is_file()] for of in (one, two))
    assert made == again
    # The prerequisite's precision is its own default, bfloat16 where the processor has it: sums depend on their order more.
    tolerance = 2e-3 if computes_bfloat16("cpu") else TOLERANCE
    for agent in ("sft", "qsft"):
        assert losses(two / "seed0" / agent) == pytest.approx(losses(one / "seed0" / agent), rel=tolerance)
    tried, wanted = (read_json(of / "seed0/qsft/config.json")["meta"]["tuning"]["tried"] for of in (two, one))
    assert len(tried) == len(wanted)


def test_only_training_is_for_several_processes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(["doctor"])
    assert "only `train` is for several processes of one launch; call `qsft-bench doctor` by itself" in capsys.readouterr().err


def test_one_process_is_the_first_and_only_rank() -> None:
    assert (ranks.world_size(), ranks.is_main(), ranks.totals([3, 4])) == (1, True, [3, 4])
    assert ranks.main_does(lambda: "done") == "done"
