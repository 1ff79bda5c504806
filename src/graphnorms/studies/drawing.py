"""The figures of the studies: one matplotlib style, the parts that recur, and the files.

A study's `draw` makes its figure with `new_figure` and draws on the axes that it gets:

    figure, (left, right) = new_figure(2)
    line_with_band(left, steps, mean_band(losses), **look_of("batch"))
    label_axes(left, "step", "training loss", y_unit="nats", title="digits, MLP", log="y")
    legend_below(figure, left)
    return figure

The runner calls `draw` through `drawn`, which applies the style, and writes the figure with
`write`. Studies draw contours, images and axes of their own, for which matplotlib is shorter than
the specifications of `graphnorms.report.chart`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphnorms.files import replacing
from graphnorms.lab.statistics import mean_interval, without_nan
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "Band",
    "drawn",
    "geometric_band",
    "label_axes",
    "legend_below",
    "line_with_band",
    "look",
    "look_of",
    "mark_level",
    "mean_band",
    "median_band",
    "new_figure",
    "styled",
    "write",
]

STYLE: Final = "graphnorms.studies.graphnorms"
"""The style sheet, as `matplotlib.style.use` takes it."""

DPI: Final = 160

_MARKERS: Final[dict[str, Any]] = {
    "asterisk": (8, 2, 0),
    "circle": "o",
    "diamond": "D",
    "hex": "h",
    "inverted_triangle": "v",
    "plus": "P",
    "square": "s",
    "square_pin": "p",
    "star": "*",
    "triangle": "^",
    "triangle_pin": "<",
    "x": "X",
}
_DASHES: Final = {"solid": "-", "dashed": "--", "dotted": ":", "dotdash": "-."}

PALETTE: Final = ("#2B86C5", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#8A8A8A", "#56B4E9")
"""Colours of what is not a norm, in the order in which to take them (Okabe & Ito)."""

Drawn = TypeVar("Drawn", bound="Figure | None")

Runs = Sequence[ArrayLike] | NDArray[Any]
"""A curve per seed, all of one length: `(runs, points)`."""


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn, and saved, in the common style.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
    except ImportError:
        raise ImportError(
            "the figures of studies need matplotlib: pip install 'graphnorms[studies]'"
        ) from None
    # From the defaults on, so that a user's own style changes nothing.
    return matplotlib.style.context(STYLE, after_reset=True)


def drawn(draw: Callable[..., Drawn], *arguments: Any) -> Drawn:
    """Call a function that draws, in the style of all figures."""
    with styled():
        return draw(*arguments)


def new_figure(
    panels: int = 1,
    *,
    columns: int | None = None,
    size: tuple[float, float] = (3.5, 2.7),
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels beside each other, no window and no global state involved.

    Args:
        panels: How many.
        columns: How many beside each other; at most three if not given.
        size: Width and height of a panel in inches. A figure of two is as wide as a page.
        sharex, sharey: Whether all panels have one scale.
    """
    from matplotlib.figure import Figure

    columns = columns or min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for axis in axes[panels:]:
        axis.remove()
    return figure, list(axes[:panels])


def look_of(norm: str) -> dict[str, Any]:
    """Return how a norm is drawn: arguments of `Axes.plot`, its name as the label."""
    style = style_of(norm)
    return {
        "color": style.color,
        "marker": _MARKERS[style.marker],
        "linestyle": _DASHES[style.dash],
        "label": style.name.replace("$", r"\$"),  # dollar signs would enclose a formula
    }


def look(number: int, label: str) -> dict[str, Any]:
    """Return how the series of a number is drawn that is not one norm; see `look_of`."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": "os^Dv<p"[number % 7],
        "linestyle": ("-", "--", "-.", ":")[number // len(PALETTE) % 4],
        "label": label,
    }


def label_axes(
    axis: Axes,
    x: str,
    y: str,
    *,
    x_unit: str = "",
    y_unit: str = "",
    log: str = "",
    title: str = "",
) -> None:
    """Say what the axes of a panel are, with units in brackets.

    `log` has the logarithmic ones: `"x"`, `"y"` or `"xy"`.
    """
    axis.set_xlabel(_with_unit(x, x_unit))
    axis.set_ylabel(_with_unit(y, y_unit))
    if "x" in log:
        axis.set_xscale("log")
    if "y" in log:
        axis.set_yscale("log")
    if title:
        axis.set_title(title, loc="left")


def _with_unit(what: str, unit: str) -> str:
    return f"{what} ({unit})" if unit else what


@dataclass(frozen=True, slots=True)
class Band:
    """A centre and an interval around it, point by point; NaN where nothing is known."""

    center: list[float]
    low: list[float]
    high: list[float]


def mean_band(runs: Runs) -> Band:
    """Return the mean over runs with Student's 95% interval, point by point.

    What is not finite, or `None`, is left out; one run has no interval.

    Args:
        runs: A curve per seed, all of one length.
    """
    return _band(runs, _mean)


def geometric_band(runs: Runs) -> Band:
    """Return the geometric mean over runs of positive numbers, with the interval of `mean_band`."""
    logs = mean_band([np.log(np.asarray(run, dtype=float)) for run in runs])
    return Band(*(np.exp(values).tolist() for values in (logs.center, logs.low, logs.high)))


def median_band(runs: Runs) -> Band:
    """Return the median over runs with the smallest and the largest, point by point."""
    return _band(runs, _median)


def _band(runs: Runs, summary: Callable[[Any], tuple[float, float, float]]) -> Band:
    table = np.array([np.asarray(run, dtype=float) for run in runs])  # (runs, points)
    table[~np.isfinite(table)] = np.nan
    points = [summary(without_nan(column)) for column in table.T]
    return Band(*(list(values) for values in zip(*points, strict=True)))


def _mean(known: Any) -> tuple[float, float, float]:
    if not known.size:
        return np.nan, np.nan, np.nan
    found = mean_interval(known)
    return found.mean, found.low, found.high


def _median(known: Any) -> tuple[float, float, float]:
    if not known.size:
        return np.nan, np.nan, np.nan
    return float(np.median(known)), float(known.min()), float(known.max())


def line_with_band(axis: Axes, x: Sequence[float], band: Band, **how: Any) -> None:
    """Draw the centre of a band as a line, and the band itself pale behind it.

    Args:
        axis: Where.
        x: The places of its points.
        band: Of `mean_band` or `median_band`.
        how: Arguments of `Axes.plot`, such as `look_of` gives.
    """
    spacing = {"markevery": max(1, len(x) // 12)} if how.get("marker") else {}
    axis.plot(x, band.center, **spacing | how)
    axis.fill_between(
        x, band.low, band.high, color=how.get("color"), alpha=0.15, linewidth=0, zorder=1
    )


def legend_below(figure: Figure, *axes: Axes, columns: int = 5) -> None:
    """Put one legend for all panels below them, with everything that some panels show."""
    shown: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        shown |= {label: each for each, label in zip(handles, labels, strict=True)}
    columns = min(columns, max(1, len(shown)))
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=columns)


def mark_level(axis: Axes, value: float, text: str = "") -> None:
    """Draw the level of a threshold or of chance across a panel, and write what it is."""
    axis.axhline(value, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
    if text:
        place: Any = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axis.annotate(text, (0.99, value), fontsize=7, color="#555555", **place)


def write(figure: Figure, path: Path) -> None:
    """Write a figure as SVG and as PNG, without dates: equal numbers give equal bytes.

    Args:
        figure: What to write.
        path: Where to; the suffix is replaced by `.svg` and `.png`.

    Raises:
        OSError: A file cannot be written.
    """
    for form, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        with styled():
            figure.savefig(buffer, format=form, dpi=DPI, metadata=metadata)
        with replacing(path.with_suffix(f".{form}")) as temporary:
            temporary.write_bytes(buffer.getvalue())
