"""Intervals and paired comparisons: what a finite number of episodes and trainings can say about an agent.

The records are a frame with one row an evaluation episode; this module reads `score`, `training_seed`, `episode_seed` and,
where there is one, `cluster` of it: what several episodes share, such as WebShop's instruction. Scores keep their own unit
here (a return, or 0/1 success); nothing is turned into percent.

One rule chooses the interval, and `Interval.over` says which it was:

- one training seed: over episodes. Wilson for 0/1 scores, Student's t for returns. It speaks of this one training. Where
  episodes come in clusters it is Student's t over clusters (`Interval.clusters` says how many).
- two or more: Student's t over the means of the trainings. (With three, a percentile bootstrap's 95% covers 74%.)

Where the sample shows no spread (one value, or t on values that are all equal) there is no interval and the bounds are
NaN: a width of zero would claim a certainty that nobody has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm, t

from qsft_bench.errors import BenchError

CONFIDENCE = 0.95

Over = Literal["episodes", "training seeds"]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval.

    Attributes:
        mean, low, high: in the unit of the scores; `low` and `high` are NaN where the sample shows no spread.
        n: episodes it rests on; in a paired comparison, episode seeds that both agents played.
        seeds: training seeds it rests on.
        over: what varies in it; "episodes" does not say how much another training would differ.
        clusters: groups of episodes that it runs over, 0 where every episode stands for itself.
    """

    mean: float
    low: float
    high: float
    n: int
    seeds: int
    over: Over
    clusters: int = 0

    def scaled(self, factor: float) -> Interval:
        """The same interval in another unit, e.g. 100 times a success rate for percent."""
        return replace(self, mean=self.mean * factor, low=self.low * factor, high=self.high * factor)


def written(mean: float, low: float, high: float, number: Callable[[float], str]) -> str:
    """`mean [low, high]` as `number` writes each; `mean [?]` where there is no interval."""
    bounds = "?" if math.isnan(low) else f"{number(low)}, {number(high)}"
    return f"{number(mean)} [{bounds}]"


def interval(records: pd.DataFrame, *, binary: bool = False, clusters: ArrayLike | None = None) -> Interval:
    """95% interval of the mean score of one agent on one column, from its records.

    Args:
        records: one row an episode; several training seeds weigh the same, however many episodes each has.
        binary: scores are 0/1, so the mean is a success rate.
        clusters: shape (rows,), which rows are not independent of each other (WebShop: episodes of one instruction); the
            interval is then t over clusters. With several training seeds it changes nothing: there the trainings vary.

    Raises:
        BenchError: no records, an episode twice, a score that is missing, or one other than 0 and 1 where `binary`.
    """
    scores = _checked(records, binary)
    by_seed = scores.groupby(records["training_seed"]).mean()
    over: Over = "episodes"
    groups = 0 if clusters is None or len(by_seed) > 1 else _groups(clusters)
    if len(by_seed) > 1:
        over, (mean, low, high) = "training seeds", _student(by_seed.to_numpy())
    elif binary and clusters is None:
        mean, low, high = _wilson(scores.to_numpy())
    else:
        mean, low, high = _student(scores.to_numpy(), clusters)
    if binary:  # a rate cannot leave [0, 1], which t does not know
        low, high = _clip(low, 0), _clip(high, 0)
    return Interval(mean, low, high, n=len(scores), seeds=len(by_seed), over=over, clusters=groups)


def clusters_of(records: pd.DataFrame) -> pd.Series | None:
    """The cluster of each record, or None where they have none."""
    return records["cluster"] if "cluster" in records and records["cluster"].notna().all() else None


def paired(a: pd.DataFrame, b: pd.DataFrame, *, binary: bool = False, over: Over = "episodes") -> Interval:
    """95% interval of the mean score difference, `a` minus `b`, between two agents on the same episodes.

    Rows are matched by episode seed, and by training seed too where both agents have several; an agent with one training
    (or none, like `random`) meets every training of the other. Rows without a partner are left out.

    Over episodes, differences are averaged over training seeds for each episode seed, then: Student's t; or, for 0/1 scores
    and one training seed, Bonett and Price (2012), which adds one to both counts of disagreement, and so gives an honest
    width when two agents never disagree. Episodes of one cluster (`clusters_of`) count as one: t over clusters. It compares
    these very trainings on other episodes. Over training seeds: t over each training's mean difference, which also speaks of
    other trainings, and with two or three is wide.

    Args:
        a, b: records of one agent each, on one column.
        binary: scores are 0/1.
        over: what the interval runs over.

    Raises:
        BenchError: as `interval`; or no common seeds; or fewer than two trainings to run over.
    """
    keys = ["episode_seed"]
    if a["training_seed"].nunique() > 1 and b["training_seed"].nunique() > 1:
        keys.append("training_seed")
    left, right = (frame[["episode_seed", "training_seed"]].assign(score=_checked(frame, binary)) for frame in (a, b))
    pairs = left.merge(right, on=keys, suffixes=("_a", "_b"))
    if pairs.empty:
        raise BenchError("the two agents share no episode and training seeds; evaluate both on the fixed test seeds")
    many = "_a" if a["training_seed"].nunique() > 1 else "_b"
    training = pairs["training_seed" if "training_seed" in keys else f"training_seed{many}"]
    seeds = training.nunique()
    difference = pairs["score_a"] - pairs["score_b"]
    by_episode = difference.groupby(pairs["episode_seed"]).mean()
    found = None if over == "training seeds" else clusters_of(a)
    clusters = None if found is None else by_episode.index.map(found.groupby(a["episode_seed"]).first()).to_numpy()
    values = by_episode.to_numpy()
    if over == "training seeds":
        if seeds < 2:
            raise BenchError("one training seed shows no spread between trainings; train more seeds or compare over episodes")
        mean, low, high = _student(difference.groupby(training).mean().to_numpy())
    elif binary and seeds == 1 and clusters is None:
        mean, low, high = _bonett_price(values)
    else:
        mean, low, high = _student(values, clusters)
    if binary:
        low, high = _clip(low, -1), _clip(high, -1)
    groups = 0 if clusters is None else _groups(clusters)
    return Interval(mean, low, high, n=len(values), seeds=seeds, over=over, clusters=groups)


def _checked(records: pd.DataFrame, binary: bool) -> pd.Series:
    """The scores of `records` as floats, if an interval can be drawn from them."""
    if records.empty:
        raise BenchError("no records; `qsft-bench eval` makes them")
    if records.duplicated(["training_seed", "episode_seed"]).any():
        raise BenchError("records hold the same episode twice (training and episode seed); delete one of the copies")
    scores = records["score"].astype(float)
    if not np.isfinite(scores).all():
        raise BenchError("records hold a score that is missing or infinite; delete those rows and evaluate again")
    if binary and not scores.isin((0.0, 1.0)).all():
        raise BenchError("a success rate needs scores of 0 and 1, records hold others; declare the metric as `return`")
    return scores


def _groups(clusters: ArrayLike) -> int:
    """How many clusters there are; 0 where each holds one value."""
    labels = np.asarray(clusters)
    found = len(np.unique(labels))
    return found if found < len(labels) else 0


def _student(values: np.ndarray, clusters: ArrayLike | None = None) -> tuple[float, float, float]:
    """Mean and t bounds of values whose errors are independent between clusters; by default each value is one.

    The mean weighs every value the same; its variance is that of a ratio, G/(G-1) sum_g (sum_{i in g} (x_i - mean))^2 / N^2
    (Cochran 1977, chapter 9). With clusters of one size this is the t interval of the cluster means.
    """
    mean = float(np.mean(values))
    _, cluster = np.unique(np.arange(len(values)) if clusters is None else np.asarray(clusters), return_inverse=True)
    if len(cluster) != len(values):
        raise BenchError(f"{len(cluster)} cluster labels for {len(values)} records; give one label a record")
    sums = np.bincount(cluster, weights=values - mean)
    count = len(sums)
    if count < 2 or np.ptp(values) <= 1e-12 * max(1.0, abs(mean)):
        return mean, math.nan, math.nan
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(values)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return mean, mean - reach, mean + reach


def _wilson(values: np.ndarray) -> tuple[float, float, float]:
    """Success rate and Wilson score bounds (Wilson 1927)."""
    successes, n = int(values.sum()), len(values)
    if n < 2:
        return float(successes), math.nan, math.nan
    bounds = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return successes / n, float(bounds.low), float(bounds.high)


def _bonett_price(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean and bounds of paired differences in {-1, 0, 1} (Bonett and Price 2012, adjusted Wald)."""
    n = len(differences)
    mean = float(np.mean(differences))
    if n < 2:
        return mean, math.nan, math.nan
    better, worse = ((np.sum(differences == sign) + 1) / (n + 2) for sign in (1, -1))
    centre = float(better - worse)
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt((better + worse - centre**2) / (n + 2))
    return mean, centre - reach, centre + reach


def _clip(bound: float, least: float) -> float:
    return float(np.clip(bound, least, 1.0))  # NaN stays NaN
