from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from graphnorms.lab.verdict import Verdict, judge
from graphnorms.report.table import ascii_only, leaderboard
from graphnorms.training.record import Record

Make = Callable[..., list[Record]]


def printed(verdict: Verdict, width: int, *, plain: bool = False, color: bool = False) -> str:
    console = Console(
        file=StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
    )
    console.print(leaderboard(verdict, width=width, plain=plain))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [50, 60, 80, 120])
@pytest.mark.parametrize("plain", [False, True])
def test_it_fits_and_breaks_no_number(make_records: Make, width: int, plain: bool) -> None:
    text = printed(judge(make_records()), width, plain=plain)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    rows = [line for line in lines if line.startswith(("none ", "batch ", "layer ", "instance "))]
    assert len(rows) == 4
    assert all("±" in row or "+-" in row for row in rows)


def test_narrow_tables_drop_columns_not_digits(make_records: Make) -> None:
    verdict = judge(make_records())
    assert "single" in printed(verdict, 80)
    assert "single" not in printed(verdict, 60)
    assert "seconds" in printed(verdict, 60)
    assert "seconds" not in printed(verdict, 50).splitlines()[1]


def test_the_best_is_first_and_said(make_records: Make) -> None:
    verdict = judge(make_records())
    first = next(
        line for line in printed(verdict, 80).splitlines() if line.split()[:1] == [verdict.best]
    )
    assert " best " in first


def test_plain_is_ascii_even_with_a_strange_name(make_records: Make) -> None:
    text = printed(judge(make_records(("none", "größe"))), 80, plain=True)
    assert text.isascii()
    assert ascii_only("3.1 × sooner, −4 ± 2 …") == "3.1 x sooner, -4 +- 2 ..."


def test_norms_have_their_colors_on_a_terminal_only(make_records: Make) -> None:
    verdict = judge(make_records())
    assert "\x1b[1;38;2;213;94;0m" in printed(verdict, 80, color=True)  # GraphNorm's #D55E00
    assert "\x1b" not in printed(verdict, 80)


def test_names_are_not_markup(make_records: Make) -> None:
    assert "[red]x" in printed(judge(make_records(("none", "[red]x"))), 80)


def test_failed_and_missing_trials_show(make_records: Make) -> None:
    records = make_records(
        failed=lambda norm, fold: norm == "layer" or (norm == "none" and fold < 3),
        missing=lambda norm, fold: norm == "batch",
    )
    text = printed(judge(records, norms=("none", "batch", "layer", "instance", "graph")), 80)
    assert "none 7/10" in text
    assert "layer 0/10" in text
    assert "batch 0/10" in text


def test_one_trial_is_enough(make_records: Make) -> None:
    assert "graph 1/10" in printed(judge(make_records(("graph",), missing=lambda _, f: f > 0)), 80)
