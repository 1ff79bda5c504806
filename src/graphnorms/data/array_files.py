"""Files of one array each: appended to, and mapped into memory."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.integer_arrays import Integers
from graphnorms.errors import DatasetError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MOST_RESIDENT: Final = 1 << 28
"""Bytes of mapped files that may be in memory before a minibatch is formed."""

_PIECE: Final = 1 << 24
"""Bytes that are read, converted or written at a time."""

_AROUND: Final = 1 << 16
"""Bytes around one that is read that are mapped with it, where the system does not say how many."""

_STAYS_COLD: Final = 64
"""Minibatches for which the system is asked for pages after one that waited for the disk."""


def pieces(rows: Tensor) -> Iterator[Tensor]:
    """Iterate over rows in parts of bounded size."""
    size = max(1, rows.element_size() * rows[:1].numel())
    return iter(rows.split(max(1, _PIECE // size)))


class GrowingFile:
    """An `.npy` file to which rows are appended.

    Args:
        path: The file; an existing one is replaced.
        dtype: Of the entries.
        shape: Of a row.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...] = ()) -> None:
        self.dtype, self.shape = dtype.newbyteorder("<"), shape
        self.rows = 0
        self._file = path.open("w+b")
        self._write_header()

    def append(self, rows: Tensor) -> None:
        """Append some rows.

        Raises:
            OSError: They cannot be written.
        """
        for part in pieces(rows):
            part.numpy().astype(self.dtype, copy=False).tofile(self._file)
            self.rows += len(part)

    def close(self) -> None:
        """Say in the header how many rows there are, and sync the file to disk."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()  # NumPy leaves room for as many digits as a number of rows may have
        self._file.seek(end)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def copy(self, path: Path) -> GrowingFile:
        """Return a copy of the file as it is, to which other rows are appended."""
        other = GrowingFile(path, self.dtype, self.shape)
        other.rows = self.rows
        self._file.flush()
        other._file.seek(0)
        with Path(self._file.name).open("rb") as source:
            shutil.copyfileobj(source, other._file)
        return other

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class ArrayFolder:
    """Arrays in `.npy` files of a folder, mapped into memory page by page as they are read.

    A process that reads a file holds the pages that it has read. `release` gives them back; they
    stay in the cache of the system while it has room, and are read again when they are needed.

    Args:
        folder: The folder.
        stored: The dtype and the shape of each array that is to be there, by name.
        loaded: The names of those that are read whole instead.
        by_edge: The names of those with a row for each edge; the other mapped ones have one for
            each node, or one more.

    Attributes:
        tensors: The tensors, by name.

    Raises:
        DatasetError: A file is missing, cut off, or not of this dtype and shape.
    """

    def __init__(
        self,
        folder: Path,
        stored: Mapping[str, Mapping[str, Any]],
        loaded: Sequence[str],
        by_edge: Sequence[str],
    ) -> None:
        # A process that opens it again may have another working directory.
        self.folder, self.stored = folder.absolute(), stored
        self.loaded, self.by_edge = tuple(loaded), tuple(by_edge)
        self.tensors: dict[str, Tensor] = {}
        self._maps: dict[str, _Map] = {}
        self._used = 0  # bytes that may be resident
        self._cold = 0  # minibatches for which the system is still asked for pages
        self._faults = _disk_faults()
        self._before = _file_bytes() or 0
        for name, expected in stored.items():
            array = _mapped(folder / f"{name}.npy", expected)
            if name in loaded:
                del array  # and with it the map, whose pages would count twice
                path = folder / f"{name}.npy"
                self.tensors[name] = torch.from_numpy(np.load(path, allow_pickle=False))
                continue
            self.tensors[name] = torch.from_numpy(array)
            file: Any = array  # a memmap, unless there are no rows
            if isinstance(file.base, mmap.mmap):
                self._maps[name] = _Map(file.base, file.offset, array.nbytes // len(array))
        mapped = sum(self.tensors[name].nbytes for name in self._maps)
        self._is_small = mapped <= MOST_RESIDENT

    def release(self) -> None:
        """Give the pages back that have been read."""
        self._used = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for each in self._maps.values():
                each.pages.madvise(mmap.MADV_DONTNEED)

    def want(self, nodes: Tensor, edges: Tensor) -> None:
        """Say what will be read, before it is.

        Pages read before are released when they are many. While pages come from the disk, the
        system is asked for all of them at once, in ascending order; in its cache they need no such
        calls. A set that is small in all is left alone.

        Args:
            nodes, edges: First row and number of rows of each graph, `(2, graphs)` int64.
        """
        if self._is_small:
            return
        # A page that is read may bring two MiB with it, of which only the system knows.
        now = _file_bytes()
        if (self._used if now is None else now - self._before) > MOST_RESIDENT:
            self.release()
        faults = _disk_faults()
        self._cold = _STAYS_COLD if faults > self._faults else max(0, self._cold - 1)
        self._faults = faults
        of_edges, of_nodes = _ascending(edges), _ascending(nodes)
        for name, each in self._maps.items():
            begin, end = of_edges if name in self.by_edge else of_nodes
            self._used += int((end - begin).sum()) * each.row + len(begin) * _AROUND
            if self._cold and hasattr(mmap, "MADV_WILLNEED"):
                each.ask(begin, end)

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayFolder, (self.folder, self.stored, self.loaded, self.by_edge)


def _disk_faults() -> int:
    """Count the pages that this process has waited for the disk to read; 0 if unknown."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _file_bytes() -> int | None:
    """Return the resident bytes of files mapped by this process; None if the system is silent."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return None


@dataclass(frozen=True)
class _Map:
    """A mapped file.

    Args:
        pages: The map.
        offset: Where the rows begin, in bytes.
        row: Bytes of a row.
    """

    pages: mmap.mmap
    offset: int
    row: int

    def ask(self, begin: Integers, end: Integers) -> None:
        """Ask the system to read some runs of rows, ascending; offsets have one row more."""
        first = (self.offset + begin * self.row) // mmap.PAGESIZE
        last = (self.offset + (end + 1) * self.row - 1) // mmap.PAGESIZE
        most = (len(self.pages) - 1) // mmap.PAGESIZE
        last = np.minimum(last, most)
        starts = np.ones(len(first), dtype=bool)
        starts[1:] = first[1:] > last[:-1] + 1
        ends = np.append(starts[1:], True)
        for one, other in zip(first[starts].tolist(), last[ends].tolist(), strict=True):
            size = (other - one + 1) * mmap.PAGESIZE
            self.pages.madvise(mmap.MADV_WILLNEED, one * mmap.PAGESIZE, size)


def _ascending(runs: Tensor) -> tuple[Integers, Integers]:
    """Return where runs begin and end, in ascending order, without empty ones."""
    begin, size = runs.numpy()
    order = np.argsort(begin, kind="stable")
    order = order[size[order] > 0]
    return begin[order], (begin + size)[order]


@dataclass(frozen=True)
class _Name:
    """Stands for a mapped tensor in a pickle."""

    name: str


def without_mapped(value: Any, files: ArrayFolder) -> Any:
    """Put names in the place of mapped tensors, for a pickle; `with_mapped` inverts it."""
    names = {id(tensor): name for name, tensor in files.tensors.items()}
    return _exchanged(
        value, lambda tensor: _Name(names[id(tensor)]) if id(tensor) in names else tensor
    )


def with_mapped(value: Any, files: ArrayFolder) -> Any:
    """Put mapped tensors in the place of their names."""
    return _exchanged(
        value, lambda found: files.tensors[found.name] if isinstance(found, _Name) else found
    )


def _exchanged(value: Any, exchange: Callable[[Any], Any]) -> Any:
    """Exchange the tensors, or what stands for them, in a dict and in data classes."""
    if isinstance(value, Tensor | _Name):
        return exchange(value)
    if isinstance(value, dict):
        return {key: _exchanged(each, exchange) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
        tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor | _Name)}
        return replace(value, **_exchanged(tensors, exchange)) if tensors else value
    return value


def _mapped(path: Path, expected: Mapping[str, Any]) -> NDArray[Any]:
    """Map a file; what is written to the array stays in this process."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read: {error.strerror or error}; pack the set again"
        ) from None
    except (ValueError, EOFError):
        raise DatasetError(
            f"{path}: cut off, or no .npy file, expected {_words(expected)}; pack the set again"
        ) from None
    found = {"dtype": array.dtype.str, "shape": list(array.shape)}
    if found != dict(expected) or not isinstance(array, np.memmap):
        raise DatasetError(
            f"{path}: {_words(found)}, expected {_words(expected)}: not of this set; pack it again"
        )
    if size != array.offset + array.nbytes:
        raise DatasetError(
            f"{path}: {size} bytes, expected {array.offset + array.nbytes}; pack the set again"
        )
    if not array.size:
        return np.empty(array.shape, array.dtype)
    return array


def _words(stored: Mapping[str, Any]) -> str:
    return f"{stored['dtype']} of shape {tuple(stored['shape'])}"
