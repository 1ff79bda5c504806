"""The verdict as a table for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from graphnorms.lab import wording
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from graphnorms.lab.statistics import Estimate
    from graphnorms.lab.verdict import NormSummary, Verdict

FULL_WIDTH = 78
"""Columns that the whole table takes."""

MIDDLE_WIDTH = 58
"""Columns without p-values and the optimistic accuracy; below it the seconds go as well."""

_ASCII = str.maketrans({"−": "-", "–": "-", "—": "-", "±": "+-", "×": "x", "…": "...", "≥": ">="})


_PLAIN_BOX = box.Box(box.SIMPLE_HEAD.__str__().replace("─", "-"), ascii=True)


def leaderboard(verdict: Verdict, *, width: int = 80, plain: bool = False) -> Group:
    """Build the leaderboard and the lines that explain it.

    Best first; norms by catalogue name and in their colours.
    The whole fits into 80 columns; 60 have no room for p-values and the optimistic accuracy.
    A console without colours (a pipe, NO_COLOR) leaves them out by itself.

    Args:
        verdict: What to show.
        width: Columns at hand.
        plain: ASCII only.
    """
    full, middle = width >= FULL_WIDTH, width >= MIDDLE_WIDTH
    table = Table(
        box=_PLAIN_BOX if plain else box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        # "+-" is longer than "±"; the divider of the box is one column itself.
        padding=(0, 0, 0, 1) if middle and not plain else 0,
    )
    table.add_column("norm", overflow="fold", min_width=8)
    headings = ["accuracy\n%", "to best\npoints", "train\n%", "steps"]
    if middle:
        headings.append("seconds")
    if full:
        headings.insert(2, "p")
        headings.append("single\nepoch* %")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in verdict.rows:
        cells = [
            _estimate(row.validation_accuracy),
            _difference(row, verdict.best),
            _percent(row.train_accuracy),
            _steps(row),
        ]
        if middle:
            cells.append(_seconds(row.seconds_to_target))
        if full:
            cells.insert(2, _p_value(row))
            cells.append(_selected(row))
        name = Text(row.norm, style=f"bold {style_of(row.norm).color}")
        if row.done < row.planned:
            name.append(f" {row.done}/{row.planned}", style="not bold dim")
        if plain:
            name, cells = Text(ascii_only(name.plain)), [ascii_only(cell) for cell in cells]
        table.add_row(name, *map(Text, cells))
    return Group(table, Text(_caption(verdict, full=full, plain=plain), style="dim"))


def ascii_only(text: str) -> str:
    """Spell the signs that our texts use in ASCII, for outputs that take nothing else."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def _caption(verdict: Verdict, *, full: bool, plain: bool) -> str:
    lines = ["accuracy: validation, last epoch, mean of folds ± half the 95% interval"]
    target = verdict.target
    if target is not None:
        whose = f"{target.source!r} gets" if target.source else "all norms get"
        lines.append(
            f"steps, seconds: median to {target.accuracy:.0%} training accuracy, which {whose} to"
        )
    if full:
        lines.append("p: of the difference to the best, paired, Holm-adjusted over all pairs")
        lines.append("* optimistic: best epoch, chosen on these same folds, ± std, as in papers")
    text = "\n".join(lines)
    return ascii_only(text) if plain else text


def _estimate(estimate: Estimate | None, *, signed: bool = False) -> str:
    if estimate is None:
        return "–"
    mean = f"{100 * estimate.mean:{'+' if signed else ''}.1f}".replace("-", "−")
    return mean if math.isnan(estimate.low) else f"{mean}±{100 * estimate.half_width:.1f}"


def _difference(row: NormSummary, best: str | None) -> str:
    if row.difference is None:
        return "best" if row.norm == best else "–"
    return _estimate(row.difference.estimate, signed=True)


def _p_value(row: NormSummary) -> str:
    p = row.difference.adjusted_p if row.difference is not None else None
    return "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _percent(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{100 * estimate.mean:.1f}"


def _steps(row: NormSummary) -> str:
    if row.steps_to_target is not None:
        return f"{row.steps_to_target:.0f}"
    return f"{row.reached} of {row.trials}" if row.trials else "–"


def _seconds(value: float | None) -> str:
    return "–" if value is None else wording.seconds(value)


def _selected(row: NormSummary) -> str:
    if row.selected_accuracy is None or row.selected_std is None:
        return "–"
    return f"{100 * row.selected_accuracy:.1f}±{100 * row.selected_std:.1f}"
