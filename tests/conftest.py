"""What many tests share: hypothesis profiles, and a dataset small enough to be made once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from qsft_bench.dataset.generate import generate
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.dataset.tokens import TokenDataset, tokenise
from tests.examples import CHARACTERS, WORDS

settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("nightly", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
torch.set_num_threads(1)
os.environ.setdefault("RAY_worker_niceness", "0")  # else a worker waits for the tests beside it


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept to be faster goes to an empty folder, not to the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSFT_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory, so that nothing is written into the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def smoke_dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """60 Wordle episodes in 3 shards; a word is an action of one token. Read only."""
    return generate(tmp_path_factory.mktemp("smoke") / "data", WORDS)


@pytest.fixture(scope="session")
def smoke_tokens(smoke_dataset: EpisodeDataset) -> TokenDataset:
    """The same as tokens."""
    return tokens_of(smoke_dataset, "words")


@pytest.fixture(scope="session")
def letter_tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    """40 Wordle episodes as characters: actions of several tokens."""
    return tokens_of(generate(tmp_path_factory.mktemp("letters") / "data", CHARACTERS), "characters")


def tokens_of(dataset: EpisodeDataset, codec: str) -> TokenDataset:
    return tokenise(dataset, dataset.directory.parent / "tokens", codec=codec, context=160, state="transcript", discount=1.0)
