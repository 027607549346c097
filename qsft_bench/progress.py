"""Progress bars with estimates in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 20.0  # between two lines of one stage where there is no terminal


class ProgressDisplay:
    """A `qsft_bench.pipeline.Progress` for people; use it as a context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        if self.console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
            self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
            return
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        if done < total and now - self._printed.get(stage, 0.0) < PLAIN_SECONDS:
            return
        if self._printed.get(stage) == float("inf"):
            return
        self._printed[stage] = now if done < total else float("inf")
        left = f", about {(now - started) / done * (total - done):.0f} s left" if 0 < done < total else ""
        self.console.print(
            f"{stage}: {done}/{total} {note} ({now - started:.0f} s{left})", markup=False, highlight=False, soft_wrap=True
        )
