"""Every stage behind a number, at a size at which training takes a second."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file

from qsft_bench.dataset.store import read_table
from qsft_bench.errors import BenchError
from qsft_bench.evaluate import Cell, mean_score, read_records
from qsft_bench.files import read_json, write_json
from qsft_bench.pipeline import Pipeline
from qsft_bench.registry import agent_class, env_spec
from qsft_bench.rollout import play_episodes
from qsft_bench.token_agent import Decoding, TokenAgent, checkpoint_hash
from qsft_bench.workers import Executor
from tests.examples import TINY
from tests.executors import EXECUTORS, stop_ray

SCALES = {"wordle": TINY}
AGENTS = tuple(name for name in env_spec("wordle").agents if not agent_class(name).unavailable())
LEARNERS = [name for name in AGENTS if issubclass(agent_class(name), TokenAgent)]


def cell(agent: str, tier: str = "base") -> Cell:
    return Cell(agent, "wordle", tier, "smoke")


def pipeline(root: Path, **options: Any) -> Pipeline:
    return Pipeline(root=root, **{"scales": SCALES, **options})


def plain(records: pd.DataFrame) -> list[dict[str, Any]]:
    return records.drop(columns=["wall_time", "commit"]).to_dict("records")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A root in which every agent of Wordle's table was trained and played, and their records. Read only."""
    root = tmp_path_factory.mktemp("trained")
    return root, pipeline(root).all_records([cell(name) for name in AGENTS])


@pytest.fixture
def copied(trained: tuple[Path, pd.DataFrame], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(trained[0], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def published(trained: tuple[Path, pd.DataFrame], tmp_path: Path) -> Path:
    """A fresh root that holds nothing but published checkpoints, and what was published."""
    root = tmp_path / "publisher"
    shutil.copytree(trained[0], root)
    for name in LEARNERS:
        pipeline(root).publish(cell(name))
    shutil.copytree(root / "results", tmp_path / "fresh" / "results")
    shutil.rmtree(root)
    return tmp_path / "fresh"


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "fit", lambda self, cell: pytest.fail(f"{cell} was trained"))
    monkeypatch.setattr(Pipeline, "dataset", lambda self, cell: pytest.fail(f"{cell} generated data"))


# Everything once ------------------------------------------------------------------------------------------------------


def test_every_agent_is_trained_and_played(trained: tuple[Path, pd.DataFrame]) -> None:
    root, records = trained
    counts = records.groupby("agent").size()
    assert counts.to_dict() == dict.fromkeys(AGENTS, TINY.evaluation_episodes)
    assert records["score"].between(-6, 0).all()
    content = read_json(root / "data/smoke/wordle/manifest.json")["content"]
    assert set(records.loc[records["agent"].isin(LEARNERS), "dataset_hash"]) == {content}
    for name in LEARNERS:
        folder = root / "runs/smoke/wordle/seed0" / name
        assert not (folder / "state").exists()
        meta = read_json(folder / "config.json")["meta"]
        assert ("tuning" in meta) == bool(agent_class(name).grid)  # type: ignore[attr-defined]
        assert checkpoint_hash(folder) in set(records.loc[records["agent"] == name, "checkpoint_hash"])


def test_decodings_tried_side_by_side_score_what_each_scores_by_itself(trained: tuple[Path, pd.DataFrame]) -> None:
    spec, seeds = env_spec("wordle"), env_spec("wordle").validation_seeds[: TINY.validation_episodes]
    agent, _ = pipeline(trained[0]).player(cell("qsft"))
    for tried in agent.meta["tuning"]["tried"]:
        alone = agent.with_decoding(agent.decoding_type(**tried["decoding"]))
        assert tried["score"] == mean_score(play_episodes(alone, spec, TINY.options, seeds), spec)
    assert list(pipeline(trained[0]).validate(agent, cell("qsft"), (), "sweep")) == []


def test_constrained_play_is_another_configuration_of_the_same_checkpoint(
    trained: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale says so at play; nothing is trained again, and its records are never mixed with those of free play."""
    no_training(monkeypatch)
    bound = pipeline(trained[0], scales={"wordle": replace(TINY, constrained=True)})
    (free_agent, free), (agent, origin) = pipeline(trained[0]).player(cell("sft")), bound.player(cell("sft"))
    assert not free_agent._decoding_machine().constrained and agent._decoding_machine().constrained
    assert origin.checkpoint_hash != free.checkpoint_hash and origin.options == free.options


def test_a_second_call_makes_nothing(trained: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    root, records = trained
    no_training(monkeypatch)
    monkeypatch.setattr("qsft_bench.evaluate.play_episodes", lambda *arguments: pytest.fail("played again"))
    assert plain(pipeline(root).all_records([cell(name) for name in AGENTS])) == plain(records)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_side_by_side_gives_the_same_records(
    trained: tuple[Path, pd.DataFrame], tmp_path: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same order; the weights behind them are the same too, for a record names them by hash."""
    monkeypatch.chdir(tmp_path)
    names = ["sft_greedy", "random", "qsft", "behaviour"]  # whose sft nobody asks for
    told: list[str] = []
    try:
        side_by_side = pipeline(Path(), jobs=2, executor=executor, progress=lambda stage, *_: told.append(stage))
        found = side_by_side.all_records([cell(name) for name in names])
    finally:
        stop_ray()
    records = trained[1]
    assert plain(found) == plain(pd.concat([records[records["agent"] == name] for name in names]))
    assert {"train sft on wordle", "train qsft on wordle", "eval random on wordle"} <= set(told)
    assert not list((tmp_path / "runs/smoke/wordle/records").glob("sft-seed0*"))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_one_cell_divided_among_workers_has_the_same_records(
    trained: tuple[Path, pd.DataFrame], copied: Path, executor: Executor
) -> None:
    """And the same transcripts, numbered alike, where some were there already."""
    folder = Path("runs/smoke/wordle/records")
    (path,) = (copied / folder).glob("qsft-seed0-????????.parquet")
    whole = read_table(path.with_suffix(".transcripts.parquet"))
    kept = read_records(path).iloc[[1, 2, 7]]
    kept.to_parquet(path)
    try:
        found = pipeline(copied, jobs=2, executor=executor).records(cell("qsft"))
    finally:
        stop_ray()
    records = trained[1]
    assert plain(found) == plain(records[records["agent"] == "qsft"])
    assert plain(read_records(path)) == plain(found)
    assert read_table(path.with_suffix(".transcripts.parquet")).equals(whole)


def test_greedy_is_the_same_checkpoint_played_greedily(trained: tuple[Path, pd.DataFrame]) -> None:
    folder = trained[0] / "runs/smoke/wordle/seed0"
    assert not list((folder / "sft_greedy").glob("*.safetensors"))
    sft, greedy = (agent_class(name).load(folder / name) for name in ("sft", "sft_greedy"))
    assert (sft.decoding.greedy, greedy.decoding.greedy) == (False, True)  # type: ignore[attr-defined]
    assert sft.meta["files"]["policy"] == greedy.meta["files"]["policy"]  # type: ignore[attr-defined]


def test_records_do_not_depend_on_the_batch(
    trained: tuple[Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, records = trained
    shutil.copytree(root / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/smoke/wordle/records")
    monkeypatch.setattr("qsft_bench.evaluate.CHUNK", 5)
    again = pipeline(tmp_path).records(cell("sft"))
    assert plain(again) == plain(records[records["agent"] == "sft"])


# Interruptions --------------------------------------------------------------------------------------------------------


def test_an_interruption_anywhere_between_stages(
    trained: tuple[Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the data, in a training, between training and tuning, while tuned weights are written, before the records."""
    wanted = plain(trained[1][trained[1]["agent"] == "filtered_bc"])
    from qsft_bench import files
    from qsft_bench import pipeline as module

    def stop(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    stages: list[tuple[object, str]] = [
        (module, "tokenise"),
        (TokenAgent, "save"),
        (Pipeline, "tune"),
        (module, "evaluate"),
        (files, "_sync"),
    ]
    for owner, name in stages:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stop)
            with pytest.raises(KeyboardInterrupt):
                pipeline(tmp_path).records(cell("filtered_bc"))
    assert plain(pipeline(tmp_path).records(cell("filtered_bc"))) == wanted


def test_a_decoding_of_ones_own_has_records_of_its_own(copied: Path) -> None:
    """Records of another decoding are neither mixed with the old nor put in their place."""
    before = plain(pipeline(copied).records(cell("sft")))
    own = pipeline(copied, decodings={"sft": Decoding(greedy=True)}).records(cell("sft"))
    greedy = pipeline(copied).records(cell("sft_greedy"))
    assert own["score"].tolist() == greedy["score"].tolist()
    assert len(set(own["config_hash"])) == 1
    assert plain(pipeline(copied).records(cell("sft"))) == before


# What is refused ------------------------------------------------------------------------------------------------------


def test_no_train_refuses(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"there is no checkpoint of qsft on wordle in .*runs.*qsft or .*results.*qsft; leave out --no-train"
    ):
        pipeline(tmp_path, train=False).records(cell("qsft"))
    assert not (tmp_path / "data").exists()


def test_it_says_what_must_be_made_first(tmp_path: Path, copied: Path) -> None:
    assert pipeline(tmp_path).missing(cell("sft_greedy")) == ["120 episodes of data", "sft (6 gradient steps)", "sft_greedy"]
    assert pipeline(tmp_path).missing(cell("random")) == []
    assert pipeline(copied).missing(cell("qsft")) == []


def test_without_play_it_trains_where_no_environment_is(
    trained: tuple[Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data and tokens suffice; the decoding is chosen where the weights are next asked for, and the records are the same."""
    shutil.copytree(trained[0] / "data", tmp_path / "data")

    def absent(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the environment was asked for")

    watched = replace(TINY, curve_points=2)
    with monkeypatch.context() as patch:
        patch.setattr("qsft_bench.rollout.make_env", absent)
        patch.setattr("qsft_bench.registry.make_env", absent)
        directory = pipeline(tmp_path, play=False, scales={"wordle": watched}).checkpoint(cell("qsft"))
    assert "tuning" not in read_json(directory / "config.json")["meta"]
    found = pipeline(tmp_path).records(cell("qsft"))
    assert plain(found) == plain(trained[1][trained[1]["agent"] == "qsft"])


def test_no_train_plays_what_needs_no_training(tmp_path: Path) -> None:
    assert len(pipeline(tmp_path, train=False).all_records([cell("random")])) == TINY.evaluation_episodes


def test_a_checkpoint_of_another_task_is_refused_and_both_are_named(copied: Path) -> None:
    runs = copied / "runs/smoke"
    shutil.copytree(runs / "wordle/seed0/sft", runs / "wordle-habit/seed0/sft")
    with pytest.raises(BenchError, match="holds a checkpoint trained on wordle, not on wordle-habit"):
        pipeline(copied).records(cell("sft", "habit"))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (replace(TINY, steps=7), r"scale\.steps is 6, wanted 7"),
        (replace(TINY, model="tiny"), r"scale\.model is 'nano', wanted 'tiny'"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused_and_both_are_named(copied: Path, scale: Any, message: str) -> None:
    with pytest.raises(BenchError, match=rf"seed0/sft holds a checkpoint of another configuration \({message}\)"):
        pipeline(copied, scales={"wordle": scale}).records(cell("sft"))


def test_a_checkpoint_of_another_agent_is_refused_and_both_are_named(copied: Path) -> None:
    folder = copied / "runs/smoke/wordle/seed0"
    with pytest.raises(BenchError, match="holds a checkpoint of 'sft', not of 'ilql'"):
        agent_class("ilql").load(folder / "sft")


@pytest.mark.parametrize("agent", ["sft", "sft_greedy"])
def test_corrupted_weights_are_refused(copied: Path, agent: str) -> None:
    """Borrowed ones too."""
    path = copied / "runs/smoke/wordle/seed0/sft/policy.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BenchError, match=rf"{path} has SHA-256 [0-9a-f]+, .*/{agent} expects [0-9a-f]+"):
        pipeline(copied).records(cell(agent))
    path.unlink()
    with pytest.raises(BenchError, match=rf"{path} is missing; .*/{agent} needs it"):
        pipeline(copied).records(cell(agent))


def test_settings_that_this_version_does_not_know(copied: Path) -> None:
    path = copied / "runs/smoke/wordle/seed0/sft/config.json"
    value = read_json(path)
    write_json(path, {**value, "decoding": {"top_k": 3}})
    with pytest.raises(BenchError, match=r"config\.json does not fit this version of the agent .*top_k"):
        agent_class("sft").load(path.parent)


# Published checkpoints ------------------------------------------------------------------------------------------------


def test_published_checkpoints_play_without_data_or_training(
    trained: tuple[Path, pd.DataFrame], published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_training(monkeypatch)
    found = pipeline(published).all_records([cell(name) for name in AGENTS])
    assert plain(found) == plain(trained[1])
    assert not (published / "data").exists()


def test_a_published_checkpoint_is_tuned_again_for_constrained_play(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "dataset", lambda self, cell: pytest.fail(f"{cell} generated data"))
    monkeypatch.setattr(TokenAgent, "fit", lambda self, data, run: pytest.fail("trained"))
    bound = pipeline(published, scales={"wordle": replace(TINY, constrained=True)})
    assert bound.finished(cell("sft")) == bound.published_checkpoint(cell("sft"))  # it has no decoding to choose
    for name in ("sft_temp", "qsft"):
        assert bound.finished(cell(name)) is None and bound.missing(cell(name)) == [f"{name}'s decoding"]
        bound.player(cell(name))
        own, before = (
            read_json(path(cell(name)) / "config.json") for path in (bound.run_checkpoint, bound.published_checkpoint)
        )
        assert own["meta"]["constrained"] and not before["meta"].get("constrained")
        assert own["meta"]["files"] == before["meta"]["files"] and len(own["meta"]["tuning"]["tried"]) == 8
        assert bound.finished(cell(name)) == bound.run_checkpoint(cell(name))


def test_a_published_folder_holds_what_play_needs_and_no_copies(published: Path) -> None:
    folder = published / "results/smoke/checkpoints/wordle"
    files: dict[str, list[str]] = {path.parent.name: [] for path in folder.glob("*/config.json")}
    for path in folder.glob("*/*.safetensors"):
        files[path.parent.name].append(path.name)
        assert all(str(tensor.dtype) == "torch.float16" for tensor in load_file(path).values() if tensor.is_floating_point())
    assert set(files) == set(LEARNERS)
    assert files["sft"] == ["policy.safetensors"]
    assert files["sft_greedy"] == files["sft_temp"] == []
    assert files["ilql"] == ["value.safetensors"]
    for name in LEARNERS:
        agent = agent_class(name).load(folder / name)
        assert set(agent.networks) == set(agent.played())  # type: ignore[attr-defined]


def test_publishing_takes_along_what_is_borrowed(copied: Path) -> None:
    pipeline(copied).publish(cell("sft_greedy"))
    shutil.rmtree(copied / "runs")
    assert len(pipeline(copied, train=False).records(cell("sft_greedy"))) == TINY.evaluation_episodes


def test_a_published_prerequisite_is_trained_upon(published: Path, trained: tuple[Path, pd.DataFrame]) -> None:
    """And gives the weights that the run's own would have given."""
    shutil.rmtree(published / "results/smoke/checkpoints/wordle/ilql")
    records = trained[1]
    assert plain(pipeline(published).records(cell("ilql"))) == plain(records[records["agent"] == "ilql"])


def test_from_scratch_ignores_what_is_published(published: Path) -> None:
    with pytest.raises(BenchError, match="there is no checkpoint of sft on wordle"):
        pipeline(published, source="scratch", train=False).records(cell("sft"))


def test_a_published_checkpoint_of_another_configuration_is_not_used(published: Path) -> None:
    notes: list[str] = []
    longer = pipeline(
        published,
        scales={"wordle": replace(TINY, steps=7)},
        train=False,
        progress=lambda stage, done, total, note: notes.append(note),
    )
    with pytest.raises(BenchError, match="there is no checkpoint of sft on wordle"):
        longer.records(cell("sft"))
    assert any("the published checkpoint is of another configuration (scale.steps is 6, wanted 7)" in note for note in notes)


def test_a_preset_that_does_not_publish_refuses_to(copied: Path) -> None:
    with pytest.raises(BenchError, match="preset smoke does not publish checkpoints"):
        pipeline(copied, scales={"wordle": replace(TINY, publishes=False)}).publish(cell("sft"))


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was(trained: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    """Save, load, save: the same files, the same configuration."""
    folder = trained[0] / "runs/smoke/wordle/seed0"
    for name in ("sft", "filtered_bc", "return_conditioned"):
        agent: Any = agent_class(name).load(folder / name)
        agent.save(tmp_path / name)
        again: Any = agent_class(name).load(tmp_path / name)
        assert asdict(again.config) == asdict(agent.config)
        assert again.decoding == agent.decoding
        left, right = agent.networks.state_dict(), again.networks.state_dict()
        assert all((left[key] == right[key]).all() for key in left)
