"""The kinds of files and folders that can be read: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from graphnorms.data.graphset import GraphSet
from graphnorms.data.packed_folder import is_packed_folder
from graphnorms.data.readers import (
    extended_xyz,
    molecules,
    networkx_graphs,
    node_tables,
    npz,
    ogb_folder,
    packed_parquet,
    packed_set,
    powerful_gnns,
    table_files,
    tu,
)
from graphnorms.data.readers.read_options import OF_TABLES, Reading


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file or folder.

    Args:
        words: What it is, for messages.
        fits: Whether a path is of this kind, given options.
        read: Reads it.
        takes: The options for tables that it takes.
        recognized: Whether `fits` looks at more than the first number of a file, so that what the
            file seems to be does not matter.
    """

    words: str
    fits: Callable[[Path, Reading], bool]
    read: Callable[[Path, Reading], GraphSet]
    takes: tuple[str, ...] = ()
    recognized: bool = True

    def load(self, path: Path, reading: Reading) -> GraphSet:
        """Read a path of this kind.

        Raises:
            DatasetError: It is malformed, or an option does not go with it.
        """
        reading.refuse(self.words, *(name for name in OF_TABLES if name not in self.takes))
        return self.read(path, reading)


def kind_of(path: Path, reading: Reading) -> Kind:
    """Return the first kind that fits a file.

    Raises:
        OSError: The file cannot be read.
    """
    return next(kind for kind in FILES if kind.fits(path, reading))


def folder_kind(folder: Path, reading: Reading) -> Kind | None:
    """Return the first kind that fits a folder, or None."""
    return next((kind for kind in FOLDERS if kind.fits(folder, reading)), None)


def _options(reading: Reading) -> dict[str, Any]:
    return dict(vars(reading))


def _is_npz(path: Path, reading: Reading) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".npz" or file.read(4) == b"PK\x03\x04"


FOLDERS: Final = (
    Kind(
        words="a packed set",
        fits=lambda path, _: is_packed_folder(path),
        read=packed_set.read_packed_set,
    ),
    Kind(
        words="a raw folder of OGB",
        fits=lambda path, _: ogb_folder.raw_folder(path) is not None,
        read=ogb_folder.read_ogb,
    ),
    Kind(
        words="a folder in TU format",
        fits=lambda path, _: tu.is_tu_folder(path),
        read=lambda path, reading: tu.read_tu(path, **_options(reading)),
    ),
    Kind(
        words="a folder with nodes.csv and edges.csv",
        fits=lambda path, _: node_tables.tables_in(path) is not None,
        read=node_tables.read_node_folder,
        takes=("target",),
    ),
    Kind(
        words="a folder of GraphML files",
        fits=lambda path, _: networkx_graphs.is_graphml(path),
        read=networkx_graphs.read_graphml,
        takes=("target",),
    ),
)
FILES: Final = (
    Kind(
        words="a Parquet file of graphs",
        fits=lambda path, _: packed_parquet.is_packed(path),
        read=packed_parquet.read_packed,
    ),
    Kind(
        words="a table of nodes",
        fits=lambda path, reading: bool(table_files.suffix_of(path) and reading.edges),
        read=node_tables.read_node_table,
        takes=("target", "edges"),
    ),
    Kind(
        words="a table of molecules",
        fits=lambda path, _: bool(table_files.suffix_of(path)),
        read=molecules.read_molecules,
        takes=("smiles", "target"),
    ),
    Kind(
        words="a GraphML file",
        fits=lambda path, _: networkx_graphs.is_graphml(path),
        read=networkx_graphs.read_graphml,
        takes=("target",),
    ),
    Kind(
        words="an extended-XYZ file",
        fits=lambda path, _: extended_xyz.is_extended_xyz(path),
        read=extended_xyz.read_extended_xyz,
        takes=("target", "cutoff"),
    ),
    Kind(
        words="an .npz file",
        recognized=False,
        fits=_is_npz,
        read=lambda path, reading: npz.read_npz(path, **_options(reading)),
    ),
    Kind(
        words="a powerful-gnns text file",
        recognized=False,
        fits=lambda path, _: True,
        read=lambda path, reading: powerful_gnns.read_powerful_gnns(path, **_options(reading)),
    ),
)
