"""Tables for papers and programs: their cells are the numbers of the verdict."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from tests.records import synthetic_records
from tests.verdicts import judge

from graphnorms.lab.verdict import Verdict
from graphnorms.report.table_formats import formatted


def latex_rows(text: str) -> list[list[str]]:
    """The cells of the body of a `tabular`."""
    body = text.split("\\midrule")[1].split("\\bottomrule")[0]
    return [line.strip().removesuffix("\\\\").split("&") for line in body.strip().splitlines()]


def test_latex_has_a_row_per_norm_and_the_numbers(verdict: Verdict) -> None:
    text = formatted({"MUTAG": verdict}, "latex")
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns is not None
    rows = latex_rows(text)
    assert [row[0].strip() for row in rows] == [row.norm for row in verdict.rows]
    assert {len(row) for row in rows} == {len(columns.group(1))}
    for cells, row in zip(rows, verdict.rows, strict=True):
        assert row.score is not None
        assert verdict.scale.number(row.score.mean) in cells[1]
        assert ("\\textbf" in cells[1]) is (row.norm in verdict.tied)
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1


def test_signs_that_latex_reads_are_escaped(verdict: Verdict) -> None:
    odd = "a_b & 50% #1 {x} ~ \\cmd $y$ ^"
    rows = (replace(verdict.rows[0], norm=odd), *verdict.rows[1:])
    cell = latex_rows(formatted({"": replace(verdict, rows=rows, tied=())}, "latex").replace(
        r"\&", "AND"
    ))[0][0]  # fmt: skip
    assert cell.strip() == (
        r"a\_b AND 50\% \#1 \{x\} \textasciitilde{} \textbackslash{}cmd \$y\$ \textasciicircum{}"
    )


def test_csv_has_the_numbers_in_full(verdict: Verdict) -> None:
    frame = pd.read_csv(io.StringIO(formatted({"MUTAG": verdict}, "csv"))).set_index("norm")
    assert list(frame.index) == [row.norm for row in verdict.rows]
    for row in verdict.rows:
        assert row.score is not None
        found = frame.loc[row.norm]
        assert found["score"] == row.score.mean
        assert found["score_low"] == row.score.low
        assert bool(found["tied_with_best"]) is (row.norm in verdict.tied)
        if row.difference is not None:
            assert found["difference"] == row.difference.estimate.mean
            assert found["p"] == row.difference.adjusted_p
            assert row.difference.effect is not None
            assert found["effect_high"] == row.difference.effect.high
            needed = row.difference.needed
            assert found["needed"] == needed if needed else pd.isna(found["needed"])


def test_markdown_has_the_same_cells_as_latex(verdict: Verdict) -> None:
    lines = formatted({"MUTAG": verdict}, "markdown").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
    assert len(table) == 2 + len(verdict.rows)
    latex = latex_rows(formatted({"MUTAG": verdict}, "latex"))
    plain = {r"$\pm$": "±", "$-$": "−", "$<$": "<", "--": "–", r"$|$": r"\|"}
    for line, cells in zip(table[2:], latex, strict=True):
        for cell in cells:
            text = re.sub(r"\\textbf\{(.*)\}", r"**\1**", cell.strip())
            for written, sign in plain.items():
                text = text.replace(written, sign)
            assert text in line


def test_several_data_sets_have_a_column_each_and_the_rank() -> None:
    made = {
        name: judge(
            synthetic_records(("none", "batch", "graph"), metric=metric, folds=8, epochs=3),
            protocol="nested",
        )
        for name, metric in (("first", "accuracy"), ("second", "mae"))
    }
    text = formatted(made, "markdown")
    assert text.splitlines()[0] == "| norm | first | second | rank |"
    frame = pd.read_csv(io.StringIO(formatted(made, "csv")))
    assert list(frame["dataset"]) == ["first"] * 3 + ["second"] * 3
    best = {name: verdict.best for name, verdict in made.items()}
    for place, row in enumerate(latex_rows(formatted(made, "latex"))):
        assert place < 3
        for column, name in enumerate(made, 1):
            if row[0].strip() == best[name]:
                assert "\\textbf" in row[column]


def test_an_unknown_format(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match="unknown format 'html'"):
        formatted({"MUTAG": verdict}, "html")
