"""Tables from hand-made records with known answers."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from qsft_bench import tables
from qsft_bench.errors import BenchError
from qsft_bench.spec import EnvSpec, Tier
from qsft_bench.tables import (
    CELL_FIELDS,
    IMITATION,
    MISSING,
    NOT_BUILT,
    PAIR_FIELDS,
    PAPER,
    TABLES,
    Table,
    build_columns,
    build_table,
    frame,
    markdown,
    paired_frame,
    render,
    write_columns,
    write_paired,
    write_table,
)


def spec(name: str, columns: Sequence[str], metric: str, **base: float) -> EnvSpec:
    return EnvSpec(
        name=name,
        id=f"qsft_bench/{name}-v0",
        summary="",
        table=1,
        columns=tuple(columns),
        horizon=6,
        return_range=(-6, 0),
        state="transcript",
        discount=1.0,
        metric=metric,  # type: ignore[arg-type]
        behaviour="none:None",
        random="none:None",
        tiers={"base": Tier({}, "", base), "habit": Tier({}, "", {"behaviour": -4.1})},
    )


WORDLE = spec("wordle", ["Wordle"], "return", random=-6, behaviour=-4.1, greedy_behaviour=-2.29, ceiling=-1.94)
ALFWORLD = spec("alfworld", TABLES[1][3:], "success", behaviour=0.34, greedy_behaviour=0.40, ceiling=0.94)
ARM = spec("arm", TABLES[3][:2], "success")
SPECS = (WORDLE, ALFWORLD, ARM)


@pytest.fixture(autouse=True)
def _presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables take one line from the preset; its file is not under test here."""
    monkeypatch.setattr(tables, "scale", lambda preset, spec: SimpleNamespace(summary=f"what {preset} is."))


def play(agent: str, column: str, *trainings: Sequence[float], preset: str = "small", **fields: Any) -> pd.DataFrame:
    """Records of one cell: one sequence of scores a training, on episode seeds 0, 1, ..."""
    rows = [
        {
            "agent": agent,
            "column": column,
            "preset": preset,
            "training_seed": training,
            "episode_seed": episode,
            "score": float(score),
            "config_hash": f"{agent}{training}",
            **fields,
        }
        for training, scores in enumerate(trainings)
        for episode, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def table1(*records: pd.DataFrame, preset: str = "small", provenance: Mapping[str, Any] | None = None) -> Table:
    rows = pd.concat(records) if records else pd.DataFrame()
    return build_table(1, rows, preset, provenance, specs=SPECS)


def agents(table: Table) -> list[str]:
    return list(dict.fromkeys(cell.agent for cell in table.cells))


def row(text: str, agent: str) -> list[str]:
    """The cells of an agent's row in Markdown or LaTeX."""
    (line,) = [line for line in text.splitlines() if re.match(rf"(\| )?{re.escape(agent)} [|&]", line)]
    line = line.removeprefix("|").removesuffix("|").removesuffix(r"\\")
    return [cell.strip() for cell in re.split(r"[|&]", line)][1:]


# What a cell says


def test_returns_and_percent_side_by_side() -> None:
    # Wordle: mean -3, standard error sqrt(.5), t(.975, 4) = 2.776; Pick: Wilson for 50 of 100
    table = table1(play("qsft", "Wordle", [-1, -2, -3, -4, -5]), play("qsft", "Pick", [1, 0] * 50))
    assert row(markdown(table), "qsft")[1:4] == ["-3.00 [-4.96, -1.04]", "", "50 [40, 60]"]
    cells = frame(table).set_index(["agent", "column"])
    pick = cells.loc[("qsft", "Pick")]
    assert pick[["n", "seeds", "mean", "ci_low", "ci_high", "paper"]].tolist() == pytest.approx(
        [100, 1, 50, 40.38315, 59.61685, 39]
    )


def test_the_papers_row_stands_under_ours() -> None:
    text = markdown(table1(play("qsft", "Wordle", [-1, -2])))
    assert row(text, "qsft (paper)") == ["0.15", "-2.11", "-13.1", "39", "21", "19", "14", "18", "21"]
    lines = text.splitlines()
    ours = next(i for i, line in enumerate(lines) if line.startswith("| qsft |"))
    assert lines[ours + 1].startswith("| qsft (paper) |")


def test_cells_without_records_say_why() -> None:
    table = table1(play("random", "Wordle", [-6, -5]))
    by_cell = {(cell.agent, cell.column): cell.absent for cell in table.cells if cell.interval is None}
    assert by_cell["react", "Chess"] == by_cell["qsft", "Chess"] == NOT_BUILT
    assert by_cell["react", "Wordle"] == "needs an endpoint"
    assert by_cell["qsft", "Wordle"] == by_cell["random", "Pick"] == MISSING
    assert "needs an endpoint" in markdown(table)


def test_what_is_counted_beside_the_score_has_a_table_of_its_own() -> None:
    counted = play("qsft", "Wordle", [-1, -2]).assign(**{"statistic wins": [1.0, 0.0]})
    text = markdown(table1(pd.concat([counted, play("random", "Wordle", [-6, -5])])))
    section = text.split("## Beside the score: Wordle")[1].split("##")[0]
    assert row(section, "qsft") == ["0.5"] and "random" not in section
    assert "Beside" not in markdown(table1(play("random", "Wordle", [-6, -5])))


def test_records_of_an_undeclared_column_are_shown_all_the_same() -> None:
    assert row(markdown(table1(play("qsft", "Chess", [1, 0, -1]))), "qsft")[0].startswith("0.00 [")


def test_no_records_at_all() -> None:
    table = table1()
    assert agents(table) == ["react", "sft", "sft_greedy", "sft_temp", "ilql", "qsft"]
    assert "No records yet" in markdown(table)
    assert (frame(table)["n"] == 0).all()


def test_no_spread_prints_no_interval() -> None:
    text = markdown(table1(play("random", "Wordle", [-6] * 10)))
    assert row(text, "random")[1] == "-6.00 [?]"
    assert "show no spread" in text


def test_a_rounded_zero_has_no_sign() -> None:
    assert row(markdown(table1(play("qsft", "Wordle", [-0.001, -0.002]))), "qsft")[1].startswith("0.00 ")


def test_clustered_episodes_widen_the_interval() -> None:
    scores = [0, 0, 0, 1, 1, 1, 0, 0, 0]
    alone = table1(play("qsft", "Wordle", scores)).intervals[0]
    shared = table1(play("qsft", "Wordle", scores).assign(cluster=[0, 0, 0, 1, 1, 1, 2, 2, 2])).intervals[0]
    assert shared.high - shared.low > alone.high - alone.low
    text = markdown(table1(play("qsft", "Wordle", scores).assign(cluster=[0, 0, 0, 1, 1, 1, 2, 2, 2])))
    assert "Wordle: episodes are of 3 tasks a column, and intervals run over tasks (t)." in text
    assert "tasks" not in markdown(table1(play("qsft", "Wordle", scores)))


def test_differences_of_clustered_episodes_run_over_tasks() -> None:
    scores, tasks = [0, 0, 0, 1, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1, 2, 2, 2]
    pair = [play("qsft", "Wordle", scores), play("sft", "Wordle", [0] * 9)]
    alone, shared = (
        paired_frame(pd.concat(frames), specs=SPECS).set_index(["agent_a", "agent_b"]).loc[("qsft", "sft")]
        for frames in (pair, [frame.assign(cluster=tasks) for frame in pair])
    )
    assert shared["difference"] == alone["difference"] and shared["n"] == 9
    assert shared["ci_high"] - shared["ci_low"] > alone["ci_high"] - alone["ci_low"]


# Which rows and columns, in which order


def test_rows_are_in_the_house_order_with_strangers_before_random() -> None:
    names = ["behaviour", "zeta", "random", "bc", "qsft", "cql", "alpha", "filtered_bc", "return_conditioned"]
    shown = agents(table1(*(play(name, "Wordle", [-1, -2]) for name in names)))
    assert shown == [
        *("react", "sft", "sft_greedy", "sft_temp", "filtered_bc", "return_conditioned", "ilql", "cql", "qsft", "bc"),
        *("alpha", "zeta", "random", "behaviour"),
    ]


def test_columns_are_verbatim() -> None:
    head = next(line for line in markdown(table1()).splitlines() if line.startswith("| Agent"))
    built = head.replace(f" ({NOT_BUILT})", "")
    assert built == "| Agent | Chess | Wordle | 20Q | Pick | Examine | Clean | Heat | Cool | Pick2 |"
    assert head.startswith(f"| Agent | Chess ({NOT_BUILT}) | Wordle | 20Q ({NOT_BUILT}) | Pick |")  # SPECS declare the others


def test_a_terminal_leaves_out_columns_that_nothing_fills() -> None:
    shown = render(table1(play("qsft", "Wordle", [-1, -2])))
    assert [str(column.header) for column in shown.columns] == [
        "Agent",
        "Wordle",
        "Pick",
        "Examine",
        "Clean",
        "Heat",
        "Cool",
        "Pick2",
    ]
    assert "Not built yet: Chess, 20Q." in str(shown.caption)


def test_table_3_prints_sft_as_bc() -> None:
    records = pd.concat([play("sft", "Pick Object", [1, 0]), play("qsft", "Pick Object", [1, 1])])
    table = build_table(3, records, "small", {"decoding": {"sft": {"Pick Object": "temperature 1"}}}, specs=SPECS)
    assert agents(table) == ["bc", "sft_greedy", "sft_temp", "cql", "q_transformer", "qsft"]
    text = markdown(table)
    assert row(text, "bc (paper)") == ["44", "32", ""]
    assert "| bc | temperature 1 |" in text
    assert f"| Drawer Grasp ({NOT_BUILT}) |" in text  # ARM does not declare it
    assert row(text, "qsft")[2] == ""
    with pytest.raises(BenchError, match="prints 'sft' as 'bc'"):
        build_table(3, pd.concat([records, play("bc", "Pick Object", [1])]), "small", specs=SPECS)


def test_paper_numbers_stand_in_known_rows_and_columns() -> None:
    columns = [column for names in TABLES.values() for column in names]
    assert set(columns) - set(PAPER) == {"Drawer Grasp"}
    assert {agent for rows in PAPER.values() for agent in rows} <= set(tables.AGENTS)
    assert PAPER["Score"] == {"react": 0.60, "sft": 0.55, "archer": 0.57, "qsft": 0.63}


def test_the_registry_declares_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "env_names", lambda: ["wordle"])
    monkeypatch.setattr(tables, "env_spec", {"wordle": WORDLE}.__getitem__)
    found = build_table(1, pd.DataFrame(), "small").columns
    assert [column.name for column in found if column.spec] == ["Wordle"]
    assert [column.name for column in found if column.success] == list(TABLES[1][3:])


def test_there_are_three_tables() -> None:
    with pytest.raises(BenchError, match="no table 4; choose from 1, 2, 3"):
        build_table(4, pd.DataFrame(), "small", specs=SPECS)


# What stands around the matrix


def test_the_caption_says_what_varies() -> None:
    one = markdown(table1(play("qsft", "Wordle", [-1, -2])))
    assert "Preset small: what small is." in one
    assert "Mean and 95% interval of 2 evaluation episodes a cell." in one
    assert "Intervals run over episodes" in one
    trained = play("qsft", "Wordle", [-1, -2], [-2, -2], [-3, -1])
    assert "Intervals run over training seeds (t over the means of 3 trainings)." in markdown(table1(trained))
    mixed = markdown(table1(trained, play("random", "Wordle", [-6, -5])))
    assert "where marked †, over episodes" in mixed
    assert row(mixed, "random")[1].endswith("†") and not row(mixed, "qsft")[1].endswith("†")


def test_smoke_means_nothing_and_says_so() -> None:
    table = table1(play("qsft", "Wordle", [-1, -2], preset="smoke"), preset="smoke")
    assert "**The numbers mean nothing" in markdown(table)
    assert r"\textbf{The numbers mean nothing" in tables.latex(table)
    assert "mean nothing" not in markdown(table1(play("qsft", "Wordle", [-1, -2])))


def test_references_and_what_they_say() -> None:
    text = markdown(table1())
    assert "| Wordle | -6.00 | -4.10 | -2.29 | -1.94 | 84% |" in text
    assert "Wordle: greedy imitation of the exact behaviour is within 0.35 of the ceiling (84% of the gap)" in text
    assert "| Pick, Examine, Clean, Heat, Cool, Pick2 | - | 34 | 40 | 94 | 10% |" in text
    assert text.count("cannot tell RL from imitation") == 1


def test_provenance_is_printed_where_it_is_known() -> None:
    provenance = {
        "commit": "abc123",
        "hardware": "2 cores",
        "versions": {"python": "3.11.7", "torch": "2.9"},
        "stages": {"train qsft": 61.4},
        "decoding": {"qsft": {"Wordle": "beta 8, ratio", "Score": "not here"}, "absent": {}},
        "datasets": {"Wordle": "1,000,000 episodes, words", "Score": "not here"},
    }
    text = markdown(table1(provenance=provenance))
    assert "- commit: abc123" in text
    assert "- versions: python 3.11.7, torch 2.9" in text
    assert "- wall time: train qsft 61 s" in text
    assert "| qsft | beta 8, ratio |" in text
    assert "| Wordle | 1,000,000 episodes, words |" in text
    assert "not here" not in text
    assert "## Provenance" not in markdown(table1())


# Files


def test_the_four_files(tmp_path: Path) -> None:
    table = table1(play("qsft", "Wordle", [-1, -2]), provenance={"commit": "abc"})
    paths = write_table(table, tmp_path / "small")
    assert [path.name for path in paths] == ["table1.md", "table1.csv", "table1.json", "table1.tex"]
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == sorted(path.name for path in paths)
    csv = paths[1].read_text()
    assert csv.splitlines()[0] == "agent,column,n,seeds,mean,ci_low,ci_high,paper"
    assert "qsft,Chess,0,0,,,,0.15" in csv.splitlines()
    assert "qsft,Wordle,2,1,-1.5,-7.853102,4.853102,-2.11" in csv.splitlines()
    read = json.loads(paths[2].read_text())
    assert read["provenance"] == {"commit": "abc"}
    by_cell = {(cell["agent"], cell["column"]): cell for cell in read["cells"]}
    assert set(by_cell["qsft", "Wordle"]) == {*CELL_FIELDS, "over", "absent", "statistics"}
    assert by_cell["qsft", "Wordle"]["over"] == "episodes"
    assert by_cell["qsft", "Chess"] | {"mean": None, "absent": NOT_BUILT, "n": 0} == by_cell["qsft", "Chess"]
    assert read["columns"][1]["references"]["ceiling"] == -1.94
    assert read["columns"][3] | {"unit": "percent", "env": "alfworld"} == read["columns"][3]


def test_csv_and_json_hold_the_same_cells(tmp_path: Path) -> None:
    table = table1(play("qsft", "Pick", [1, 0, 1]), play("random", "Wordle", [-6, -6]))
    write_table(table, tmp_path)
    csv = pd.read_csv(tmp_path / "table1.csv")
    cells = pd.DataFrame(json.loads((tmp_path / "table1.json").read_text())["cells"])[list(CELL_FIELDS)]
    pd.testing.assert_frame_equal(csv, cells, check_dtype=False)
    assert len(csv) == len(agents(table)) * 9


def test_latex_is_a_booktabs_table() -> None:
    text = tables.latex(table1(play("sft_greedy", "Wordle", [-1, -2, -3, -4, -5])))
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert row(text, r"sft\_greedy")[1] == "$-$3.00 {[}$-$4.96, $-$1.04{]}"
    assert r"95\% interval" in text
    assert {line.count("&") for line in text.splitlines() if line.endswith(r"\\")} == {9}


def test_write_columns_is_the_same_mechanism(tmp_path: Path) -> None:
    records = pd.concat([play("qsft", "Wordle habit", [-1, -2]), play("sft", "Stitching", [0, 1])])
    paths = write_columns(records, ["Wordle habit", "Stitching"], tmp_path, "separation", specs=SPECS)
    assert [path.name for path in paths] == ["separation.md", "separation.csv"]
    text = paths[0].read_text()
    assert text.startswith("# Separation\n") and "Preset small" in text
    assert "| Wordle habit | - | -4.10 |" in text  # the habit tier's own references
    assert list(pd.read_csv(paths[1])["agent"].unique()) == [*IMITATION, "qsft"]


def test_rendering_for_a_terminal() -> None:
    table = table1(play("[red]odd[/red]", "Wordle", [-1, -2, -3, -4, -5]))
    console = Console(width=240, file=io.StringIO())
    console.print(render(table))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]odd[/red]" in text and "-3.00 [-4.96, -1.04]" in text


def test_a_narrow_terminal_gets_whole_means_without_intervals() -> None:
    played = {column: [-1, -2, -3, -4, -5] if column in TABLES[1][:3] else [0, 1] for column in TABLES[1]}
    records = pd.concat([play("qsft", column, scores) for column, scores in played.items()])
    console = Console(width=100, file=io.StringIO())
    console.print(render(table1(records), width=100))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("-3.00") >= 3 and "[-4.96" not in text and "table1.md" in text and "…" not in text


# Nothing that comes from data is markup


HOSTILE = "a|b\n\n# <script> [x](http://y) \\ | `z` **w** & $q$ % {_}"


def test_hostile_names_stay_text() -> None:
    provenance = {
        "commit": HOSTILE,
        "hardware": HOSTILE,
        "decoding": {HOSTILE: {"Wordle": HOSTILE}},
        "datasets": {"Wordle": HOSTILE},
    }
    table = table1(play(HOSTILE, "Wordle", [-1, -2]), provenance=provenance)
    text = markdown(table)
    assert "\\<script\\>" in text and "<script" not in text.replace("\\<", "")
    assert sum(line.startswith("#") for line in text.splitlines()) == 5
    tex = tables.latex(table)
    assert r"a\textbar{}b \# \textless{}script\textgreater{}" in tex
    assert r"\textbackslash{} \textbar{} `z` **w** \& \$q\$ \% \{\_\}" in tex


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=30))
def test_any_name_keeps_the_grid(name: str) -> None:
    table = build_columns(pd.DataFrame(), ["Wordle"], stem="x", title="x", specs=SPECS)
    table = replace(table, cells=tuple(replace(cell, agent=name) for cell in table.cells[-1:]))
    body = [line for line in markdown(table).splitlines() if line.startswith("|")]
    matrix = body[: body.index("| --- | ---: |") + 3]  # head, rule, the agent's row, the paper's row
    for line in matrix:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3  # unescaped bars
    tex = tables.latex(table)
    inside = tex.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len(inside) == 2
    for line in inside:
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        bare = re.sub(r"\\[&%$#_{}]", "", line)
        assert bare.count("{") == bare.count("}")
        assert not re.search(r"[%#~^_]", bare)


@pytest.mark.parametrize("text", ["sft_greedy", "temperature 0.7, top-k 5", "a (b), c/d = 1e-4", "beta: 8"])
def test_harmless_text_stays_readable(text: str) -> None:
    assert tables._markdown(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("_a_", r"\_a\_"), ("https://x.org", r"https\://x\.org"), (":smile:", r"\:smile:"), ("a`|`b", r"a\`\|\`b")],
)
def test_markup_is_escaped(text: str, escaped: str) -> None:
    assert tables._markdown(text) == escaped


# Records that do not belong together


def test_presets_do_not_mix() -> None:
    small, smoke = play("qsft", "Wordle", [-1]), play("sft", "Wordle", [-1], preset="smoke")
    with pytest.raises(BenchError, match="'small', 'smoke'; pass only those of preset 'small'"):
        table1(small, smoke)
    with pytest.raises(BenchError, match="pass only those of preset 'small'"):
        table1(smoke)
    with pytest.raises(BenchError, match="of one preset"):
        paired_frame(pd.concat([small, smoke]), specs=SPECS)


def test_configurations_do_not_mix() -> None:
    records = play("qsft", "Wordle", [-1, -2])
    records.loc[1, "config_hash"] = "other"
    with pytest.raises(BenchError, match="qsft on Wordle, training seed 0, mixes 2 configurations"):
        table1(records)


def test_errors_name_the_cell() -> None:
    with pytest.raises(BenchError, match="qsft on Pick: a success rate needs scores of 0 and 1"):
        table1(play("qsft", "Pick", [0.5, 1]))
    with pytest.raises(BenchError, match="qsft on Wordle: records hold the same episode twice"):
        table1(play("qsft", "Wordle", [-1]), play("qsft", "Wordle", [-1]))
    with pytest.raises(BenchError, match="records lack score"):
        table1(play("qsft", "Wordle", [-1]).drop(columns="score"))


# Pairs


def test_paired_rows() -> None:
    records = pd.concat(
        [
            play("qsft", "Wordle", [-1, -2, -3]),
            play("sft", "Wordle", [-2, -4, -6]),
            play("sft_greedy", "Wordle", [-3, -2, -3]),
            play("ilql", "Wordle", [-1, -2, -3]),
            play("random", "Wordle", [-6, -6, -6]),
            play("react", "Wordle", [-6, -6, -6]),
        ]
    )
    found = paired_frame(records, specs=SPECS)
    assert tuple(found.columns) == PAIR_FIELDS
    assert list(zip(found["agent_a"], found["agent_b"], strict=True)) == [
        *(("ilql", "sft"), ("ilql", "sft_greedy"), ("ilql", "best_sft:sft_greedy")),
        *(("qsft", "sft"), ("qsft", "sft_greedy"), ("qsft", "best_sft:sft_greedy"), ("qsft", "ilql")),
    ]
    row = found[(found["agent_a"] == "qsft") & (found["agent_b"] == "sft")].iloc[0]
    # differences 1 2 3: mean 2, half-width 4.302653 / sqrt(3)
    assert row[["n", "difference", "ci_low", "ci_high"]].tolist() == [3, 2, -0.484138, 4.484138]
    same = found.iloc[-1]
    assert same["difference"] == 0 and math.isnan(same["ci_low"])


def test_pairs_of_success_are_percentage_points_on_common_seeds() -> None:
    records = pd.concat([play("qsft", "Pick", [1, 1, 1, 0]), play("sft", "Pick", [0, 1])])
    found = paired_frame(records, specs=SPECS).iloc[0]
    assert (found["n"], found["difference"]) == (2, 50)
    apart = play("sft", "Pick", [0, 1]).assign(episode_seed=[90, 91])
    found = paired_frame(pd.concat([play("qsft", "Pick", [1, 1]), apart]), specs=SPECS).iloc[0]
    assert found["n"] == 0 and math.isnan(found["difference"])


def test_columns_that_an_episode_fills_one_of_are_compared_together_too() -> None:
    def both(agent: str, heat: list[float], cool: list[float], first: int) -> pd.DataFrame:
        apart = play(agent, "Cool", cool).assign(episode_seed=range(first, first + len(cool)))
        return pd.concat([play(agent, "Heat", heat), apart])

    found = paired_frame(pd.concat([both("qsft", [1, 1], [1, 0], 2), both("sft", [0, 1], [0, 0], 2)]), specs=SPECS)
    together = found[found["column"] == "alfworld (all)"]
    assert together[["agent_a", "agent_b", "n", "difference"]].values.tolist() == [
        ["qsft", "sft", 4, 50],
        ["qsft", "best_sft:sft", 4, 50],
    ]
    # The arm's columns are of the same episodes: they cannot be added up.
    same = paired_frame(pd.concat([both("qsft", [1, 1], [1, 0], 0), both("sft", [0, 1], [0, 0], 0)]), specs=SPECS)
    assert set(same["column"]) == {"Heat", "Cool"}


def test_pairs_of_several_trainings_run_over_trainings() -> None:
    # Means of the trainings differ by 1, 2 and 3: mean 2, half-width 4.302653 / sqrt(3), whatever the episodes do
    records = pd.concat([play("qsft", "Wordle", [1, 1], [2, 2], [3, 3]), play("sft", "Wordle", [0, 0], [0, 0], [0, 0])])
    row = paired_frame(records, specs=SPECS).iloc[0]
    assert row[["n", "difference", "ci_low", "ci_high"]].tolist() == [2, 2, -0.484138, 4.484138]


def test_pairs_follow_the_tables_columns(tmp_path: Path) -> None:
    columns = ["Wordle habit", "Pick", "Wordle"]
    records = pd.concat([play(agent, column, [1, 0]) for column in columns for agent in ("qsft", "sft")])
    path = write_paired(records, tmp_path, specs=SPECS)
    found = pd.read_csv(path)
    assert path.name == "paired.csv"
    assert list(found["column"].unique()) == ["Wordle", "Pick", "Wordle habit"]
    assert tuple(paired_frame(pd.DataFrame(), specs=SPECS).columns) == PAIR_FIELDS
