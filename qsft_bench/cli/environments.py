"""Verbs about environments: what there is, what it needs, what its players score, to play it oneself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from qsft_bench.cli.shared import show
from qsft_bench.errors import BenchError


def envs() -> None:
    """List the environments, their columns and what each needs."""
    from rich.table import Table

    from qsft_bench.registry import env_names, env_spec

    table = Table("environment", "columns", "tiers", "needs", "what it is", box=None)
    for name in env_names():
        spec = env_spec(name)
        extra = f"qsft-bench[{spec.extra}]" if spec.extra else "-"
        table.add_row(name, ", ".join(spec.columns), ", ".join(spec.tiers), extra, spec.summary)
    show(table)


def doctor() -> None:
    """Say what is installed, what is missing, and the command that mends it."""
    from qsft_bench.doctor import checks, render

    found = checks(deep=True)
    show(render(found))
    if any(not check.ok and check.required for check in found):
        raise SystemExit(1)


@dataclass(frozen=True)
class Calibrate:
    """Measure what scripted players score in an environment, beside what its tiers declare; or find a behaviour's setting."""

    env: str
    """Environment."""
    tier: tuple[str, ...] = ()
    """Only these tiers."""
    preset: str = "small"
    """Whose environment options the players get."""
    episodes: int = 1_000
    """Dataset seeds that each of them plays, the first ones."""
    temperatures: tuple[float, ...] = ()
    """Temperatures at which the exact behaviour plays besides: what its imitation could reach at best."""
    find: str = ""
    """Find the value of this setting of the behaviour, one tier's, with which the data score `--target` on average."""
    target: float = 0.0
    """A mean score."""
    between: tuple[float, float] = (0.0, 1.0)
    """Where to look for it."""

    def run(self) -> None:
        from rich.table import Table

        from qsft_bench.calibrate import calibrated, measure
        from qsft_bench.preset import scale
        from qsft_bench.registry import env_spec

        spec = env_spec(self.env)
        options, tiers = scale(self.preset, spec).options, self.tier or tuple(spec.tiers)
        if not 1 <= self.episodes <= len(spec.dataset_seeds):
            raise BenchError(f"--episodes {self.episodes} must be at least 1")
        if self.find:
            if len(tiers) != 1:
                raise BenchError(f"--find needs one tier: --tier {' or '.join(tiers)}")
            found = calibrated(spec, tiers[0], options, self.find, self.target, self.between, self.episodes)
            print(f"{spec.name}, {tiers[0]}: {self.find}={found:.4f} scores {self.target:g}")
            return
        table = Table("Tier", "Column", "Player")
        for title in ("Score", "Standard error", "Episodes", "Declared"):
            table.add_column(title, justify="right")
        for each in measure(spec, tiers, options, self.episodes, self.temperatures):
            declared = "" if each.declared is None else f"{each.declared:.3f}{' (differs)' if each.differs else ''}"
            row = (each.tier, each.column, each.player, f"{each.mean:.3f}", f"{each.error:.3f}", str(each.episodes), declared)
            table.add_row(*row)
        show(table)


@dataclass(frozen=True)
class Play:
    """Play an environment yourself, in the terminal; where it can be drawn, a picture of every turn is saved."""

    env: Positional[str]
    """Environment."""
    seed: int | None = None
    """Episode seed; a fresh one if not given."""
    swap: bool = False
    """The environment's solver plays, and you answer it in the environment's place (`done` when it has won)."""
    pictures: Path | None = None
    """Folder for the pictures; runs/play/<environment>-<seed> if not given."""

    def run(self) -> None:
        import random

        from gymnasium import spaces

        from qsft_bench.play import Person, PersonsWorld, Pictured
        from qsft_bench.registry import agent_class, env_spec, make_env
        from qsft_bench.rollout import play

        spec = env_spec(self.env)
        seed = self.seed if self.seed is not None else random.randrange(2**31)
        print(f"{spec.name}: {spec.summary}. Ctrl-C stops. (seed {seed})")
        env: Any = make_env(spec, **({} if self.swap else spec.play))
        player: Any = Person()
        if self.swap:
            player = agent_class("solver").create(spec, "base", {})
            env = PersonsWorld(env.reset(seed=seed)[0], spec.horizon)
        elif "rgb_array" in env.metadata.get("render_modes", ()) and isinstance(env.action_space, spaces.Text):
            folder = self.pictures or Path("runs") / "play" / f"{spec.name}-{seed}"
            env = Pictured(make_env(spec, render_mode="rgb_array"), folder)
        try:
            (episode,) = play(player, [env], [seed], spec.name)
        except (KeyboardInterrupt, EOFError):
            print("\nstopped")
            return
        if not self.swap:
            print(episode.turns[-1].observation, end="")
        print(f"{'won' if episode.success else 'lost'}: return {episode.total_return:g}")
