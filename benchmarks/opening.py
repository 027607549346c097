"""Opening a dataset and its tokens costs the same whatever their size: nothing is read but what describes them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.row import Row, Target, cpu_seconds
from qsft_bench.dataset.generate import generate, recipe
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import open_tokens, tokenise
from qsft_bench.preset import scale
from qsft_bench.registry import env_spec

SMALL, LARGE = 400, 20_000  # episodes; 50 times, in as many shards
REPEATS = 15


def measure(directory: Path) -> list[Row]:
    """Time and memory of opening the larger one, compared with the smaller one."""
    small, large = (_prepared(directory / str(episodes), episodes) for episodes in (SMALL, LARGE))
    rows = []
    for what, index in (("dataset", 0), ("token cache", 1)):
        times: list[tuple[float, float]] = [(cpu_seconds(small[index]), cpu_seconds(large[index])) for _ in range(REPEATS)]
        few, many = median(pair[0] for pair in times), median(pair[1] for pair in times)
        rows.append(
            Row(
                f"opening a {what} of {LARGE:,} episodes: time",
                f"{many * 1e3:.2f} ms",
                f"of {SMALL} episodes: {few * 1e3:.2f} ms",
                many / few,
                Target("at most", 2),
            )
        )
        low, high = _peak_bytes(small[index]), _peak_bytes(large[index])
        rows.append(
            Row(
                f"opening a {what} of {LARGE:,} episodes: memory",
                f"{high / 1024:.0f} KiB",
                f"of {SMALL} episodes: {low / 1024:.0f} KiB",
                high / low,
                Target("at most", 2),
            )
        )
    return rows


def _prepared(directory: Path, episodes: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Functions that open a dataset of so many episodes and its token cache."""
    spec = env_spec("wordle")
    assert episodes <= 2 * spec.shard_episodes  # one manifest entry a shard: both have two
    sizes = scale("smoke", spec)
    wanted = recipe(spec, "base", sizes)
    wanted = type(wanted)(**{**vars(wanted), "episodes": episodes, "shard_episodes": episodes // 2})
    data = generate(directory / "data", wanted)
    tokenise(data, directory / "tokens", codec=sizes.codec, context=sizes.context, state=spec.state, discount=spec.discount)
    (folder,) = (directory / "tokens").iterdir()
    return lambda: EpisodeDataset(directory / "data"), lambda: open_tokens(folder)


def _peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes allocated at once while `work` runs; memory-mapped files are not allocated."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
