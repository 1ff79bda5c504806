"""The arrays of a `.npz` file, checked as they are taken; each error names file and array."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.text import in_one_line
from graphnorms.errors import DatasetError, unknown_name

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a file holds. Iterates over the names.

    Args:
        path: The file, for the messages.
        values: The arrays by name.
    """

    path: Path
    values: Mapping[str, NDArray[Any]]

    @classmethod
    def read(cls, path: Path) -> Arrays:
        """Read all arrays of a file, none of which may be pickled objects.

        Raises:
            DatasetError: The file is missing, cannot be read, or is not such a file.
        """
        values: dict[str, NDArray[Any]] = {}
        name = ""
        try:
            with path.open("rb") as file:  # which NumPy leaves open where it fails
                stored = np.load(file, allow_pickle=False)
                if not isinstance(stored, np.lib.npyio.NpzFile):
                    raise DatasetError(f"{path}: holds one array, expected a .npz file of several")
                for name in stored.files:
                    values[name] = stored[name]
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such file") from None
        except DatasetError:
            raise
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            where = f", array {name}" if name else ""
            raise DatasetError(
                f"{path}{where}: not a .npz file of arrays ({in_one_line(error)})"
            ) from None
        return cls(path, values)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def error(self, name: str, message: str) -> DatasetError:
        """Build the error that names the file and an array."""
        return DatasetError(f"{self.path}, array {name}: {message}")

    def numbers(self, name: str, dimensions: tuple[int, ...]) -> NDArray[Any]:
        """Take an array of numbers with one of some numbers of dimensions."""
        if name not in self.values:
            raise self.error(name, f"is missing; the file holds {', '.join(self.values)}")
        array = self.values[name]
        if array.dtype.kind not in "biuf" or array.ndim not in dimensions:
            expected = " or ".join(str(number) for number in dimensions)
            raise self.error(
                name,
                f"is {array.dtype} of shape {array.shape}, expected numbers with {expected} "
                f"dimension{'' if expected == '1' else 's'}",
            )
        return array

    def integers(self, name: str, dimensions: tuple[int, ...]) -> Integers:
        """Take an array of integers, of whatever type, as int64."""
        array = self.numbers(name, dimensions)
        if array.dtype.kind == "f":
            raise self.error(name, f"is {array.dtype}, expected integers")
        return array.astype(np.int64)

    def scalar(self, name: str) -> int:
        """Take a single integer of 1 or more."""
        value = int(self.integers(name, (0,)))
        if value < 1:
            raise self.error(name, f"is {value}, expected 1 or more")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of texts; empty if the file has none."""
        if name not in self.values:
            return ()
        array = self.values[name]
        if array.dtype.kind != "U" or array.ndim != 1:
            raise self.error(name, f"is {array.dtype} of shape {array.shape}, expected texts")
        return tuple(array.tolist())

    def text(self, name: str) -> str:
        """Take a text; empty if the file has none."""
        if name not in self.values:
            return ""
        array = self.values[name]
        if array.dtype.kind != "U" or array.ndim != 0:
            raise self.error(name, f"is {array.dtype} of shape {array.shape}, expected a text")
        return str(array)

    def one_of(self, name: str, text: str, known: tuple[str, ...]) -> str:
        """Return a text that has to be one of some."""
        if text not in known:
            raise self.error(name, str(unknown_name(name, text, known)))
        return text

    def check_offsets(self, name: str, ptr: Integers, end: int | None, noun: str) -> None:
        """Raise the error for offsets that do not ascend from 0 to `end`, where that is known."""
        last = int(ptr[-1]) if len(ptr) else None
        if len(ptr) < 2 or ptr[0] != 0 or (end is not None and last != end):
            given = f"{len(ptr)} entries" if len(ptr) < 2 else f"goes from {ptr[0]} to {last}"
            goal = f"0 to {end}, the number of {noun}" if end is not None else "0 on"
            raise self.error(name, f"{given}, expected offsets from {goal}")
        falls = np.flatnonzero(np.diff(ptr) < 0)
        if len(falls):
            at = int(falls[0])
            raise self.error(
                name, f"does not ascend: {ptr[at]} is followed by {ptr[at + 1]} at {at + 1}"
            )

    def check_range(self, name: str, values: Integers, below: int, what: str) -> None:
        """Raise the error for integers outside 0 … below - 1."""
        wrong = values[(values < 0) | (values >= below)]
        if wrong.size:
            raise self.error(name, f"holds {wrong[0]}, expected 0 … {below - 1} by {what}")
