"""Verbs that take an agent and an environment; the agent's own dataclasses give `--config.*` and `--decoding.*`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, arg

from qsft_bench.cli.shared import HERE, Task, Where, make_pipeline, parse, progressing, show
from qsft_bench.errors import BenchError

if TYPE_CHECKING:
    from qsft_bench.evaluate import Cell
    from qsft_bench.pipeline import Pipeline
    from qsft_bench.spec import EnvSpec


def agents() -> None:
    """List the agents and what each must be trained after."""
    from rich.table import Table

    from qsft_bench.registry import agent_class, agent_names

    table = Table("agent", "trained after", "what it is", box=None)
    for name in agent_names():
        cls = agent_class(name)
        table.add_row(name, ", ".join(cls.prerequisites) or "-", cls.summary)
    show(table)


def train(options: Any) -> None:
    """Train one agent (and first whatever it starts from); under `accelerate launch` or `torchrun`, by all their processes."""
    from qsft_bench import ranks
    from qsft_bench.registry import agent_class
    from qsft_bench.token_agent import TokenAgent

    pipeline, cell = _cell(options)
    if not issubclass(agent_class(cell.agent), TokenAgent):
        raise BenchError(
            f"{cell.agent} has nothing to train; play it with `qsft-bench eval --agent {cell.agent} --env {cell.env}`"
        )
    ranks.join(pipeline.device)
    with progressing(pipeline) as running:
        directory = running.checkpoint(cell)
        if options.publish:
            directory = ranks.main_does(lambda: running.publish(cell))
    if ranks.is_main():
        print(f"{cell}: {directory}")


def evaluate(options: Any) -> None:
    """Evaluate one agent in one environment on the fixed test seeds; makes first what is missing."""
    from qsft_bench.registry import env_spec
    from qsft_bench.stats import clusters_of
    from qsft_bench.stats import interval as interval_of

    pipeline, cell = _cell(options)
    spec = env_spec(cell.env)
    with progressing(pipeline) as running:
        records = running.records(cell, options.episodes)
    for column, found in records.groupby("column"):
        interval = interval_of(found, binary=spec.metric == "success", clusters=clusters_of(found))
        unit = "mean return" if spec.metric == "return" else "success rate"
        print(
            f"{cell.agent} on {column} ({cell.preset}): {unit} {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
            end=" ",
        )
        tasks = f" of {interval.clusters} tasks" if interval.clusters else ""
        print(f"(95% over {interval.over}, n={interval.n}{tasks})")


def inspect(options: Any) -> None:
    """Play one test episode and show the value of every token and what the agent weighed instead."""
    from qsft_bench.files import write_text
    from qsft_bench.registry import env_spec
    from qsft_bench.report.inspect import decisions, page, terminal
    from qsft_bench.rollout import play_episodes
    from qsft_bench.token_agent import TokenAgent

    pipeline, cell = _cell(options)
    spec = env_spec(cell.env)
    seed = _test_seed(spec, options.episode)
    with progressing(pipeline) as running:
        agent, origin = running.player(cell)
    if not isinstance(agent, TokenAgent):
        raise BenchError(f"{cell.agent} chooses whole actions and weighs no tokens; inspect a learned agent")
    (episode,) = play_episodes(agent, spec, origin.options, [seed])
    found = list(decisions(agent, episode))
    show(terminal(episode, found))
    if options.html is not None:
        write_text(options.html, page(f"{cell}, test episode {options.episode}", episode, found))
        print(f"written to {options.html}")


def watch(options: Any) -> None:
    """Film an agent at one test episode: what the environment draws beside the agent's value of every step."""
    from qsft_bench.registry import env_spec
    from qsft_bench.watch import check_draws, check_film, film, pictures, write_film

    spec = env_spec(options.task.env)
    check_draws(spec)
    check_film(options.out)
    seed = _test_seed(spec, options.episode)
    pipeline, cell = _cell(options)
    with progressing(pipeline) as running:
        agent, origin = running.player(cell)
    shot = film(agent, spec, origin.options, seed)
    write_film(options.out, pictures(shot, f"{cell.agent}\n{cell.task}, test episode {options.episode}"), shot.fps)
    verdict = "success" if shot.episode.success else "no success"
    print(f"{options.out}: {shot.episode.length} steps, {verdict}, return {shot.episode.total_return:g}")


def _test_seed(spec: EnvSpec, episode: int) -> int:
    if not 0 <= episode < len(spec.test_seeds):
        raise BenchError(f"{spec.name} has test episodes 0 to {len(spec.test_seeds) - 1}, not {episode}")
    return spec.test_seeds[episode]


PLAY = "Choose the decoding and draw the learning curve; --no-play trains where the environment is not installed."


SHARDED = "Share the weights out among the processes of `accelerate launch` (FSDP), where one device cannot hold them."


def agent_options(verb: str, prog: str, summary: str, arguments: Sequence[str]) -> Any:
    """Parse `train` or `eval`: the agent's own dataclasses give `--config.*` and `--decoding.*`, the preset `--scale.*`."""
    from qsft_bench.preset import scale
    from qsft_bench.registry import agent_class, env_spec

    asks_help = "-h" in arguments or "--help" in arguments
    first, _ = tyro.cli(_Choice, args=[word for word in arguments if word not in ("-h", "--help")], return_unknown_args=True)
    if not (first.agent and first.env):
        if asks_help:
            tyro.cli(_Choice, args=["--help"], prog=prog, description=f"{summary} Name both to see all that can be set.")
        raise BenchError(f"say who plays what: `{prog} --agent AGENT --env ENV`; see `qsft-bench agents` and `qsft-bench envs`")
    cls: Any = agent_class(first.agent)
    spec = env_spec(first.env)
    sizes = scale(first.preset, spec)
    sizes = replace(sizes, options={**sizes.options, **own_defaults(spec, sizes.options, arguments)})
    fields: list[Any] = [
        ("agent", str),
        ("task", OmitArgPrefixes[Task]),
        ("training_seed", int, 0),
        ("where", OmitArgPrefixes[Where], HERE),
        ("scale", type(sizes), sizes),
        ("data", Path | None, None),
        (
            "model",
            Annotated[
                str,
                arg(
                    help="Short for --scale.model: size name, pretrained folder, hub name, pip:<package>; random:<one of them>."
                ),
            ],
            "",
        ),
    ]
    if hasattr(cls, "config_for"):
        config = cls.config_for(spec.name, first.agent.partition("@")[2])
        fields.append(("config", type(config), config))
    if verb == "train":
        fields += [
            ("play", Annotated[bool, arg(help=PLAY)], True),
            ("trackers", tuple[str, ...], ()),
            ("publish", bool, False),
            ("sharded", Annotated[bool, arg(help=SHARDED)], False),
        ]
    else:
        fields += [("train", bool, True)]
        number = ("episode", Annotated[int, arg(help="Which of the test episodes, from 0.")], 0)
        own: dict[str, list[Any]] = {
            "eval": [("episodes", int | None, None)],
            "inspect": [number, ("html", Annotated[Path | None, arg(help="Also write a page to look at in a browser.")], None)],
            "watch": [number, ("out", Annotated[Path, arg(help="Film to write: .gif or .mp4.")], Path("episode.gif"))],
        }
        fields += own[verb]
        if any(word.startswith("--decoding.") for word in arguments):
            fields.append(("decoding", cls.decoding_type, cls.default_decoding or cls.decoding_type()))
    return parse(make_dataclass(verb, fields, frozen=True), prog, arguments, summary)


def own_defaults(spec: EnvSpec, options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """What the environment's options are that `arguments` set and the preset's `options` lack: only these become the cell's."""
    prefix = "--scale.options."
    names = {word.removeprefix(prefix).partition("=")[0].replace("-", "_") for word in arguments if word.startswith(prefix)}
    if names <= options.keys():
        return {}
    from qsft_bench.registry import env_defaults

    return {name: value for name, value in env_defaults(spec).items() if name in names - options.keys() and value is not None}


@dataclass(frozen=True)
class _Choice:
    """What decides which further options there are."""

    agent: str = ""
    """Agent, see `qsft-bench agents`."""
    env: str = ""
    """Environment, see `qsft-bench envs`."""
    preset: str = "small"
    """Sizes: smoke, small, standard or paper."""


def _cell(options: Any) -> tuple[Pipeline, Cell]:
    from qsft_bench import ranks
    from qsft_bench.dataset.store import EpisodeDataset
    from qsft_bench.evaluate import Cell
    from qsft_bench.registry import env_spec

    task, sizes, tier, datasets = options.task, options.scale, options.task.tier, {}
    if options.model:
        sizes = replace(sizes, model=options.model)
    env = env_spec(task.env).name
    if options.data is not None:  # its own name for what it holds, and the options under which play speaks its language
        made = EpisodeDataset(options.data).manifest.recipe
        if made.env != env:
            raise BenchError(f"{options.data} is data of {made.env}, not of {env}")
        sizes, tier, datasets = replace(sizes, options=dict(made.options)), made.tier, {env: options.data}
    pipeline = make_pipeline(
        options.where,
        train=getattr(options, "train", True),
        play=getattr(options, "play", True),
        scales={env: sizes},
        datasets=datasets,
        configs={options.agent: options.config} if hasattr(options, "config") else {},
        decodings={options.agent: options.decoding} if hasattr(options, "decoding") else {},
        trackers=getattr(options, "trackers", ()),
        sharded=getattr(options, "sharded", False),
    )
    cell = Cell(options.agent, env, tier, task.preset, options.training_seed)
    missing = pipeline.missing(cell) if pipeline.train else []
    if missing and ranks.is_main():
        print(f"to make first: {', '.join(missing)}; each is kept, and goes on from where it was stopped", file=sys.stderr)
    return pipeline, cell
