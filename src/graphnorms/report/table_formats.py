"""The table of a verdict for papers and programs: LaTeX, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graphnorms.errors import unknown_name
from graphnorms.lab.across_datasets import across_verdicts
from graphnorms.report.cells import estimate_text
from graphnorms.report.labels import STAR, axis
from graphnorms.report.table import caption_of, columns_of

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict

FORMATS: Final = ("latex", "csv", "markdown")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of text.

    Args:
        headings: One per column.
        rows: The cells of each row.
        bold: Rows and columns of what stands out: the best, and what is not told apart from it.
        notes: What the columns are, a line each.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]]
    notes: Sequence[str]


def formatted(verdicts: Mapping[str, Verdict], form: str) -> str:
    """Write the table of one verdict, or that of the scores on several data sets.

    One verdict has a column for each that the terminal shows; several have one per data set, and
    the average rank. CSV has a row per norm and data set, as numbers in the unit of the score.

    Args:
        verdicts: By data set, one or more.
        form: One of `FORMATS`.

    Raises:
        ValueError: There is no such format.
    """
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    if form == "csv":
        return _csv(verdicts)
    grid = _of_one(*verdicts.values()) if len(verdicts) == 1 else _of_several(verdicts)
    return _latex(grid) if form == "latex" else _markdown(grid)


def _of_one(verdict: Verdict) -> Grid:
    """Lay out the leaderboard, with every column that has an entry."""
    columns = {
        name: (column.heading.replace("\n", " "), [column.cell(row) for row in verdict.rows])
        for name, column in columns_of(verdict).items()
    }
    kept = [column for column in columns.values() if set(column[1]) != {"–"}]
    names = [row.norm for row in verdict.rows]
    rows = [
        [name, *cells] for name, *cells in zip(names, *(cells for _, cells in kept), strict=True)
    ]
    if verdict.trivial is not None:
        level = verdict.scale.number(verdict.trivial)
        rows.append(["chance", level, *[""] * (len(kept) - 1)])
    bold = frozenset((names.index(norm), 1) for norm in verdict.tied)
    return Grid(
        headings=[verdict.noun, *(heading for heading, _ in kept)],
        rows=rows,
        bold=bold,
        notes=[*_without_star(caption_of(verdict)), *_bold_note(bold)],
    )


def _without_star(lines: Sequence[str]) -> list[str]:
    """Leave out the mark of the recommended norm, which only the terminal and the page show."""
    mark = f"{STAR} recommended"
    kept = [line.removeprefix(mark).removeprefix("; ") for line in lines]
    return list(filter(None, kept))


def _of_several(verdicts: Mapping[str, Verdict]) -> Grid:
    """Lay out the scores on every data set, and the average ranks."""
    try:
        ranks = across_verdicts(verdicts).ranks
    except ValueError:  # nothing to rank
        ranks = {}
    every = dict.fromkeys(row.norm for verdict in verdicts.values() for row in verdict.rows)
    order = [*ranks, *(norm for norm in every if norm not in ranks)]
    rows, bold = [], set()
    for place, norm in enumerate(order):
        cells = [norm]
        for column, verdict in enumerate(verdicts.values(), 1):
            row = next((row for row in verdict.rows if row.norm == norm), None)
            cells.append(estimate_text(None if row is None else row.score, verdict.scale))
            if norm in (verdict.tied or (verdict.best,)):
                bold.add((place, column))
        if ranks:
            cells.append(f"{ranks[norm]:.2f}" if norm in ranks else "–")
        rows.append(cells)
    notes = [
        f"{name}: {axis(verdict.scale.metric.title, verdict.scale.score_unit, verdict.scale)}"
        for name, verdict in verdicts.items()
    ]
    noun = next(iter(verdicts.values())).noun
    return Grid(
        headings=[noun, *verdicts, *["rank"] * bool(ranks)],
        rows=rows,
        bold=frozenset(bold),
        notes=[*notes, "± the longer side of the 95% interval", *_bold_note(bold)],
    )


def _bold_note(bold: frozenset[tuple[int, int]] | set[tuple[int, int]]) -> list[str]:
    return ["bold: the best, and what is not told apart from it"] if bold else []


_LATEX: Final = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "★": r"$\star$",
    "²": "$^2$",
    "σ": r"$\sigma$",
    "×": r"$\times$",
    "≥": r"$\ge$",
}


def _latex(grid: Grid) -> str:
    """Write a `tabular` with the rules of booktabs; the notes are comments above it."""

    def line(cells: Sequence[str]) -> str:
        return f"    {' & '.join(cells)} \\\\"

    def cell(text: str, bold: bool) -> str:
        escaped = "".join(_LATEX.get(sign, sign) for sign in text)
        return f"\\textbf{{{escaped}}}" if bold else escaped

    body = _cells(grid, cell)
    return "\n".join(
        [
            *(f"% {note}" for note in grid.notes),
            f"\\begin{{tabular}}{{l{'r' * (len(grid.headings) - 1)}}}",
            "    \\toprule",
            line([cell(heading, False) for heading in grid.headings]),
            "    \\midrule",
            *map(line, body),
            "    \\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def _markdown(grid: Grid) -> str:
    """Write a table in Markdown, and the notes below it."""

    def cell(text: str, bold: bool) -> str:
        escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")
        return f"**{escaped}**" if bold else escaped

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return "\n".join(
        [
            line([cell(heading, False) for heading in grid.headings]),
            f"|---|{'---:|' * (len(grid.headings) - 1)}",
            *map(line, _cells(grid, cell)),
            "",
            "; ".join(grid.notes).replace("|", "\\|"),
            "",
        ]
    )


def _cells(grid: Grid, cell: Callable[[str, bool], str]) -> list[list[str]]:
    return [
        [cell(text, (row, column) in grid.bold) for column, text in enumerate(texts)]
        for row, texts in enumerate(grid.rows)
    ]


def _csv(verdicts: Mapping[str, Verdict]) -> str:
    """Write a row per norm and data set; what is not known is empty."""
    rows = []
    for name, verdict in verdicts.items():
        columns = columns_of(verdict).values()
        for row in verdict.rows:
            numbers = {key: value for one in columns for key, value in one.numbers(row).items()}
            rows.append(
                {
                    **({"dataset": name} if len(verdicts) > 1 else {}),
                    verdict.noun: row.norm,
                    "metric": verdict.scale.metric.name,
                    "done": row.done,
                    "failed": row.failed,
                    **{key: _known(value) for key, value in numbers.items()},
                    "tied_with_best": row.norm in verdict.tied,
                    "recommended": row.norm == verdict.recommended,
                }
            )
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _known(value: float | None) -> float | str:
    return "" if value is None or math.isnan(value) else value
