"""A result as a figure in Vega-Lite, written as SVG beside the result file."""

from __future__ import annotations

import importlib.util
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from graphnorms.bench.results import Case, Result
from graphnorms.bench.tables import per_element, ratio

_OURS: Final = "#D55E00"
_OTHERS: Final = {"PyG": "#2B86C5", "nn.": "#009E73", "copy": "#8A8A8A", "matrix": "#8A8A8A"}
_SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
_WIDTH, _ROW, _HEIGHT = 360, 18, 240  # pixels: a panel, a row of it, a panel of lines

Spec = dict[str, Any]


def is_installed() -> bool:
    """Whether figures can be written."""
    return importlib.util.find_spec("vl_convert") is not None


def draw(result: Result, path: Path) -> None:
    """Write the figure of a result as SVG: the same result gives the same file."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(_figure(result), allowed_base_urls=[])
    path.write_text(svg, encoding="utf-8")


def _figure(result: Result) -> Spec:
    panels: list[Spec] = []
    for title, cases in groupby(result.cases, lambda case: case.title):
        found = list(cases)
        drawn = [_lines(found)] if "sweep" in found[0].labels else map(_dots, found)
        panels += [{"title": title.split("; "), "width": _WIDTH, **panel} for panel in drawn]
    return {
        "columns": 2,
        "concat": panels,
        "resolve": {"scale": dict.fromkeys(("color", "shape"), "independent")},
        "config": {
            "background": "white",
            "title": {"anchor": "start", "fontSize": 11, "fontWeight": "normal"},
            "axis": {"gridOpacity": 0.5, "labelLimit": 240, "titleFontWeight": "normal"},
        },
    }


def _dots(case: Case) -> Spec:
    """Draw a dot per contender, the first on top: its ratio to the last baseline."""
    if case.unit == "bytes":
        whole = case.labels["bytes_of_x"]
        sizes = {name: case.values[name]["kept"] / whole for name in case.values}
        x = _axis("size", "bytes kept for the backward ÷ bytes of the features", "linear")
    else:
        baseline = case.baselines[-1]
        sizes = {name: ratio(case, name, baseline, "minimum") for name in case.values}
        x = _axis("size", f"time ÷ {baseline} (minima)", "log")
    rows = [{"name": name, "size": size} for name, size in sizes.items()]
    one = {"data": {"values": [{}]}, "mark": {"type": "rule", "color": "#8A8A8A"}}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    return {
        "height": {"step": _ROW},
        "layer": [
            one | {"encoding": {"x": {"datum": 1}}},
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 60},
                "encoding": {"x": x, "y": y, "color": _color(list(sizes)) | {"legend": None}},
            },
        ],
    }


def _lines(cases: list[Case]) -> Spec:
    """Draw a line per contender: nanoseconds per element over the quantity varied."""
    names = list(cases[0].values)
    rows = [
        {"name": name, "at": case.labels["value"], "time": per_element(case, name)}
        for case in cases
        for name in names
        if name in case.values
    ]
    shapes = [_SHAPES[place % len(_SHAPES)] for place in range(len(names))]
    shape = {"field": "name", "type": "nominal", "scale": {"domain": names, "range": shapes}}
    return {
        "height": _HEIGHT,
        "data": {"values": rows},
        "mark": {"type": "line", "point": {"size": 40}},
        "encoding": {
            "x": _axis("at", str(cases[0].labels["sweep"]), "log"),
            "y": _axis("time", "ns per element (minima)", "log"),
            "color": _color(names),
            "shape": shape | {"title": None},
        },
    }


def _axis(field: str, title: str, kind: str) -> Spec:
    scale = {"type": kind, **({"nice": False, "padding": 8} if kind == "log" else {})}
    axis = {"tickCount": 5, **({"format": "~g"} if kind == "log" else {})}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _color(names: list[str]) -> Spec:
    colors = [
        next((color for start, color in _OTHERS.items() if name.startswith(start)), _OURS)
        for name in names
    ]
    scale = {"domain": names, "range": colors}
    return {"field": "name", "type": "nominal", "title": None, "scale": scale}
