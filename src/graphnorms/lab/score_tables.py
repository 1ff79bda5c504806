"""Tables of scores that others have measured: read from files and frames, as columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from graphnorms.errors import GraphnormsError

Columns = dict[str, list[Any]]
"""Name and entries of each column, all of one length; a missing entry is None or empty text."""

SUFFIXES: Final = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".json", ".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table of scores, with what is known of it beside its columns.

    Args:
        columns: The table.
        source: What it was read as, in words: `a CSV file`, `a report of GraphNetz`.
        lines: The line of each row in a text file, from 1, where the header is one; else empty.
        roles: Columns whose meaning the format says, by role, see `score_columns.ROLES`.
        design: The design that the format says; empty: not said.
        reason: Why it is that design, in words.
        test_share: Share of the data that a split tests, if the format says.
        noun: What is compared, in words.
        notes: What was left out or chosen while reading, one sentence each.
    """

    columns: Columns
    source: str
    lines: tuple[int, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    design: str = ""
    reason: str = ""
    test_share: float | None = None
    noun: str = "method"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def kept(self, rows: Sequence[int]) -> ScoreTable:
        """Return the table of some of the rows."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return replace(
            self, columns=columns, lines=tuple(self.lines[row] for row in rows if self.lines)
        )

    def places(self, *rows: int) -> str:
        """Name rows, given from 0, as whoever opens the table finds them: `line 3`, `rows 2, 4`."""
        word, numbers = ("line", self.lines) if self.lines else ("row", range(1, len(self) + 1))
        return f"{word}{'s' * (len(rows) > 1)} {', '.join(str(numbers[row]) for row in rows)}"


def read_table(source: Any) -> ScoreTable:
    """Read a table of scores.

    Args:
        source: A file (CSV, TSV, Parquet, JSON, JSON lines), a folder of GraphGym's results, a
            frame (pandas, polars, or any object with a `to_dict` of columns), a mapping of columns,
            or a list of rows.

    Raises:
        ValueError: It is empty, or no table.
        GraphnormsError: A file is damaged.
        ImportError: A Parquet file needs pyarrow.
        OSError: It cannot be read.
    """
    from graphnorms.lab.score_exports import from_export, read_graphgym

    if isinstance(source, str | Path):
        path = Path(source)
        table = read_graphgym(path) if path.is_dir() else _read_file(path)
    else:
        table = ScoreTable(columns=_columns_of(source), source=f"a {type(source).__name__}")
    if not len(table):
        raise ValueError(f"{source if isinstance(source, str | Path) else 'the table'} has no rows")
    return from_export(table)


def _read_file(path: Path) -> ScoreTable:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} is no table; expected {', '.join(SUFFIXES)}")
    if suffix in (".parquet", ".pq"):
        return ScoreTable(columns=_read_parquet(path), source="a Parquet file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise GraphnormsError(f"{path} is no text in UTF-8") from None
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _from_json(text, path)
    return _from_csv(text, path)


def _from_csv(text: str, path: Path) -> ScoreTable:
    """Parse separated values; the separator is what the first line has most of."""
    source = f"a {path.suffix[1:].upper()} file"
    counted = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
    if not counted:
        return ScoreTable(columns={}, source=source)
    lines = [line for _, line in counted]
    separator = max("\t;,", key=lambda mark: (lines[0].count(mark), mark == ","))
    if not lines[0].count(separator):
        raise ValueError(
            f"{path} has one column, {lines[0].strip()!r:.80}; expected a header of several"
        )
    reader = csv.reader([f"{line}\n" for line in lines], delimiter=separator)
    rows: list[list[str]] = []
    numbers: list[int] = []
    begin = 0  # a quoted entry may go over several lines
    for row in reader:
        rows.append(row)
        numbers.append(counted[begin][0])
        begin = reader.line_num
    names = [name.strip() or f"column {place}" for place, name in enumerate(rows[0], 1)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path} has the column {repeated[0]!r} {names.count(repeated[0])} times")
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(names):
            raise ValueError(
                f"{path}: line {number} has {len(row)} entries, and the header has {len(names)}"
            )
    comma = separator != ","
    columns = {
        name: [_decimal(row[place].strip(), comma) for row in rows[1:]]
        for place, name in enumerate(names)
    }
    if not rows[0][0].strip():  # the index that pandas writes
        first = names[0]
        if columns[first] == [str(row) for row in range(len(rows) - 1)]:
            del columns[first]
    return ScoreTable(columns=columns, source=source, lines=tuple(numbers[1:]))


def _decimal(entry: str, comma: bool) -> str:
    """Return an entry with a decimal point where it has a decimal comma."""
    number = entry.rstrip("% ").replace(",", "").lstrip("-")
    return (
        entry.replace(",", ".") if comma and entry.count(",") == 1 and number.isdigit() else entry
    )


def _from_json(text: str, path: Path) -> ScoreTable:
    from graphnorms.lab.score_exports import from_graphnetz, is_graphnetz

    try:
        data = json.loads(text)
    except ValueError:
        data = _json_lines(text, path)
    if is_graphnetz(data):
        return from_graphnetz(data, path)
    if isinstance(data, Mapping) and all(isinstance(value, list) for value in data.values()):
        return ScoreTable(columns=_columns_of(data), source="a JSON file")
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        return ScoreTable(columns=_from_rows(data), source="a file of JSON rows")
    if isinstance(data, Mapping):
        return ScoreTable(columns=_from_rows([data]), source="a JSON object")
    raise ValueError(f"{path} is no table; expected JSON rows, one object each, or columns")


def _json_lines(text: str, path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise GraphnormsError(f"{path}: line {number} is no JSON ({error})") from None
    return rows


def _read_parquet(path: Path) -> Columns:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ImportError(
            "a Parquet file needs pyarrow: pip install 'graphnorms[export]'"
        ) from None
    with path.open("rb") as file:
        try:
            table = parquet.read_table(file)
        except ValueError as error:  # pyarrow's own are ValueErrors
            raise GraphnormsError(f"{path} is no Parquet file ({error})") from None
    return {str(name): column for name, column in table.to_pydict().items()}


def _columns_of(source: Any) -> Columns:
    """Return the columns of a frame, of a mapping of columns or of a list of rows."""
    if hasattr(source, "reset_index"):  # pandas; an index with names holds columns
        named = any(name is not None for name in source.index.names)
        frame = source.reset_index() if named else source
        source = {name: frame[name].tolist() for name in frame.columns}
    elif hasattr(source, "to_dict") and hasattr(source, "get_columns"):  # polars
        source = source.to_dict(as_series=False)
    if isinstance(source, Mapping):
        columns = {_name(name): list(values) for name, values in source.items()}
        if len({len(values) for values in columns.values()}) > 1:
            raise ValueError("the columns of the table have different lengths")
        return columns
    if isinstance(source, Iterable) and not isinstance(source, str | bytes):
        rows = list(source)
        if all(isinstance(row, Mapping) for row in rows):
            return _from_rows(rows)
    raise ValueError(
        f"a table is a {type(source).__name__}, expected a file, a frame, columns or rows"
    )


def _name(name: Any) -> str:
    """Return the name of a column; several levels are joined."""
    return (
        "_".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name)
    )


def _from_rows(rows: Sequence[Mapping[Any, Any]]) -> Columns:
    """Put rows into columns; nested objects get dotted names."""
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    return {name: [row.get(name) for row in flat] for name in names}


def _flat(row: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
