"""Labels of norms, axes and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphnorms.data.task_kinds import FORCES
from graphnorms.lab.number_format import Scale
from graphnorms.lab.phrases import listing
from graphnorms.lab.statistics import Estimate
from graphnorms.lab.verdict_phrases import score_title
from graphnorms.report.style import display_name
from graphnorms.training.metrics import metric_named

if TYPE_CHECKING:
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.verdict import Verdict


STAR = "★"
"""Marks the norm that the verdict recommends, in tables, figures and legends."""


def of_norm(norm: str, verdict: Verdict) -> str:
    """Return the name of a norm, with a star if it is the recommended one: `★ GraphNorm`."""
    name = display_name(norm)
    return f"{STAR} {name}" if norm == verdict.recommended else name


def of_norms(verdict: Verdict, norms: Iterable[str] | None = None) -> dict[str, str]:
    """Return the names of some norms, by default all of the verdict in its order."""
    chosen = [row.norm for row in verdict.rows] if norms is None else norms
    return {norm: of_norm(norm, verdict) for norm in chosen}


def listed(verdict: Verdict) -> str:
    """List the norms: `GraphNorm, BatchNorm and none`."""
    return listing([display_name(row.norm) for row in verdict.rows])


def shown_interval(test: PairedTest) -> Estimate:
    """Return the estimate of a test, without the interval where too few folds were compared.

    The interval of two or three folds would dwarf all others.
    """
    one = test.estimate
    return Estimate(one.mean, math.nan, math.nan) if test.adjusted_p is None else one


def of_scores(verdict: Verdict) -> str:
    """Label the axis of the scores that norms are judged by: `Test accuracy (%)`."""
    return axis(score_title(verdict), verdict.scale.score_unit, verdict.scale)


def of_differences(verdict: Verdict) -> str:
    """Label the axis of differences to the best norm: `Difference to GraphNorm (points)`."""
    name = display_name(verdict.best or "")
    return axis(f"Difference to {name}", verdict.scale.difference_unit, verdict.scale)


def subject(paragraph: str) -> tuple[str, str]:
    """Split a paragraph into its subject (`Speed:`), if it has one, and the rest."""
    about, colon, rest = paragraph.partition(":")
    if not colon or len(about) > _LONGEST_SUBJECT:
        return "", paragraph
    return about + colon, rest


_LONGEST_SUBJECT = 30  # characters


def axis(title: str, unit: str, scale: Scale) -> str:
    """Label an axis: `Test accuracy (%)`, `Test MAE (eV, lower is better)`."""
    way = "" if scale.metric.higher_is_better else "lower is better"
    inside = ", ".join(part for part in (unit, way) if part)
    return f"{title} ({inside})" if inside else title


def of_curve(quantity: str, scale: Scale) -> str:
    """Label the axis of a learning curve: `Training loss (nats)`."""
    part = "Training" if quantity.startswith("train") else "Validation"
    if quantity.endswith("loss"):
        unit = "nats" if scale.metric.of_classes else "target variances"
        unit = "mean squares of the forces" if FORCES in scale.metric.kinds[:1] else unit
        return f"{part} loss ({unit})"
    return axis(f"{part} {scale.metric.title}", scale.score_unit, scale)


def beside(verdict: Verdict) -> Scale | None:
    """Return the scale of the metric that is shown beside the judged one, if there is one."""
    name = verdict.scale.metric.companion
    known = [one for row in verdict.rows if (one := dict(row.others).get(name)) is not None]
    return Scale.fitting(metric_named(name), known[0].mean) if known else None


def form(scale: Scale, *, signed: bool = False) -> str:
    """Return the format of a number of the scale, as D3 takes it: `.1f`."""
    return f"{'+' if signed else ''}.{scale.decimals}f"


def after(unit: str) -> str:
    """Return a unit as it follows a number: `%` without a space, others after one."""
    return unit if unit in ("", "%") else f" {unit}"
