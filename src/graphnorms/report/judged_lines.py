"""A judged table in words and tables, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from graphnorms.lab.score_columns import ROLES
from graphnorms.lab.sentences import sentences
from graphnorms.report.cells import PLAIN_BOX, ascii_only
from graphnorms.report.pairs_table import pairs
from graphnorms.report.table import leaderboard, paragraphs

if TYPE_CHECKING:
    from graphnorms.lab.judged_table import JudgedSet, JudgedTable

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
            yield _ranks(judged, width=width, plain=plain)


def _ranks(judged: JudgedTable, *, width: int, plain: bool) -> Table:
    """Build the table of average ranks, and of the scores on as many data sets as fit."""
    ruler = Console(width=1000)
    for shown in range(min(MOST_SETS, len(judged.sets)), -1, -1):
        table = _ranks_on(judged, judged.sets[:shown], plain=plain)
        if Measurement.get(ruler, ruler.options, table).maximum <= width:
            break
    return table


def _ranks_on(judged: JudgedTable, sets: Sequence[JudgedSet], *, plain: bool) -> Table:
    found, spelt = judged.across, ascii_only if plain else str
    table = Table(box=PLAIN_BOX if plain else box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(judged.sets[0].verdict.noun, overflow="fold", min_width=8)
    for heading in ("rank", *(one.name for one in sets)):
        table.add_column(spelt(heading), justify="right", no_wrap=True)
    for method, rank in found.ranks.items() if found is not None else ():
        cells = []
        for one in sets:
            score = one.verdict.row(method).score
            cells.append("–" if score is None else one.verdict.scale.number(score.mean))
        table.add_row(spelt(method), f"{rank:.2f}", *map(spelt, cells))
    return table
