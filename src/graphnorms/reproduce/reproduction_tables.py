"""The tables of a reproduced paper, as texts for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.reproduce.against_published import Gap, Row, Trained, signed, written
from graphnorms.reproduce.published_values import SCRIPT, Paper, Published

RECALLED: Final = "¹"
"""Marks what was written down from memory."""

SELECTIONS: Final = {
    "paper": "the paper's selection",
    SCRIPT: "the script's settings",
    "nested": "honest selection",
    "split": "here",
}
"""How a score came about, by protocol."""


def score_tables(paper: Paper, rows: Sequence[Row]) -> list[TextTable]:
    """Return published | here | difference for each data set and model."""
    tables = []
    for model, dataset in dict.fromkeys((row.model, row.dataset) for row in rows):
        here = [row for row in rows if (row.model, row.dataset) == (model, dataset)]
        ordered = sorted(here, key=lambda row: paper.norms.index(row.norm))
        protocols = _protocols(paper, here)
        header = ["norm", "published"]
        for protocol in protocols:
            header += [SELECTIONS[protocol], "less published"]
        texts = tuple(_texts(protocols, row) for row in ordered)
        tables.append(TextTable(f"{model.upper()} on {dataset}", tuple(header), texts))
    return tables


def _protocols(paper: Paper, here: Sequence[Row | Gap]) -> list[str]:
    """Return the protocols that something of a table was trained by."""
    return [each for each in paper.protocols if any(each in one.trained for one in here)]


def _texts(protocols: Sequence[str], row: Row) -> tuple[str, ...]:
    cells = [display_name(row.norm), _published(row.published)]
    for protocol in protocols:
        found = row.trained.get(protocol)
        cells += [_score(found), "–" if found is None else written(found.less_published)]
    return tuple(cells)


def _published(value: Published | None) -> str:
    if value is None:
        return "–"
    return f"{value.mean:.1f} ± {value.std:.1f}{f' {RECALLED}' if value.recalled else ''}"


def _score(found: Trained | None) -> str:
    if found is None:
        return "–"
    notes = []
    if found.epoch is not None:
        notes.append(f"epoch {found.epoch}")
    if found.number < found.planned:
        notes.append(f"{found.number} of {found.planned}")
    if found.failed:
        notes.append(f"{found.failed} failed")
    text = f"{found.mean:.1f} ± {found.std:.1f}" if found.number > 1 else f"{found.mean:.1f}"
    return f"{text} ({', '.join(notes)})" if notes else text


def gap_table(paper: Paper, gaps: Sequence[Gap]) -> TextTable:
    """Return how far the paper's norm is ahead of the others."""
    protocols = _protocols(paper, gaps)
    rows = tuple(
        (
            f"{gap.model.upper()} on {gap.dataset}",
            display_name(gap.other),
            _gap(gap),
            *(written(gap.trained.get(protocol)) for protocol in protocols),
        )
        for gap in gaps
    )
    header = ("", "less", "published", *(SELECTIONS[each] for each in protocols))
    return TextTable(f"{display_name(paper.ahead)} less the other norms, in points", header, rows)


def _gap(gap: Gap) -> str:
    if gap.published is None:
        return "–"
    return f"{signed(gap.published)}{f' {RECALLED}' if gap.recalled else ''}"


def recalled_note(rows: Sequence[Row]) -> str:
    """Say what the mark means, where it stands."""
    if not any(row.published is not None and row.published.recalled for row in rows):
        return ""
    return f"{RECALLED} From memory of the paper; the other values were read at the source."
