"""The parts that figures are made of: frames, tagged marks, hover texts.

What the page's script relies on: a mark is hidden when one of its tags `norm:NAME` is switched
off, and axes and grids are painted for light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bokeh.models import (
    AllLabels,
    Axis,
    BasicTickFormatter,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    NoOverlap,
    Range1d,
)
from bokeh.models.annotations import Label
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from graphnorms.report.layout import FOOT, SUMMARY_OFFSET, foot_of, log_ticks, wrapped
from graphnorms.report.style import style_of

NEUTRAL = "#80858C"
"""Readable on white and on near-black, until the page's script paints for one of them."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

_SIZES = {"diamond": 10, "x": 8, "plus": 9, "asterisk": 9, "star": 10}
"""Markers that look smaller than a circle of 7 pixels."""


def frame(
    *, x_label: str, y_label: str | None, height: int, log_x: bool = False, log_y: bool = False
) -> figure:
    """Make an empty figure that fills its column and lets a finger scroll past it."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_type="log" if log_x else "linear",
        y_axis_type="log" if log_y else "linear",
        x_axis_label=x_label,
        y_axis_label=y_label,
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=14,
    )
    plot.toolbar.autohide = True
    plot.toolbar.logo = None
    plot.grid.grid_line_color = NEUTRAL
    plot.grid.grid_line_alpha = 0.25
    for axis in plot.axis:
        _dress(axis)
    return plot


def add_hidden_axis(plot: figure, axis: Axis, place: Literal["below", "left"]) -> None:
    """Add the twin of an axis in the other scale; the page's script exchanges the two."""
    _dress(axis)
    axis.visible = False
    plot.add_layout(axis, place)


def rows(
    labels: Sequence[str],
    *,
    x_label: str,
    height: int,
    log_values: Sequence[float] | None = None,
    foot: str = "",
) -> figure:
    """Make a figure with one labelled row per item, the first at the top; row i lies at y = −i.

    Args:
        labels: Names of the rows.
        x_label: Quantity and unit of the horizontal axis.
        height: Of one row, in pixels.
        log_values: What the horizontal axis has to show, if it is to be logarithmic.
        foot: Name of a lower row below all others, if there is one: at y = `foot_of`.
    """
    depth = FOOT if foot else 0.0
    plot = frame(
        x_label=x_label,
        y_label=None,
        height=round(height * (len(labels) + depth)) + 60,
        log_x=log_values is not None,
    )
    plot.toolbar_location = None
    if log_values is not None:
        ticker = FixedTicker(ticks=log_ticks(log_values))
        plot.xaxis.ticker = plot.xgrid.ticker = ticker
        plot.xaxis.formatter = BasicTickFormatter(use_scientific=False)
    plot.y_range = Range1d(start=0.5 - max(1, len(labels)) - depth, end=0.5)
    names: dict[Any, Any] = {-place: label for place, label in enumerate(labels)}
    if foot:
        names[foot_of(labels)] = wrapped(foot)
    plot.yaxis.ticker = FixedTicker(ticks=list(names))
    plot.yaxis.major_label_overrides = names
    plot.yaxis.major_label_policy = AllLabels()
    plot.yaxis.major_tick_line_color = None
    plot.yaxis.axis_line_color = None
    plot.ygrid.ticker = FixedTicker(ticks=[-place - 0.5 for place in range(len(labels))])
    return plot


def note(plot: figure, x: float, y: float, text: str, *, leftwards: bool) -> None:
    """Write a word or two beside a place of a figure."""
    plot.add_layout(
        Label(
            x=x, y=y, text=text, text_font=FONT, text_font_size="12px", text_color=NEUTRAL,
            text_baseline="middle", text_align="right" if leftwards else "left",
            x_offset=-6 if leftwards else 6,
        )
    )  # fmt: skip


def points(plot: figure, source: ColumnDataSource, norm: str) -> GlyphRenderer[Any]:
    """Draw the trials of one norm: columns `x` and `y`."""
    style = style_of(norm)
    return tag(
        plot.scatter(
            x="x",
            y="y",
            source=source,
            marker=style.marker,
            size=_SIZES.get(style.marker, 7),
            fill_color=style.color,
            fill_alpha=0.75,
            line_color=style.color,
            line_width=1.5,
        ),
        norm,
    )


def summary(plot: figure, norm: str, place: int, low: float, middle: float, high: float) -> None:
    """Draw a norm's mean or median below its trials, with an interval if there is one."""
    y, color = SUMMARY_OFFSET - place, style_of(norm).color
    if low < high:
        line = plot.segment(x0=[low], x1=[high], y0=[y], y1=[y], line_color=color, line_width=2)
        tag(line, norm)
    tick = plot.scatter(
        x=[middle], y=[y], marker="dash", angle=math.pi / 2, size=14, line_color=color, line_width=3
    )
    tag(tick, norm)


def tag(renderer: GlyphRenderer[Any], *norms: str) -> GlyphRenderer[Any]:
    """Say to which norms a mark belongs, and leave out the looks it never takes."""
    renderer.tags = [f"norm:{norm}" for norm in norms]
    renderer.nonselection_glyph = None
    renderer.muted_glyph = None
    return renderer


def hover(plot: figure, marks: Sequence[GlyphRenderer[Any]], lines: list[tuple[str, str]]) -> None:
    """Show values under the pointer."""
    if marks:
        plot.add_tools(HoverTool(renderers=list(marks), tooltips=lines))


def source(columns: Mapping[str, object]) -> ColumnDataSource:
    """Wrap columns for Bokeh."""
    return ColumnDataSource(data=dict(columns))


def _dress(axis: Axis) -> None:
    axis.update(
        axis_label_text_font=FONT,
        axis_label_text_font_style="normal",
        axis_label_text_font_size="12px",
        axis_label_text_color=NEUTRAL,
        major_label_text_font=FONT,
        major_label_text_font_size="12px",
        major_label_text_color=NEUTRAL,
        major_label_policy=NoOverlap(min_distance=6),
        axis_line_color=NEUTRAL,
        major_tick_line_color=NEUTRAL,
        minor_tick_line_color=None,
    )
