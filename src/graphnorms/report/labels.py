"""Labels of norms, axes and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.lab.number_format import Scale
from graphnorms.report.style import display_name

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict


STAR = "★"
"""Marks the norm that the verdict recommends, in tables, figures and legends."""


def of_norm(norm: str, verdict: Verdict) -> str:
    """Return the name of a norm, with a star if it is the recommended one: `★ GraphNorm`."""
    name = display_name(norm)
    return f"{STAR} {name}" if norm == verdict.recommended else name


def of_scores(verdict: Verdict) -> str:
    """Label the axis of the scores that norms are judged by: `Test accuracy (%)`."""
    what = "Optimistic validation" if verdict.optimistic else "Test"
    scale = verdict.scale
    return axis(f"{what} {scale.metric.title}", scale.score_unit, scale)


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
        return f"{part} loss ({unit})"
    return axis(f"{part} {scale.metric.title}", scale.score_unit, scale)


def form(scale: Scale, *, signed: bool = False) -> str:
    """Return the format of a number of the scale, as D3 takes it: `.1f`."""
    return f"{'+' if signed else ''}.{scale.decimals}f"


def after(unit: str) -> str:
    """Return a unit as it follows a number: `%` without a space, others after one."""
    return unit if unit in ("", "%") else f" {unit}"
