from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from tests.verdicts import judge

from graphnorms.lab.trivial import Trivial
from graphnorms.lab.verdict import Verdict
from graphnorms.report.table import ascii_only, headline, leaderboard
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
    text = printed(judge(make_records(), protocol="nested"), width, plain=plain)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    rows = [line for line in lines if line.startswith(("none ", "batch ", "layer ", "instance "))]
    assert len(rows) == 4
    assert all("±" in row or "+-" in row for row in rows)


def test_narrow_tables_drop_columns_not_digits(make_records: Make) -> None:
    verdict = judge(make_records(), protocol="nested")
    assert "rates" in printed(verdict, 80)
    assert "rates" not in printed(verdict, 57)
    assert "seconds" in printed(verdict, 60)
    assert "seconds" not in printed(verdict, 40)


def test_the_best_is_first_and_said(make_records: Make) -> None:
    verdict = judge(make_records(), protocol="nested")
    first = next(
        line for line in printed(verdict, 80).splitlines() if line.split()[:1] == [verdict.best]
    )
    assert " best " in first


def lines_of(text: str) -> dict[str, str]:
    """The lines of a table by their first word, the first of each."""
    return {line.split()[0]: line for line in reversed(text.splitlines()) if line.strip()}


@pytest.mark.parametrize(("plain", "star"), [(False, "★"), (True, "<-")])
def test_the_recommended_norm_is_marked_and_no_other(
    make_records: Make, plain: bool, star: str
) -> None:
    verdict = judge(make_records(), protocol="nested")
    assert verdict.recommendation is not None
    lines = lines_of(printed(verdict, 80, plain=plain))
    marked = {
        norm for norm in ("none", "batch", "layer", "instance", "graph") if star in lines[norm]
    }
    assert marked == {verdict.recommendation.norm}
    assert f"{star} recommended" in printed(verdict, 80, plain=plain)


def test_nothing_is_marked_where_nothing_is_recommended(make_records: Make) -> None:
    verdict = judge(make_records(missing=lambda norm, fold: fold > 2), protocol="nested")
    assert verdict.recommendation is None
    assert "★" not in printed(verdict, 80)


@pytest.mark.parametrize("plain", [False, True])
def test_chance_has_a_line_in_words(make_records: Make, plain: bool) -> None:
    levels = [0.5, 0.6, 0.55, 0.65, 0.7, 0.5, 0.6, 0.7]
    trivial = Trivial(held_out=levels, train=[0.6] * 8)
    text = printed(judge(make_records(), protocol="nested", trivial=trivial), 80, plain=plain)
    assert lines_of(text)["chance"].split() == ["chance", "60.0"]
    assert "chance: predicting the most frequent class for every item" in text
    mae = judge(make_records(metric="mae"), protocol="nested", trivial=trivial)
    assert "chance: predicting the median target for every item" in printed(mae, 80)
    assert "chance" not in printed(judge(make_records(), protocol="nested"), 80)


def test_without_a_target_no_norm_misses_it(make_records: Make) -> None:
    verdict = judge(make_records(), protocol="nested")
    rows = [replace(row, steps_to_target=None, seconds_to_target=None) for row in verdict.rows]
    missed = replace(verdict, rows=tuple(rows))
    assert "miss" in lines_of(printed(missed, 120))["none"]
    assert "miss" not in printed(replace(missed, target=None), 120)


def test_rates_have_a_column_where_several_were_tried(make_records: Make) -> None:
    verdict = judge(make_records(), protocol="nested")
    rows = tuple(replace(row, sensitivity=None) for row in verdict.rows)
    assert "rates" not in printed(replace(verdict, rows=rows), 120)


@pytest.mark.parametrize(("plain", "sign"), [(False, "±"), (True, "+-")])
def test_means_and_their_intervals_stand_below_one_another(
    make_records: Make, plain: bool, sign: str
) -> None:
    trivial = Trivial(held_out=[0.6] * 10, train=[0.6] * 8)
    verdict = judge(make_records(), protocol="nested", trivial=trivial)
    lines = lines_of(printed(verdict, 80, plain=plain))
    rows = [lines[norm] for norm in ("none", "batch", "layer", "instance", "graph")]
    ends = {row.index(sign) for row in rows}
    assert len(ends) == 1
    assert lines["chance"].rstrip()[-4:] == "60.0"
    assert len(lines["chance"].rstrip()) == ends.pop()
    seconds = {row.rindex(sign) for row in rows if row.count(sign) == 2}
    assert len(seconds) == 1


def test_plain_is_ascii_even_with_a_strange_name(make_records: Make) -> None:
    text = printed(judge(make_records(("none", "größe")), protocol="nested"), 80, plain=True)
    assert text.isascii()
    assert ascii_only("3.1 × sooner, −4 ± 2 …") == "3.1 x sooner, -4 +- 2 ..."


def test_norms_have_their_colors_on_a_terminal_only(make_records: Make) -> None:
    verdict = judge(make_records(), protocol="nested")
    assert "\x1b[1;38;2;213;94;0m" in printed(verdict, 80, color=True)  # GraphNorm's #D55E00
    assert "\x1b" not in printed(verdict, 80)


def test_names_are_not_markup(make_records: Make) -> None:
    assert "[red]x" in printed(judge(make_records(("none", "[red]x")), protocol="nested"), 80)


def test_failed_and_missing_trials_show(make_records: Make) -> None:
    records = make_records(
        failed=lambda norm, fold: norm == "layer" or (norm == "none" and fold < 3),
        missing=lambda norm, fold: norm == "batch",
    )
    text = printed(
        judge(records, protocol="nested", norms=("none", "batch", "layer", "instance", "graph")), 80
    )
    assert "none 5/8" in text
    assert "layer 0/8" in text
    assert "batch 0/8" in text


def test_one_trial_is_enough(make_records: Make) -> None:
    records = make_records(("graph",), missing=lambda _, fold: fold > 0)
    assert "graph 1/8" in printed(judge(records, protocol="nested"), 80)


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("protocol", ["nested", "split", "paper"])
@pytest.mark.parametrize("metric", ["roc_auc", "mae"])
def test_every_protocol_and_metric_fits(
    make_records: Make, width: int, protocol: str, metric: str
) -> None:
    records = make_records(protocol=protocol, metric=metric)
    text = printed(judge(records, protocol=protocol, unit="kcal/mol"), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(f"\n{norm} " in text for norm in ("none", "batch", "layer", "instance", "graph"))
    assert ("OPTIMISTIC" in text) == (protocol == "paper")
    if width == 80:
        assert " p " in text
        assert "seconds" in text
        assert ("this one split" in text) == (protocol == "split")
        assert ("lower is better" in text) == (metric == "mae")
        assert ("kcal/mol" in text) == (metric == "mae")
        assert ("points" in text) == (metric != "mae")
        assert ("epoch" in text) == (protocol == "paper")
        assert ("good rates" in text) == (protocol != "paper")


@pytest.mark.parametrize("protocol", ["nested", "split", "paper"])
def test_verdict_and_table_of_five_norms_leave_room_on_a_terminal(
    make_records: Make, protocol: str
) -> None:
    """Of 24 lines the command takes two empty ones, and one for the path."""
    verdict = judge(make_records(protocol=protocol), protocol=protocol)
    console = Console(file=StringIO(), width=80)
    console.print(headline(verdict))
    console.print(leaderboard(verdict, width=80))
    assert len(console.file.getvalue().splitlines()) <= 24 - 3  # type: ignore[attr-defined]
