"""A result as tables: the same cells on a terminal and in the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from graphnorms.bench.results import Case, Result

_MIB = 2**20
_UNITS = ((1.0, "s"), (1e-3, "ms"), (0.0, "µs"))


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

    def as_text(self) -> str:
        """Return the table for a terminal."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        text = [self.title]
        for first, *cells in lines:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            text.append("  ".join((first.ljust(widths[0]), *padded)).rstrip())
        return "\n".join(text)

    def as_markdown(self) -> str:
        """Return the table for the documentation."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        return f"{self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables_of(result: Result) -> list[Table]:
    """Return a table per case, or per sweep where a result has sweeps."""
    tables = []
    # The points of a sweep stand behind each other, and share their title.
    for title, cases in groupby(result.cases, key=lambda case: case.title):
        same = list(cases)
        if "sweep" in same[0].labels:
            tables.append(sweep_table(title, same))
        elif same[0].unit == "bytes":
            tables.extend(map(bytes_table, same))
        else:
            tables.extend(map(times_table, same))
    return tables


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
    rows = tuple(
        (
            name,
            f"{values['kept'] / _MIB:.2f}", f"{values['kept'] / whole:.3f}",
            f"{values['peak'] / _MIB:.2f}", f"{values['peak'] / whole:.3f}",
        )
        for name, values in case.values.items()
    )  # fmt: skip
    return Table(case.title, header, rows)


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
