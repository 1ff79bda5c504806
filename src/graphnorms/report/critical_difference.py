"""The critical-difference picture: norms on an axis of average ranks, bars over what is tied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphnorms.report.drawing import literal, styled, write
from graphnorms.report.style import display_name, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from graphnorms.lab.across_datasets import AcrossDatasets

AXIS: Final = 4.4  # inches from the first rank to the last
LETTER: Final = 0.078  # inches of a letter, generously
LINE: Final = 0.24  # inches between the names of two norms
_INK: Final = "#3A3D42"
_SIZE: Final = 9


def draw_critical_difference(across: AcrossDatasets, path: Path) -> tuple[Path, Path]:
    """Write the picture as SVG and PNG, without dates: equal numbers give equal files.

    The best rank is at the left. A bar joins norms whose average ranks differ by less than
    Nemenyi's critical difference, whose length stands at the top.

    Args:
        across: What `graphnorms.lab.across_datasets.compare_datasets` found.
        path: Where to; the suffix is replaced by `.svg` and `.png`.

    Returns:
        The two files.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.

    Source: Demšar, Journal of Machine Learning Research 7, 2006, figure 1.
    """
    with styled():
        figure = critical_difference(across)
    return write(figure, path)


def critical_difference(across: AcrossDatasets) -> Figure:
    """Draw the picture; the caller chooses the style."""
    from graphnorms.report.notebook import Picture

    norms = list(across.ranks)
    rows = math.ceil(len(norms) / 2)
    levels = _levels(across)
    depth = 1.0 + 0.9 * max(levels, default=0)
    height = LINE * (rows + depth + 4.8)
    letters = max(len(display_name(norm)) for norm in norms) + len("  1.00")
    margin = 0.3 + LETTER * letters  # inches
    figure = Picture(figsize=(AXIS + 2 * margin, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw(axes, across, levels, depth, rows, margin / AXIS)
    return figure


def _draw(
    axes: Axes,
    across: AcrossDatasets,
    levels: list[int],
    depth: float,
    rows: int,
    margin: float,
) -> None:
    """Draw in units of ranks across and of text lines downwards, the axis at 0."""
    norms, ranks = list(across.ranks), across.ranks
    last = len(norms)
    span = last - 1
    axes.set_xlim(1 - margin * span, last + margin * span)
    axes.set_ylim(depth + rows + 0.6, -4.2)

    def line(x: Sequence[float], y: Sequence[float], width: float) -> None:
        axes.plot(x, y, linewidth=width, color=_INK, solid_capstyle="butt", clip_on=False)

    line([1, last], [0, 0], 1.0)
    for rank in range(1, last + 1):
        line([rank, rank], [0, -0.35], 1.0)
        axes.text(rank, -0.5, str(rank), ha="center", va="bottom", fontsize=_SIZE, color=_INK)
    critical = min(across.critical_difference, span)
    line([1, 1 + critical], [-2.2, -2.2], 1.6)
    for end in (1, 1 + critical):
        line([end, end], [-2.45, -1.95], 1.6)
    axes.text(
        1,
        -2.7,
        f"critical difference {across.critical_difference:.2f} "
        f"(Nemenyi, 5%, {len(across.datasets)} data sets)",
        ha="left",
        va="bottom",
        fontsize=_SIZE,
        color=_INK,
    )
    for group, level in zip(across.groups, levels, strict=True):
        y = 0.7 + 0.9 * level
        line([ranks[group[0]] - 0.03, ranks[group[-1]] + 0.03], [y, y], 3.2)
    left = math.ceil(last / 2)
    for place, norm in enumerate(norms):
        at_left = place < left
        # The outermost norms stand highest on neither side: lines then never cross.
        y = depth + 0.9 + (place if at_left else last - 1 - place)
        side = 1 - 0.03 * span if at_left else last + 0.03 * span
        style = style_of(norm)
        own, name = ranks[norm], literal(style.name)
        axes.plot(
            [own, own, side],
            [0, y, y],
            color=style.color,
            linewidth=1.4,
            linestyle="--" if style.dash == "dashed" else "-",
            solid_joinstyle="miter",
        )
        axes.plot([own], [0], marker="o", markersize=5, color=style.color, zorder=3)
        axes.text(
            side + (-0.015 if at_left else 0.015) * span,
            y,
            f"{name}  {own:.2f}" if at_left else f"{own:.2f}  {name}",
            ha="right" if at_left else "left",
            va="center",
            fontsize=_SIZE,
            color=_INK,
        )


def _levels(across: AcrossDatasets) -> list[int]:
    """Give each bar the lowest line on which it does not touch another."""
    ends: list[float] = []
    levels = []
    for group in across.groups:
        start, end = across.ranks[group[0]] - 0.1, across.ranks[group[-1]] + 0.1
        level = next((i for i, taken in enumerate(ends) if taken < start), len(ends))
        if level == len(ends):
            ends.append(end)
        ends[level] = end
        levels.append(level)
    return levels
