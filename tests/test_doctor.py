"""The doctor on made-up installations: what it reports, what it tells the user to run, and when it calls a machine well."""

import importlib.metadata
import json
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from rich.console import Console

from qsft_bench import doctor
from qsft_bench.doctor import Check
from qsft_bench.errors import BenchError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution's metadata, and nothing else of it, where Python looks first."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def add(
        name: str, version: str, requires: Sequence[str] = (), extras: Sequence[str] = (), editable: Path | None = None
    ) -> None:
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {line}" for line in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        origin: Mapping[str, Any] = {"url": editable.as_uri(), "dir_info": {"editable": True}} if editable else {}
        (folder / "direct_url.json").write_text(json.dumps(origin))

    return add


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str | BenchError]], None]:
    """Register these environments, name -> its extra or the error that its import raises, and no others."""

    def register(extras: Mapping[str, str | BenchError]) -> None:
        def env_spec(name: str) -> SimpleNamespace:
            extra = extras[name]
            if isinstance(extra, BenchError):
                raise extra
            return SimpleNamespace(extra=extra)

        monkeypatch.setattr(doctor, "env_names", lambda: sorted(extras))
        monkeypatch.setattr(doctor, "env_spec", env_spec)

    return register


def named(found: Sequence[Check], name: str) -> Check:
    (check,) = [check for check in found if check.name == name]
    return check


def test_core_packages_are_held_against_their_bounds(install: Install, environments: Any) -> None:
    environments({})
    install("qsft-bench", "0.1.0", ["qsft-new>=2", "qsft-old>=2", "qsft-gone"])
    install("qsft-new", "2.1")
    install("qsft-old", "1.9")
    found = doctor.checks()
    assert named(found, "qsft-new") == Check("qsft-new", True, "2.1", doctor.install_command(""))
    assert (named(found, "qsft-old").ok, named(found, "qsft-old").found) == (False, "qsft-old 1.9 is not >=2")
    assert (named(found, "qsft-gone").ok, named(found, "qsft-gone").found) == (False, "qsft-gone is not installed")
    assert doctor.exit_code(found) == 1


def test_a_local_build_satisfies_the_bound_on_its_release(install: Install, environments: Any) -> None:
    environments({})
    install("qsft-bench", "0.1.0", ["qsft-torch>=2.13"])
    install("qsft-torch", "2.13.0+cpu")
    assert named(doctor.checks(), "qsft-torch").ok


def test_a_built_environment_needs_its_extra_and_the_others_are_optional(install: Install, environments: Any) -> None:
    environments({"chess": "chess", "wordle": ""})
    requires = ["qsft-chess>=1; extra == 'chess'", "qsft-ray>=2; extra == 'ray'", "qsft-pytest; extra == 'dev'"]
    install("qsft-bench", "0.1.0", requires, extras=["chess", "wordle", "ray", "dev"])
    found = doctor.checks()
    chess = named(found, "environment chess")
    assert (chess.ok, chess.required, chess.found) == (False, True, "qsft-chess is not installed")
    assert chess.mend == f"{sys.executable} -m pip install 'qsft-bench[chess]'"
    assert named(found, "environment wordle") == Check(
        "environment wordle", True, "needs nothing more", doctor.install_command("")
    )
    ray = named(found, "extra ray")
    assert (ray.ok, ray.required) == (False, False)
    assert not any("dev" in check.name or "wordle" in check.name for check in found if check.name.startswith("extra"))


def test_an_extra_that_this_python_cannot_have_says_so(install: Install, environments: Any) -> None:
    environments({"manipulation": "manipulation"})
    install("qsft-bench", "0.1.0", ["qsft-bullet; python_version < '3.0' and extra == 'manipulation'"], extras=["manipulation"])
    check = named(doctor.checks(), "environment manipulation")
    assert not check.ok
    assert check.found.startswith("qsft-bullet has no release for Python 3.")
    assert "Python 3.11" in check.mend
    assert not check.required  # a supported Python without it is not ill


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pybullet has no wheels for this Python")
def test_a_missing_simulator_is_named_with_the_command_that_installs_it(
    environments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the metadata of the real distribution, whose extra has a marker."""
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "pybullet":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    environments({"pick_place": "manipulation"})
    monkeypatch.setattr(importlib.metadata, "version", without)
    check = named(doctor.checks(), "environment pick_place")
    assert (check.ok, check.required, check.found) == (False, True, "pybullet is not installed")
    assert check.mend == doctor.install_command("manipulation")


def test_an_environment_that_does_not_import_is_reported_with_its_reason(install: Install, environments: Any) -> None:
    environments({"broken": BenchError("no module named x")})
    install("qsft-bench", "0.1.0")
    check = named(doctor.checks(), "environment broken")
    assert (check.ok, check.required, check.found) == (False, True, "no module named x")


def test_a_checkout_is_mended_in_place_with_its_constraints(install: Install, tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    install("qsft-bench", "0.1.0", editable=checkout)
    assert doctor.install_command("chess") == f"{sys.executable} -m pip install -e '{checkout}[chess]'"
    (checkout / "constraints.txt").touch()
    command = f"{sys.executable} -m pip install -c '{checkout}/constraints.txt' -e '{checkout}[chess]'"
    assert doctor.install_command("chess") == command


def test_without_an_installation_it_names_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "qsft-bench-not-installed")
    found = doctor.checks()
    check = named(found, "qsft-bench-not-installed")
    assert not check.ok
    assert "make setup" in check.mend
    assert doctor.exit_code(found) == 1


@pytest.mark.parametrize(("version", "ok"), [("3.10.14", False), ("3.11.0", True), ("3.12.9", True), ("3.13.0", False)])
def test_python_versions(version: str, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: version)
    assert named(doctor.checks(), "Python").ok is ok


def test_python_bounds_are_those_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert SpecifierSet(project["requires-python"]) == doctor.PYTHON


@pytest.mark.parametrize("built", [["chess"], []])
def test_stockfish_is_required_only_where_chess_is_built(
    built: list[str], environments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments(dict.fromkeys(built, ""))
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    check = named(doctor.checks(), "stockfish")
    assert (check.ok, check.required) == (False, bool(built))
    assert "apt-get install stockfish" in check.mend
    assert not named(doctor.checks(), "git").required


@pytest.mark.parametrize(
    ("threads", "ok"), [("1", True), ("2", True), ("3", False), ("0", False), ("many", False), (None, False)]
)
def test_threads(threads: str | None, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    if threads is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    check = named(doctor.checks(), "threads")
    assert (check.ok, check.required) == (ok, False)
    assert check.found == f"2 cores, OMP_NUM_THREADS={threads or '(not set)'}"


def test_folders_may_be_missing_and_are_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    check = named(doctor.checks(data=folder), "data folder")
    assert check.ok
    assert str(folder) in check.found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_a_locked_one_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    found = doctor.checks(data=tmp_path / "file" / "wordle")
    assert named(found, "data folder").found == f"{tmp_path / 'file'} is a file"
    assert doctor.exit_code(found) == 1

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert named(doctor.checks(runs=tmp_path), "run folder").found == f"{tmp_path} cannot be written"

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    check = named(doctor.checks(runs=tmp_path), "run folder")
    assert (check.ok, check.found, check.mend) == (
        False,
        f"{tmp_path}, 1.0 GiB free",
        "free 2 GiB there, or name another folder",
    )


def test_only_a_deep_look_asks_torch_for_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch device" not in {check.name for check in doctor.checks()}
    device = named(doctor.checks(deep=True), "torch device")
    assert device.found.startswith(("cpu", "cuda: ", "mps"))
    monkeypatch.setitem(sys.modules, "torch", None)  # what Python does with a module that cannot be imported
    device = named(doctor.checks(deep=True), "torch device")
    assert (device.ok, device.required) == (False, True)
    assert "--force-reinstall" in device.mend


def test_optional_pieces_do_not_make_a_machine_ill() -> None:
    assert doctor.exit_code([Check("a", True, ""), Check("b", False, "", required=False)]) == 0
    assert doctor.exit_code([Check("a", True, ""), Check("b", False, "")]) == 1
    assert doctor.exit_code([]) == 0


def test_the_table_says_what_to_do_beside_what_fails_and_prints_brackets() -> None:
    console = Console(width=120, record=True)
    well = Check("torch", True, "2.13.0", "never shown")
    console.print(
        doctor.render([well, Check("chess", False, "gone", "pip install 'x[chess]'"), Check("ray", False, "", "", False)])
    )
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["ok", "torch", "2.13.0"] in lines
    assert ["missing", "chess", "gone", "pip", "install", "'x[chess]'"] in lines
    assert ["optional", "ray"] in lines
