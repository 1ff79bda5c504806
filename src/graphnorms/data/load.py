"""`load_dataset`: loads a data set by name, from a file, or from user code."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from graphnorms.data.feature_columns import Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.packed_folder import INDEX, refuse_existing
from graphnorms.data.readers.embedded import embedded_names, read_embedded
from graphnorms.data.readers.file_kind import ACCEPTED, NO_DATA, what_it_seems
from graphnorms.data.readers.kinds import folder_kind, kind_of
from graphnorms.data.readers.networkx_graphs import from_networkx, is_networkx
from graphnorms.data.readers.pyg_data import from_pyg
from graphnorms.data.readers.pyg_names import PREFIX, read_pyg_name
from graphnorms.data.readers.read_options import OF_TABLES, Reading, ReadOptions
from graphnorms.data.readers.streamed import pack
from graphnorms.data.readers.tu import (
    collection_names,
    find_in_collection,
    is_tu_folder,
    read_collection,
)
from graphnorms.data.text_format import as_name, some
from graphnorms.errors import DatasetError, did_you_mean, one_line, unknown_name
from graphnorms.user_code import ExitError, find, is_spec, no_exit

_FOLDERS = (
    "NAME_A.txt and others (TU format), raw/edge.csv.gz (OGB), nodes.csv and edges.csv, .graphml, "
    f"or {INDEX} (a packed set)"
)


def load_dataset(
    spec: str | os.PathLike[str],
    features: Features = "auto",
    *,
    root: str | os.PathLike[str] = "data",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Load a graph set by name, from disk, or from user code.

    `GraphSet.describe` reports everything that was inferred.

    Args:
        spec: One of these; the first match is used:

            - the name of an embedded set, case-insensitive (`embedded_names()`), even if a folder
              has that name: write `./MUTAG` for the folder;
            - `pyg:Class/name`, a data set of PyG, see `read_pyg_name`;
            - a folder: a packed set (see `GraphSet.open`), in TU format (`read_tu`), of OGB
              (`read_ogb`), with `nodes.csv` and `edges.csv` (`read_node_table`), or of GraphML
              files (`read_graphml`);
            - a file: a table of molecules (`read_molecules`), a table of nodes with the option
              `edges` (`read_node_table`), frames of atoms in extended XYZ (`read_extended_xyz`), a
              Parquet file of graphs (`read_packed`), GraphML, `.npz` (`read_npz`), or a
              powerful-gnns text file;
            - `module:factory`, see `call_factory`;
            - the name of a set of the TU collection, see `read_collection`.
        features: The policy for node features, see `node_columns`.
        root: The folder of the sets of PyG and of the TU collection, also for downloads.
        options: See `Reading`.

    Raises:
        ValueError: `features` or an option is invalid.
        DatasetError: `spec` is unknown (the message suggests similar names), the data are malformed
            (the message names the file and the line or array), or they lack what is requested.
    """
    reading = Reading(features=features, **options)  # checks the options first
    text = os.fspath(spec)
    embedded = [name.lower() for name in embedded_names()]
    if text.lower() in embedded:
        reading.refuse("an embedded set", *OF_TABLES)
        return read_embedded(text, features, **options)
    path = Path(text).expanduser()
    if not text:
        raise DatasetError(f"the name of the data set is empty; {ACCEPTED}")
    _check_name(path)
    if text.startswith(PREFIX):
        return read_pyg_name(text, root, reading)
    if path.is_dir():
        return _read_folder(path, reading)
    if path.is_file() and path.suffix != ".py":
        return _read_file(path, reading)
    if is_spec(text):
        return call_factory(text, features, **options)
    if (name := find_in_collection(text, root)) is not None:
        reading.refuse("a set of the TU collection", *OF_TABLES)
        return read_collection(name, root, features, **options)
    if path.with_suffix(".py").is_file():
        module = ".".join(path.with_suffix("").parts)
        raise DatasetError(
            f"{text!r} is code, not data; name a function in it that returns graphs: "
            f"{module}:function"
        )
    if path.suffix or path.name != text:  # looks like a path
        meant = did_you_mean(path.name, _names_in(path.parent), ACCEPTED)
        raise DatasetError(f"{text!r}: no such file or folder; {meant}")
    names = dict.fromkeys([*embedded, *(name.lower() for name in collection_names())])
    near = difflib.get_close_matches(text, _names_in(path.parent))
    near += difflib.get_close_matches(text.lower(), names, cutoff=0.5)
    kinds = "" if near else f" ({ACCEPTED})"
    raise DatasetError(f"{unknown_name('data set', text, near or embedded)}{kinds}")


def pack_dataset(
    spec: str | os.PathLike[str],
    path: str | os.PathLike[str],
    features: Features = "auto",
    *,
    root: str | os.PathLike[str] = "data",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Write a graph set as a packed folder and open it; see `GraphSet.open`.

    Of `module:function` the graphs are taken one after another, so that a generator of PyG `Data`
    never lies in memory as a whole; other kinds of data are read first.

    Args:
        spec, features, root, options: See `load_dataset`.
        path: The folder to make.

    Raises:
        ValueError, DatasetError: See `load_dataset`; or there is something of that name.
    """
    text = os.fspath(spec)
    refuse_existing(Path(path))
    if is_spec(text) and not Path(text).exists() and not text.startswith(PREFIX):
        found = result_of(text)
        if _are_objects(found):
            return pack(found, path, _name_of(text), features, **options)
        graphs = _converted(found, text, features, **options)
    else:
        graphs = load_dataset(spec, features, root=root, **options)
    graphs.save(path)
    return GraphSet.open(path)


def call_factory(
    spec: str,
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Import a module, call one of its functions without arguments, and convert the result.

    The module may be installed or in the current directory. This is the only way of loading data
    that runs user code.

    Args:
        spec: `module:factory`; both may have dots.
        features, options: See `from_pyg`; not allowed if the function returns a `GraphSet`.

    Raises:
        DatasetError: The module or function does not exist, raises an exception, or returns neither
            a `GraphSet` nor PyG's `Data`, a list or a `Dataset` of them.
    """
    return _converted(result_of(spec), spec, features, **options)


def _are_objects(result: Any) -> bool:
    """Whether a function has returned several graphs that `pack` takes one after another."""
    several = isinstance(result, Iterable) and not hasattr(result, "edge_index")
    return several and not isinstance(result, GraphSet) and not is_networkx(result)


def _name_of(spec: str) -> str:
    """Return the name of the set that a function makes."""
    return spec.rpartition(":")[2].rpartition(".")[2]


def _converted(
    result: Any, spec: str, features: Features, **options: Unpack[ReadOptions]
) -> GraphSet:
    """Convert what a function has returned, see `call_factory`."""
    if isinstance(result, GraphSet):
        if replace(Reading(features=features, **options), encoding=None) != Reading():
            raise DatasetError(
                f"{spec} returns a GraphSet, whose features and task are made already: choose "
                "them where it is made"
            )
        return result
    name = _name_of(spec)
    if is_networkx(result):
        return from_networkx(result, name, Reading(features=features, **options))
    if not isinstance(result, Iterable) and not hasattr(result, "edge_index"):
        raise DatasetError(
            f"{spec} returns something of type {type(result).__name__}, expected a GraphSet, a "
            "list of PyG Data, a PyG Dataset, or NetworkX graphs"
        )
    return from_pyg(result, name, features, **options)


def result_of(spec: str) -> Any:
    """Import a function by its name, call it without arguments, and return the result.

    Raises:
        DatasetError: The module or function does not exist, or raises an exception.
    """
    try:
        factory = find(spec, "the graphs")
    except ValueError as error:
        raise DatasetError(str(error)) from error.__cause__
    try:
        with no_exit(spec):
            return factory()
    except ExitError as error:
        raise DatasetError(str(error)) from error
    except Exception as error:
        raise DatasetError(f"{spec} raised {one_line(error)}") from error


def _read_file(path: Path, reading: Reading) -> GraphSet:
    if path.match("*_*.txt") and is_tu_folder(path.parent):
        raise DatasetError(
            f"{path}: one file of a folder in TU format; give the folder, {path.parent}"
        )
    try:
        seems = what_it_seems(path)
        kind = None if seems.startswith(NO_DATA) else kind_of(path, reading)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    if kind is None or (seems and not kind.recognized):
        raise DatasetError(f"{path}: seems to be {seems} ({ACCEPTED})")
    return kind.load(path, reading)


def _names_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder, which need not exist."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _check_name(path: Path) -> None:
    """Refuse a name that is invalid in any file system."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise DatasetError(f"{str(path)[:40]}…: a name of {len(str(path))} letters") from None
    except ValueError:  # an invalid character
        raise DatasetError(f"{as_name(str(path))!r}: no name of a file; {ACCEPTED}") from None


def _read_folder(folder: Path, reading: Reading) -> GraphSet:
    if (kind := folder_kind(folder, reading)) is not None:
        return kind.load(folder, reading)
    if texts := sorted(path for path in folder.glob("*.txt*") if path.is_file()):
        raise DatasetError(
            f"{folder}: not a folder in TU format, for it has no *_A.txt; "
            f"if {texts[0].name} is a powerful-gnns text file, give its path"
        )
    if not any(folder.iterdir()):
        raise DatasetError(f"{folder}: the folder is empty; expected {_FOLDERS}")
    found = some(sorted(path.name for path in folder.iterdir()), few=6)
    raise DatasetError(f"{folder}: holds {found}; expected {_FOLDERS}")
