"""What a verdict says of learning rates, and of what a search chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.lab.phrases import MOST_NAMED, Name, listing
from graphnorms.lab.verdict_phrases import best_of, near

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict


def rates(verdict: Verdict, name: Name) -> str:
    """Say how much each norm depends on its learning rate, and whether the grid was too narrow."""
    found = [row.sensitivity for row in verdict.rows if row.sensitivity is not None]
    grid = found[0].rates if found else ()
    if len(grid) == 1:
        return (
            f"Learning rate: only {grid[0]:g} was tried; how much the {verdict.noun}s depend on it "
            "is not known."
        )
    judged = sorted((one for one in found if one.judged), key=lambda one: -one.near)
    if not judged:
        return ""
    if len(judged) > MOST_NAMED:
        counts = f"{judged[-1].near} to {judged[0].near}, most with {name(judged[0].norm)},"
    else:
        counts = listing(f"{one.near} with {name(one.norm)}" for one in judged)
    tried = f"of the {len(grid)} tried"
    if judged[0].thirds:
        tried = "of the thirds of their range, averaged over the proposals that all share"
    sentence = (
        f"Learning rates: {tried}, {counts} come within {near(verdict)} of "
        f"{best_of(verdict, name)}."
    )
    edge = [one for one in judged if one.at_edge]
    if edge:
        named = listing(f"{name(one.norm)} ({one.best:g})" for one in edge[:MOST_NAMED])
        more = f" and {len(edge) - MOST_NAMED} others" if len(edge) > MOST_NAMED else ""
        sentence += (
            f" The best rate is the lowest or the highest tried for {named}{more}; --lr tries "
            "others, which may be better."
        )
    return sentence


def chosen(verdict: Verdict, name: Name) -> str:
    """Say what a search has chosen for the norms, as medians."""
    rows = [row for row in verdict.rows if row.chosen]
    if not rows:
        return ""
    texts = []
    for row in rows[:MOST_NAMED]:
        values = (f"{one.option.replace('_', ' ')} {one.median:.3g}" for one in row.chosen)
        texts.append(f"{name(row.norm)} {', '.join(values)}")
    over = verdict.design.count(2).split()[1]
    return f"Chosen by the search, medians over {over}: {'; '.join(texts)}."
