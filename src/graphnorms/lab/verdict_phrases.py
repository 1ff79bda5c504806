"""Phrases that the sentences of a verdict share: its name, margin, target and closeness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.lab.phrases import Name, percent
from graphnorms.lab.sensitivity import NEAR

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict


def label(verdict: Verdict) -> str:
    """Say what the score is: `Test accuracy`, `Test MAE (lower is better)`, `Optimistic …`."""
    way = "" if verdict.scale.metric.higher_is_better else " (lower is better)"
    return f"{score_title(verdict)}{way}"


def score_title(verdict: Verdict) -> str:
    """Name the score: `Test accuracy`; of a table, whose part of the data is unknown, its title."""
    title = verdict.scale.metric.title
    if verdict.noun == "method":
        return title[:1].upper() + title[1:]
    return f"{'Optimistic validation' if verdict.optimistic else 'Test'} {title}"


def margin(verdict: Verdict) -> str:
    """Say the margin: `1 point`, `0.0061 (1% of the MAE of 'none')`."""
    amount = verdict.scale.difference(verdict.margin)
    if verdict.scale.metric.fraction:
        return amount
    unit = verdict.scale.difference_unit
    amount = f"{verdict.margin:.2g} {unit}".rstrip()
    return f"{amount} ({verdict.margin_source})" if verdict.margin_source else amount


def rates_noun(verdict: Verdict) -> str:
    """Say what is counted as near the best: `learning rates`, of a search thirds of them."""
    thirds = any(row.sensitivity is not None and row.sensitivity.thirds for row in verdict.rows)
    return "thirds of the learning rates" if thirds else "learning rates"


def near(verdict: Verdict) -> str:
    """Say within what of the leader's best a learning rate is near it: `2 points`."""
    tolerance = NEAR * verdict.margin
    if verdict.scale.metric.fraction:
        return verdict.scale.difference(tolerance)
    return f"{tolerance:.2g} {verdict.scale.unit}".rstrip()


def goal(verdict: Verdict) -> str:
    """Say the target: `87% training accuracy`, `a training MAE of 0.59 eV`."""
    scale, target = verdict.scale, verdict.target
    if target is None:
        return ""
    if scale.metric.fraction:
        return f"{percent(target.score, 0)} training {scale.metric.title}"
    return f"a training {scale.metric.title} of {target.score:g} {scale.unit}".rstrip()


def best_of(verdict: Verdict, name: Name) -> str:
    """Name the best score, to which others are compared."""
    return (
        f"the {verdict.noun}'s best"
        if verdict.best is None
        else f"the best of {name(verdict.best)}"
    )
