"""Files of one array each: appended to, and mapped into memory."""

from __future__ import annotations

import mmap
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.errors import DatasetError
from graphnorms.kernels.cpu.extension import kernels, unreadable

MOST_RESIDENT: Final = 1 << 28
"""Bytes of mapped files that minibatches leave in memory; of a larger folder they leave nothing."""

_PIECE: Final = 1 << 24
"""Bytes that are read, converted or written at a time."""

_OFFSETS: Final = ("edge_ptr", "transpose_ptr")
"""Arrays with one entry more than there are nodes."""


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

    A process that reads a map holds the pages that it has read, and waits for each at its first
    touch. Of a large folder `read` takes rows past the maps, and `release` gives back what
    something else has read of them. Pages stay in the cache of the system while it has room.

    Args:
        folder: The folder.
        stored: The dtype and the shape of each array that is to be there, by name.
        loaded: The names of those that are read whole instead.
        by_edge: The names of those with a row for each edge; the other mapped ones have one for
            each node, or one more.

    Attributes:
        tensors: The tensors, by name.
        is_small: Whether the maps are at most `MOST_RESIDENT`: minibatches are copied from them.

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
        for name, expected in stored.items():
            path = folder / f"{name}.npy"
            array = _mapped(path, expected)
            if name in loaded:
                del array  # and with it the map, whose pages would count twice
                self.tensors[name] = torch.from_numpy(np.load(path, allow_pickle=False))
                continue
            self.tensors[name] = torch.from_numpy(array)
            file: Any = array  # a memmap, unless there are no rows
            if isinstance(file.base, mmap.mmap):
                self._maps[name] = _Map(file.base, path, file.offset, array.nbytes // len(array))
        self.is_small = sum(self.tensors[name].nbytes for name in self._maps) <= MOST_RESIDENT
        self._descriptors: dict[str, int] = {}
        weakref.finalize(self, _close, self._descriptors)
        for name, each in self._maps.items() if not self.is_small else ():
            self._descriptors[name] = _opened(each.path)

    def release(self) -> None:
        """Give the pages back that have been read through the maps."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for each in self._maps.values():
                each.pages.madvise(mmap.MADV_DONTNEED)

    def read(self, names: Sequence[str], table: Tensor) -> dict[str, Tensor]:
        """Read the rows of some graphs from the files of a large folder, past the maps.

        What the cache of the system lacks is asked for at once, before anything waits for the
        disk. Needs the C++ extension.

        Args:
            names: Of mapped arrays.
            table: The first node, first edge and numbers of nodes and edges of each graph,
                `(4, graphs)` int64.

        Returns:
            The rows by name, graph by graph. Offsets begin with an entry without a value; the
            others are, as they are stored, those at which the nodes' edges end.

        Raises:
            DatasetError: A file cannot be read, or has been cut off.
            ValueError: A graph lies outside the arrays.
        """
        table = table.contiguous()
        nodes, edges = table[2:].sum(1).tolist()
        made, sources, found = {}, [], []
        for name in names:
            file, array, of_edges = self._maps.get(name), self.tensors[name], name in self.by_edge
            more = int(name in _OFFSETS)
            made[name] = array.new_empty(((edges if of_edges else nodes) + more, *array.shape[1:]))
            if file is not None:
                begin = file.offset + more * file.row
                sources.append((self._descriptors[name], begin, made[name][more:], of_edges))
                found.append(name)
        sizes = len(self.tensors["edge_ptr"]) - 1, len(self.tensors["edge_index"])
        answer = kernels().read_rows(table, *sizes, sources, torch.get_num_threads())
        if answer is None:
            raise unreadable()
        failed, error, position = answer
        if failed >= 0:
            raise self._fault(found[failed], error, position)
        return made

    def _fault(self, name: str, error: int, position: int) -> DatasetError:
        """Return the error for a file that could not be read at a position."""
        path = self._maps[name].path
        if error:
            why = f"cannot be read at byte {position}: {os.strerror(error)}"
            return DatasetError(f"{path}: {why}; see to the disk, or pack the set again")
        size, expected = os.fstat(self._descriptors[name]).st_size, len(self._maps[name].pages)
        return DatasetError(
            f"{path}: {size} bytes, expected {expected} as when it was opened: it has been cut off "
            "since; pack the set again"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayFolder, (self.folder, self.stored, self.loaded, self.by_edge)


@dataclass(frozen=True)
class _Map:
    """A mapped file.

    Args:
        pages: The map.
        path: The file.
        offset: Where the rows begin, in bytes.
        row: Bytes of a row.
    """

    pages: mmap.mmap
    path: Path
    offset: int
    row: int


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
        raise _unreadable(path, error) from None
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


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _unreadable(path, error) from None


def _close(descriptors: Mapping[str, int]) -> None:
    for each in descriptors.values():
        os.close(each)


def _unreadable(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{path}: cannot be read: {error.strerror or error}; pack the set again")


def _words(stored: Mapping[str, Any]) -> str:
    return f"{stored['dtype']} of shape {tuple(stored['shape'])}"
