"""Text files of numbers, parsed in pieces, with line numbers for errors."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.integer_arrays import Integers, first_true
from graphnorms.data.text_format import count
from graphnorms.errors import DatasetError

# Integers below are exact in float64, so that a file may mix both.
_EXACT = 2**53

_PIECE = 1 << 18  # bytes per piece, which fits in the cache


@dataclass(frozen=True, eq=False)
class NumberFile:
    """The numbers of a text file. A *row* is a line that is not blank.

    Args:
        path: The file, for messages.
        values: All numbers in the order of the file, `(numbers,)`; finite; int64 if all are
            integers, else float64.
        counts: Number of numbers of each line, `(lines,)`.
    """

    path: Path
    values: NDArray[Any]
    counts: Integers

    @cached_property
    def rows(self) -> int:
        """Number of lines that are not blank."""
        return int(np.count_nonzero(self.counts))

    @cached_property
    def line(self) -> Integers:
        """The line number of each row, from 1, `(rows,)`."""
        return np.flatnonzero(self.counts) + 1

    @cached_property
    def length(self) -> Integers:
        """Number of numbers of each row, `(rows,)`."""
        return self.counts[self.line - 1]

    @cached_property
    def first(self) -> Integers:
        """Start of each row in `values`, `(rows,)`."""
        return np.cumsum(self.length) - self.length

    def error(self, row: int, message: str) -> DatasetError:
        """Build an error that names the file and the line of a row."""
        return DatasetError(f"{self.path}, line {self.line[row]}: {message}")

    def integers(self, positions: Integers | slice, what: str) -> Integers:
        """Return numbers that must be integers.

        Args:
            positions: Their positions in `values`, any shape.
            what: What they are, for messages, e.g. `"a node id"`.

        Raises:
            DatasetError: A number is not an integer.
        """
        values = self.values[positions]
        if values.dtype == np.int64:
            return values
        wrong = (values != np.rint(values)) | (np.abs(values) >= _EXACT)
        if wrong.any():
            at = int(np.arange(len(self.values))[positions][wrong].min())
            row = int(np.searchsorted(self.first, at, side="right")) - 1
            large = abs(self.values[at]) >= _EXACT
            how = "is too large (2^53 or more)" if large else "is not an integer"
            raise self.error(row, f"{self.values[at]:g} {how}, expected {what}")
        return values.astype(np.int64)

    def table(self, columns: int | None, what: str, integers: str = "") -> NDArray[Any]:
        """Return the numbers as a table, `(rows, columns)`; do not modify it.

        Args:
            columns: Numbers per row; None takes it from the first row.
            what: What a row contains, for messages, e.g. `"an edge"`.
            integers: What the numbers are, for messages, if they must be integers; the table is
                int64 then, else float64.

        Raises:
            DatasetError: A row has another length, or a number is not an integer.
        """
        width = columns if columns is not None else int(self.length[0]) if self.rows else 0
        wrong = (self.counts != width) & (self.counts > 0)
        if (line := first_true(wrong)) is not None:
            row = int(np.count_nonzero(self.counts[:line]))
            raise self.error(
                row, f"{count(int(self.length[row]), 'number')}, expected {width}: {what}"
            )
        every = slice(None)
        values = self.integers(every, integers) if integers else self.values.astype(np.float64)
        return values.reshape(-1, width or 1)


def read_numbers(path: Path, *, separator: bytes = b" ") -> NumberFile:
    """Read a text file of numbers, plain or gzip (detected by content).

    Args:
        path: The file.
        separator: Separator of the numbers of a line, besides blanks.

    Raises:
        DatasetError: The file is missing, cannot be read or unpacked, or contains something other
            than finite numbers.
    """
    values, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    lines = 0
    for piece in _pieces(path):
        data = piece.replace(separator, b" ")
        characters = np.frombuffer(data, dtype=np.uint8)
        # The six characters at which NumPy and bytes.split() split.
        blank = (characters == 32) | ((characters >= 9) & (characters <= 13))
        marked = characters == 10  # line ends, and first characters of numbers
        marked[0] |= ~blank[0]
        marked[1:] |= blank[:-1] & ~blank[1:]
        ends = np.flatnonzero(characters[marked] == 10)
        counts.append(np.diff(ends, prepend=-1) - 1)
        if number := int(counts[-1].sum()):
            numbers = _parse(data, number)
            if numbers is None:
                raise _not_a_number(path, lines, data)
            values.append(numbers)
        lines += len(ends)
    return NumberFile(path, np.concatenate(values), np.concatenate(counts))


def _parse(data: bytes, number: int) -> NDArray[Any] | None:
    """Parse numbers, as integers if possible; None if one is invalid or not finite."""
    for dtype, limit in ((np.int64, _EXACT), (np.float64, math.inf)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # NumPy warns if it stops early
                values = np.fromstring(data, dtype, sep=" ")
        except (DeprecationWarning, ValueError):
            continue
        inside = -limit < values.min(initial=0) and values.max(initial=0) < limit
        if len(values) == number and inside:
            return values
    return None


def _not_a_number(path: Path, lines: int, data: bytes) -> DatasetError:
    """Build the error for the first invalid token of a piece after some number of lines."""
    line, token = next(
        (line, token)
        for line, text in enumerate(data.split(b"\n"), lines + 1)
        for token in text.split()
        if not _is_number(token)
    )
    text = token.decode("utf-8", errors="replace")
    text = text if len(text) <= 40 else text[:40] + "…"  # repr() shows what is not printable
    return DatasetError(f"{path}, line {line}: {text!r} is not a finite number")


def _is_number(token: bytes) -> bool:
    try:
        return b"_" not in token and math.isfinite(float(token))  # Python would accept 1_000
    except ValueError:
        return False


def _pieces(path: Path) -> Iterator[bytes]:
    """Iterate over pieces of a file that consist of whole lines."""
    try:
        with path.open("rb") as plain:
            packed = plain.peek(2).startswith(b"\x1f\x8b")
            file = gzip.GzipFile(fileobj=plain) if packed else plain
            while piece := file.read(_PIECE) + file.readline():
                yield piece if piece.endswith(b"\n") else piece + b"\n"
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: damaged gzip file: {error}") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
