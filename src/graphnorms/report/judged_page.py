"""The page of a judged table, and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.errors import unknown_name
from graphnorms.files import replacing
from graphnorms.report.page import render_verdict
from graphnorms.report.pair_figures import critical_difference, pairwise
from graphnorms.report.several import Part, render_several
from graphnorms.report.trial_figures import score_by_pair

if TYPE_CHECKING:
    from graphnorms.lab.judged_table import JudgedSet, JudgedTable
    from graphnorms.report.chart import Figure


def write_judged(path: Path, judged: JudgedTable) -> None:
    """Write the page of a judged table, one file that loads nothing.

    Raises:
        OSError: It cannot be written.
    """
    page = _of_several(judged) if judged.across is not None else _of_one(judged)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _of_one(judged: JudgedTable) -> str:
    one = judged.sets[0]
    if len(judged.sets) > 1:
        raise ValueError(f"{judged.ranks} A page needs ranks, or one data set")
    verdict = one.verdict
    pairs = max((row.pairs for row in verdict.rows), default=0)
    return render_verdict(
        verdict,
        [panel for figure in figures_of(one).values() for panel in figure.panels],
        kicker="graphnorms judge",
        title=f"{_compared(judged)} on {one.name or judged.name}",
        subtitle=[
            judged.source,
            verdict.design.count(pairs),
            f"{len(verdict.rows)} {verdict.noun}s",
        ],
        settings=_settings(judged),
        command=judged.command,
        notes=(*judged.design, *judged.notes),
    )


def _of_several(judged: JudgedTable) -> str:
    across = judged.across
    if across is None:
        raise ValueError("there are no ranks")
    parts = []
    for one in judged.sets:
        if one.name not in across.datasets:
            continue
        pairs = max((row.pairs for row in one.verdict.rows), default=0)
        parts.append(
            Part(
                name=one.name,
                settings={},
                trials=None,
                verdict=one.verdict,
                command="",
                about=f"{one.verdict.scale.metric.title} · {one.verdict.design.count(pairs)}",
            )
        )
    return render_several(
        parts,
        across,
        kicker="graphnorms judge",
        title=f"{_compared(judged)} over {len(parts)} data sets",
        notes=(*judged.design, *judged.notes),
        made_by=judged.command,
    )


def _compared(judged: JudgedTable) -> str:
    return "Normalizations" if judged.sets[0].verdict.noun == "norm" else "Methods"


def _settings(judged: JudgedTable) -> list[tuple[str, str]]:
    """List how the table was read."""
    metrics = {one.metric.title: one.said for one in judged.reading.metrics.values()}
    return [
        ("read as", judged.source),
        *judged.reading.roles.columns.items(),
        *metrics.items(),
        ("design", judged.assumed.name),
    ]


def figures_of(one: JudgedSet) -> dict[str, Figure]:
    """Return the figures of the scores on one data set, by name."""
    if one.verdict.best is None:
        return {}
    found = [score_by_pair(one.trials, one.verdict)]
    if one.verdict.differences:
        found.append(pairwise(one.verdict))
    return {figure.name: figure for figure in found}


def figure_of(judged: JudgedTable, name: str, dataset: str | None) -> Figure:
    """Return one figure.

    Args:
        judged: What was judged.
        name: `"score_by_pair"`, `"pairwise"`, or `"critical_difference"` over data sets.
        dataset: Of which data set, if there are several.

    Raises:
        ValueError: There is no such figure, or data set, or several and none is named.
    """
    if name == "critical_difference":
        if judged.across is None:
            raise ValueError("ranks take two data sets at least with two methods in common")
        return critical_difference(judged.across)
    sets = {one.name: one for one in judged.sets}
    if dataset is None and len(sets) > 1:
        raise ValueError(f"there are {len(sets)} data sets; say which, e.g. {next(iter(sets))!r}")
    if dataset is not None and dataset not in sets:
        raise unknown_name("data set", dataset, sets)
    found = figures_of(sets[dataset] if dataset is not None else judged.sets[0])
    if name not in found:
        raise unknown_name("figure", name, [*found, "critical_difference"])
    return found[name]
