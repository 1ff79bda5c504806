"""Packs graphs that come one after another, in bounded memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.feature_columns import (
    Attributes,
    Columns,
    Encoding,
    Features,
    Labels,
    edge_columns_of,
    node_columns,
)
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.official_metrics import metric_note, metric_of, task_for
from graphnorms.data.onehot import OneHot
from graphnorms.data.packed_folder import About, FolderWriter, open_folder
from graphnorms.data.readers.edge_keys import EdgeNote, edge_notes
from graphnorms.data.readers.pyg_data import (
    has_indexed_split,
    hidden,
    indexed_split,
    num_nodes,
    raw_of_pyg,
)
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import OF_TABLES, Reading, ReadOptions
from graphnorms.data.text_format import count
from graphnorms.errors import DatasetError

_NODES: Final = 1 << 17
"""Nodes that are held at a time."""

_PARTS: Final = ("labels", "attributes", "edge_labels", "edge_attributes")


def pack(
    graphs: Iterable[Any],
    path: str | os.PathLike[str],
    name: str = "",
    features: Features = "auto",
    *,
    split: Tensor | Sequence[int] | None = None,
    metric: str = "",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Pack PyG `Data` that come one after another to a folder, and open it.

    The graphs are asked for once, and held some 100 000 nodes at a time; what is held of all are
    their sizes, targets and splits. The result is that of `from_pyg` on the list of them, with the
    same fingerprint. Which labels occur is known at the end, so the graphs lie on disk beside the
    folder meanwhile.

    Args:
        graphs: An iterable, e.g. a generator or a PyG `Dataset` on disk.
        path: The folder to make.
        name: Name of the set; by default that of the folder.
        features, split, metric, options: See `from_pyg`.

    Raises:
        DatasetError: See `from_pyg`; or there is something of the name of the folder.
    """
    reading = Reading(features=features, **options)
    reading.refuse("graphs of PyG", *OF_TABLES)
    name = name or Path(path).name
    metric = metric or (metric_of(graphs) if has_indexed_split(graphs) else "")
    reading = replace(reading, task=task_for(metric, reading.task))
    indexed = split is None and has_indexed_split(graphs)
    with FolderWriter(Path(path)) as writer:
        found = _Found(name, reading, masked=split is None and not indexed)
        stored = [found.store(items, writer.temporary) for items in found.parts(graphs)]
        whole = found.whole()
        if indexed:
            split = torch.from_numpy(indexed_split(name, graphs, found.items(whole)))
        if split is not None:
            given = torch.as_tensor(split).cpu().numpy()
            whole = replace(whole, split=found.of_kept(whole, given))
        whole = replace(whole, notes=found.notes(graphs, metric)).checked(reading)
        remarks: list[str] = []
        targets, task, parts, split_name = whole.items(reading, remarks)
        columns, edge_columns, words = found.columns()
        encoding = Encoding(nodes=columns, edges=edge_columns, task=task)
        encoded = replace(reading, encoding=encoding, split_by="", split_file="")
        counted: Counter[EdgeNote] = Counter()
        for part, file in enumerate(stored):
            last = found.restored(part, file).pack(encoded, counted)
            writer.append(last)
            file.unlink()
        about = replace(
            About.of(last),
            features=words,
            split_name="" if parts is None else split_name or "given",
            metric=metric,
            notes=(*whole.notes, *edge_notes(counted), *remarks),
        )
        writer.finish(about, y=targets, split=parts)
    return open_folder(path)


class _Found:
    """What is known of the graphs that have come so far.

    Args:
        name: Of the set.
        reading: The options.
        masked: Whether masks of nodes are the split.

    Attributes:
        example: The first graph.
    """

    def __init__(self, name: str, reading: Reading, *, masked: bool) -> None:
        self._name, self._reading, self._masked = name, reading, masked
        self.example: Any = None
        self._number = self._absent = self._stored = 0
        self._sizes: list[int] = []  # of all graphs, also of those without nodes
        self._raw: list[RawGraphs] = []  # with targets, splits and texts alone
        self._degrees: set[int] = set()
        self._of_nodes, self._of_edges = _Values("x"), _Values("edge_attr")

    def parts(self, graphs: Iterable[Any]) -> Iterator[list[Any]]:
        """Group the graphs that have nodes.

        Raises:
            DatasetError: One has none, and must not be dropped; or there are no graphs.
        """
        part: list[Any] = []
        nodes = 0
        for item in graphs:
            size = self._size(item)
            if size:
                part.append(item)
                nodes += size
            if nodes >= _NODES:
                yield part
                part, nodes = [], 0
        if part:
            yield part
        if not self._stored:
            raise DatasetError(f"{self._name}: there are no graphs, expected at least one PyG Data")

    def _size(self, item: Any) -> int:
        position, self._number = self._number, self._number + 1
        where = f"{self._name}, graph {position}"
        if item is None and self._reading.drop_empty:
            self._absent += 1
            return 0
        size = 0 if item is None else num_nodes(where, item)
        if not size and not self._reading.drop_empty:
            what = "is None" if item is None else "has no nodes"
            raise DatasetError(f"{where} {what}; drop_empty (--drop-empty) leaves such graphs out")
        if self.example is None:
            self.example = item
        self._sizes.append(size)
        return size

    def store(self, items: Sequence[Any], folder: Path) -> Path:
        """Note what some graphs have, and write them to a file."""
        raw = raw_of_pyg(self._name, items, self._reading, masked=self._masked, first=self._stored)
        self._stored += len(items)
        raw = raw.with_numbers(self._reading)
        where = f"{self._name}, graph {raw.first}"
        self._of_nodes.add(raw.labels, raw.attributes, where)
        self._of_edges.add(raw.edge_labels, raw.edge_attributes, where)
        if self._reading.needs("degree") and raw.attributes is None:
            self._degrees.update(np.unique(raw.degrees(self._reading)).tolist())
        path = folder / f"part-{len(self._raw)}.npz"
        arrays: dict[str, Any] = {"ptr": raw.ptr, "source": raw.source, "target": raw.target}
        for part in _PARTS:
            values = getattr(raw, part)
            if isinstance(values, OneHot):
                arrays[f"{part}_width"] = values.width
                values = values.columns.numpy()
            if values is not None:
                arrays[part] = values
        np.savez(path, **arrays)
        nothing = np.empty(0, np.int64)
        cleared: dict[str, Any] = dict.fromkeys(_PARTS)
        smiles = raw.smiles if self._reading.split_by else None
        self._raw.append(replace(raw, source=nothing, target=nothing, smiles=smiles, **cleared))
        return path

    def notes(self, graphs: Any, metric: str) -> tuple[str, ...]:
        """Say what was left out of the graphs, and what a user should be told of them."""
        notes = []
        if self._absent:
            share = f"{self._absent} of {count(self._number, 'item')}"
            notes.append(f"{share} left out, for they are None")
        notes += [*hidden(graphs, self.example), *metric_note(metric)]
        if empty := self._sizes.count(0):
            share = f"{empty} of {count(len(self._sizes), 'graph')}"
            notes.append(f"{share} left out, for they have no nodes")
        return tuple(notes)

    def whole(self) -> RawGraphs:
        """Return all graphs that have nodes, without edges and features.

        Raises:
            DatasetError: Some have targets for the graph, others for nodes.
        """
        first = self._raw[0]
        for raw in self._raw:
            if raw.level != first.level or raw.y.shape[1:] != first.y.shape[1:]:
                raise DatasetError(
                    f"{self._name}, graph {raw.first}: the targets are of another shape, or of "
                    f"{raw.level}s instead of {first.level}s, than those of graph {first.first}"
                )
        every = len(self._raw)
        masks = [raw.split for raw in self._raw if raw.split is not None]
        smiles = [raw.smiles for raw in self._raw if raw.smiles is not None]
        sizes = np.array(self._sizes)
        kept = np.flatnonzero(sizes)
        dropped = first.level == "graph" and len(kept) < len(sizes)
        return replace(
            first,
            ptr=offsets(sizes[kept]),
            y=np.concatenate([raw.y for raw in self._raw]),
            split=np.concatenate(masks) if len(masks) == every else None,
            smiles=[text for part in smiles for text in part] if len(smiles) == every else None,
            rows=kept if dropped else None,  # a file of splits counts those without nodes, too
            num_rows=len(sizes) if dropped else 0,
        )

    def items(self, whole: RawGraphs) -> int:
        """Count the items that a given split has: graphs without nodes count."""
        return len(whole.y) if whole.rows is None else whole.num_rows

    def of_kept(self, whole: RawGraphs, split: NDArray[Any]) -> NDArray[Any]:
        """Return the parts of the graphs that have nodes, given those of all."""
        if whole.rows is None or len(split) != whole.num_rows:
            return split
        return split[whole.rows]

    def columns(self) -> tuple[Columns, Columns | None, str]:
        """Choose the columns of nodes and edges, and say what the nodes have.

        Raises:
            DatasetError: The set does not have what is requested.
        """
        labels, attributes = self._of_nodes.samples()
        degree = np.array(sorted(self._degrees), dtype=np.int64)
        columns, words = node_columns(
            self._reading.features, degree=degree, labels=labels, attributes=attributes
        )
        labels, attributes = self._of_edges.samples()
        return (
            columns,
            edge_columns_of(self._reading.edge_features, labels=labels, attributes=attributes),
            words,
        )

    def restored(self, part: int, path: Path) -> RawGraphs:
        """Read what `store` has written."""
        raw = self._raw[part]
        with np.load(path, allow_pickle=False) as arrays:
            found: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        for name, values in zip(_PARTS, (self._of_nodes,) * 2 + (self._of_edges,) * 2, strict=True):
            width = found.pop(f"{name}_width", None)
            if width is not None:
                found[name] = OneHot(torch.from_numpy(found[name]), int(width))
            if name.endswith("labels") and values.are_attributes and name in found:
                given = found.pop(name)
                dense = given.dense().numpy() if isinstance(given, OneHot) else given
                found[name.replace("labels", "attributes")] = dense.astype(np.float32)
        return replace(raw, **found)


class _Values:
    """What features of nodes or edges have been, part by part.

    Integers in one part and other numbers in another are all attributes, and so are one-hot numbers
    in one part and others in another, as in `from_pyg`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._kinds: set[str] = set()
        self._width: int | None = None
        self._values: list[set[Any]] = []

    def add(self, labels: Labels | None, attributes: Attributes | None, where: str) -> None:
        """Note the features of one part.

        Raises:
            DatasetError: They have other columns than those before.
        """
        given = labels if attributes is None else attributes
        width = 0 if given is None else given.shape[1]
        if self._width is None:
            self._width = width
        if width != self._width:
            raise DatasetError(
                f"{where}: {self._name} of {count(width, 'column')}, and {self._width} before; all "
                "graphs need the same features"
            )
        kind = "labels" if labels is not None else "attributes" if given is not None else "none"
        self._kinds.add("one-hot" if isinstance(labels, OneHot) else kind)
        if labels is not None and not isinstance(labels, OneHot):
            self._values = self._values or [set() for _ in labels.T]
            for values, column in zip(self._values, labels.T, strict=True):
                values.update(np.unique(column).tolist())

    @property
    def are_attributes(self) -> bool:
        """Whether they are numbers and no labels."""
        return len(self._kinds - {"none"}) > 1 or "attributes" in self._kinds

    def samples(self) -> tuple[Labels | None, Attributes | None]:
        """Return a few rows of labels that have every value, or of attributes."""
        width = self._width or 0
        if not width:
            return None, None
        if self.are_attributes:
            return None, np.zeros((1, width), np.float32)
        if "one-hot" in self._kinds:
            return OneHot.from_columns(torch.zeros(1, 1, dtype=torch.int64), width), None
        longest = max(map(len, self._values))
        rows = [sorted(values) for values in self._values]
        return np.array([row + row[:1] * (longest - len(row)) for row in rows]).T, None
