"""Filtered BC: which episodes it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.filtered_bc import FilteredBC, FilteredBCConfig
from qsft_bench.dataset.tokens import TokenDataset
from tests.baselines import toys


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    return toys.chain_data(tmp_path_factory.mktemp("chain"), episodes=1000)


# Returns of the chain's data: 1 with probability .12, .5 with .4, .4 with .3, 0 with .18.
@pytest.mark.parametrize(("share", "least"), [(0.05, 1.0), (0.2, 0.5), (0.4, 0.5), (0.7, 0.4), (1.0, 0.0)])
def test_the_best_are_kept_and_ties_with_them(data: TokenDataset, share: float, least: float) -> None:
    kept = FilteredBC(FilteredBCConfig(share=share)).select(data)
    assert kept.returns.min() == pytest.approx(least)
    assert len(kept.episodes) == np.count_nonzero(data.returns >= np.float32(least))
    assert len(kept.episodes) >= share * len(data.episodes)


def test_it_imitates_what_is_kept(data: TokenDataset, tmp_path: Path) -> None:
    # Returns of at least .5 are `stop` at once (.4 of the data) and three times `go` (.12), never a later `stop`.
    learner = toys.trained("filtered_bc", data, tmp_path, share=0.3)
    returns = np.array([episode.total_return for episode in toys.walk(learner, range(1000))])
    assert np.mean(returns == 0.5) == pytest.approx(0.4 / 0.52, abs=0.06)
    assert np.mean(returns == 1.0) == pytest.approx(0.12 / 0.52, abs=0.06)
