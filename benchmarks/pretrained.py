"""Q-SFT beside SFT on a pretrained model, by tuning: memory of the weights, of a step, and the step's time.

The model is `pip:smollm2-135m` where its weights are installed (`make smollm2`), with QSFT_BENCH_MODEL any other; else a small
one from random weights, saved as pretrained ones are. Every measurement has a process of its own, so that its peak is its own,
and the two agents take turns.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.row import Row, Target
from qsft_bench import weights
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell
from qsft_bench.pipeline import Pipeline
from qsft_bench.preset import scale
from qsft_bench.registry import env_spec

STEPS, REPEATS = 5, 3
TARGETS = {"full": 1.40, "lora:16": 1.50, "last:4": 1.25}  # Q-SFT's step in SFT's
PEAK = 1.25  # Q-SFT's peak memory with LoRA, in SFT's with LoRA
MIB = 2**20


def measure(directory: Path) -> list[Row]:
    """For each tuning: the step's time, the memory it takes above the process without a model, and the weights held."""
    model = found_model(directory)
    rows = []
    for tuning, target in TARGETS.items():
        turns = [[_in_a_process(directory, model, tuning, agent) for agent in ("sft", "qsft")] for _ in range(REPEATS)]
        sft, qsft = ({key: median(found[key] for found in all_of) for key in all_of[0]} for all_of in zip(*turns, strict=True))
        name = f"{Path(model).name}, {tuning}"
        rows.append(
            Row(
                f"{name}: Q-SFT step",
                f"{qsft['seconds']:.2f} s",
                f"SFT step: {sft['seconds']:.2f} s, {sft['tokens'] / sft['seconds']:.0f} tokens/s",
                median(found["seconds"] / base["seconds"] for base, found in turns),
                Target("at most", target),
            )
        )
        rows.append(
            Row(
                f"{name}: Q-SFT peak memory",
                f"{qsft['peak'] / MIB:.0f} MiB",
                f"SFT: {sft['peak'] / MIB:.0f} MiB",
                qsft["peak"] / sft["peak"],
                Target("at most", PEAK) if tuning.startswith("lora") else None,
            )
        )
        rows.append(
            Row(
                f"{name}: weights of behaviour, theta and target together",
                f"{qsft['weights'] / MIB:.0f} MiB",
                f"one model: {sft['weights'] / MIB:.0f} MiB",
                qsft["weights"] / sft["weights"],
            )
        )
    return rows


def found_model(directory: Path) -> str:
    """The pretrained model that is measured, see above."""
    named = os.environ.get("QSFT_BENCH_MODEL")
    if named:
        return named
    try:
        weights.package_file("smollm2-135m")
        return "pip:smollm2-135m"
    except BenchError:
        from tests.pretrained import save_model

        return str(save_model(directory / "random", layers=12, positions=1024))


def _in_a_process(directory: Path, model: str, tuning: str, agent: str) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.pretrained", str(directory), model, tuning, agent]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode:
        raise BenchError(f"{' '.join(words)} failed:\n{found.stderr[-2000:]}")
    return dict(json.loads(found.stdout.splitlines()[-1]))


def _resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(directory: Path, model: str, tuning: str, agent: str) -> dict[str, float]:
    """Some steps of one agent on Twenty Questions, in this process: seconds of processor time, tokens, bytes."""
    from baselines.qsft import QSFT, QSFTConfig
    from baselines.sft import SFT, SFTConfig
    from qsft_bench.train import Run, Training

    spec = env_spec("twenty_questions")
    sizes = replace(
        scale("smoke", spec),
        options={},
        dataset_episodes=100,
        context=320,
        model=model,
        tuning=tuning,
        steps=STEPS,
        batch_size=4,
        learning_rate=1e-4,
    )
    data = Pipeline(root=directory, scales={spec.name: sizes}).tokens(Cell("sft", spec.name, preset="smoke"))
    training = Training(optimizer="adamw")
    place = directory / tuning.replace(":", "")

    before, stamps = _resident(), list[float]()
    learner: Any = (
        SFT(SFTConfig(training=training)) if agent == "sft" else QSFT(QSFTConfig(training=training, warm_start="none"))
    )
    learner.diagnose = lambda data: {}  # it would be most of the time
    run = Run(place, sizes, prerequisite=lambda name: SFT.load(place / "sft"), checkpoint_seconds=math.inf)
    run.watch, run.watch_every = lambda step: stamps.append(time.process_time()), 1
    learner.fit(data, run)
    peak = _peak() - before
    held = {p.data_ptr(): p.numel() * p.element_size() for n in learner.networks.values() for p in n.parameters()}
    if agent == "sft":
        learner.save(place / "sft")  # what Q-SFT starts from
    else:
        behaviour = SFT.load(place / "sft")  # the policy it started from, as ILQL, or Q-SFT with another leftover, keep it
        held |= {p.data_ptr(): p.numel() * p.element_size() for p in behaviour.networks["policy"].parameters()}
    view = data.training
    tokens = [int(view.batch(view.order(step, sizes.batch_size, 0)).mask.sum()) for step in range(1, STEPS)]
    return {
        "seconds": median(after - earlier for earlier, after in pairwise(stamps[1:])),
        "tokens": median(tokens),
        "peak": peak,
        "weights": sum(held.values()),
    }


if __name__ == "__main__":
    print(json.dumps(child(Path(sys.argv[1]), *sys.argv[2:])))
