"""An episode seen through an agent's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from baselines.sft import SFT
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Episode, Turn
from qsft_bench.report.inspect import Choice, Decision, decisions, page, terminal
from qsft_bench.train import Run
from tests.examples import TINY


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


def test_the_terminal_shows_markup_as_it_is(tmp_path: Path) -> None:
    decision = Decision(0, "[bold]x[/bold]", Choice("[red]\n", 1.0, 0.25), [Choice("b", 0.1, 0.5)])
    console: Any = Console(record=True, width=120)
    console.print(terminal(finished(("x", "y")), [decision]))
    shown = console.export_text()
    assert "[bold]x[/bold]" in shown and "[red]⏎" in shown and "b (0.50, 10%)" in shown
