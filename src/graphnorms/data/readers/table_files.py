"""Tables with named columns, in CSV or Parquet, and the targets in them."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.tasks import TaskKind
from graphnorms.data.text_format import as_name, count, some
from graphnorms.errors import DatasetError, one_line

SUFFIXES: Final = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")

_MISSING: Final = frozenset(("", "na", "n/a", "nan", "none", "null", "<na>"))
_TRUTH: Final = {"true": 1, "false": 0}
TARGETS: Final = ("y", "target", "targets", "label", "labels", "class", "activity")
_CLASSES: Final = 20
"""Integers 0 … k - 1 are classes up to this k."""


def suffix_of(path: Path) -> str:
    """Return the suffix of a table, in lower case; empty for another file."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


@dataclass(frozen=True, eq=False)
class Table:
    """A table; columns of text hold stripped texts, missing ones empty.

    Args:
        path: Its file.
        columns: The columns by name: texts, or numbers of a Parquet file.
        lines: Line of each row in a text file; None if rows count from 0.
    """

    path: Path
    columns: dict[str, NDArray[Any]]
    lines: Sequence[int] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def row(self, number: int) -> str:
        """Return the place of a row, for messages."""
        return f"row {number}" if self.lines is None else f"line {self.lines[number]}"

    def rows(self, numbers: Sequence[int], few: int = 5) -> str:
        """List the places of the first few rows, and the number of further ones."""
        noun = "row" if self.lines is None else "line"
        places = [n if self.lines is None else self.lines[n] for n in numbers]
        return f"{noun if len(places) == 1 else noun + 's'} {some(places, few=few)}"

    def require(self, name: str, what: str) -> str:
        """Return the name of a column, or the only one that differs from it by case.

        Raises:
            DatasetError: There is no such column; the message lists what there is.
        """
        if name in self.columns:
            return name
        alike = [known for known in self.columns if known.lower() == name.lower()]
        if len(alike) == 1:
            return alike[0]
        near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise DatasetError(f"{self.path}: no column {as_name(name)!r} for {what}{hint} {self.has}")

    @property
    def has(self) -> str:
        """The names of the columns, in brackets."""
        return f"(columns: {some(map(as_name, self.columns), few=30)})"

    def texts(self, name: str) -> NDArray[np.str_]:
        """Return a column as texts."""
        texts: NDArray[np.str_] = self.columns[name].astype(str)
        return texts

    def values(self, name: str) -> NDArray[Any]:
        """Return a column as int64, as float64 with NaN for what is missing, or as texts."""
        column = self.columns[name]
        if column.dtype.kind == "b":
            return column.astype(np.int64)
        if column.dtype.kind != "U":
            return column
        lower = np.char.lower(column)
        missing = np.isin(lower, list(_MISSING))
        present = lower[~missing]
        numbers: NDArray[Any]
        if len(present) and np.isin(present, list(_TRUTH)).all():
            numbers = (present == "true").astype(np.int64)
        else:
            try:
                numbers = present.astype(np.float64)
            except ValueError:
                texts: NDArray[Any] = np.where(missing, "", column)
                return texts
            if not np.char.find(present, ".").max(initial=-1) >= 0 and not _has_exponent(present):
                numbers = _as_integers(numbers, present)
        if not missing.any():
            return numbers
        values = np.full(len(column), np.nan)
        values[~missing] = numbers
        return values


def _has_exponent(texts: NDArray[Any]) -> bool:
    return bool(np.char.find(texts, "e").max(initial=-1) >= 0) or bool(
        np.char.find(texts, "inf").max(initial=-1) >= 0
    )


def _as_integers(numbers: NDArray[Any], texts: NDArray[Any]) -> NDArray[Any]:
    try:
        return texts.astype(np.int64)
    except (ValueError, OverflowError):
        return numbers


def read_table(path: Path) -> Table:
    """Read a table: `.csv` or `.tsv`, packed by gzip or not, with a header, or `.parquet`.

    Raises:
        DatasetError: The file is missing or malformed, or pyarrow is missing.
    """
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    if not len(table):
        raise DatasetError(f"{path}: the table has no rows {table.has}")
    return table


def text_of(path: Path) -> str:
    """Return the text of a file, packed by gzip or not.

    Raises:
        DatasetError: It cannot be read, or is no UTF-8 text.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: no UTF-8 text (byte {error.start})") from None
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read: {one_line(error)}") from None


def _read_text(path: Path) -> Table:
    text = text_of(path)
    first = text.lstrip("\n").split("\n", 1)[0]
    marks = "\t" if suffix_of(path).startswith(".tsv") else "".join(sorted(",;\t", key=first.count))
    reader = csv.reader(io.StringIO(text), delimiter=marks[-1])
    try:
        header = [as_name(name) for name in next(reader, [])]
        rows, lines = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DatasetError(
                    f"{path}, line {reader.line_num}: {count(len(row), 'field')}, expected "
                    f"{len(header)}, as the header has"
                )
            rows.append([cell.strip() for cell in row])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: {error}") from None
    if not header or (again := [name for name in header if header.count(name) > 1]):
        fault = f"the column {again[0]!r} is there twice" if header else "the file is empty"
        raise DatasetError(f"{path}: {fault}")
    if len(header) > 1 and all(_is_number(name) for name in header):
        raise DatasetError(
            f"{path}: the first line holds numbers ({some(header, few=4)}), expected the names of "
            "the columns"
        )
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return Table(
        path,
        {name: np.array(cells, dtype=str) for name, cells in zip(header, columns, strict=True)},
        lines,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def open_parquet(path: Path) -> Any:
    """Return a Parquet file of pyarrow.

    Raises:
        DatasetError: pyarrow is not installed, or the file is damaged.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DatasetError(
            f"{path}: Parquet takes pyarrow: pip install 'graphnorms[export]'"
        ) from None
    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise DatasetError(f"{path}: no readable Parquet file ({one_line(error)})") from None


def _read_parquet(path: Path) -> Table:
    columns: dict[str, NDArray[Any]] = {}
    for name, column in zip(*_columns_of(path), strict=True):
        kind = str(column.type)
        if kind.startswith(("list", "large_list", "fixed_size_list", "struct", "map")):
            continue  # no column of a table
        if kind in ("string", "large_string", "string_view") or kind.startswith("dictionary"):
            texts = ["" if text is None else str(text).strip() for text in column.to_pylist()]
            columns[name] = np.array(texts, dtype=str)
        else:
            columns[name] = column.to_numpy()
            if columns[name].dtype.kind not in "biuf":
                columns[name] = columns[name].astype(str)
    if not columns:
        raise DatasetError(f"{path}: no columns of numbers or texts")
    return Table(path, columns)


def _columns_of(path: Path) -> tuple[list[str], list[Any]]:
    table = open_parquet(path).read()
    return [as_name(name) for name in table.column_names], table.columns


def target_columns(table: Table, given: str, others: Sequence[str]) -> tuple[list[str], bool]:
    """Return the columns to predict, and whether they were guessed.

    Args:
        table: The table.
        given: Their names, separated by commas; empty to guess them: a column called like a target,
            the only one with numbers, or all of them if they are answers of yes or no.
        others: Columns that are none.

    Raises:
        DatasetError: A column is missing, or there is no guess.
    """
    if given:
        names = [given] if given in table.columns else [part.strip() for part in given.split(",")]
        return [table.require(name, "the target") for name in names if name], False
    free = [name for name in table.columns if name not in others]
    named = [name for name in free if name.lower() in TARGETS]
    if len(named) == 1:
        return named, True
    numbers = [name for name in free if table.values(name).dtype.kind in "if"]
    if len(numbers) == 1:
        return numbers, True
    if numbers and all(_yes_or_no(table.values(name)) for name in numbers):
        return numbers, True
    what = f"{len(numbers)} columns of numbers could be it" if numbers else "no column of numbers"
    raise DatasetError(
        f"{table.path}: which column is to be predicted? {what}; name it by target (--target NAME, "
        f"or several with commas) {table.has}"
    )


def _yes_or_no(values: NDArray[Any]) -> bool:
    known = values[values == values]
    return bool(len(known)) and bool(np.isin(known, (0, 1)).all())


def targets_of(table: Table, names: Sequence[str], task: TaskKind) -> tuple[NDArray[Any], TaskKind]:
    """Return the targets for `make_targets`, and the kind of the task.

    Without a requested task, 0 and 1 are answers of yes or no, texts are classes, and so are the
    integers 0 … k - 1 for k up to 20; other numbers are numbers.

    Raises:
        DatasetError: One of several targets is no number.
    """
    columns = [table.values(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind == "U" and (len(columns) > 1 or task != "classification"):
            _require_classes(table, name, column, several=len(columns) > 1 or task != "auto")
    if len(columns) == 1:
        y = columns[0]
        if task != "auto":
            return y, task
        if y.dtype.kind == "U":
            return y, "classification"
        if _yes_or_no(y):
            return y[:, None].astype(np.float64), "binary"
        kinds = np.unique(y[y == y])
        consecutive = 2 < len(kinds) <= _CLASSES and np.array_equal(kinds, np.arange(len(kinds)))
        return (y, "classification") if consecutive else (y[:, None], "regression")
    y = np.stack([column.astype(np.float64) for column in columns], axis=1)
    if task == "auto":
        return y, "binary" if _yes_or_no(y) else "regression"
    return y, task


def _require_classes(table: Table, name: str, column: NDArray[Any], *, several: bool) -> None:
    """Refuse a column of texts that is to hold numbers, or does but for a few texts."""
    wrong = [at for at, text in enumerate(column.tolist()) if text and not _is_number(text)]
    if several or 2 * len(wrong) < np.count_nonzero(column != ""):
        raise DatasetError(
            f"{table.path}: column {name!r} holds {count(len(wrong), 'text')} among its numbers, "
            f"the first in {table.row(wrong[0])}: {as_name(str(column[wrong[0]]))[:40]!r}"
            + ("; expected numbers" if several else "; make it a number, or empty if it is missing")
        )
