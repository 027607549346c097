"""Run all benchmarks, or the named ones, and print one table."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

from qsft_bench.errors import BenchError, did_you_mean

BENCHMARKS = (
    *("wordle", "twenty_questions", "chess", "webshop", "alfworld", "manipulation"),
    *("training_step", "pretrained", "decoding", "opening", "workers", "startup"),
)


def main(names: list[str]) -> None:
    """Measure and print.

    Raises:
        BenchError: there is no benchmark of that name.
    """
    from rich.console import Console
    from rich.table import Table

    for name in names:
        if name not in BENCHMARKS:
            raise BenchError(f"unknown benchmark {name!r}{did_you_mean(name, BENCHMARKS)}")
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a core is what everything here is measured on
    from qsft_bench.pipeline import hardware

    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown"
    caption = f"{hardware()}; {load}. Processor time on one core unless a row says wall time; medians of repeats."
    table = Table("what", "measured", "compared with", "ratio", "target", "", caption=caption, caption_justify="left")
    errors = Console(stderr=True)
    for name in names or BENCHMARKS:
        errors.print(f"{name} ...")
        with tempfile.TemporaryDirectory(prefix="qsft-bench-") as folder:
            for row in importlib.import_module(f"benchmarks.{name}").measure(Path(folder)):
                target = "" if row.target is None else str(row.target)
                table.add_row(row.what, row.measured, row.against, f"{row.ratio:.2f}", target, row.verdict)
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        raise SystemExit(f"benchmarks: {error}") from None
