"""A judged table in words and tables, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from graphnorms.lab.score_columns import ROLES
from graphnorms.lab.sentences import sentences
from graphnorms.report.cells import PLAIN_BOX, ascii_only
from graphnorms.report.pairs_table import pairs
from graphnorms.report.table import leaderboard, paragraphs

if TYPE_CHECKING:
    from graphnorms.lab.judged_table import JudgedTable

MOST_SETS: Final = 6
"""Data sets that a table of ranks has room for."""


def judged_lines(judged: JudgedTable, *, width: int = 80, plain: bool = False) -> Iterator[Any]:
    """Yield what is printed of a judged table: how it was read, each data set, the ranks."""
    roles = judged.reading.roles
    read = ", ".join(f"{role} = {name}" for role, name in roles.columns.items() if role in ROLES)
    metrics = {one.metric.title: one.said for one in judged.reading.metrics.values()}
    said = "; ".join(f"{title}: {words}" for title, words in metrics.items())
    spelt = ascii_only if plain else str
    facts = [f"Read as {judged.source}{f' ({read})' if read else ''}. {said}."]
    yield paragraphs(map(spelt, (*facts, *judged.notes, *judged.design)))
    for one in () if judged.ranked_only else judged.sets:
        yield ""
        if len(judged.sets) > 1:
            yield Text(spelt(one.name), style="bold underline")
        yield paragraphs(map(spelt, sentences(one.verdict).headline))
        yield ""
        yield leaderboard(one.verdict, width=width, plain=plain)
        if one.verdict.conclusive:
            yield ""
            yield pairs(one.verdict, width=width, plain=plain)
        if sentences(one.verdict).details:
            yield ""
            yield paragraphs(map(spelt, sentences(one.verdict).details))
    if len(judged.sets) > 1:
        yield ""
        yield paragraphs([spelt(judged.ranks)])
        if judged.across is not None:
            yield ""
            yield _ranks(judged, plain=plain)


def _ranks(judged: JudgedTable, *, plain: bool) -> Table:
    """Build the table of average ranks and of the scores on every data set."""
    found = judged.across
    table = Table(box=PLAIN_BOX if plain else box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(judged.sets[0].verdict.noun, overflow="fold", min_width=8)
    table.add_column("rank", justify="right")
    shown = judged.sets[:MOST_SETS]
    for one in shown:
        table.add_column(one.name, justify="right")
    for method, rank in found.ranks.items() if found is not None else ():
        cells = []
        for one in shown:
            score = one.verdict.row(method).score
            cells.append("–" if score is None else one.verdict.scale.number(score.mean))
        table.add_row(method, f"{rank:.2f}", *cells)
    return table
