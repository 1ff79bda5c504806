"""A result as tables: all numbers for the terminal, a summary for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from graphnorms.bench.results import Case, Result

_MIB = 2**20
_UNITS = ((1.0, "s"), (1e-3, "ms"), (0.0, "µs"))
_COSTS = ("a pass", "÷", "peak, MiB", "÷", "exponents")
_FEW = 5  # contenders of which a summary shows each


@dataclass(frozen=True)
class Table:
    """Words and numbers in columns; the first column is the name of the row.

    Args:
        title: What it shows.
        header: Names of the columns.
        rows: The cells, as many in each row as there are columns.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(result: Result) -> list[Table]:
    """Return a table per case, or per sweep where a result has sweeps."""
    tables = []
    for title, cases in panels(result):
        if "sweep" in cases[0].labels:
            tables.append(sweep_table(title, cases))
        else:
            made = {"bytes": bytes_table, "costs": costs_table}.get(cases[0].unit, times_table)
            tables.append(made(cases[0]))
    return tables


def panels(result: Result) -> Iterator[tuple[str, list[Case]]]:
    """Group the cases of a result: the points of a sweep together, any other case alone."""
    # The points of a sweep follow each other, and share their title.
    for title, cases in groupby(result.cases, key=lambda case: case.title):
        same = list(cases)
        if "sweep" in same[0].labels:
            yield title, same
        else:
            yield from ((title, [case]) for case in same)


def times_table(case: Case) -> Table:
    """Return minima and medians, as times and divided by those of the baselines."""
    size, unit = _unit(values["minimum"] for values in case.values.values())
    header = ["", f"{unit}, minimum", "median"]
    for baseline in case.baselines:
        header += [f"÷ {baseline}", "medians"]
    if case.elements:
        header.append("ns per element")
    rows = []
    for name, values in case.values.items():
        cells = [name, *(f"{values[key] / size:.3g}" for key in ("minimum", "median"))]
        for baseline in case.baselines:
            cells += [f"{ratio(case, name, baseline, key):.2f}" for key in ("minimum", "median")]
        if case.elements:
            cells.append(f"{per_element(case, name):.3f}")
        rows.append(tuple(cells))
    return Table(case.title, tuple(header), tuple(rows))


def bytes_table(case: Case) -> Table:
    """Return bytes, and the same divided by the bytes of the features."""
    whole = case.labels["bytes_of_x"]
    header = ("", "kept, MiB", "÷ features", "peak, MiB", "÷ features")
    rows = []
    for name, values in case.values.items():
        cells = [name]
        for key in ("kept", "peak"):
            cells += [f"{values[key] / _MIB:.2f}", f"{values[key] / whole:.3f}"]
        rows.append(tuple(cells))
    return Table(case.title, header, tuple(rows))


def costs_table(case: Case) -> Table:
    """Return times and peaks, divided by those of the baseline, and how they grow with the size."""
    (baseline,) = case.baselines
    header = ("", *_COSTS, "processor, s", "resident, MiB")
    rows = tuple(
        (
            name,
            *_costs(case, name),
            f"{values['processor']:.3g}",
            f"{values['resident'] / _MIB:.0f}",
        )
        for name, values in case.values.items()
    )
    return Table(f"{case.title}; ÷ {baseline}", header, rows)


def _costs(case: Case, name: str) -> tuple[str, ...]:
    values, (baseline,) = case.values[name], case.baselines
    grows = [f"{values[key]:.2f}" for key in ("minimum grows", "peak grows") if key in values]
    return (
        _time(values["minimum"]),
        f"{ratio(case, name, baseline, 'minimum'):.2f}",
        f"{values['peak'] / _MIB:.0f}",
        f"{ratio(case, name, baseline, 'peak'):.2f}",
        " / ".join(grows) or "–",
    )


def sweep_table(title: str, cases: list[Case]) -> Table:
    """Return nanoseconds per element (minima), a row per point and a column per contender."""
    names = list(dict.fromkeys(name for case in cases for name in case.values))
    rows = tuple(
        (
            f"{case.labels['value']}",
            *(f"{per_element(case, name):.3f}" if name in case.values else "–" for name in names),
        )
        for case in cases
    )
    return Table(f"{title}; ns per element", (cases[0].labels["sweep"], *names), rows)


def summary(result: Result) -> Table | None:
    """Summarize a result in a few rows; `None` for sweeps, which a figure shows.

    With few contenders every one has a row. With many, a case has one: how the layers compare
    with PyG's of the same name, and with `nn.LayerNorm`: the median ratio over the layers, the
    smallest and the largest in brackets.
    """
    if any("sweep" in case.labels for case in result.cases):
        return None
    if result.cases[0].unit == "costs":
        rows = [
            (case.title.partition(":")[0], name, *_costs(case, name))
            for case in result.cases
            for name in case.values
        ]
        return Table("", ("case", "", *_COSTS), tuple(rows))
    if all(len(case.values) <= _FEW for case in result.cases):
        rows = [
            (
                case.title.partition(":")[0] if len(result.cases) > 1 else name,
                *([name] if len(result.cases) > 1 else []),
                _time(values["minimum"]),
                " / ".join(f"{ratio(case, name, each, 'minimum'):.2f}" for each in case.baselines),
            )
            for case in result.cases
            for name, values in case.values.items()
        ]
        first, *others = {case.baselines for case in result.cases}
        baselines = "that at 1.00" if others else " / ".join(first)
        names = ("case", "") if len(result.cases) > 1 else ("",)
        return Table("", (*names, "minimum", f"÷ {baselines}"), tuple(rows))
    if result.cases[0].unit == "bytes":
        keys = {"kept": "kept for the backward", "peak": "peak"}
        kinds = {f"{words}: PyG ÷ ours": (key, "") for key, words in keys.items()}
    else:
        kinds = {"PyG ÷ ours": ("minimum", ""), "PyG compiled ÷ ours": ("minimum", " compiled")}
    table = []
    for case in result.cases:
        cells = [case.title.removesuffix("; forward + backward")]
        cells += [_spread(_twins(case.values, key, suffix)) for key, suffix in kinds.values()]
        if case.unit == "seconds":
            ours = [name for name in case.values if _is_ours(case.values, name)]
            cells.append(_spread([ratio(case, n, "nn.LayerNorm", "minimum") for n in ours]))
        table.append(tuple(cells))
    last = ("ours ÷ nn.LayerNorm",) if result.cases[0].unit == "seconds" else ()
    return Table("", ("case", *kinds, *last), tuple(table))


def _is_ours(values: Mapping[str, object], name: str) -> bool:
    """Whether a contender is a plain layer of ours that PyG has, too."""
    return f"PyG {name}" in values


def _twins(values: Mapping[str, Mapping[str, float]], key: str, suffix: str) -> list[float]:
    """Return PyG's numbers over ours, for the layers that both have."""
    return [
        values[f"PyG {name}{suffix}"][key] / values[name][key]
        for name in values
        if f"PyG {name}{suffix}" in values
    ]


def _spread(ratios: Sequence[float]) -> str:
    """Write the median of ratios, with the smallest and the largest."""
    if not ratios:
        return "–"
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def _time(seconds: float) -> str:
    size, unit = _unit([seconds])
    return f"{seconds / size:.3g} {unit}"


def ratio(case: Case, name: str, baseline: str, key: str) -> float:
    """Return what a contender takes in units of a baseline, minima or medians."""
    return case.values[name][key] / case.values[baseline][key]


def per_element(case: Case, name: str) -> float:
    """Return the least time of a contender per element, in nanoseconds."""
    return case.values[name]["minimum"] / case.elements * 1e9


def _unit(seconds: Iterable[float]) -> tuple[float, str]:
    """Return the unit in which the longest of some times has a digit before the point."""
    longest = max(seconds)
    size, name = next((size, name) for size, name in _UNITS if longest >= size)
    return size or 1e-6, name


def preamble(result: Result) -> str:
    """Say where, when and how a result was measured, in a few lines."""
    machine, versions = result.machine, result.machine["versions"]
    known = {name: version for name, version in versions.items() if version is not None}
    lines = [
        f"{machine['device']}, {machine['cores']} cores; {machine['platform']}",
        "; ".join(f"{name}: {detail}" for name, detail in machine["kernels"].items())
        + f"; torch: {machine['torch_instruction_set']}",
        ", ".join(f"{name} {version}" for name, version in known.items()),
        f"load {machine['load']} before and {machine['load_after']} after; "
        f"{result.settings['rounds']} rounds; taken {result.taken}",
    ]
    return "\n".join(lines)
