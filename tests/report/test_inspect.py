"""An episode seen through an agent's eyes."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from baselines.q_transformer import QTransformer
from baselines.sft import SFT
from qsft_bench.codec import BOS, PAD, Codec
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Episode, Turn
from qsft_bench.report.inspect import Choice, Decision, decisions, page, terminal
from qsft_bench.train import Run
from tests.examples import TINY, control_data, control_episode, picture_data, picture_episode


@pytest.fixture(scope="module")
def agent(letter_tokens: TokenDataset, tmp_path_factory: pytest.TempPathFactory) -> SFT:
    """An SFT agent whose actions are several tokens."""
    agent = SFT()
    agent.fit(letter_tokens, Run(tmp_path_factory.mktemp("sft"), TINY))
    return agent


def finished(*turns: tuple[str, str]) -> Episode:
    return Episode(
        "wordle", 7, [*(Turn(saw, did, -1.0) for saw, did in turns), Turn("b b b b b\n")], terminated=True, success=False
    )


def test_every_token_is_a_decision_with_the_policys_probability(agent: SFT) -> None:
    episode = finished(("Wordle:\n", "s h a r e\n"), ("b b y b b\n", "c l a i m\n"))
    found = list(decisions(agent, episode, alternatives=3))
    assert "".join(decision.chosen.text for decision in found) == "s h a r e\nc l a i m\n"
    assert [decision.turn for decision in found] == [0] * 10 + [1] * 10
    for decision in found:
        assert decision.chosen.text not in {other.text for other in decision.alternatives}
        likelihoods = [other.probability for other in decision.alternatives]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert sum(likelihoods) + decision.chosen.probability <= 1 + 1e-9
    second = agent.weigh([finished(("Wordle:\n", "s h a r e\n"))], [[]])[0]  # after the first turn
    assert np.isclose(float(second.sum()), 1)


@pytest.mark.parametrize(
    ("value", "colour"), [(0.0, "#dc0030"), (1.0, "#00b430"), (0.5, "#dcb430"), (7.0, "#00b430"), (None, "#808080")]
)
def test_colour_runs_from_red_to_green(value: float | None, colour: str) -> None:
    assert Choice("a", 0.5, value).colour == colour


def test_the_page_is_self_contained_and_escapes_what_others_wrote() -> None:
    attack = "<script>alert(1)</script>"
    decision = Decision(0, attack, Choice(attack, 1.0, 0.25), [Choice("<img src=x>", 0.0, None)])
    html = page(attack, finished((attack, attack)), [decision])
    assert "<script" not in html and "<img" not in html and html.count("&lt;script&gt;") == 4
    assert "http" not in html and "0.25" in html


def test_a_turn_of_several_tokens_is_shown_once(agent: SFT) -> None:
    episode = finished(("Wordle:\n", "s h a r e\n"), ("b b y b b\n", "c l a i m\n"))
    found = list(decisions(agent, episode))
    html = page("t", episode, found)
    assert re.findall(r'<td rowspan="10">(.*)', html) == ["1", "<code>Wordle:</code>", "2", "<code>b b y b b</code>"]
    assert html.count("<tr>") == 21
    console: Any = Console(record=True, width=200, file=io.StringIO())
    console.print(terminal(episode, found))
    assert console.export_text().count("b b y b b") == 1


def test_the_terminal_shows_markup_as_it_is(tmp_path: Path) -> None:
    decision = Decision(0, "[bold]x[/bold]", Choice("[red]\n", 1.0, 0.25), [Choice("b", 0.1, 0.5)])
    console: Any = Console(record=True, width=120)
    console.print(terminal(finished(("x", "y")), [decision]))
    shown = console.export_text()
    assert "[bold]x[/bold]" in shown and "[red]⏎" in shown and "b (0.50, 10%)" in shown


# Control vectors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> QTransformer:
    """An agent with values over 5 bins, -1, -0.5, ..., 1, in 2 dimensions."""
    folder = tmp_path_factory.mktemp("arm")
    agent = QTransformer()
    data = control_data(folder, [control_episode(2, seed, success=seed % 2 == 0) for seed in range(8)])
    agent.fit(data, Run(folder / "run", TINY))
    return agent


def test_every_dimension_is_a_decision_with_its_value(arm: QTransformer) -> None:
    episode = control_episode(3, seed=9)
    found = list(decisions(arm, episode, alternatives=20))
    assert [decision.turn for decision in found] == [0, 0, 1, 1, 2, 2]
    done = np.stack([turn.action for turn in episode.turns[:-1]])
    assert [decision.chosen.text for decision in found] == [f"{number:+.2f}" for number in done.ravel()]
    for decision in found:
        numbers = " ".join(f"{number:+.2f}" for number in episode.turns[decision.turn].observation["proprio"])
        assert decision.observation == f"image 12x12, {numbers}"
        weighed = [decision.chosen, *decision.alternatives]
        assert {choice.text for choice in weighed} == {"-1.00", "-0.50", "+0.00", "+0.50", "+1.00"}
        assert len(weighed) == 5 and sum(choice.probability for choice in weighed) == pytest.approx(1)
        assert all(choice.value is not None for choice in weighed)


def test_labels_of_tokens(agent: SFT, arm: QTransformer) -> None:
    def labels(codec: Codec, action: Any) -> list[str]:
        return [codec.label(token) for token in (PAD, BOS, *codec.action(action))]

    assert labels(agent.codec, "h o\n") == ["<pad>", "<bos>", "h", " ", "o", "\n"]
    assert labels(arm.codec, np.array([-0.5, 0], np.float32)) == ["<pad>", "<bos>", "-0.50", "+0.00"]


def test_the_page_holds_what_was_seen_and_nothing_from_elsewhere(arm: QTransformer) -> None:
    episode = control_episode(3, seed=9)
    html = page("arm", episode, list(decisions(arm, episode)))
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) == html.count("<img") == 4
    for source, turn in zip(sources, episode.turns, strict=True):
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert np.array_equal(picture, turn.observation["image"].repeat(3, 0).repeat(3, 1))
    assert "href" not in html and "url(" not in html
    assert html.count("image 12x12") == 4


def test_text_and_image_stand_side_by_side(tmp_path: Path) -> None:
    data = picture_data(tmp_path, [picture_episode(2, seed) for seed in range(8)])
    agent = SFT()
    agent.fit(data, Run(tmp_path / "run", TINY))
    episode = picture_episode(3, seed=9)
    found = list(decisions(agent, episode))
    assert next(decision.observation for decision in found if decision.turn == 0) == "the task"
    html = page("pictures", episode, found)
    assert html.count("<img") == 4 and html.count("<code>see</code>") == 2 and "<code>the task</code>" in html


def test_the_terminal_shows_numbers(arm: QTransformer) -> None:
    episode = control_episode(1, seed=9)
    console: Any = Console(record=True, width=200, file=io.StringIO())
    console.print(terminal(episode, list(decisions(arm, episode))))
    shown = console.export_text()
    assert shown.count("image 12x12") == 2
    assert shown.rstrip().endswith("success, return 1, seed 9")
