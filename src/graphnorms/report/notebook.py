"""A figure that a notebook shows by itself."""

from __future__ import annotations

from matplotlib.figure import Figure

from graphnorms.report.drawing import as_bytes


class Picture(Figure):
    """A matplotlib figure like any other; as the last value of a cell it is shown.

    It belongs to no window and to no `pyplot`, whose figures are the ones that notebooks know.
    """

    def _repr_png_(self) -> bytes:
        return as_bytes(self, "png")
