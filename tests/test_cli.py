"""The command line as a person meets it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from qsft_bench.cli import VERBS, main
from qsft_bench.cli.agents import own_defaults
from qsft_bench.dataset.store import EpisodeDataset
from qsft_bench.registry import env_spec
from tests.examples import TINY, control_data, control_episode

GROUPS = {"data": ("generate", "list", "show", "verify", "import", "export")}
SMALL = [
    word
    for name, value in asdict(TINY).items()
    if isinstance(value, int) and not isinstance(value, bool)
    for word in (f"--scale.{name.replace('_', '-')}", str(value))
]
TASK = ["--env", "wordle", "--preset", "smoke"]


def refused(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """What is said on standard error, checked to be one line without a traceback and exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.startswith("qsft-bench: ") and said.count("\n") == 1, said
    return said.removeprefix("qsft-bench: ").rstrip("\n")


def test_any_option_of_an_environment_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that the preset does not name; then it is an option of the cell, and no other is."""
    words = [*TASK, "--agent", "sft"]
    with pytest.raises(SystemExit):
        main(["eval", *words, "--scale.options.rules", "official", "--help"])
    assert "--scale.options.rules STR" in capsys.readouterr().out
    spec = env_spec("wordle")
    assert own_defaults(spec, {"action": "word"}, ["--scale.options.rules", "official", "--scale.options.action=word"]) == {
        "rules": "lmrl"
    }
    assert refused(capsys, ["eval", *words, "--scale.options.rule", "x"]).startswith("unknown option")


# Cheap to start, easy to find one's way -------------------------------------------------------------------------------


def test_asking_for_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "accelerate", "pandas", "pyarrow", "scipy", "gymnasium", "matplotlib", "numpy")
    code = (
        "import sys\n"
        "from qsft_bench.cli import main\n"
        "main(['--help'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def every_verb() -> list[list[str]]:
    return [[verb] for verb in VERBS if verb not in GROUPS] + [
        [group, verb] for group, verbs in GROUPS.items() for verb in verbs
    ]


@pytest.mark.parametrize("verb", every_verb(), ids=" ".join)
def test_every_verb_explains_itself(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*verb, "--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert said.startswith(f"usage: qsft-bench {' '.join(verb)}")


@pytest.mark.parametrize("verb", ["train", "eval"])
@pytest.mark.parametrize("agent", ["sft", "qsft", "ilql"])
def test_an_agents_own_settings_are_explained(verb: str, agent: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--agent", agent, *TASK, "--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    for option in ("--scale.steps", "--config.training.optimizer", "--jobs", "--root", "--tier"):
        assert option in said
    assert ("--config.expectile" in said) == (agent == "ilql")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_verbs_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS)
    main(["data", *arguments])
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in GROUPS["data"])


def test_every_command_that_is_named_exists() -> None:
    """In the pages, and in what messages and docstrings tell a person to call."""
    root = Path(__file__).parents[1]
    sources = [path for name in ("qsft_bench", "envs", "baselines", "benchmarks") for path in root.glob(f"{name}/**/*.py")]
    pages = [root / "README.md", root / "CONTRIBUTING.md", *root.glob("docs/*.md")]
    found = [words for path in (*pages, *sources) for words in re.findall(r"`qsft-bench ([a-z]+) ?([a-z]*)", path.read_text())]
    found += [words for path in pages for words in re.findall(r"(?m)^qsft-bench ([a-z]+) ?([a-z]*)", path.read_text())]
    named = {(verb, action if verb in GROUPS else "") for verb, action in found}
    assert named >= {("eval", ""), ("data", "generate"), ("data", "import")}
    assert {(verb, action) for verb, action in named if verb not in VERBS or action not in ("", *GROUPS.get(verb, ()))} == set()


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    from qsft_bench import __version__

    main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    main(["envs"])
    assert "wordle" in capsys.readouterr().out
    main(["agents"])
    said = capsys.readouterr().out
    assert all(name in said for name in ("qsft", "sft_greedy", "random"))


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evall"], "unknown verb 'evall'; did you mean eval?"),
        (["data", "lits"], "unknown verb 'lits'; did you mean list?"),
        (["eval", "--agent", "qstf", *TASK], "unknown agent 'qstf'; did you mean qsft"),
        (["train", "--agent", "sft", "--env", "wordl"], "unknown environment 'wordl'; did you mean wordle"),
        (
            ["eval", "--agent", "sft", "--env", "wordle", "--preset", "smol"],
            "unknown preset 'smol'; did you mean smoke or small",
        ),
        (["eval", "--agent", "sft", *TASK, "--scale.step", "3"], "unknown option '--scale.step'; did you mean --scale.steps"),
        (["eval", "--agent", "sft", *TASK, "--epsiodes=3"], "unknown option '--epsiodes'; did you mean --episodes"),
        (["table", "1", "--presets", "smoke"], "unknown option '--presets'; did you mean --preset"),
        (["data", "list", "--rot", "x"], "unknown option '--rot'; did you mean --root"),
        (["agents", "--all"], "unknown option '--all'; "),
        (["data", "generate", "--env", "wordl"], "unknown environment 'wordl'; did you mean wordle"),
        (["data", "generate", "--env", "wordle", "--preset", "smol"], "unknown preset 'smol'"),
        (["play", "wordl"], "unknown environment 'wordl'; did you mean wordle"),
        (["eval", "--agent", "sft"], "say who plays what: `qsft-bench eval --agent AGENT --env ENV`"),
        (["eval", "--agent", "random", *TASK, "--tier", "hard"], "wordle has no tier 'hard'; it has base, habit"),
        (["eval", "--agent", "random", *TASK, "--episodes", "0"], "wordle has 1000000 test seeds: ask for 1 to"),
        (["train", "--agent", "random", *TASK], "random has nothing to train"),
        (["eval", "--agent", "sft", *TASK, "--decoding.temperature", "0"], "a temperature of 0.0 is not above 0"),
        (["watch", "--agent", "random", *TASK], "wordle draws nothing to watch"),
        (["watch", "--agent", "random", "--env", "pick-place", "--out", "a.avi"], "a.avi: a film is a .gif or an .mp4"),
        (["watch", "--agent", "random", "--env", "pick-place", "--episode", "-1"], "pick_place has test episodes 0 to"),
        (["figure", "3", "--preset", "smoke", "--agents", "sfft"], "unknown agent 'sfft'; did you mean sft"),
        (["figure", "3", "--publish"], "--only and --publish are of figure 4"),
        (
            ["figure", "4", "--preset", "smoke", "--from", "scratch", "--only", "nani"],
            "no point of the figure is called 'nani'",
        ),
        (["figure", "4", "--preset", "smoke"], "results/smoke/figure4 holds no point of Figure 4; "),
        (["figure", "4", "--preset", "smoke", "--agents", "random"], "random does not train"),
        (["data", "show", "nowhere"], "nowhere holds no dataset; make one with `qsft-bench data generate`"),
    ],
)
def test_one_line_with_the_nearest_names(
    arguments: list[str], message: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, arguments)
    assert said.startswith(message)
    assert not (root / "runs").exists() or not list((root / "runs").rglob("*.parquet"))


def test_ctrl_c_says_that_work_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qsft_bench.registry.agent_names", stop)
    with pytest.raises(SystemExit) as stopped:
        main(["agents"])
    assert stopped.value.code == 130
    assert "finished work is kept" in capsys.readouterr().err


# Data -----------------------------------------------------------------------------------------------------------------


def test_data_from_generation_to_verification(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "generate", *TASK, "--episodes", "30"])
    folder = Path("data/smoke/wordle")
    manifest = EpisodeDataset(folder).manifest
    said = capsys.readouterr().out
    assert f"30 episodes, mean return {manifest.mean_return:.3f}, content {manifest.content[:12]}" in said

    main(["data", "list"])
    assert str(folder) in (said := capsys.readouterr().out)
    assert manifest.content[:12] in said

    main(["data", "verify", str(folder)])
    assert "2 shards, 30 episodes, all as the manifest says" in capsys.readouterr().out

    main(["data", "show", str(folder), "--episode", "16", "--count", "2"])
    said = capsys.readouterr().out
    episodes = list(EpisodeDataset(folder).episodes())
    for number in (16, 17):
        assert f"episode {number}, seed {episodes[number].seed}, return {episodes[number].total_return:g}" in said
        for turn in episodes[number].turns[:-1]:
            assert f"saw {turn.observation!r}, did {turn.action!r}, got {turn.reward:g}" in said
    assert "episode 18" not in said

    shard = folder / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert f"{shard} was truncated or altered" in refused(capsys, ["data", "verify", str(folder)])


def test_images_and_numbers_are_shown_in_brief(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control_data(root, [control_episode(2, seed, success=seed == 0) for seed in range(2)])
    episode, _ = EpisodeDataset(root).episodes()
    main(["data", "show", str(root)])
    said = capsys.readouterr().out.splitlines()
    assert said[-4] == f"episode 0, seed {episode.seed}, return 1"
    for line, turn, ending in zip(said[-3:], episode.turns, (", got 0", ", got 1", None), strict=True):
        seen = " ".join(f"{number:+.2f}" for number in turn.observation["proprio"])
        did = "" if ending is None else ", did " + " ".join(f"{number:+.2f}" for number in turn.action) + ending
        assert line == f"  saw image 12x12, {seen}{did}"


def test_an_episode_that_is_not_there(smoke_dataset: EpisodeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, ["data", "show", str(smoke_dataset.directory), "--episode", "60"])
    assert said == "there is no episode 60: the dataset has 0 to 59"


# Play, train, evaluate ------------------------------------------------------------------------------------------------


def scripted(monkeypatch: pytest.MonkeyPatch, lines: Sequence[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_a_person_wins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from qsft_bench.registry import env_spec, make_env

    env = make_env(env_spec("wordle"), privileged=True)
    word = env.reset(seed=11)[1]["word"]
    scripted(monkeypatch, ["zzzzz", word])
    main(["play", "wordle", "--seed", "11"])
    said = capsys.readouterr().out
    assert "[not a word of the list]" in said
    assert said.rstrip().endswith("won: return -1")


def test_a_person_answers_the_solver(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scripted(monkeypatch, ["what?", "b b b b b", "done"])
    main(["play", "wordle", "--swap"])
    assert capsys.readouterr().out.rstrip().endswith("won: return -2")


def test_a_person_loses_or_leaves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scripted(monkeypatch, ["zzzzz"] * 6)
    main(["play", "wordle", "--seed", "11"])
    assert capsys.readouterr().out.rstrip().endswith("lost: return -6")
    scripted(monkeypatch, ["zzzzz"])
    main(["play", "wordle", "--seed", "11"])
    assert capsys.readouterr().out.rstrip().endswith("stopped")


def test_from_nothing_to_a_score(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a newcomer types first; then what is there is used, and another folder is chosen."""
    command = ["eval", "--agent", "sft_greedy", *TASK, *SMALL]
    assert "there is no checkpoint of sft_greedy on wordle" in refused(capsys, [*command, "--no-train"])
    main(command)
    captured = capsys.readouterr()
    assert captured.out.startswith("sft_greedy on Wordle (smoke): mean return -")
    assert captured.out.rstrip().endswith("(95% over episodes, n=12)")
    assert "train sft on wordle" in captured.err
    main([*command, "--no-train"])
    assert capsys.readouterr().out == captured.out
    assert "no checkpoint" in refused(capsys, [*command, "--no-train", "--root", "elsewhere"])


def test_training_on_data_from_elsewhere(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    games = [
        {"sequence": [["Wordle:\n", 0.0], ["h o v e l\n", 1.0], ["g g g g g\n", 0.0]], "reward": [0.0, 0.0], "done": True},
        {
            "sequence": [["Wordle:\n", 0.0], *([["a b o v e\n", 1.0], ["b b b b b\n", 0.0]] * 6)],
            "reward": [-1.0, 0.0] * 6,
            "done": True,
        },
    ]
    Path("games.jsonl").write_text("".join(json.dumps(game) + "\n" for game in games * 20))
    main(["data", "import", "lmrl", "wordle", "games.jsonl"])
    assert "40 episodes, 0 skipped" in capsys.readouterr().out
    command = ["eval", "--agent", "sft", *TASK, *SMALL, "--scale.codec", "characters", "--scale.context", "160"]
    main([*command, "--data", "data/imported/wordle"])
    assert capsys.readouterr().out.startswith("sft on Wordle imported (smoke): mean return ")
    assert (root / "runs/smoke/wordle-imported/seed0/sft/config.json").exists()
    assert "is data of wordle, not of stitching" in refused(
        capsys, ["eval", "--agent", "sft", "--env", "stitching", "--data", "data/imported/wordle"]
    )


def test_train_prints_where_the_checkpoint_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--agent", "sft", *TASK, *SMALL, "--training-seed", "2"])
    said = capsys.readouterr().out
    assert said == "sft on wordle (seed 2): runs/smoke/wordle/seed2/sft\n"
    assert (root / "runs/smoke/wordle/seed2/sft/policy.safetensors").exists()


@pytest.mark.nightly
def test_table_1_at_smoke(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["table", "1", "--preset", "smoke", "--jobs", "2"])
    assert "Wordle" in capsys.readouterr().out
    assert (root / "results/smoke/table1.md").exists()
