"""A result as a figure, drawn with matplotlib beside the result file."""

from __future__ import annotations

import importlib.util
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphnorms.bench.results import Case, Result
from graphnorms.bench.tables import per_element, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS: Final = "#D55E00"
_OTHERS: Final = {"PyG": "#2B86C5", "nn.": "#009E73", "copy": "#8A8A8A", "matrix": "#8A8A8A"}
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_INCHES: Final = 5.6, 0.19  # width of a panel, height of a row


def is_installed() -> bool:
    """Whether matplotlib can be loaded."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(result: Result, path: Path) -> None:
    """Write the figure of a result as SVG, without dates: the same result gives the same file."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "graphnorms", "svg.fonttype": "path"}):
        figure = _figure(result)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _figure(result: Result) -> Figure:
    from matplotlib.figure import Figure

    titles = [(title, list(cases)) for title, cases in groupby(result.cases, lambda c: c.title)]
    panels = []
    for title, cases in titles:
        if "sweep" in cases[0].labels:
            panels.append((title, cases))
        else:
            panels += [(title, [case]) for case in cases]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    height = max(3.0, _INCHES[1] * max(len(case.values) for case in result.cases) + 1.2)
    figure = Figure(figsize=(_INCHES[0] * columns, height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (title, cases) in zip(axes, panels, strict=False):
        axis.set_title(title.replace("; ", "\n"), fontsize=8)
        axis.tick_params(labelsize=7)
        if "sweep" in cases[0].labels:
            _lines(axis, cases)
        else:
            _dots(axis, cases[0])
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure


def _dots(axis: Axes, case: Case) -> None:
    """Draw a dot per contender, the first on top: its ratio to the last baseline."""
    from matplotlib.ticker import LogLocator, NullFormatter

    names = list(case.values)
    if case.unit == "bytes":
        whole = case.labels["bytes_of_x"]
        sizes = [case.values[name]["kept"] / whole for name in names]
        axis.set_xlabel("bytes kept for the backward ÷ bytes of the features", fontsize=7)
    else:
        baseline = case.baselines[-1]
        sizes = [ratio(case, name, baseline, "minimum") for name in names]
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(f"time ÷ {baseline} (minima)", fontsize=7)
    places = range(len(names))
    axis.scatter(sizes, places, color=[_color(name) for name in names], s=22, zorder=2)
    axis.axvline(1, color="#8A8A8A", linewidth=0.8, zorder=1)
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)


def _lines(axis: Axes, cases: list[Case]) -> None:
    """Draw a line per contender: nanoseconds per element over the quantity varied."""
    for number, name in enumerate(cases[0].values):
        points = [
            (case.labels["value"], per_element(case, name)) for case in cases if name in case.values
        ]
        axis.plot(
            *zip(*points, strict=True), label=name, color=_color(name), linewidth=1.2,
            marker=_MARKERS[number % len(_MARKERS)], markersize=4,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(cases[0].labels["sweep"], fontsize=7)
    axis.set_ylabel("ns per element (minima)", fontsize=7)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def _color(name: str) -> str:
    return next((color for start, color in _OTHERS.items() if name.startswith(start)), _OURS)
