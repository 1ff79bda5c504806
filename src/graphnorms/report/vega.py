"""Pieces of Vega-Lite specifications: channels, layers, rows, what is shown under the pointer.

See https://vega.github.io/vega-lite/docs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from graphnorms.lab.design import Pair
from graphnorms.lab.statistics import Estimate
from graphnorms.report.chart import Panel, Spec
from graphnorms.report.style import CHANCE_DASH, DASHES, MARKERS, NEUTRAL, style_of

_TRIALS: Final = (0.06, 0.76)
"""Part of a row, from 0 at its top to 1, over which its trials are spread."""

_SUMMARY: Final = 0.88
"""Where in a row their mean stands."""

_TICK: Final = "M0-1V1"

LOG: Final[Spec] = {"type": "log", "nice": False, "padding": 12}
_LOG_AXIS: Final[Spec] = {
    "format": "~g",
    "tickCount": 5,
    "gridOpacity": {  # lines at 1, 2 and 5 times a power of ten stand out
        "condition": {"test": "test(/^[125]/, format(datum.value, '.0e'))", "value": 0.25},
        "value": 0.07,
    },
}

SHOWN: Final[Spec] = {
    "filter": "indexof(hidden, datum.norm) < 0 && indexof(hidden, datum.other) < 0"
}
# A finger and a wheel scroll the page; a mouse pulls, and the wheel zooms with Shift.
ZOOM: Final[Spec] = {
    "name": "zoom",
    "bind": "scales",
    "select": {
        "type": "interval",
        "translate": "[mousedown, window:mouseup] > window:mousemove!",
        "zoom": "wheel![event.shiftKey]",
    },
}
MEANS: Final[tuple[Spec, Spec]] = (
    {
        "mark": {"type": "rule", "strokeWidth": 2},
        "transform": [{"filter": "isValid(datum.low)"}],
        "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
    },
    {"mark": {"type": "point", "shape": _TICK, "size": 190, "strokeWidth": 3, "opacity": 1}},
)
"""An interval, and a stroke at its middle."""


def quantity(field: str, title: str = "", **scale: Any) -> Spec:
    """Return a quantitative channel; without a title it continues one with it."""
    spec: Spec = {"field": field, "type": "quantitative"}
    if title:
        axis = _LOG_AXIS if scale.get("type") == "log" else {"tickCount": 6}
        spec |= {"title": title, "scale": scale, "axis": axis}
    return spec


def named(names: Mapping[str, str], value: str) -> str:
    """Return a Vega expression for the name that belongs to a value."""
    return f"({json.dumps(names)})[{value}]"


def looked_up(values: Sequence[str | float], place: str, called: str) -> Spec:
    """Return a transform that takes from a list what stands at the place that a field says."""
    listed = json.dumps(values, separators=(",", ":"))
    return {"calculate": f"({listed})[datum.{place}]", "as": called}


def rounded(value: float) -> float:
    """Round to more digits than a figure shows."""
    return float(f"{value:.6g}")


def color(norms: Iterable[str]) -> Spec:
    """Return the channel of the colours of norms."""
    return _nominal(norms, [style_of(norm).color for norm in norms])


def shape(norms: Iterable[str]) -> Spec:
    """Return the channel of the markers of norms."""
    return _nominal(norms, [MARKERS[style_of(norm).marker] for norm in norms])


def dash(norms: Iterable[str]) -> Spec:
    """Return the channel of the dashes of norms."""
    return _nominal(norms, [DASHES[style_of(norm).dash] for norm in norms])


def _nominal(norms: Iterable[str], looks: Sequence[object]) -> Spec:
    return {
        "field": "norm",
        "type": "nominal",
        "scale": {"domain": list(norms), "range": looks},
        "legend": None,
    }


def legend(names: Mapping[str, str]) -> Spec:
    """Return a legend of lines with their markers, four in a row, for a file."""
    rows = [
        {"norm": norm, "name": name, "x": place % 4, "y": place // 4}
        for place, (norm, name) in enumerate(names.items())
    ]
    across = quantity("x") | {"axis": None, "scale": {"domain": [0, 4], "nice": False}}
    down = {"field": "y", "type": "ordinal", "axis": None}
    return {
        "height": {"step": 20},
        "data": {"values": rows},
        "encoding": {"x": across, "y": down, "color": color(names)},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "x2Offset": 30},
                "encoding": {"x2": {"field": "x"}, "strokeDash": dash(names)},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 70, "xOffset": 15},
                "encoding": {"shape": shape(names)},
            },
            {
                "mark": {"type": "text", "align": "left", "xOffset": 38, "color": "#3A3D42"},
                "encoding": {"text": {"field": "name"}, "color": {"value": "#3A3D42"}},
            },
        ],
    }


def lines(norms: Iterable[str], recommended: str | None) -> Spec:
    """Return a line per norm, that of the recommended one thicker."""
    width = either(f"datum.norm === {json.dumps(recommended)}", 3.2, 2)
    return {"mark": "line", "encoding": {"strokeDash": dash(norms), "strokeWidth": width}}


def either(test: str, value: float, other: float) -> Spec:
    """Return a channel of one value where a test holds, and of another elsewhere."""
    return {"condition": {"test": test, "value": value}, "value": other}


def told(field: str, title: str, form: str = "") -> Spec:
    """Return a line of what is said of the mark under the pointer."""
    kind = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
    return {"field": field, "title": title, **kind}


def shown(names: Mapping[str, str]) -> list[Spec]:
    """Return transforms that name norms and leave out those switched off."""
    return [{"calculate": named(names, "datum.norm"), "as": "label"}, SHOWN]


def under_pointer(names: Mapping[str, str], tooltip: list[Spec]) -> Spec:
    """Return points that show only under the pointer, with their values."""
    return {
        "params": [ZOOM],
        # Large enough for a finger; the style sheet of the page shows them.
        "mark": {"type": "point", "filled": True, "size": 160, "opacity": 0},
        "encoding": {"shape": shape(names), "tooltip": tooltip},
    }


def row_axis(names: Mapping[str, str]) -> Spec:
    """Return the axis of rows, the first at the top; a line break divides a name.

    The values of options stand below the norm.
    """
    names = {
        key: name if "\n" in name else re.sub(r" (?=\S+=)", "\n", name, count=1)
        for key, name in names.items()
    }
    two_lines = any("\n" in name for name in names.values())
    axis = {
        "domain": False,
        "grid": True,
        "labelExpr": f"split({named(names, 'datum.value')} || '', '\\n')",
        "labelLimit": 240,
        "labelOffset": -7 if two_lines else 0,
        "labelOverlap": False,
        "labelPadding": 8,
        "tickBand": "extent",
        "ticks": False,
    }
    scale = {"domain": list(names), "padding": 0}
    return {"field": "row", "type": "nominal", "title": None, "scale": scale, "axis": axis}


def rows_of(
    rows: Sequence[Spec],
    names: Mapping[str, str],
    *layers: Spec,
    x: Spec | None = None,
    norms: Sequence[str] = (),
) -> Spec:
    """Return layers over rows of data, each with `row`, `norm`, `x` and its `lane` in the row."""
    encoding = {"y": row_axis(names), "x": x or quantity("x"), "color": color(norms or names)}
    if not norms:
        scale = {"domain": [0, 1], "nice": False, "zero": False}
        encoding["yOffset"] = {"field": "lane", "type": "quantitative", "scale": scale}
    return {
        "data": {"values": list(rows)},
        "transform": shown(names),
        "encoding": encoding,
        "layer": list(layers),
    }


def row_panel(name: str, words: str, layers: list[Spec], rows: int, lanes: int = 0) -> Panel:
    """Return a panel whose rows are high enough for their lanes."""
    row = min(130, max(66, 30 + 5 * lanes)) if lanes else 44
    return Panel(name=name, words=words, spec={"height": row * max(1, rows), "layer": layers})


def lanes_of(pairs: Iterable[Pair]) -> dict[Pair, float]:
    """Give every fold or seed its own height within a row, the same in all rows."""
    ordered = sorted(pairs)
    top, bottom = _TRIALS
    step = (bottom - top) / max(1, len(ordered))
    return {pair: top + step * (place + 0.5) for place, pair in enumerate(ordered)}


def ends(estimate: Estimate, factor: float) -> Spec:
    """Return the values `x`, `low` and `high`; the latter are None where there is no interval."""
    found = {"x": estimate.mean, "low": estimate.low, "high": estimate.high}
    return {end: None if math.isnan(value) else factor * value for end, value in found.items()}


def summary(norm: str, estimate: Estimate, factor: float = 1.0) -> Spec:
    """Return the row of data of a mean or median, for `MEANS`."""
    return {"row": norm, "norm": norm, **ends(estimate, factor), "lane": _SUMMARY}


def points(names: Mapping[str, str], title: str, form: str) -> Spec:
    """Return a marker per trial, with its value under the pointer."""
    tooltip = [told("label", "norm"), told("trial", "trial"), told("x", title, form)]
    return {
        "mark": {"type": "point", "filled": True, "opacity": 0.8, "size": 75},
        "encoding": {"shape": shape(names), "tooltip": tooltip},
    }


def vertical(x: float, dash: Sequence[float]) -> Spec:
    """Return a line from top to bottom."""
    mark = {"type": "rule", "strokeDash": dash, "color": NEUTRAL}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {"x": {"datum": x}}}


def band(end: float, opacity: float) -> Spec:
    """Return a band as far to the left as to the right of zero."""
    mark = {"type": "rect", "color": NEUTRAL, "opacity": opacity}
    place = {"x": {"datum": -end}, "x2": {"datum": end}}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": place}


def note(text: str, x: Spec, align: str) -> Spec:
    """Return a word or two above a place of a panel."""
    mark = {"type": "text", "align": align, "baseline": "bottom", "dy": -4}
    place = {"x": x, "y": {"value": 0}, "text": {"value": text}}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": place}


def chance(level: float, values: Sequence[float], text: str) -> list[Spec]:
    """Draw where the trivial predictor scores, or say on which side it lies far off."""
    low, high = min(values), max(values)
    if level < 2 * low - high:
        return [note(f"◂ {text}", {"value": 0}, "left")]
    if level > 2 * high - low:
        return [note(f"{text} ▸", {"value": "width"}, "right")]
    align = "right" if level > (low + high) / 2 else "left"
    return [vertical(level, CHANCE_DASH), note(text, {"datum": level}, align)]
