"""The pairs of a verdict as a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from graphnorms.lab.paired_tests import shown_pairs
from graphnorms.lab.verdict_phrases import margin
from graphnorms.report.cells import (
    PLAIN_BOX,
    ascii_only,
    effect_text,
    estimate_text,
    justified,
    needed_text,
    p_text,
)

if TYPE_CHECKING:
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.verdict import Verdict


def pairs(verdict: Verdict, *, width: int = 80, plain: bool = False) -> Group:
    """Build the table of all pairs: how far apart, how surely, and how many it would take.

    Args:
        verdict: What to show.
        width: Columns at hand; columns go where there are fewer.
        plain: ASCII only.
    """
    tests, scale = shown_pairs(verdict.differences, verdict.best), verdict.scale
    unit = f"\n{scale.difference_unit}" if scale.metric.fraction else ""
    counted = verdict.design.count(2).split()[1]
    columns: dict[str, tuple[str, Callable[[PairedTest], str]]] = {
        "difference": (
            f"difference{unit}",
            lambda test: estimate_text(test.estimate, scale, signed=True),
        ),
        "p": ("p", lambda test: p_text(test.adjusted_p)),
        "equal": ("p of\nunequal", lambda test: p_text(test.adjusted_equivalence_p)),
        "effect": ("effect\n(g)", effect_text),
        "wins": ("better\nin", lambda test: f"{test.wins}/{test.pairs}"),
        "needed": (f"{counted}\nneeded", needed_text),
    }
    spelt = ascii_only if plain else str
    names = [spelt(f"{test.first} − {test.second}") for test in tests]

    def build() -> Table:
        table = Table(
            box=PLAIN_BOX if plain else box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=0 if plain else (0, 0, 0, 1),
        )
        table.add_column("pair", overflow="fold", min_width=8)
        body = []
        for heading, of_test in columns.values():
            cells = [spelt(of_test(test)) for test in tests]
            heading, *cells = justified(heading, cells, spelt("±"))
            table.add_column(heading, no_wrap=True)
            body.append(cells)
        for name, line in zip(names, zip(*body, strict=True), strict=True):
            table.add_row(name, *map(Text, line))
        return table

    ruler, table = Console(width=1000), build()
    for name in ("wins", "equal", "effect"):
        if Measurement.get(ruler, ruler.options, table).maximum > width:
            del columns[name]
            table = build()
    caption = _pairs_caption(verdict, counted, columns)
    if len(tests) < len(verdict.differences):
        caption += f"\nPairs with the best, of {len(verdict.differences)} that were tested."
    return Group(table, Text(spelt(caption), style="dim"))


def _pairs_caption(verdict: Verdict, counted: str, columns: Container[str]) -> str:
    lines = [f"needed: {counted} to tell the two apart | to show them equal within the margin,"]
    lines.append("were the difference seen the true one (80% power); –: no number would")
    if "effect" in columns:
        lines.append(f"effect: difference in standard deviations over {counted}, Hedges' g")
    if "equal" in columns:
        lines.append(f"p of unequal: small if the two are equal within {margin(verdict)}")
    return "\n".join(lines)
