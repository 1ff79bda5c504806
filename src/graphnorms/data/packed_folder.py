"""Packed folders: a graph set on disk, written piece by piece and read through mapped files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor

from graphnorms.data.array_files import ArrayFolder, GrowingFile
from graphnorms.data.atoms import Atoms
from graphnorms.data.batch import rows_of
from graphnorms.data.feature_columns import Columns
from graphnorms.data.fingerprint import fingerprint_of
from graphnorms.data.graphset import GraphSet
from graphnorms.data.graphset_checks import check_graph_set, check_offsets
from graphnorms.data.onehot import OneHot
from graphnorms.data.tasks import Task
from graphnorms.errors import DatasetError
from graphnorms.files import sync_folder

INDEX: Final = "graphset.json"
"""The file that makes a folder a packed set."""

FORMAT: Final = 1

_OF_GRAPHS: Final = ("ptr", "edge_bounds", "y", "split", "source_rows")
"""Arrays that are read whole: numbers for each graph, or the targets."""

_BY_EDGE: Final = ("edge_index", "edge_features", "transpose_index", "transpose_order", "shifts")
"""Arrays with a row for each edge."""

_OF_ATOMS: Final = ("z", "pos", "forces", "shifts")

_ARRAYS: Final = {*_OF_GRAPHS, *_BY_EDGE, *_OF_ATOMS, "x", "edge_ptr", "transpose_ptr"}


def is_packed_folder(path: Path) -> bool:
    """Whether a folder holds a packed set."""
    return (path / INDEX).is_file()


def refuse_existing(path: Path) -> None:
    """Refuse a name that is taken.

    Raises:
        DatasetError: There is something of that name.
    """
    if path.exists():
        raise DatasetError(f"{path} exists; remove it, or give another name")


def save_folder(graphs: GraphSet, path: str | os.PathLike[str]) -> None:
    """Write a graph set as a packed folder, see `GraphSet.save`."""
    with FolderWriter(Path(path)) as writer:
        writer.append(graphs)
        writer.finish(About.of(graphs), y=graphs.y, split=graphs.split, rows=graphs.source_rows)


def open_folder(
    path: str | os.PathLike[str], *, mapped: bool = True, verify: bool = False
) -> GraphSet:
    """Open a packed folder, see `GraphSet.open`."""
    folder = Path(path)
    index = _read_index(folder)
    about = About.read(index)
    stored: Mapping[str, Mapping[str, Any]] = index["arrays"]
    try:
        files = ArrayFolder(folder, stored, _OF_GRAPHS if mapped else tuple(stored), _BY_EDGE)
        graphs = _assembled(files.tensors, about, files if mapped else None)
        # A single graph is read whole; of several, a minibatch checks the edges that it gathers.
        check_graph_set(graphs, contents=not mapped or len(graphs) == 1)
        bounds = files.tensors["edge_bounds"]
        check_offsets("edge_bounds", bounds, len(graphs), "graphs", graphs.num_edges, "edges")
        if about.columns is not None and about.columns.width != graphs.num_features:
            raise ValueError(f"x has {graphs.num_features} columns, expected {about.columns.width}")
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        faults = {KeyError: f"no array {error}", TypeError: f"{INDEX} is damaged: {error}"}
        fault = faults.get(type(error), str(error))
        raise DatasetError(f"{folder}: {fault}; pack the set again") from None
    if verify and (found := fingerprint_of(graphs)) != index["fingerprint"]:
        raise DatasetError(
            f"{folder}: the arrays have the fingerprint {found}, expected {index['fingerprint']}: "
            "a file was changed; pack the set again"
        )
    graphs.know(
        fingerprint=index["fingerprint"],
        edge_bounds=bounds,
        transpose_order=files.tensors.get("transpose_order"),
    )
    return graphs


@dataclass(frozen=True, kw_only=True)
class About:
    """What a packed folder says of its set beside the arrays; see `GraphSet`.

    Args:
        x_width, edge_features_width: Widths of one-hot features, whose columns are kept.
    """

    name: str
    task: Task
    features: str
    columns: Columns | None = None
    edge_columns: Columns | None = None
    x_width: int | None = None
    edge_features_width: int | None = None
    split_name: str = ""
    metric: str = ""
    notes: tuple[str, ...] = ()
    cutoff: float | None = None

    @classmethod
    def of(cls, graphs: GraphSet) -> Self:
        """Return what a set says."""
        return cls(
            name=graphs.name,
            task=graphs.task,
            features=graphs.features,
            columns=graphs.columns,
            edge_columns=graphs.edge_columns,
            x_width=_width(graphs.kept_x),
            edge_features_width=_width(graphs.kept_edge_features),
            split_name=graphs.split_name,
            metric=graphs.metric,
            notes=graphs.notes,
            cutoff=None if graphs.atoms is None else graphs.atoms.cutoff,
        )

    @classmethod
    def read(cls, index: Mapping[str, Any]) -> Self:
        """Invert `asdict` after a round trip through JSON."""
        found = {name: index[name] for name in cls.__dataclass_fields__}
        task = found["task"]
        columns = {
            name: None if found[name] is None else Columns.read(found[name])
            for name in ("columns", "edge_columns")
        }
        made = {
            "task": Task(**{**task, "targets": tuple(task["targets"])}),
            "notes": tuple(found["notes"]),
        }
        return cls(**{**found, **columns, **made})


class FolderWriter:
    """Writes a packed folder in one pass: graph sets are appended, and the last step names it.

    Until then everything lies in a folder of a temporary name, which a failure removes.

    Args:
        path: The folder to make.

    Raises:
        DatasetError: There is something of that name.
    """

    def __init__(self, path: Path) -> None:
        refuse_existing(path)
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self.graphs = self.nodes = self.edges = 0
        self._files: dict[str, GrowingFile] = {}
        self._symmetric = True

    def __enter__(self) -> Self:
        self.temporary.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.abandon()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def append(self, graphs: GraphSet) -> None:
        """Append nodes, edges and features of some graphs, encoded as those before.

        Raises:
            OSError: They cannot be written.
        """
        graphs = graphs.to("cpu")
        if self._symmetric and not graphs.symmetric:
            self._write_transpose_so_far()
        self._append_offsets("ptr", graphs.ptr, self.nodes)
        self._append_offsets("edge_bounds", graphs.edge_bounds, self.edges)
        self._append_offsets("edge_ptr", graphs.edge_ptr, self.edges)
        self._append("edge_index", graphs.edge_index)
        if not self._symmetric:
            self._append_offsets("transpose_ptr", graphs.transpose_ptr, self.edges)
            self._append("transpose_index", graphs.transpose_index)
        self._append("x", rows_of(graphs.kept_x))
        if graphs.kept_edge_features is not None:
            self._append("edge_features", rows_of(graphs.kept_edge_features))
            self._append("transpose_order", graphs.transpose_order + self.edges)
        if graphs.atoms is not None:
            for name, tensor in graphs.atoms.tensors().items():
                self._append(name, tensor)
        self.graphs += len(graphs)
        self.nodes += graphs.num_nodes
        self.edges += graphs.num_edges

    def finish(
        self, about: About, *, y: Tensor, split: Tensor | None, rows: Tensor | None = None
    ) -> None:
        """Add the targets, write the index, and give the folder its name.

        Args:
            about: What there is to say of the set.
            y, split: Of all items, as in `GraphSet`.
            rows: `source_rows` of the set.
        """
        for name, tensor in (("y", y), ("split", split), ("source_rows", rows)):
            if tensor is not None:
                self._append(name, tensor.cpu())
        for file in self._files.values():
            file.close()
        stored = {
            name: {"dtype": file.dtype.str, "shape": [file.rows, *file.shape]}
            for name, file in self._files.items()
        }
        files = ArrayFolder(self.temporary, stored, _OF_GRAPHS, _BY_EDGE)
        graphs = _assembled(files.tensors, about, files)
        sizes = {"graphs": len(graphs), "nodes": graphs.num_nodes, "edges": graphs.num_edges}
        index = {
            "format": FORMAT,
            **asdict(about),
            **sizes,
            "fingerprint": fingerprint_of(graphs),
            "arrays": stored,
        }
        with (self.temporary / INDEX).open("w", encoding="utf-8") as text:
            json.dump(index, text, indent=1, allow_nan=False)
            text.flush()
            os.fsync(text.fileno())
        sync_folder(self.temporary)
        refuse_existing(self.path)  # another process may have written it since
        os.rename(self.temporary, self.path)
        sync_folder(self.path.parent)

    def _append_offsets(self, name: str, offsets: Tensor, base: int) -> None:
        begin = 1 if name in self._files else 0
        self._append(name, offsets[begin:] + base if base else offsets[begin:])

    def _append(self, name: str, rows: Tensor) -> None:
        if name not in self._files:
            dtype = torch.empty(0, dtype=rows.dtype).numpy().dtype
            path = self.temporary / f"{name}.npy"
            self._files[name] = GrowingFile(path, dtype, tuple(rows.shape[1:]))
        self._files[name].append(rows)

    def _write_transpose_so_far(self) -> None:
        """Write the edges of the symmetric graphs before the first that is not, as they are."""
        self._symmetric = False
        for name in ("ptr", "index"):
            if f"edge_{name}" in self._files:
                copy = self._files[f"edge_{name}"].copy(self.temporary / f"transpose_{name}.npy")
                self._files[f"transpose_{name}"] = copy


def _read_index(folder: Path) -> Mapping[str, Any]:
    path = folder / INDEX
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise DatasetError(
                f"{path}: of format {index['format']}, expected {FORMAT}; pack the set again"
            )
        About.read(index)
        if not isinstance(index["fingerprint"], str) or not index["arrays"].keys() <= _ARRAYS:
            raise TypeError
        for stored in index["arrays"].values():
            if stored.keys() != {"dtype", "shape"}:
                raise TypeError
    except OSError as error:
        raise DatasetError(
            f"{folder}: no packed set, for {INDEX} cannot be read: {error.strerror or error}"
        ) from None
    except DatasetError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DatasetError(f"{path}: not the index of a packed set; pack the set again") from None
    return index


def _assembled(tensors: Mapping[str, Tensor], about: About, files: ArrayFolder | None) -> GraphSet:
    """Make the set of its arrays, without a check of any."""
    atoms = None
    if about.cutoff is not None:
        parts = {name: tensors[name] for name in _OF_ATOMS if name != "shifts" or name in tensors}
        atoms = Atoms(**parts, cutoff=about.cutoff)
    edge_features = tensors.get("edge_features")
    return GraphSet(
        name=about.name,
        x=_features(tensors["x"], about.x_width),
        ptr=tensors["ptr"],
        edge_ptr=tensors["edge_ptr"],
        edge_index=tensors["edge_index"],
        transpose_ptr=tensors.get("transpose_ptr"),
        transpose_index=tensors.get("transpose_index"),
        y=tensors["y"],
        task=about.task,
        features=about.features,
        columns=about.columns,
        edge_features=None
        if edge_features is None
        else _features(edge_features, about.edge_features_width),
        edge_columns=about.edge_columns,
        split=tensors.get("split"),
        split_name=about.split_name,
        metric=about.metric,
        source_rows=tensors.get("source_rows"),
        notes=about.notes,
        atoms=atoms,
        files=files,
        validate=False,
    )


def _features(rows: Tensor, width: int | None) -> Tensor | OneHot:
    return rows if width is None else OneHot(rows, width)


def _width(features: Tensor | OneHot | None) -> int | None:
    return features.width if isinstance(features, OneHot) else None
