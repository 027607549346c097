"""Films of agents: what stands in every picture, checked against a toy that paints how often it was acted on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image, ImageColor

from baselines.q_transformer import QTransformer
from baselines.sft import SFT
from qsft_bench.agent import Agent
from qsft_bench.cli import main
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Action, Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.registry import env_spec
from qsft_bench.spec import EnvSpec, Tier
from qsft_bench.token_agent import Decoding, TokenAgent
from qsft_bench.train import Run
from qsft_bench.watch import GOOD, LINE, PANEL, SMALLEST, Film, check_draws, film, pictures, write_film
from tests.examples import TINY

TURNS = 3
SPEC = EnvSpec(
    name="painted",
    id="tests/Painted-v0",
    summary="grows lighter",
    table=0,
    columns=("Painted",),
    horizon=TURNS,
    return_range=(0.0, 3.0),
    state="transcript",
    discount=1.0,
    metric="return",
    behaviour="",
    random="",
    tiers={"base": Tier({}, "")},
)


class Painted(gymnasium.Env[str, str]):
    """An even picture, 50 lighter after each of three actions, which pay 1 each."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode: str | None = None, privileged: bool = False, size: int = 20) -> None:
        self.observation_space = self.action_space = spaces.Text(1000)
        self.render_mode = render_mode
        self.privileged = privileged
        self.size = size
        self.taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return "Wordle:\n", self.info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        return f"{self.taken}\n", 1.0, self.taken == TURNS, False, self.info() | {"success": True}

    def info(self) -> dict[str, Any]:
        return {"facts": self.taken} if self.privileged else {}

    def render(self) -> Any:
        return np.full((self.size, self.size + 4, 3), 50 * self.taken, np.uint8)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register(SPEC.id, entry_point=Painted)
    yield
    del gymnasium.registry[SPEC.id]


class Knowing(Agent):
    """Needs what the simulator knows, and says it."""

    privileged = True

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return [f"{episode.turns[-1].facts}\n" for episode in episodes]


class Sure(TokenAgent):
    """Weighs two tokens, 1 : 3, worth 0 and the number of turns."""

    build = loss = policy_logits = None  # type: ignore[assignment]

    def weigh(self, episodes: Sequence[Episode], begun: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.tensor([[0.0, len(episode.turns)] for episode in episodes])
        return torch.tensor([[0.25, 0.75]]).expand(len(episodes), 2).double(), values


def built(cls: type[TokenAgent], tokens: TokenDataset, folder: Path) -> TokenAgent:
    agent = cls()
    agent.meta = {key: tokens.meta["recipe"][key] for key in ("context", "state")}
    agent.codec = tokens.codec
    agent.build(tokens, Run(folder, TINY))
    agent.networks.eval()
    return agent


def shot(values: Sequence[float] | None = (0.1, 0.5, 0.9)) -> Film:
    frames = [np.full((20, 24, 3), 50 * taken, np.uint8) for taken in range(TURNS + 1)]
    turns = [Turn("o", "a", 1.0) for _ in range(TURNS)]
    episode = Episode("painted", 7, [*turns, Turn("o")], terminated=True, success=True)
    return Film(episode, frames, None if values is None else np.array(values), 5)


def count(picture: Image.Image, colour: str) -> int:
    return int((np.asarray(picture) == ImageColor.getrgb(colour)).all(-1).sum())


# Values ---------------------------------------------------------------------------------------------------------------


def test_a_states_value_is_the_mean_under_the_policy_or_that_of_its_choice() -> None:
    episodes = [Episode("toy", 1, [Turn("o", "a"), Turn("o")]), Episode("toy", 2, [Turn("o")])]
    values = Sure().state_values(episodes)
    assert values is not None and values.tolist() == [1.5, 0.75]
    assert Sure().start_value(episodes) == 0.75
    greedy = Sure(decoding=Decoding(greedy=True))
    assert greedy.state_values(episodes).tolist() == [2, 1]  # type: ignore[union-attr]


def test_a_film_has_a_frame_for_every_state_and_a_value_for_every_action(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    agent = built(QTransformer, smoke_tokens, tmp_path)
    found = film(agent, SPEC, {"size": 8}, 7)
    assert [int(frame.mean()) for frame in found.frames] == [0, 50, 100, 150]
    assert found.frames[0].shape == (8, 12, 3) and found.fps == 5
    turns = found.episode.turns
    assert found.episode.seed == 7 and len(turns) == TURNS + 1
    for number, value in enumerate(found.values):  # type: ignore[arg-type]
        _, weighed = agent.weigh([Episode("painted", 7, [*turns[:number], Turn(turns[number].observation)])])
        playable = weighed[0, torch.as_tensor(agent.codec.playable)]  # type: ignore[index]
        assert value == pytest.approx(float(playable.max()), abs=1e-6)  # it plays greedily


def test_an_agent_without_values_has_none(smoke_tokens: TokenDataset, tmp_path: Path) -> None:
    assert film(built(SFT, smoke_tokens, tmp_path), SPEC, {}, 7).values is None


def test_a_scripted_expert_is_told_what_the_simulator_knows() -> None:
    found = film(Knowing(), SPEC, {}, 7)
    assert [turn.action for turn in found.episode.turns[:-1]] == ["0\n", "1\n", "2\n"]
    assert found.values is None


# Pictures -------------------------------------------------------------------------------------------------------------


def test_every_picture_has_its_frame_enlarged_beside_the_panel() -> None:
    for taken, picture in enumerate(pictures(shot(), "who\nwhere")):
        assert picture.height >= SMALLEST and picture.height % 20 == 0
        width = picture.height // 20 * 24
        assert picture.width == width + PANEL
        assert (np.asarray(picture)[:, :width] == 50 * taken).all()


def test_the_curve_grows_and_the_verdict_comes_at_the_end() -> None:
    drawn = pictures(shot(), "who\nwhere")
    lengths = [count(picture.crop((picture.width - PANEL, 140, *picture.size)), LINE) for picture in drawn]
    assert 0 < lengths[0] < lengths[1] < lengths[2] == lengths[3]
    assert [count(picture, GOOD) > 0 for picture in drawn] == [False, False, False, True]
    assert all(count(picture, LINE) == 0 for picture in pictures(shot(None), "who"))


def test_values_beyond_0_and_1_stay_in_the_panel() -> None:
    (*_, last) = pictures(shot((-3.0, 5.0, 0.5)), "who\nwhere")
    lowest = np.argwhere((np.asarray(last) == ImageColor.getrgb(LINE)).all(-1))[:, 0].max()
    assert lowest < last.height - 8


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_gif_is_the_same_every_time_and_stays_at_the_end(tmp_path: Path) -> None:
    paths = [tmp_path / "a.gif", tmp_path / "b.gif"]
    for path in paths:
        write_film(path, pictures(shot(), "who\nwhere"), 5)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths
    with Image.open(paths[0]) as found:
        assert found.n_frames == TURNS + 1  # type: ignore[attr-defined]
        durations = []
        for number in range(TURNS + 1):
            found.seek(number)
            durations.append(found.info["duration"])
    assert durations == [200, 200, 200, 2200]


def test_an_mp4_gets_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[bytes] = []

    def write_frames(path: str, size: tuple[int, int], fps: int, **options: Any) -> Iterator[None]:
        Path(path).write_bytes(b"film")
        while True:
            received.append((yield))  # type: ignore[arg-type]

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(write_frames=write_frames, __spec__=object()))
    drawn = pictures(shot(), "who")
    write_film(tmp_path / "a.mp4", drawn, 5)
    assert (tmp_path / "a.mp4").read_bytes() == b"film"
    assert len(received) == TURNS + 1 + 2 * 5
    assert {len(data) for data in received} == {drawn[0].width * drawn[0].height * 3}


def test_another_kind_of_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match=r"a film is a \.gif or an \.mp4"):
        write_film(tmp_path / "a.avi", [], 5)
    monkeypatch.delitem(sys.modules, "imageio_ffmpeg", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"pip install .qsft-bench\[video\].\); a \.gif needs nothing more"):
        write_film(tmp_path / "a.mp4", [], 5)


# Environments ---------------------------------------------------------------------------------------------------------


def test_an_environment_of_text_is_refused() -> None:
    with pytest.raises(BenchError, match=r"wordle draws nothing to watch, only .*pick_place.* can; `qsft-bench inspect"):
        check_draws(env_spec("wordle"))


@pytest.mark.parametrize("agent", ["random", "behaviour"])
def test_the_arm_at_work(agent: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pybullet")
    main(["watch", "--agent", agent, "--env", "pick-place", "--preset", "smoke", "--episode", "1", "--out", "films/arm.gif"])
    said = capsys.readouterr().out
    assert said.startswith("films/arm.gif: ")
    with Image.open("films/arm.gif") as found:
        assert f" {found.n_frames - 1} steps, " in said  # type: ignore[attr-defined]
        assert found.size == (256 + PANEL, 256)
