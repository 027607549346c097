"""Return-conditioned learning: the token that says the return, in training and in play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.return_conditioned import ReturnConditioned, ReturnConditionedConfig
from qsft_bench.tokens import TokenBatch
from tests.baselines import toys


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("chain")
    data = toys.chain_data(directory / "data")
    return data, toys.trained("return_conditioned", data, directory)


def test_every_row_opens_with_its_episodes_return(learned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, learner = learned
    seen = {}

    at = learner.networks["policy"].at

    def seeing(batch: TokenBatch) -> torch.Tensor:
        seen["ids"] = batch.ids
        return at(batch)

    monkeypatch.setattr(learner.networks["policy"], "at", seeing)
    some = data.batch(np.arange(100))
    learner.log_probability(some)
    returns = data.arrays.episode_return[data.windows[:100, 0]]  # the chain's episodes are one row each
    assert seen["ids"][:, 0].tolist() == data.codec.return_token(returns).tolist()
    assert seen["ids"][:, 1:].equal(some.ids[:, 1:])
    assert some.ids[:, 0].unique().tolist() == [1]  # the batch itself still opens with <bos>


# 12% of the episodes return 1, 40% return .5. The mean of the best half, .62, is no return of the data.
@pytest.mark.parametrize(("share", "asked"), [(0.1, 1.0), (0.5, 0.5)])
def test_play_asks_for_a_return_that_occurs(learned: Any, share: float, asked: float, tmp_path: Path) -> None:
    data, _ = learned
    learner = ReturnConditioned(ReturnConditionedConfig(target=share))
    learner.meta, learner.codec = {"return_bounds": (0.0, 1.0)}, data.codec
    learner.build(data, toys.run_in(tmp_path, agent="return_conditioned"))
    assert learner.meta["target_return"] == pytest.approx(asked)
    assert learner.prefix() == data.codec.return_token(asked)


def test_it_does_what_those_episodes_did(learned: Any) -> None:
    _, learner = learned
    returns = [episode.total_return for episode in toys.walk(learner, range(200))]
    assert np.mean(returns) > 0.95  # whoever returned 1 went on three times
    learner.meta["target_return"] = 0.5  # the median episode stopped at once
    other = learner.with_decoding(learner.decoding)
    assert np.mean([episode.total_return == 0.5 for episode in toys.walk(other, range(200))]) > 0.95
    learner.meta["target_return"] = 1.0
