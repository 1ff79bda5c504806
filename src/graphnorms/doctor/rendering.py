"""An inspection in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graphnorms.doctor.facts import ModelFacts, NormFacts
from graphnorms.doctor.inspection import Finding, Inspection

_STYLES: Final = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
_MOST_NORMS: Final = 3
"""Norms of a finding whose numbers are shown; the others are named."""


def as_text(inspection: Inspection, width: int = 100) -> str:
    """Return the report as plain text."""
    console = Console(width=width, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(report_of(inspection))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def report_of(inspection: Inspection) -> Group:
    """Return the report: the norms, then the findings."""
    facts = inspection.facts
    parts: list[RenderableType] = [Text(_headline(facts)), Text(), _table(facts), Text()]
    for finding in inspection.findings:
        parts += [*_finding(finding), Text()]
    counts = [
        f"{number} {rank}{'s' if number > 1 else ''}"
        for rank in _STYLES
        if (number := sum(finding.rank == rank for finding in inspection.findings))
    ]
    parts.append(Text(f"{', '.join(counts)}." if counts else "No finding."))
    return Group(*parts)


def _headline(facts: ModelFacts) -> str:
    size = f"{facts.nodes} nodes" if facts.graphs == 1 else f"{facts.graphs} graphs"
    if facts.graphs > 1 and facts.nodes:
        size += f" ({facts.nodes} nodes)"
    batches = "1 batch" if facts.batches == 1 else f"{facts.batches} batches"
    norms = "1 norm" if len(facts.norms) == 1 else f"{len(facts.norms)} norms"
    known = f" of {size}" if facts.graphs else ""
    return f"{facts.model}: {norms}, looked at on {batches}{known}."


def _table(facts: ModelFacts) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.padding = (0, 2, 0, 0)
    table.add_column("norm", overflow="fold")
    for heading in ("layer", "rows are", "statistics of", "ms (ours)", "MiB (ours)"):
        table.add_column(heading, no_wrap=heading != "layer")
    for norm in facts.norms:
        table.add_row(norm.name, *_cells(norm))
    return table


def _cells(norm: NormFacts) -> Iterator[str]:
    channels = "" if norm.channels is None else f"({norm.channels})"
    yield f"{norm.library} {norm.layer}{channels}"
    yield norm.rows_are or "not called"
    reach = {"row": "a row", "graph": "a graph", "batch": "the batch"}.get(norm.reach, "–")
    yield reach if norm.of_a_statistic is None else f"{reach}: {norm.of_a_statistic:.0f}"
    yield _pair(norm.seconds, norm.fused_seconds, 1e3)
    yield _pair(norm.kept_bytes, norm.fused_kept_bytes, 1 / 2**20)


def _pair(value: float | None, ours: float | None, unit: float) -> str:
    if value is None:
        return "–"
    return f"{unit * value:.2f}" + ("" if ours is None else f" ({unit * ours:.2f})")


def _finding(finding: Finding) -> Iterator[RenderableType]:
    yield Text.assemble((finding.rank, _STYLES[finding.rank]), "  ", (finding.name, "bold"))
    said = finding.sentences()
    lines = [f"{name} {sentence}." for name, sentence in said[:_MOST_NORMS]]
    if rest := [name for name, _ in said[_MOST_NORMS:]]:
        lines.append(f"The same: {', '.join(rest)}.")
    for line in lines:
        yield Padding(Text(line), (0, 0, 0, 2), expand=False)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for heading, words in (
        ("why", finding.rule.why),
        ("change", finding.change),
        ("sure", finding.rule.sure),
        ("source", finding.rule.source),
    ):
        if words:
            grid.add_row(f"  {heading}", Text(words))
    yield grid
