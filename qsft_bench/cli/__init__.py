"""The command line: `qsft-bench VERB`. Verbs only; what they do lives in the modules they call."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qsft_bench.cli.agents import agent_options, agents, evaluate, inspect, train, watch
from qsft_bench.cli.data import DataExport, DataGenerate, DataImport, DataList, DataShow, DataVerify
from qsft_bench.cli.environments import Calibrate, Play, doctor, envs
from qsft_bench.cli.results import Ablation, Check, FigureVerb, PlanVerb, Separation, Stability, TableVerb
from qsft_bench.cli.shared import parse
from qsft_bench.errors import BenchError, did_you_mean


@dataclass(frozen=True)
class Verb:
    """A word after `qsft-bench`: a dataclass with `run`, a function without options, or more verbs."""

    summary: str
    run: Callable[[str, Sequence[str]], None]


def _plain(function: Callable[[], None]) -> Verb:
    def run(prog: str, arguments: Sequence[str]) -> None:
        parse(_Nothing, prog, arguments, function.__doc__)
        function()

    return Verb(_first_line(function), run)


@dataclass(frozen=True)
class _Nothing:
    """The options of a verb that has none."""


def _options_class(cls: Any) -> Verb:
    def run(prog: str, arguments: Sequence[str]) -> None:
        parse(cls, prog, arguments).run()

    return Verb(_first_line(cls), run)


def _agent_verb(name: str, function: Callable[[Any], None]) -> Verb:
    def run(prog: str, arguments: Sequence[str]) -> None:
        function(agent_options(name, prog, _first_line(function), arguments))

    return Verb(_first_line(function), run)


def _group(summary: str, verbs: dict[str, Verb]) -> Verb:
    return Verb(summary, lambda prog, arguments: _dispatch(prog, summary, verbs, arguments))


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _dispatch(prog: str, summary: str, verbs: dict[str, Verb], arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, verbs))
        listing = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in verbs.items())
        print(f"usage: {prog} VERB [options]\n\n{summary}\n\n{listing}\n\n`{prog} VERB --help` shows a verb's options.")
        return
    if arguments[0] == "--version":
        from qsft_bench import __version__

        print(__version__)
        return
    if arguments[0] not in verbs:
        raise BenchError(f"unknown verb {arguments[0]!r}{did_you_mean(arguments[0], verbs)}")
    if arguments[0] != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BenchError(f"only `train` is for several processes of one launch; call `{prog} {arguments[0]}` by itself")
    verbs[arguments[0]].run(f"{prog} {arguments[0]}", arguments[1:])


VERBS = {
    "envs": _plain(envs),
    "agents": _plain(agents),
    "data": _group(
        "Datasets of behaviour.",
        {
            "generate": _options_class(DataGenerate),
            "list": _options_class(DataList),
            "show": _options_class(DataShow),
            "verify": _options_class(DataVerify),
            "import": _options_class(DataImport),
            "export": _options_class(DataExport),
        },
    ),
    "train": _agent_verb("train", train),
    "eval": _agent_verb("eval", evaluate),
    "inspect": _agent_verb("inspect", inspect),
    "watch": _agent_verb("watch", watch),
    "table": _options_class(TableVerb),
    "separation": _options_class(Separation),
    "ablation": _options_class(Ablation),
    "stability": _options_class(Stability),
    "figure": _options_class(FigureVerb),
    "plan": _options_class(PlanVerb),
    "check": _options_class(Check),
    "calibrate": _options_class(Calibrate),
    "play": _options_class(Play),
    "doctor": _plain(doctor),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `qsft-bench`."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: independent work runs side by side instead
    try:
        _dispatch(
            "qsft-bench",
            "An offline-RL benchmark suite built around Q-SFT.",
            VERBS,
            sys.argv[1:] if arguments is None else arguments,
        )
    except BenchError as error:
        print(f"qsft-bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nqsft-bench: stopped; finished work is kept, the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
