"""What a specification in Vega-Lite draws: its marks with the data and channels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Spec = dict[str, Any]


def specs_of(html: str) -> dict[str, Spec]:
    """Return the charts of a page by their places."""
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', html, re.S)
    assert found
    specs: dict[str, Spec] = json.loads(found[1])
    return specs


def marks_of(spec: Spec, data: Any = None, encoding: Spec | None = None) -> Iterator[Spec]:
    """Yield every mark of a chart with the data and the channels that it inherits."""
    data = spec.get("data", {}).get("values", data)
    for transform in spec.get("transform", ()):
        data = transformed(data, transform)
    channels = dict(encoding or {})
    for name, channel in spec.get("encoding", {}).items():
        inherited = channels.get(name, {})
        channels[name] = {**inherited, **channel} if isinstance(channel, dict) else channel
    for inner in (*spec.get("layer", ()), *spec.get("concat", ()), *spec.get("vconcat", ())):
        yield from marks_of(inner, data, channels)
    if "mark" in spec:
        mark = spec["mark"] if isinstance(spec["mark"], dict) else {"type": spec["mark"]}
        yield {**mark, "data": data, "encoding": channels}


def transformed(data: Any, transform: Spec) -> Any:
    """Do what lays out lists as rows, and what looks a value up in a list; nothing else."""
    if "flatten" in transform:
        columns = transform["flatten"]
        return [
            {**row, **dict(zip(columns, values, strict=True))}
            for row in data
            for values in zip(*(row[column] for column in columns), strict=True)
        ]
    listed = re.fullmatch(r"\((\[.*\])\)\[datum\.(\w+)\]", transform.get("calculate", ""))
    if listed is None:
        return data
    return [{**row, transform["as"]: json.loads(listed[1])[row[listed[2]]]} for row in data]


def data_of(spec: Spec, kind: str) -> list[Spec]:
    """Return the rows of data that marks of one kind draw."""
    return [row for mark in marks_of(spec) if mark["type"] == kind for row in mark["data"]]


def rows_of(spec: Spec) -> list[str]:
    """Return what the rows of a chart are called, from the top."""
    axes = (mark["encoding"].get("y", {}) for mark in marks_of(spec))
    axis = next(axis for axis in axes if axis.get("field") == "row")
    found = re.search(r"\((\{.*?\})\)\[datum", axis["axis"]["labelExpr"])
    assert found
    names = json.loads(found[1])
    return [names[row] for row in axis["scale"]["domain"]]


def titles_of(spec: Spec) -> set[str]:
    """Return the names of the axes of a chart."""
    channels = (mark["encoding"].get(axis, {}) for mark in marks_of(spec) for axis in "xy")
    return {channel["title"] for channel in channels if channel.get("title")}
