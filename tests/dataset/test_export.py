"""What is exported is opened by the tool it is for, and is the same episodes."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qsft_bench.cli import main
from qsft_bench.dataset.export import COLUMNS, export_hf, export_minari, hf_card
from qsft_bench.dataset.generate import generate
from qsft_bench.dataset.store import (
    CONTROL_SCHEMA,
    PICTURE_SCHEMA,
    SCHEMA,
    EpisodeDataset,
    Recipe,
    make_manifest,
    table_from_episodes,
    write_manifest,
    write_shard,
)
from qsft_bench.errors import BenchError
from qsft_bench.files import read_json
from tests.examples import WORDS, control_episode, dataset_of, episode, picture_episode, same

ARM = Recipe("pick_place", "qsft_bench/PickPlace-v0", "base", {"bins": 5}, {"noise": 0.1}, 3, 7, 2)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def other(tmp_path: Path) -> EpisodeDataset:
    """Three episodes under another manifest."""
    return generate(tmp_path / "other", replace(WORDS, episodes=3, shard_episodes=3))


@pytest.fixture
def arm(tmp_path: Path) -> EpisodeDataset:
    """Three episodes of images and control vectors, in two shards."""
    folder = tmp_path / "arm"
    folder.mkdir()
    episodes = [control_episode(length, seed, success=seed == 1) for seed, length in enumerate((4, 1, 3))]
    shards = [write_shard(folder, 0, 0, episodes[:2]), write_shard(folder, 1, 2, episodes[2:])]
    write_manifest(folder / "manifest.json", make_manifest(ARM, shards))
    return EpisodeDataset(folder)


# Hugging Face ---------------------------------------------------------------------------------------------------------


def test_hf_is_the_same_rows_for_pandas_and_for_us(smoke_dataset: EpisodeDataset, tmp_path: Path) -> None:
    out = tmp_path / "hf"
    export_hf(smoke_dataset, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "00000.parquet",
        "00001.parquet",
        "00002.parquet",
        "README.md",
        "card.md",
        "manifest.json",
    ]
    rows = pd.read_parquet(sorted(out.glob("*.parquet")))
    wanted = table_from_episodes(smoke_dataset.episodes(), 0).to_pandas()
    pd.testing.assert_frame_equal(rows, wanted)
    ours = EpisodeDataset(out)
    ours.verify()
    assert ours.manifest == smoke_dataset.manifest


def test_hf_is_opened_by_datasets(smoke_dataset: EpisodeDataset, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export_hf(smoke_dataset, tmp_path / "hf")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].column_names == SCHEMA.names
    assert loaded["train"].to_list() == table_from_episodes(smoke_dataset.episodes(), 0).to_pylist()


def test_the_card_says_which_files_are_the_data_and_what_the_columns_are(smoke_dataset: EpisodeDataset, tmp_path: Path) -> None:
    export_hf(smoke_dataset, tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    head = card.split("---\n")[1]
    assert 'configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "[0-9]*.parquet"\n' in head
    assert f"content hash: `{smoke_dataset.manifest.content}`" in card
    assert set(COLUMNS) == {*SCHEMA.names, *PICTURE_SCHEMA.names, *CONTROL_SCHEMA.names}
    assert re.findall(r"^\| `(\w+)` \|", card, re.MULTILINE) == SCHEMA.names
    assert "tags:\n- offline-rl\n- text\n" in head and "decompress" not in card
    turns = table_from_episodes(smoke_dataset.episodes(), 0).num_rows
    assert f"\n{turns} rows, one a turn." in card


def test_the_card_of_images_shows_how_to_read_them(arm: EpisodeDataset, tmp_path: Path) -> None:
    out = tmp_path / "hf"
    export_hf(arm, out)
    card = (out / "README.md").read_text()
    assert "tags:\n- offline-rl\n- robotics\n" in card
    assert re.findall(r"^\| `(\w+)` \|", card, re.MULTILINE) == CONTROL_SCHEMA.names
    _, snippet = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    assert "qsft_bench" not in snippet
    for file, episodes in (("00000", [0, 1]), ("00001", [2])):
        found: list[Any] = []
        names: dict[str, Any] = {"found": found}
        lines = snippet.replace("path/to/this/folder/00000", str(out / file)) + "    found.append(images)\n"
        exec(lines, names)
        wanted = [one for number, one in enumerate(arm.episodes()) if number in episodes]
        for images, one in zip(found, wanted, strict=True):
            assert np.array_equal(images, np.stack([turn.observation["image"] for turn in one.turns]))
    assert EpisodeDataset(out).manifest == arm.manifest


@pytest.mark.parametrize(
    ("actions", "category"),
    [(1, "n<1K"), (998, "n<1K"), (999, "1K<n<10K"), (123_456, "100K<n<1M"), (10**9, "n>1B")],
)
def test_size_categories(tmp_path: Path, actions: int, category: str) -> None:
    shard = replace(write_shard(tmp_path, 0, 0, [episode(["o", "p"], ["a"])]), turns=actions)
    assert f"size_categories:\n- {category}\n" in hf_card(make_manifest(WORDS, [shard]), "", SCHEMA.names)


def test_a_damaged_dataset_is_not_exported(other: EpisodeDataset, tmp_path: Path) -> None:
    (other.directory / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(BenchError, match=r"00000\.parquet was truncated or altered"):
        export_hf(other, tmp_path / "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_the_card_of_text_with_images(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "data", [picture_episode(2, seed) for seed in range(2)])
    export_hf(dataset, tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "tags:\n- offline-rl\n- text\n- image\n" in card and "decompress" in card
    assert re.findall(r"^\| `(\w+)` \|", card, re.MULTILINE) == PICTURE_SCHEMA.names
    EpisodeDataset(tmp_path / "hf").verify()


# Minari ---------------------------------------------------------------------------------------------------------------


def minari() -> Any:
    pytest.importorskip("h5py")
    return pytest.importorskip("minari")


def test_minari_opens_the_same_episodes(smoke_dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = minari()
    steps: list[tuple[int, int]] = []
    name = export_minari(smoke_dataset, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert (name, steps) == ("wordle-base-v0", [(0, 60), (60, 60)])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    loaded = tool.load_dataset(name)
    wanted = list(smoke_dataset.episodes())
    assert (loaded.total_episodes, loaded.total_steps) == (60, sum(one.length for one in wanted))
    metadata = list(loaded.storage.get_episode_metadata(range(60)))
    for found, meta, one in zip(loaded.iterate_episodes(), metadata, wanted, strict=True):
        taken = one.turns[: one.length]
        assert meta["seed"] == one.seed
        assert list(found.observations) == [turn.observation for turn in one.turns]
        assert list(found.actions) == [turn.action for turn in taken]
        assert found.rewards.tolist() == [turn.reward for turn in taken]
        assert found.terminations.tolist() == [False] * (one.length - 1) + [True]
        assert found.truncations.tolist() == [False] * one.length
        assert found.infos["success"].tolist() == [False] * one.length + [one.success]
        assert [text.decode() or None for text in found.infos["invalid"]] == [None, *(turn.invalid for turn in taken)]
        likelihoods = [math.nan, *(turn.log_likelihood for turn in taken)]
        assert all(map(same, found.infos["log_likelihood"].tolist(), likelihoods))
        assert all(text in loaded.observation_space for text in found.observations)
        assert all(text in loaded.action_space for text in found.actions)
    stored = loaded.storage.metadata
    assert stored["content"] == smoke_dataset.manifest.content
    assert stored["recipe"]["behaviour"] == {"consistent": 0.315}
    env = loaded.recover_environment()
    assert env.reset(seed=wanted[0].seed)[0] == wanted[0].turns[0].observation
    assert env.step(wanted[0].turns[0].action)[0] == wanted[0].turns[1].observation


def test_minari_opens_the_same_images(arm: EpisodeDataset, tmp_path: Path) -> None:
    tool = minari()
    name = export_minari(arm, tmp_path / "minari")
    assert name == "pick_place-base-v0"
    loaded = tool.MinariDataset(tmp_path / "minari" / name / "data")
    image, proprio = loaded.observation_space["image"], loaded.observation_space["proprio"]
    assert (image.shape, image.dtype, image.low.min(), image.high.max()) == ((12, 12, 3), np.uint8, 0, 255)
    assert (proprio.shape, proprio.dtype) == ((3,), np.float32)
    assert (loaded.action_space.shape, loaded.action_space.dtype) == ((2,), np.float32)
    assert (loaded.action_space.low.tolist(), loaded.action_space.high.tolist()) == ([-1, -1], [1, 1])
    for found, one in zip(loaded.iterate_episodes(), arm.episodes(), strict=True):
        for key, kind in (("image", np.uint8), ("proprio", np.float32)):
            wanted = np.stack([turn.observation[key] for turn in one.turns])
            assert found.observations[key].dtype == kind and np.array_equal(found.observations[key], wanted)
        assert found.actions.dtype == np.float32
        assert np.array_equal(found.actions, np.stack([turn.action for turn in one.turns[:-1]]))
        assert found.rewards.tolist() == [turn.reward for turn in one.turns[:-1]]
        assert found.infos["success"].tolist() == [False] * one.length + [one.success]
        seen = {key: values[0] for key, values in found.observations.items()}
        assert seen in loaded.observation_space and found.actions[0] in loaded.action_space
    assert loaded.spec.env_spec.id == ARM.env_id and loaded.spec.env_spec.kwargs == {"bins": 5}


def test_minari_opens_text_with_images(tmp_path: Path) -> None:
    tool = minari()
    dataset = dataset_of(tmp_path / "data", [picture_episode(length, seed) for seed, length in enumerate((2, 5))])
    dataset.manifest = replace(dataset.manifest, recipe=ARM)  # an environment that there is
    loaded = tool.MinariDataset(tmp_path / "minari" / export_minari(dataset, tmp_path / "minari") / "data")
    for found, one in zip(loaded.iterate_episodes(), dataset.episodes(), strict=True):
        assert list(found.observations["text"]) == [turn.observation["text"] for turn in one.turns]
        assert np.array_equal(found.observations["image"], np.stack([turn.observation["image"] for turn in one.turns]))
        assert list(found.actions) == [turn.action for turn in one.turns[:-1]]
        seen = {"text": found.observations["text"][0], "image": found.observations["image"][0]}
        assert seen in loaded.observation_space and found.actions[0] in loaded.action_space


def test_minari_takes_the_first_episodes_and_what_ends_otherwise(tmp_path: Path) -> None:
    tool = minari()
    whole = [
        episode(["o\n", "é p\n", ""], ["a\n", "b\n"], [0.5, -2.0], truncated=True, terminated=False),
        episode(["o\n", "p\n"], ["a\n"], [1.0], success=True),
        episode(["o\n", "p\n"], ["longer than the others\n"], [1.0]),
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    write_manifest(folder / "manifest.json", make_manifest(WORDS, [write_shard(folder, 0, 0, whole)]))
    name = export_minari(EpisodeDataset(folder), tmp_path / "minari", episodes=2)
    loaded = tool.MinariDataset(tmp_path / "minari" / name / "data")
    first, second = loaded.iterate_episodes()
    assert list(first.observations) == ["o\n", "é p\n", ""]
    assert (first.rewards.tolist(), first.terminations.tolist()) == ([0.5, -2.0], [False, False])
    assert first.truncations.tolist() == [False, True]
    assert (second.truncations.tolist(), second.infos["success"].tolist()) == ([False], [False, True])
    assert loaded.action_space.max_length == 2
    with pytest.raises(BenchError, match="export at least one episode"):
        export_minari(EpisodeDataset(folder), tmp_path / "none", episodes=0)


def test_a_text_that_hdf5_cannot_hold(tmp_path: Path) -> None:
    minari()
    folder = tmp_path / "data"
    folder.mkdir()
    shard = write_shard(folder, 0, 0, [episode(["nul \0", "end"], ["a"])])
    write_manifest(folder / "manifest.json", make_manifest(WORDS, [shard]))
    with pytest.raises(BenchError, match=r"data cannot be written as HDF5: .*NULL"):
        export_minari(EpisodeDataset(folder), tmp_path / "minari")
    assert not list((tmp_path / "minari").iterdir())


def test_without_minari(smoke_dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BenchError, match=r"cannot write Minari's format: .*h5py.*; pip install 'qsft-bench\[minari\]'"):
        export_minari(smoke_dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Both -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["hf", "minari"])
def test_only_an_export_of_the_same_dataset_is_replaced(
    form: str, smoke_dataset: EpisodeDataset, other: EpisodeDataset, tmp_path: Path
) -> None:
    if form == "minari":
        minari()

    def export(dataset: EpisodeDataset) -> None:
        export_hf(dataset, out) if form == "hf" else export_minari(dataset, out)

    out = tmp_path / "out"
    export(other)
    export(other)
    before = files(out)
    with pytest.raises(BenchError, match=r"holds something else; remove it or choose another folder"):
        export(smoke_dataset)
    assert files(out) == before
    out = tmp_path / "letters"
    place = out if form == "hf" else out / "wordle-base-v0"
    place.mkdir(parents=True)
    (place / "letter.txt").write_text("dear")
    with pytest.raises(BenchError, match="holds something else"):
        export(other)
    assert files(out) == {str((place / "letter.txt").relative_to(out)): b"dear"}


def test_not_into_the_dataset_itself(other: EpisodeDataset) -> None:
    before = files(other.directory)
    for out in (other.directory, other.directory / "hf", other.directory.parent, other.directory / ".." / "other"):
        with pytest.raises(BenchError, match="are one in the other; export to a folder outside the dataset"):
            export_hf(other, out)
    assert files(other.directory) == before


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command(other: EpisodeDataset, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "export", "hf", str(other.directory), "hf"])
    assert capsys.readouterr().out == "hf: open it with datasets.load_dataset('hf')\n"
    assert EpisodeDataset(root / "hf").manifest == other.manifest
    for arguments, message in (
        (["hf", "hf", "more", "--episodes", "2"], "hf exports whole shards; leave out --episodes"),
        (["hf", "nowhere", "more"], "nowhere holds no dataset"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["data", "export", *arguments])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.startswith(f"qsft-bench: {message}")


def test_the_command_for_minari(other: EpisodeDataset, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minari()
    main(["data", "export", "minari", str(other.directory), "minari", "--episodes", "2"])
    said = "open it with minari.load_dataset('wordle-base-v0'), under MINARI_DATASETS_PATH=minari"
    assert capsys.readouterr().out == f"minari/wordle-base-v0: {said}\n"
    found = read_json(root / "minari" / "wordle-base-v0" / "data" / "metadata.json")
    assert (found["total_episodes"], found["dataset_id"]) == (2, "wordle-base-v0")
    assert json.loads(found["observation_space"])["type"] == "Text"
