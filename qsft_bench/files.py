"""Files that are either whole or absent, and hashes that identify what is in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qsft_bench.errors import BenchError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file path beside `path`, moved onto it if the block succeeds and removed if it does not.

    Raises:
        BenchError: the folder cannot be written, or the disk is full; whatever stood at `path` is untouched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise BenchError(f"cannot write {path}: {_reason(error)}; choose a folder you may write to") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {_reason(error)}; free some space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place if the block succeeds and is removed if it does not.

    Raises:
        BenchError: as `atomic_path`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    except OSError as error:
        raise BenchError(f"cannot write {path}: {_reason(error)}; choose a folder you may write to") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        temporary.chmod(0o755)
        try:
            os.replace(temporary, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _exchange(temporary, path)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {_reason(error)}; free some space or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, path: Path) -> None:
    """Put the folder `new` where the folder `path` stands, which is put back if that fails."""
    old = new.with_suffix(".old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _reason(error: OSError) -> str:
    """What went wrong, in words; libraries raise OSErrors without an errno."""
    return error.strerror or str(error)


def write_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically.

    Raises:
        BenchError: as `atomic_path`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused because JSON has neither."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BenchError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read as JSON ({error}); delete it and make it again") from error


def check_free(folder: Path, mark: Path, same: Callable[[Any], bool]) -> None:
    """Refuse to replace anything but an earlier writing of the same, of which `mark`, a JSON file in `folder`, is the proof.

    Raises:
        BenchError: there is something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    found = read_json(mark) if mark.is_file() else None
    if not isinstance(found, dict) or not same(found):
        raise BenchError(f"{folder} holds something else; remove it or choose another folder")


def copy_file(source: Path, target: Path) -> None:
    """Replace `target` by a copy of `source`, whole or not at all."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def cache_folder(name: str) -> Path:
    """Where what can be made again is kept, by `name`: in `$QSFT_BENCH_CACHE`, else ~/.cache/qsft-bench; it may not exist."""
    return Path(os.environ.get("QSFT_BENCH_CACHE") or Path.home() / ".cache" / "qsft-bench") / name


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of the canonical JSON form of `value` (sorted keys, no spaces), hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
