"""How figures label scores."""

from __future__ import annotations

from graphnorms.lab.scale import Scale


def axis(title: str, unit: str, scale: Scale) -> str:
    """Label an axis: `Test accuracy (%)`, `Test MAE (eV, lower is better)`."""
    way = "" if scale.metric.higher_is_better else "lower is better"
    inside = ", ".join(part for part in (unit, way) if part)
    return f"{title} ({inside})" if inside else title


def of_curve(quantity: str, scale: Scale) -> str:
    """Label the axis of a learning curve: `Training loss (nats)`."""
    part = "Training" if quantity.startswith("train") else "Validation"
    if quantity.endswith("loss"):
        unit = "nats" if scale.metric.fraction else "target variances"
        return f"{part} loss ({unit})"
    return axis(f"{part} {scale.metric.title}", scale.score_unit, scale)


def form(scale: Scale, *, signed: bool = False) -> str:
    """Return Bokeh's format of a number of the scale."""
    places = f".{'0' * scale.decimals}" if scale.decimals else ""
    return f"{{{'+' if signed else ''}0{places}}}"


def after(unit: str) -> str:
    """Return what stands behind a number: a percent sign at once, words after a space."""
    return unit if unit in ("", "%") else f" {unit}"
