"""How long `qsft-bench --help` makes people wait."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.row import Row, Target

LIMIT = 0.5  # seconds
REPEATS = 7


def measure(directory: Path) -> list[Row]:
    """Wall time of the command, beside an interpreter that does nothing."""
    command = "from qsft_bench.cli import main; main(['--help'])"  # what the installed script does
    shown, bare = [], []
    for _ in range(REPEATS):
        shown.append(_wall_seconds(command))
        bare.append(_wall_seconds("pass"))
    seconds = median(shown)
    against = f"{LIMIT:g} s (an idle python: {median(bare):.2f} s)"
    return [Row("qsft-bench --help, wall time", f"{seconds:.2f} s", against, seconds / LIMIT, Target("at most", 1))]


def _wall_seconds(command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
