"""The arrays of a `.npz` file, checked when read; each error names file and array."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from graphnorms.data.graphset_checks import offsets_fault
from graphnorms.data.integer_arrays import Integers
from graphnorms.data.readers.file_kind import what_it_seems
from graphnorms.data.splits import MASKS, split_of_masks
from graphnorms.data.text_format import as_name, count
from graphnorms.errors import DatasetError, one_line, unknown_name

# Deflate compresses 1032:1 at best; a file cannot contain more than that.
_DEFLATED = 1032
# Maximal stated numbers of nodes or feature entries: a base, and more per entry in the file.
_PLAIN, _PER_ENTRY = 1 << 22, 1 << 13


@dataclass(eq=False)
class Arrays:
    """The arrays of a file, read on demand: unused arrays may be malformed.

    Iterating yields the names. Use it in a `with` statement, which closes the file.

    Args:
        path: The file.

    Raises:
        DatasetError: The file is missing, unreadable, or of another kind.
    """

    path: Path

    def __post_init__(self) -> None:
        self._read: dict[str, NDArray[Any]] = {}
        try:
            self._zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise DatasetError(f"{self.path}: no such file") from None
        except Exception as error:  # zipfile may raise anything for a corrupted file
            why = what_it_seems(self.path) if self.path.is_file() else ""
            raise DatasetError(
                f"{self.path}: not a .npz file of arrays, but "
                f"{why or f'damaged or something else ({one_line(error)})'}"
            ) from None
        self._members = {
            name.removesuffix(".npy"): name
            for name in self._zip.namelist()
            if name.endswith(".npy")
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read an array; pickled objects are refused.

        Raises:
            DatasetError: It is missing or cannot be read.
        """
        if name not in self:
            there = ", ".join(map(as_name, self)) or "no arrays"
            raise self.error(name, f"is missing; the file holds {there}")
        if name not in self._read:
            try:
                self._read[name] = self._take(self._members[name])
            except Exception as error:  # NumPy and zipfile may raise anything for corrupted bytes
                raise self.error(name, f"cannot be read ({one_line(error)})") from None
        return self._read[name]

    def _take(self, member: str) -> NDArray[Any]:
        info = self._zip.getinfo(member)
        if info.flag_bits & 1:
            raise ValueError("it is encrypted; store it without a password")
        with self._zip.open(info) as file:
            self._require_room(file, info)
        with self._zip.open(info) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
            if file.read(1):
                raise ValueError("more bytes than its shape takes")
        return array

    @staticmethod
    def _require_room(file: IO[bytes], info: zipfile.ZipInfo) -> None:
        """Refuse a stated size that the file cannot contain, before allocating memory."""
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        stated = math.prod(shape) * dtype.itemsize
        room = min(info.file_size, _DEFLATED * info.compress_size) - file.tell()
        if not dtype.hasobject and stated > room:
            raise ValueError(f"it states {stated} bytes, and the file is too small for them")

    def error(self, name: str, message: str) -> DatasetError:
        """Build an error that names the file and an array."""
        return DatasetError(f"{self.path}, array {as_name(name)}: {message}")

    def check_stated(self, name: str, stated: int, held: Iterable[str]) -> None:
        """Refuse a stated size that is far too large for the arrays `held`.

        A set may have some isolated nodes and unused columns, but not enough to fill the memory.
        """
        entries = sum(self[other].size for other in held if other in self)
        if stated > _PLAIN + _PER_ENTRY * entries:
            raise self.error(name, f"states a size of {stated}, beside {entries} entries")

    def numbers(self, name: str, dimensions: tuple[int, ...]) -> NDArray[Any]:
        """Return an array of numbers; check its number of dimensions."""
        array = self[name]
        if array.dtype.kind not in "biuf" or array.ndim not in dimensions:
            expected = " or ".join(str(number) for number in dimensions)
            raise self.error(
                name,
                f"is {array.dtype} of shape {array.shape}, expected numbers with {expected} "
                f"dimension{'' if expected == '1' else 's'}",
            )
        return array

    def integers(self, name: str, dimensions: tuple[int, ...]) -> Integers:
        """Return an array of integers of any type as int64."""
        array = self.numbers(name, dimensions)
        if array.dtype.kind == "f":
            raise self.error(name, f"is {array.dtype}, expected integers")
        if array.size and array.dtype.kind == "u" and int(array.max()) >= 2**63:
            raise self.error(name, f"holds {array.max()}, expected integers below 2^63")
        return array.astype(np.int64)

    def scalar(self, name: str) -> int:
        """Return a single integer ≥ 1."""
        value = int(self.integers(name, (0,)))
        if value < 1:
            raise self.error(name, f"is {value}, expected 1 or more")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; empty if the array is missing."""
        return tuple(map(as_name, self._words(name, 1).tolist())) if name in self else ()

    def text(self, name: str) -> str:
        """Return a text; empty if the array is missing."""
        return as_name(str(self._words(name, 0))) if name in self else ""

    def _words(self, name: str, dimensions: int) -> NDArray[Any]:
        array = self[name]
        if array.dtype.kind != "U" or array.ndim != dimensions:
            what = "texts" if dimensions else "a text"
            raise self.error(name, f"is {array.dtype} of shape {array.shape}, expected {what}")
        return array

    def one_of(self, name: str, text: str, known: tuple[str, ...]) -> str:
        """Check that a text is one of the known ones."""
        if text not in known:
            raise self.error(name, str(unknown_name(name, text, known)))
        return text

    def check_offsets(self, name: str, ptr: Integers, end: int | None, noun: str) -> None:
        """Refuse offsets that do not ascend from 0 to `end` (`None`: any end)."""
        fault = f"{count(len(ptr), 'entry', 'entries')}, expected offsets from 0 on"
        if len(ptr) > 1:
            fault = offsets_fault(torch.from_numpy(ptr), int(ptr[-1]) if end is None else end, noun)
        if fault:
            raise self.error(name, fault)

    def check_range(self, name: str, values: Integers, below: int, what: str) -> None:
        """Refuse integers outside 0 … below - 1."""
        wrong = values[(values < 0) | (values >= below)]
        if wrong.size:
            raise self.error(name, f"holds {wrong[0]}, expected 0 … {below - 1} by {what}")

    def entries(
        self, ptr: str, index: str, size: str, width: int
    ) -> tuple[Integers, Integers, int]:
        """Return the row and column of each entry of a CSR matrix, `(entries,)`, and the row count.

        Args:
            ptr, index, size: Names of the arrays with the offsets, the columns, and the width.
            width: The width.
        """
        offsets, columns = self.integers(ptr, (1,)), self.integers(index, (1,))
        self.check_offsets(ptr, offsets, len(columns), f"entries of {index}")
        self.check_range(index, columns, width, size)
        height = len(offsets) - 1
        return np.repeat(np.arange(height), np.diff(offsets)), columns, height

    def split(self, items: int) -> tuple[NDArray[Any] | None, str]:
        """Return the part of each item, from an array or from masks, and the origin of the split.

        The split may be missing. `…_masks` of public files have a row per split.
        """
        names = ["split"] if "split" in self else [n for n in self if n.endswith("_split")]
        masks = [next((each for each in (name, f"{name}s") if each in self), "") for name in MASKS]
        if not names and all(masks):
            given = [self.integers(name, (1, 2)) for name in masks]
            given = [
                mask.T if name.endswith("s") else mask
                for name, mask in zip(masks, given, strict=True)
            ]
            return split_of_masks(given, items, where=str(self.path)), ""
        if not names:
            return None, ""
        if len(names) > 1:
            raise self.error(names[1], f"a second split beside {names[0]}; expected one at most")
        name = names[0]
        by = self.text("split_name") or name.removesuffix("split").rstrip("_")
        return self.integers(name, (1, 2)), by
