"""Whole or absent, whatever goes wrong in between."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsft_bench.errors import BenchError
from qsft_bench.files import (
    atomic_directory,
    atomic_path,
    file_sha256,
    json_sha256,
    read_json,
    write_json,
    write_tensors,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def full_disk(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_interrupted_file_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(f"qsft_bench.files.os.{call}", full_disk)
    with pytest.raises(BenchError, match=r"cannot write .*file\.json: No space left on device; free some space"):
        write_json(path, {"new": 1})
    monkeypatch.undo()
    assert read_json(path) == {"old": 1}
    assert names(tmp_path) == ["file.json"]


def test_an_error_without_errno_still_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="libfoo: disk on fire"), atomic_path(tmp_path / "file"):
        raise OSError("libfoo: disk on fire")


@pytest.mark.parametrize("write", [lambda path: write_text(path, "x"), lambda path: atomic_directory(path).__enter__()])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, write: Any) -> None:
    (tmp_path / "in_the_way").write_text("a file where a folder should be")
    with pytest.raises(BenchError, match=r"cannot write .*in_the_way.*; choose a folder you may write to"):
        write(tmp_path / "in_the_way" / "target")


def fill(folder: Path, text: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text(text)


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for text in ("first", "second"):
        with atomic_directory(path) as temporary:
            fill(temporary, text)
        assert (path / "sub" / "file").read_text() == text
        assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    fill(path, "old")
    with pytest.raises(type(error)), atomic_directory(path) as temporary:
        fill(temporary, "half")
        raise error
    assert (path / "sub" / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("failing", range(3))
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Whichever of the moves that exchange two folders fails, the old one stands where it stood."""
    path = tmp_path / "folder"
    path.mkdir()
    fill(path, "old")
    moves, move = [0], os.replace

    def breaks(source: Any, target: Any) -> None:
        moves[0] += 1
        if moves[0] - 1 == failing:
            full_disk()
        move(source, target)

    monkeypatch.setattr("qsft_bench.files.os.replace", breaks)
    with pytest.raises(BenchError, match="No space left"), atomic_directory(path) as temporary:
        fill(temporary, "new")
    assert (path / "sub" / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_tensors_come_back_and_a_failure_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.arange(3)}, {"note": "x"})
    assert load_file(path)["a"].tolist() == [0, 1, 2]
    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(BenchError, match="No space left"):
        write_tensors(path, {"a": torch.zeros(3)})
    assert load_file(path)["a"].tolist() == [0, 1, 2]


@given(JSON)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    try:
        write_json(path, value)
    except UnicodeEncodeError:  # a lone surrogate is not text
        return
    assert read_json(path) == value


def test_json_without_nan() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            json_sha256(value)


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), ("{", "cannot be read as JSON"), (b"\xff", "JSON")])
def test_bad_json_is_named(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BenchError, match=rf"x\.json.*{message}"):
        read_json(path)


def test_hashes() -> None:
    """Of the empty string and of `{"a":1,"b":[]}`, by sha256sum."""
    assert json_sha256({"b": [], "a": 1}) == json_sha256(json.loads('{"a": 1, "b": []}'))
    assert json_sha256({"a": 1}) != json_sha256({"a": 2})


def test_file_hash_of_the_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
