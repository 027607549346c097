"""What the verbs share: where work is done, how words become options, how results are shown."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from qsft_bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from qsft_bench.pipeline import Pipeline


@dataclass(frozen=True)
class Where:
    """Folders and machines."""

    root: Path = Path()
    """Folder that holds data/, runs/ and results/."""
    jobs: int = 1
    """Independent tasks at a time, one thread each: shards of data, cells, parts of an evaluation."""
    executor: Literal["process", "ray"] = "process"
    """Where they run: processes of this machine, or Ray (the extra `ray`). What comes out is the same."""
    address: str = ""
    """Ray cluster, e.g. ray://head:10001 or auto; one on this machine if empty. Its machines must share the folder `--root`."""
    device: str = "cpu"
    """Device of training and play: cpu, cuda, cuda:1, ..."""


HERE = Where()


@dataclass(frozen=True)
class Task:
    """What is played."""

    env: str
    """Environment, see `qsft-bench envs`."""
    tier: str = "base"
    """Data recipe: base is the paper's, habit has a low-entropy wrong habit."""
    preset: str = "small"
    """Sizes: smoke, small, standard or paper."""


def parse(options: Any, prog: str, arguments: Sequence[str], description: str | None = None) -> Any:
    """An instance of the dataclass `options` (or the result of the function) from the command line.

    Raises:
        BenchError: an option that it does not have; the nearest are named.
    """
    parsed, unknown = tyro.cli(options, args=list(arguments), prog=prog, description=description, return_unknown_args=True)
    if unknown:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            tyro.cli(options, args=["--help"], prog=prog)
        word = unknown[0].partition("=")[0]
        known = dict.fromkeys(re.findall(r"--[a-z][\w.-]*", shown.getvalue()))
        raise BenchError(f"unknown option {word!r}{did_you_mean(word, known)}")
    return parsed


def make_pipeline(where: Where, **options: Any) -> Pipeline:
    from qsft_bench.pipeline import Pipeline

    return Pipeline(
        root=where.root, jobs=where.jobs, executor=where.executor, address=where.address, device=where.device, **options
    )


@contextlib.contextmanager
def progressing(pipeline: Pipeline) -> Iterator[Pipeline]:
    """The pipeline with a progress display for as long as the block lasts."""
    from qsft_bench import ranks
    from qsft_bench.progress import ProgressDisplay

    with ProgressDisplay() as progress:
        yield replace(pipeline, progress=progress) if ranks.is_main() else pipeline


def show(renderable: Any) -> None:
    """Show it whole: on more columns than the terminal has, if it takes them, for a number that is cut off is none."""
    console = terminal()
    needed = console.measure(renderable, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, needed)
    console.print(renderable)


def terminal() -> Any:
    from rich.console import Console

    return Console()
