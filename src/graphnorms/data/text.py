"""Text files of numbers, parsed at once, with the line of every number kept for the errors."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphnorms.errors import DatasetError, printable

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# Every integer below is a float64 that no other one is rounded to, so that integers may be parsed
# as floats.
_EXACT = 2**53


@dataclass(frozen=True, eq=False)
class NumberFile:
    """The numbers of a text file. A *row* is a line that is not blank.

    Args:
        path: The file, for the messages.
        values: All numbers in the order of the file, `(numbers,)`; finite.
        first: Where each row begins in `values`, `(rows,)`.
        length: How many numbers each row has, `(rows,)`.
        line: The line of the file on which each row stands, from 1, `(rows,)`.
    """

    path: Path
    values: Floats
    first: Integers
    length: Integers
    line: Integers

    @property
    def rows(self) -> int:
        """Number of lines that are not blank."""
        return len(self.line)

    def error(self, row: int, message: str) -> DatasetError:
        """Build the error that names the file and the line of a row."""
        return DatasetError(f"{self.path}, line {self.line[row]}: {message}")

    def row_of(self, position: int) -> int:
        """The row in which number `position` of `values` stands."""
        return int(np.searchsorted(self.first, position, side="right")) - 1

    def integers(self, positions: Integers, what: str) -> Integers:
        """Take numbers that have to be integers.

        Args:
            positions: Where they stand in `values`, any shape.
            what: What they are, for the message, e.g. `"a node id"`.

        Raises:
            DatasetError: One of them is not an integer.
        """
        values = self.values[positions]
        wrong = (values != np.rint(values)) | (np.abs(values) >= _EXACT)
        if wrong.any():
            at = int(positions[wrong].min())
            large = abs(self.values[at]) >= _EXACT
            how = "is too large (2^53 or more)" if large else "is not an integer"
            raise self.error(self.row_of(at), f"{self.values[at]:g} {how}, expected {what}")
        return values.astype(np.int64)

    def table(self, columns: int | None, what: str) -> Integers:
        """The positions of the numbers as a table, one row of the file a row: `(rows, columns)`.

        Args:
            columns: Numbers per row; None takes it from the first row.
            what: What a row holds, for the message, e.g. `"an edge"`.

        Raises:
            DatasetError: A row has another number of numbers.
        """
        width = columns if columns is not None else int(self.length[0]) if self.rows else 0
        wrong = np.flatnonzero(self.length != width)
        if len(wrong):
            row = int(wrong[0])
            raise self.error(
                row, f"{count(int(self.length[row]), 'number')}, expected {width}: {what}"
            )
        return np.arange(len(self.values), dtype=np.int64).reshape(-1, width or 1)


def read_numbers(path: Path, *, separator: bytes = b" ") -> NumberFile:
    """Read a text file of numbers, plain or gzip (told by its content, not its name).

    Args:
        path: The file.
        separator: What stands between the numbers of a line, besides blanks.

    Raises:
        DatasetError: The file is missing, cannot be read or unpacked, or holds something that
            is not a finite number.
    """
    data = _read_bytes(path).replace(separator, b" ")
    characters = np.frombuffer(data, dtype=np.uint8)
    # bytes.split() splits at these six, and both have to agree on what a token is.
    blank = (characters == 32) | ((characters >= 9) & (characters <= 13))
    begins = ~blank
    begins[1:] &= blank[:-1]
    newlines = np.flatnonzero(characters == 10)
    line_of = np.searchsorted(newlines, np.flatnonzero(begins)) + 1  # (numbers,)
    values = _parse_integers(data, len(line_of))
    if values is None:
        tokens = data.split()
        values = _parse(tokens) if b"_" not in data else None  # float() takes 1_000 for a number
        if values is None:
            raise _not_a_number(path, tokens, line_of)
    new = np.ones(len(line_of), dtype=bool)
    new[1:] = line_of[1:] != line_of[:-1]
    first = np.flatnonzero(new)  # (rows,)
    length = np.diff(np.append(first, len(line_of)))
    return NumberFile(path, values, first, length, line_of[first])


def _parse_integers(data: bytes, number: int) -> Floats | None:
    """So many integers, in a fifth of the time; None where something may be another number."""
    if data.translate(None, b"0123456789- \t\n\r"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns where it stops before the end
            values = np.fromstring(data, dtype=np.int64, sep=" ")
    except (DeprecationWarning, ValueError):
        return None
    small = len(values) and values.max() < _EXACT and values.min() > -_EXACT
    return values.astype(np.float64) if small and len(values) == number else None


def _parse(tokens: list[bytes]) -> Floats | None:
    try:
        values = np.array(tokens, dtype=np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _not_a_number(path: Path, tokens: list[bytes], line_of: Integers) -> DatasetError:
    at = next(at for at, token in enumerate(tokens) if not _is_number(token))
    text = tokens[at].decode("utf-8", errors="replace")
    text = text if len(text) <= 40 else text[:40] + "…"  # repr() shows what is not printable
    return DatasetError(f"{path}, line {line_of[at]}: {text!r} is not a finite number")


def _is_number(token: bytes) -> bool:
    try:
        return b"_" not in token and math.isfinite(float(token))
    except ValueError:
        return False


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: damaged gzip file: {error}") from None


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun in the right number: `1 line`, `2 lines`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some(items: Iterable[object], few: int = 8) -> str:
    """List the first few of some items, and how many more there are."""
    texts = [str(item) for item in items]
    more = [f"{len(texts) - few} more"] if len(texts) > few else []
    return ", ".join(texts[:few] + more)


def as_name(text: str) -> str:
    """Write a text that a file calls something by in one line, which steers no terminal."""
    return printable(" ".join(text.split()))
