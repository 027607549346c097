"""What a preset costs, against counts on paper; and a step at a preset's shapes."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from qsft_bench import plan as module
from qsft_bench.check import check, pass_on_meta
from qsft_bench.cli import main
from qsft_bench.codec import PretrainedCodec
from qsft_bench.evaluate import Cell
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.plan import Constants, cells, forward_flop, make_plan, markdown, notes, outline, render, train_stage
from qsft_bench.preset import scale
from qsft_bench.registry import env_spec
from tests.pretrained import save_vision_model

CONSTANTS = Constants(
    episodes=10,
    seconds=0.5,
    turns=4.0,
    stored=1000.0,
    cached=500.0,
    windows=1.0,
    rows=1.0,
    tokens=10.0,
    actions=4.0,
    vocabulary=50,
    outputs=20,
    slots=None,
)
# nano: width 32, a layer, hidden 64. A block: attention 4 d^2 + 4 d, perceptron 2 d h + h + d, two norms 4 d; a last norm.
BLOCK = 4 * 32**2 + 4 * 32 + 2 * 32 * 64 + 64 + 32 + 4 * 32
NANO = BLOCK + 2 * 32
HEAD = 32 * 20 + 20


def test_the_cost_of_a_forward_pass() -> None:
    """2 FLOP a weight and token in the blocks, attention's two products, the head at the action tokens alone."""
    network = Network(NetworkConfig("nano", 50, 16, {"policy": Head(20)}))
    assert forward_flop(network, CONSTANTS) == 2 * NANO * 10 + 4 * 1 * 32 * 10**2 + 2 * HEAD * 4


def test_the_cost_of_a_training() -> None:
    """Q-SFT trains one network and runs its target: 3 F + F; it holds both, and moves one."""
    sizes = replace(scale("smoke", env_spec("stitching")), model="nano", context=16, steps=100, batch_size=8, curve_points=0)
    cell = Cell("qsft", "stitching", preset="smoke")
    agent = outline(cell, sizes, CONSTANTS)
    stage = train_stage(cell, agent, sizes, CONSTANTS)
    own = NANO + 2 * HEAD + 50 * 32 + 16 * 32  # two heads; embeddings of ids and places
    assert (stage.weights, stage.trained) == (2 * own, own)
    forward = 2 * NANO * 10 + 4 * 32 * 10**2 + 2 * 2 * HEAD * 4
    steps = agent.config.training.gradient_steps(sizes)
    assert stage.flop == steps * 8 * 4 * forward
    activations = 34 * 10 * 32
    assert stage.memory_window == activations
    assert stage.memory == 4 * 2 * own + 8 * own + activations  # weights; gradients and Muon's moments
    assert stage.disk == 4 * 2 * own


def test_every_cell_of_an_environment_after_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {
        "command": "measure", "hardware": "a core", "load": "load 0", "commit": "abc", "flop_per_second": 1e9,
        "environments": {"paper": {"stitching": asdict(CONSTANTS)}},
    }  # fmt: skip
    monkeypatch.setattr(module, "read_measured", lambda: measured)
    plan = make_plan("paper", ["stitching", "wordle"], ["qsft"])
    assert [stage.what for stage in plan.stages] == [
        "data stitching",
        *(f"{what} {agent} on stitching" for agent in ("sft", "qsft") for what in ("train", "play")),
    ]
    data = plan.stages[0]
    count = scale("paper", env_spec("stitching")).dataset_episodes
    assert data.work == 0.5 * count and data.disk == 1500 * count
    assert plan.core_hours(data) == pytest.approx(0.5 * count / 3600)
    train = plan.stages[1]
    assert plan.gpu_hours(train, 50.0) == pytest.approx(train.flop / 50e12 / 3600)
    assert [text.partition(" ")[0] for text in plan.missing] == ["wordle"]
    assert "of every environment; one core" in notes(plan, 50.0)[0]
    measured["environments"]["paper"]["wordle"] = asdict(replace(CONSTANTS, commit="def"))  # type: ignore[index]
    assert "environment; wordle (preset paper) later, at def; one core" in notes(plan, 50.0)[0]
    rows = render(plan, 50.0)
    assert len(rows) == len(plan.stages) + 2 and len({len(row) for row in rows}) == 1
    assert markdown(rows).count("\n") == len(rows)


@pytest.mark.parametrize("tuning", ["full", "lora:4", "last:1"])
def test_a_vision_language_model_is_planned_and_passed_without_its_weights(tmp_path: Path, tuning: str) -> None:
    """From its configuration alone; what networks share is held once, and what it sees with is not trained."""
    folder = save_vision_model(tmp_path / "model")
    codec = PretrainedCodec.learn(str(folder), ["go\n"], (48, 48, 3))
    assert codec.slots is not None
    (folder / "model.safetensors").unlink()
    made = {"vocabulary": codec.size, "outputs": codec.outputs, "slots": asdict(codec.slots)}
    constants, cell = replace(CONSTANTS, **made), Cell("sft", "alfworld", preset="paper")  # type: ignore[arg-type]
    sizes = replace(scale("paper", env_spec("alfworld")), model=str(folder), tuning=tuning, context=64)
    agent = outline(cell, sizes, constants)
    stage = train_stage(cell, agent, sizes, constants)
    eyes = sum(parameter.numel() for parameter in agent.networks["policy"].stem.parameters())
    own = sum(parameter.numel() for _, parameter in agent.networks["policy"].own_parameters())
    assert stage.trained == own > 0 and stage.disk == 4 * own
    assert (stage.weights == own + eyes) == (tuning == "full")
    pass_on_meta(agent, constants, 64)
    assert agent.networks["policy"].stem.model.device.type == "meta"
    qsft = outline(replace(cell, agent="qsft"), sizes, constants)
    held = train_stage(replace(cell, agent="qsft"), qsft, sizes, constants).weights
    shared = stage.weights - own
    assert held == shared + sum(each.numel() for net in qsft.networks.values() for _, each in net.own_parameters())


def test_what_is_committed_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The plan of the paper's Wordle: a GPT2-medium of random weights is trained, and 20,000 episodes are made."""
    main(["plan", "--preset", "paper", "--env", "wordle", "--agent", "sft", "--markdown"])
    printed = capsys.readouterr().out
    assert "| data wordle | 20,000 episodes" in printed
    assert "train sft on wordle | 20,000 steps of 128 windows | 303." in printed
    assert "assumed, not measured" in printed


def test_one_step_of_every_cell_or_its_shapes() -> None:
    found = {checked.cell: checked for checked in check("paper", ["stitching"], ["qsft", "sft_greedy"])}
    assert list(found) == ["sft on stitching", "qsft on stitching", "sft_greedy on stitching"]
    assert found["qsft on stitching"].did.startswith("one step (loss ")
    assert found["sft_greedy on stitching"].did == "nothing: it plays the checkpoint of sft"
    (sft,) = check("paper", ["stitching"], ["sft"], memory=1.0)
    assert sft.did == "forward and backward on the meta device"
    assert sft.not_done.startswith("no step: a step takes about ")


def test_a_tier_may_name_its_agents() -> None:
    spec = env_spec("pick_place")
    by_tier = {tier: {cell.agent for cell in cells(spec, tier, "small", ())} for tier in spec.tiers}
    assert by_tier["base"] - by_tier["habit"] == {"return_conditioned", "cql", "q_transformer"}
    assert set(spec.agents_of("habit")) <= set(spec.agents) == set(spec.agents_of("base"))
    assert {cell.agent for cell in cells(spec, "habit", "small", ("cql",))} == {"cql"}  # whoever asks gets it
