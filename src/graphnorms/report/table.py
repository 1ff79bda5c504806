"""The verdict as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from graphnorms.lab import phrases
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trivial import trivial_name
from graphnorms.lab.verdict_phrases import goal, near
from graphnorms.report import labels
from graphnorms.report.labels import STAR
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from graphnorms.lab.number_format import Scale
    from graphnorms.lab.statistics import Estimate
    from graphnorms.lab.verdict import NormSummary, Verdict

CAPTION_WIDTH = 78

_DROPPED_FIRST = ("last", "p", "seconds", "train", "steps")
"""Columns in the order in which they go when there is no room for them."""

_ASCII = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "±": "+-", "×": "x", "…": "...", "≥": ">=", STAR: "<-"}
)


_PLAIN_BOX = box.Box(box.SIMPLE_HEAD.__str__().replace("─", "-"), ascii=True)


def leaderboard(verdict: Verdict, *, width: int = 80, plain: bool = False) -> Group:
    """Build the leaderboard and the lines that explain it.

    Best first; norms by catalogue name and in their colours. All columns fit into 80; where
    there are fewer, columns go, and digits never. A console without colours (a pipe, NO_COLOR)
    leaves them out by itself.

    Args:
        verdict: What to show.
        width: Columns at hand.
        plain: ASCII only.
    """
    columns = _columns(verdict)
    dropped = iter(_DROPPED_FIRST)
    table = _table(verdict, columns, plain)
    ruler = Console(width=1000)
    while Measurement.get(ruler, ruler.options, table).maximum > width:
        name = next(dropped, None)
        if name is None:
            break
        del columns[name]
        table = _table(verdict, columns, plain)
    caption = "\n".join(_caption(verdict, columns))
    return Group(table, Text(ascii_only(caption) if plain else caption, style="dim"))


def headline(verdict: Verdict) -> Group:
    """Build what stands above the table: the verdict in words."""
    return _paragraphs(sentences(verdict).headline)


def details(verdict: Verdict) -> Group:
    """Build what stands below the table: what else is said of the comparison."""
    return _paragraphs(sentences(verdict).details)


def _paragraphs(texts: Iterable[str]) -> Group:
    """Build a paragraph for each thing that is said, its subject bold."""
    return Group(
        *(Text.assemble((subject, "bold"), rest) for subject, rest in map(labels.subject, texts))
    )


def _columns(verdict: Verdict) -> dict[str, tuple[str, Callable[[NormSummary], str]]]:
    """Return heading and cells of every column, in the order in which they stand."""
    scale = verdict.scale
    unit = f"\n{scale.score_unit}" if scale.metric.fraction else ""
    difference = f"\n{scale.difference_unit}" if scale.metric.fraction else ""
    return {
        "score": (
            f"{'valid.*' if verdict.optimistic else 'test'}{unit}",
            lambda row: _estimate(row.score, scale),
        ),
        "difference": (f"to best{difference}", lambda row: _difference(row, verdict)),
        "p": ("p", _p_value),
        "train": (
            f"train{unit}",
            lambda row: "–" if row.train is None else scale.number(row.train.mean),
        ),
        "steps": ("steps", _steps),
        "seconds": ("seconds", lambda row: _seconds(row.seconds_to_target)),
        "last": (
            ("last\nepoch", lambda row: "–" if row.last is None else scale.number(row.last.mean))
            if verdict.optimistic
            else ("good\nrates", _near)
        ),
    }


def _table(
    verdict: Verdict, columns: Mapping[str, tuple[str, Callable[[NormSummary], str]]], plain: bool
) -> Table:
    table = Table(
        box=_PLAIN_BOX if plain else box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        # "+-" is longer than "±"; the divider of the box is one column itself.
        padding=0 if plain else (0, 0, 0, 1),
    )
    table.add_column(verdict.noun, overflow="fold", min_width=8)
    spelt = ascii_only if plain else str
    chance = "" if verdict.trivial is None else verdict.scale.number(verdict.trivial)
    body = []
    for column, (heading, of_row) in columns.items():
        cells = [*map(of_row, verdict.rows), chance if column == "score" else ""]
        heading, *cells = _justified(heading, [spelt(cell) for cell in cells], spelt("±"))
        table.add_column(heading, no_wrap=True)
        body.append(cells)
    *lines, last = zip(*body, strict=True)
    for row, line in zip(verdict.rows, lines, strict=True):
        name = Text(spelt(row.norm), style="" if plain else f"bold {style_of(row.norm).color}")
        if row.done < row.planned:
            name.append(f" {row.done}/{row.planned}", style="not bold dim")
        if row.norm == verdict.recommended:
            name.append(spelt(f" {STAR}"))
        table.add_row(name, *map(Text, line))
    if chance:
        table.add_row(*(Text(cell, style="dim") for cell in ("chance", *last)))
    return table


def _justified(heading: str, cells: Sequence[str], sign: str) -> list[str]:
    """Bring heading and cells to one width, ± below ± and numbers without one below the means.

    Done by hand: what trails a cell is taken off where a table puts it to the right.
    """
    tails = [cell[cell.find(sign) :] if sign in cell else "" for cell in cells]
    longest = max(map(len, tails))
    padded = [
        cell + " " * (longest - len(tail)) if cell[-1:].isdigit() else cell
        for cell, tail in zip(cells, tails, strict=True)
    ]
    lines = heading.split("\n")
    width = max(map(len, (*padded, *lines)))
    return ["\n".join(line.rjust(width) for line in lines), *(cell.rjust(width) for cell in padded)]


def ascii_only(text: str) -> str:
    """Spell the signs that our texts use in ASCII, for outputs that take nothing else."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def _caption(verdict: Verdict, columns: Container[str]) -> list[str]:
    scale, metric, target = verdict.scale, verdict.scale.metric, verdict.target
    kind = verdict.design.count(2).split()[1]
    kind += "" if verdict.design.by_fold else " on this one split"
    what = f"{metric.title}{f' in {scale.unit}' if scale.unit else ''}"
    way = "" if metric.higher_is_better else ", lower is better"
    lines = [f"test: {what}{way}, mean of {kind}", "± the longer side of the 95% interval"]
    if verdict.optimistic:
        lines = [f"*OPTIMISTIC {what}{way}; mean of folds", "± half the 95% interval"]
    if len(" ".join(lines)) <= CAPTION_WIDTH:
        lines = [" ".join(lines)]
    marks = [f"{STAR} recommended"] if verdict.recommended is not None else []
    marks += [f"chance: {trivial_name(metric)}"] if verdict.trivial is not None else []
    lines += ["; ".join(marks)] if marks else []
    if target is not None and "steps" in columns:
        times = "steps, seconds" if "seconds" in columns else "steps"
        missed = any(row.trials and row.steps_to_target is None for row in verdict.rows)
        note = "; miss: do not reach it" if missed else ""
        lines.append(f"{times}: to reach {goal(verdict)} (median){note}")
    if "p" in columns:
        lines.append(f"p: test against the best, paired, adjusted for all pairs of {verdict.noun}s")
    if "last" in columns and not verdict.optimistic and _has_grid(verdict):
        lines.append(
            f"good rates: learning rates tried that come within {near(verdict)} of the best"
        )
    return lines


def _estimate(estimate: Estimate | None, scale: Scale, *, signed: bool = False) -> str:
    if estimate is None:
        return "–"
    mean = scale.number(estimate.mean, signed=signed)
    return mean if math.isnan(estimate.low) else f"{mean}±{scale.number(estimate.half_width)}"


def _difference(row: NormSummary, verdict: Verdict) -> str:
    if row.difference is None:
        return "best" if row.norm == verdict.best else "–"
    return _estimate(row.difference.estimate, verdict.scale, signed=True)


def _p_value(row: NormSummary) -> str:
    p = row.difference.adjusted_p if row.difference is not None else None
    return "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _steps(row: NormSummary) -> str:
    if row.steps_to_target is not None:
        return f"{row.steps_to_target:.0f}"
    return f"{row.trials - row.reached} miss" if row.trials else "–"


def _seconds(value: float | None) -> str:
    return "–" if value is None else phrases.seconds(value)


def _near(row: NormSummary) -> str:
    found = row.sensitivity
    return "–" if found is None or not found.judged else f"{found.near}/{len(found.rates)}"


def _has_grid(verdict: Verdict) -> bool:
    return any(row.sensitivity is not None and row.sensitivity.judged for row in verdict.rows)
