"""Intervals against textbook values, hand-made sums and seeded coverage simulations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsft_bench.errors import BenchError
from qsft_bench.stats import Interval, clusters_of, interval, paired


def records(*trainings: Iterable[float], first_seed: int = 0) -> pd.DataFrame:
    """Records of one agent: one sequence of scores a training, played on episode seeds 0, 1, ..."""
    rows = [
        {"training_seed": training, "episode_seed": first_seed + episode, "score": float(score)}
        for training, scores in enumerate(trainings)
        for episode, score in enumerate(scores)
    ]
    return pd.DataFrame(rows, columns=["training_seed", "episode_seed", "score"])


def rate(successes: int, n: int) -> pd.DataFrame:
    return records([1] * successes + [0] * (n - successes))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
        (50, 100, 0.4038, 0.5962),  # style.md: 100 binary episodes, 50% means 40-60%
    ],
)
def test_wilson_textbook_values(successes: int, n: int, low: float, high: float) -> None:
    found = interval(rate(successes, n), binary=True)
    assert found.mean == pytest.approx(successes / n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert (found.n, found.seeds, found.over) == (n, 1, "episodes")


def test_t_interval_by_hand() -> None:
    # mean 3, sample variance 2.5, standard error sqrt(.5), t(.975, 4) = 2.776445
    found = interval(records([1, 2, 3, 4, 5]))
    assert found.mean == 3
    assert (found.low, found.high) == pytest.approx((3 - 2.776445 * math.sqrt(0.5), 3 + 2.776445 * math.sqrt(0.5)), rel=1e-6)


def test_several_trainings_are_the_sample() -> None:
    # means 1, 2, 6: mean 3, sample variance 7, t(.975, 2) = 4.302653
    found = interval(records([0, 2], [2, 2], [5, 7]))
    assert (found.mean, found.low, found.high) == pytest.approx((3, -3.572411, 9.572411))
    assert (found.n, found.seeds, found.over) == (6, 3, "training seeds")


def test_trainings_weigh_the_same_whatever_their_episodes() -> None:
    assert interval(records([0] * 9, [1])).mean == 0.5


def test_success_rate_over_trainings_stays_within_bounds() -> None:
    found = interval(records([1, 1, 1, 1], [1, 1, 0, 1]), binary=True)
    assert found.over == "training seeds"
    assert (found.mean, found.high) == (0.875, 1.0)
    assert found.low == 0.0  # t with one degree of freedom reaches far below


def test_one_value_has_no_interval() -> None:
    for binary in (False, True):
        found = interval(records([1]), binary=binary)
        assert (found.mean, found.n) == (1, 1)
        assert math.isnan(found.low) and math.isnan(found.high)


def test_equal_values_show_no_spread() -> None:
    for frame in (records([-6] * 100), records([0.1] * 3, [0.1] * 7)):
        found = interval(frame)
        assert math.isnan(found.low) and math.isnan(found.high)
    assert interval(rate(100, 100), binary=True).low == pytest.approx(0.963, abs=1e-3)  # Wilson still says something


def test_equal_clusters_are_t_over_their_means() -> None:
    scores = [0.0, 0.2, 0.4, 0.4, 1.0, 0.6]
    found = interval(records(scores), clusters=["a", "a", "b", "b", "c", "c"])
    means = interval(records([0.1, 0.4, 0.8]))
    assert (found.mean, found.low, found.high) == pytest.approx((means.mean, means.low, means.high))
    assert found.n == 6


def test_unequal_clusters_by_hand() -> None:
    # scores 0 0 0 | 4: mean 1, cluster residual sums -3 and 3, variance 2/1 * 18 / 16
    found = interval(records([0, 0, 0, 4]), clusters=[1, 1, 1, 2])
    assert found.high - found.mean == pytest.approx(12.706205 * math.sqrt(2 * 18 / 16), rel=1e-6)
    assert math.isnan(interval(records([0, 1]), clusters=["same", "same"]).low)


def test_each_record_its_own_cluster_changes_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=20)
    assert interval(records(scores), clusters=range(20)) == interval(records(scores))


def test_paired_over_clusters_is_t_over_their_mean_differences() -> None:
    # differences 1 3 | 2 4 | 6 8 by task; within a task they say less than six tasks would
    a, b = records([1, 2, 6, 3, 4, 8]), records([0.0] * 6)
    found = paired(a.assign(cluster=[0, 1, 2, 0, 1, 2]), b.assign(cluster=[0, 1, 2, 0, 1, 2]))
    by_hand = interval(records([2, 3, 7]))
    assert (found.mean, found.low, found.high) == pytest.approx((by_hand.mean, by_hand.low, by_hand.high))
    assert (found.n, found.clusters, found.over) == (6, 3, "episodes")
    alone = paired(a, b)
    assert alone.clusters == 0 and alone.high - alone.low < found.high - found.low


def test_paired_rates_over_clusters_stay_rates() -> None:
    a, b = rate(9, 12).assign(cluster=[0, 1, 2] * 4), rate(1, 12).assign(cluster=[0, 1, 2] * 4)
    found = paired(a, b, binary=True)
    assert -1 <= found.low <= found.mean <= found.high <= 1 and found.clusters == 3


def test_clusters_are_read_from_the_records() -> None:
    frame = records([1, 2])
    assert clusters_of(frame) is None
    assert clusters_of(frame.assign(cluster=[0, math.nan])) is None  # of another environment beside
    found = clusters_of(frame.assign(cluster=[4, 5]))
    assert found is not None and found.tolist() == [4, 5]


def test_cluster_labels_must_match() -> None:
    with pytest.raises(BenchError, match="3 cluster labels for 2 records"):
        interval(records([0, 1]), clusters=[1, 2, 3])


@pytest.mark.parametrize("draw", ["normal", "bernoulli"])
def test_coverage_over_episodes(draw: str) -> None:
    generator = np.random.default_rng(20)
    truth, hits = 0.0 if draw == "normal" else 0.8, 0
    for _ in range(200):
        scores = generator.normal(size=10) if draw == "normal" else generator.random(30) < truth
        found = interval(records(scores), binary=draw == "bernoulli")
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 200 <= 0.985


def test_coverage_over_three_trainings() -> None:
    """Trainings differ more than their episodes do: the interval covers only because trainings are the sample."""
    generator = np.random.default_rng(3)
    hits = pooled = 0
    for _ in range(200):
        scores = generator.normal(size=(3, 1)) + generator.normal(size=(3, 20))
        found = interval(records(*scores))
        hits += found.low <= 0 <= found.high
        single = interval(records(scores.ravel()))
        pooled += single.low <= 0 <= single.high
    assert 0.91 <= hits / 200 <= 0.985
    assert pooled / 200 < 0.7


def test_paired_t_by_hand() -> None:
    # differences 1 2 3: mean 2, standard error sqrt(1/3), t(.975, 2) = 4.302653
    found = paired(records([11, 22, 33]), records([10, 20, 30]))
    assert (found.mean, found.low, found.high) == pytest.approx((2, -0.484138, 4.484138))
    assert (found.n, found.seeds, found.over) == (3, 1, "episodes")


def test_pairing_removes_what_the_episodes_share() -> None:
    generator = np.random.default_rng(1)
    level = generator.normal(scale=10, size=50)
    a, b = records(level + 1 + generator.normal(scale=0.1, size=50)), records(level)
    found, alone = paired(a, b), interval(a)
    assert 0.9 < found.low < found.mean < found.high < 1.1
    assert found.high - found.low < (alone.high - alone.low) / 20


def test_only_common_seeds_are_compared() -> None:
    found = paired(records([5, 5, 1, 2]), records([0, 1, 99], first_seed=2))
    assert (found.n, found.mean) == (2, 1.0)
    with pytest.raises(BenchError, match="share no episode and training seeds"):
        paired(records([1, 2]), records([1, 2], first_seed=2))


def test_trainings_are_matched_and_averaged() -> None:
    a, b = records([1, 2, 3], [3, 4, 8]), records([0, 0, 0], [2, 2, 2])  # differences 1 2 3 and 1 2 6
    found = paired(a, b)
    assert (found.mean, found.n, found.seeds, found.over) == (2.5, 3, 2, "episodes")
    by_hand = interval(records([1, 2, 4.5]))
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


def test_paired_over_trainings() -> None:
    a, b = records([1, 2, 3], [3, 4, 8]), records([0, 0, 0], [2, 2, 2])  # mean differences 2 and 3
    found = paired(a, b, over="training seeds")
    assert (found.mean, found.n, found.seeds, found.over) == (2.5, 3, 2, "training seeds")
    assert found.high - found.mean == pytest.approx(12.706205 * 0.5, rel=1e-6)
    with pytest.raises(BenchError, match="train more seeds"):
        paired(records([1, 2]), records([2, 1]), over="training seeds")


def test_an_untrained_agent_meets_every_training() -> None:
    found = paired(records([1, 2], [3, 4]), records([0, 0]))
    assert (found.mean, found.n, found.seeds) == (2.5, 2, 2)
    assert paired(records([0, 0]), records([1, 2], [3, 4])).mean == -2.5


def test_single_trainings_with_different_seeds_match_by_episode() -> None:
    other = records([0, 1, 5]).assign(training_seed=7)
    assert paired(records([1, 1, 1]), other).n == 3


def test_bonett_price_by_hand() -> None:
    # a wins 12 of 100, loses 4: (13 - 5)/102 -+ 1.959964 sqrt((18/102 - (8/102)^2)/102)
    a = records([1] * 12 + [0] * 4 + [1] * 84)
    b = records([0] * 12 + [1] * 4 + [1] * 84)
    found = paired(a, b, binary=True)
    reach = 1.959964 * math.sqrt((18 / 102 - (8 / 102) ** 2) / 102)
    assert found.mean == pytest.approx(0.08)
    assert (found.low, found.high) == pytest.approx((8 / 102 - reach, 8 / 102 + reach), abs=1e-7)


def test_agents_that_never_disagree_may_still_differ() -> None:
    found = paired(rate(50, 100), rate(50, 100), binary=True)
    assert found.mean == 0
    assert found.low == pytest.approx(-found.high) == pytest.approx(-1.959964 * math.sqrt(2 / 102**2), rel=1e-6)


@pytest.mark.parametrize(
    ("frame", "binary", "message"),
    [
        (records(), False, "no records"),
        (pd.concat([records([1, 2]), records([1])]), False, "same episode twice"),
        (records([1, math.nan]), False, "missing or infinite"),
        (records([1, 0.5]), True, "needs scores of 0 and 1"),
    ],
)
def test_records_that_cannot_be_used(frame: pd.DataFrame, binary: bool, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        interval(frame, binary=binary)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-6, 0), min_size=2, max_size=12), st.randoms())
def test_order_does_not_matter_and_the_mean_lies_inside(scores: list[int], random: Random) -> None:
    found = interval(records(scores))
    if len(set(scores)) > 1:
        assert found.low < found.mean < found.high
    shuffled = records(scores).sample(frac=1, random_state=random.randrange(2**31))
    assert interval(shuffled).mean == pytest.approx(found.mean)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_symmetric_and_inside_the_unit_interval(case: tuple[int, int]) -> None:
    successes, n = case
    found, mirror = interval(rate(successes, n), binary=True), interval(rate(n - successes, n), binary=True)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.low == pytest.approx(1 - mirror.high)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_swapping_the_agents_flips_the_sign(outcomes: list[tuple[bool, bool]]) -> None:
    a, b = (records(column) for column in zip(*outcomes, strict=True))
    for binary in (False, True):
        forth, back = paired(a, b, binary=binary), paired(b, a, binary=binary)
        assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low), nan_ok=True)
        if binary:
            assert -1 <= forth.low <= forth.mean <= forth.high <= 1


def test_scaled_to_percent() -> None:
    assert Interval(0.5, 0.25, 0.75, 10, 1, "episodes").scaled(100) == Interval(50, 25, 75, 10, 1, "episodes")
