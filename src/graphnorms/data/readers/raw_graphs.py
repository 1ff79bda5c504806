"""The raw graphs of a reader, and their packing to a `GraphSet`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.describe import PARTS, scaffold_words
from graphnorms.data.feature_columns import (
    Attributes,
    Columns,
    Labels,
    as_float32,
    edge_columns_of,
    node_columns,
)
from graphnorms.data.graphset import GraphSet
from graphnorms.data.graphset_checks import check_split
from graphnorms.data.integer_arrays import Integers, offsets
from graphnorms.data.onehot import OneHot
from graphnorms.data.readers.edge_keys import (
    EdgeNote,
    csr_of,
    edge_keys,
    edge_notes,
    reversed_keys,
    rows_of_keys,
    sorted_edges,
)
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.scaffolds import ScaffoldSplit
from graphnorms.data.split_files import read_split_file
from graphnorms.data.tasks import ClassOrder, Task, make_targets
from graphnorms.data.text_format import count, some
from graphnorms.errors import DatasetError


@dataclass(frozen=True, eq=False, kw_only=True)
class RawGraphs:
    """Graphs from a reader, with valid ids.

    Args:
        name: Name of the data set.
        ptr: Offsets of the graphs' nodes, `(graphs + 1,)`.
        source, target: The edges source→target in any order, as node ids over the whole set,
            `(edges,)` each.
        y: The original targets, see `make_targets`.
        labels: Node labels, `(nodes, columns)`, or None.
        attributes: Node attributes, `(nodes, columns)`, or None.
        edge_labels, edge_attributes: The same for the edges, in the order of `source`.
        level: Whether `"graph"` or `"node"` has the targets.
        target_names, unit, unknown: Information on the targets, see `make_targets` and `Task`.
        classes: The order in which classes are numbered from 0.
        split: The part of each item, `(items,)`, or of each in several splits,
            `(items, splits)`, or None.
        split_name: Origin of the split.
        smiles: SMILES of each graph, for molecules.
        metric: The official metric of the set, if known.
        rows: Row of each graph in the file, ascending, if rows were left out.
        num_rows: Number of rows of the file, with `rows`.
        loops, repeats: Whether to keep self loops and repeated edges, unless `Reading` decides.
        first: Number of the first graph in messages.
        notes: Remarks of the reader.
        file: The file or folder, for messages.
    """

    name: str
    ptr: Integers
    source: Integers
    target: Integers
    y: NDArray[Any]
    labels: Labels | None = None
    attributes: Attributes | None = None
    edge_labels: Labels | None = None
    edge_attributes: Attributes | None = None
    level: str = "graph"
    target_names: tuple[str, ...] = ()
    unit: str = ""
    unknown: int | None = None
    classes: ClassOrder = "ascending"
    split: NDArray[Any] | None = None
    split_name: str = ""
    smiles: Sequence[str] | None = None
    metric: str = ""
    rows: Integers | None = None
    num_rows: int = 0
    loops: bool = True
    repeats: bool = True
    first: int = 0
    notes: tuple[str, ...] = ()
    file: Path | None = None

    def pack(self, reading: Reading, counted: Counter[EdgeNote] | None = None) -> GraphSet:
        """Pack the graphs, with the neighbours of each node in ascending order.

        Tensors and fingerprint do not depend on the order of edges in the file (except for the
        features of parallel edges).

        Args:
            reading: The options.
            counted: Receives the numbers of loops and repeated edges, in place of the notes.

        Raises:
            DatasetError: The graphs lack what is requested.
        """
        try:
            return self.checked(reading)._packed(reading, counted)
        except DatasetError as error:
            file = f"{self.file}: " if self.file else ""
            raise DatasetError(f"{file}data set {self.name!r}: {error}") from None

    def checked(self, reading: Reading) -> RawGraphs:
        """Return the graphs that have nodes, with a valid split if there is one.

        Raises:
            DatasetError: The split is invalid, or graphs without nodes must not be dropped.
        """
        return self._with_given_split(reading)._without_empty(reading)

    def _with_given_split(self, reading: Reading) -> RawGraphs:
        """Return the graphs with a valid split, or without one if a model will predict the
        targets."""
        if reading.encoding is not None:
            return replace(self, split=None)
        if reading.split_file:
            number = len(self.y) if self.rows is None else self.num_rows
            split = read_split_file(reading.split_file, number, f"{self.level}s")
            split = split if self.rows is None else split[self.rows]
            name, left = (
                Path(reading.split_file).name,
                int((split.reshape(len(split), -1) < 0).all(1).sum()),
            )
            unused = f"{left} of {count(len(split), self.level)} in no part of {name}"
            notes = (*self.notes, unused) if left else self.notes
            return replace(self, split=split, split_name=name, notes=notes)
        if self.split is None:
            return self
        try:
            check_split(torch.from_numpy(self.split), len(self.y))
        except ValueError as error:
            raise DatasetError(str(error)) from None
        return replace(self, split=self.split.astype(np.int8))

    def _without_empty(self, reading: Reading) -> RawGraphs:
        """Return the graphs that have nodes; an error if others must not be dropped."""
        sizes = np.diff(self.ptr)
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            return self
        share = f"{len(empty)} of {count(len(sizes), 'graph')}"
        if not reading.drop_empty:
            raise DatasetError(
                f"{share} {'has' if len(empty) == 1 else 'have'} no nodes "
                f"({some(empty + self.first)}); drop_empty (--drop-empty) leaves them out"
            )
        if len(empty) == len(sizes):
            raise DatasetError("no graph has any nodes")
        kept = sizes > 0
        of_graphs = self.level == "graph"
        return replace(
            self,
            ptr=offsets(sizes[kept]),
            y=self.y[kept] if of_graphs and len(self.y) else self.y,
            smiles=None if self.smiles is None else list(compress(self.smiles, kept)),
            rows=None if self.rows is None else self.rows[kept],
            split=self.split[kept] if of_graphs and self.split is not None else self.split,
            notes=(*self.notes, f"{share} left out, for they have no nodes"),
        )

    def _packed(self, reading: Reading, counted: Counter[EdgeNote] | None = None) -> GraphSet:
        first = np.repeat(self.ptr[:-1], np.diff(self.ptr))  # (nodes,), the graph's first node
        notes = [*self.notes]
        edge_columns, edge_features = self._edge_features(reading)
        found: Counter[EdgeNote] = Counter() if counted is None else counted
        keys, places = self._sorted_edges(reading, found, placed=edge_features is not None)
        notes += edge_notes(found) if counted is None else []
        if edge_features is not None:
            edge_features = edge_features.index_select(0, torch.from_numpy(places))
        edge_ptr, edge_index = csr_of(keys, first)
        reverse = reversed_keys(keys)
        transpose = (None, None) if np.array_equal(keys, reverse) else csr_of(reverse, first)
        columns, x, description = self._features(reading, edge_ptr.diff().numpy())
        y, task, split, split_name = self.items(reading, notes)
        return GraphSet(
            name=self.name,
            x=x,
            ptr=torch.from_numpy(self.ptr),
            edge_ptr=edge_ptr,
            edge_index=edge_index,
            y=y,
            task=task,
            features=description,
            columns=columns,
            edge_features=edge_features,
            edge_columns=edge_columns,
            split=split,
            split_name=split_name,
            transpose_ptr=transpose[0],
            transpose_index=transpose[1],
            metric=self.metric,
            source_rows=None if self.rows is None else torch.from_numpy(self.rows),
            notes=tuple(notes),
            validate=False,
        )

    def items(self, reading: Reading, notes: list[str]) -> tuple[Tensor, Task, Tensor | None, str]:
        """Return the targets, the task, the split if there is one, and its name.

        Args:
            reading: The options.
            notes: Receives remarks for the user.

        Raises:
            DatasetError: The targets or the split are not as requested.
        """
        y, task = self._targets(reading, notes)
        split, split_name = self.split, self.split_name
        if reading.split_by:
            split, split_name = self._split_by(reading.split_by, y, task, notes), reading.split_by
        return y, task, None if split is None else torch.from_numpy(split), split_name

    def _features(self, reading: Reading, degree: Integers) -> tuple[Columns, Tensor | OneHot, str]:
        """Return the columns of the node features, the features, and a description."""
        parts: dict[str, Any] = {
            "labels": self.labels,
            "attributes": self._numbers(reading, "node"),
            "degree": degree,
        }
        encoding = reading.encoding
        if encoding is not None and encoding.nodes is not None:
            columns, words = encoding.nodes, "as the model has them"
        else:
            columns, words = node_columns(reading.features, **parts)
        return columns, columns.encode(len(degree), **parts), words

    def _edge_features(self, reading: Reading) -> tuple[Columns | None, Tensor | OneHot | None]:
        """Return the columns of the edge features and the features, if any."""
        parts: dict[str, Any] = {
            "labels": self.edge_labels,
            "attributes": self._numbers(reading, "edge"),
        }
        encoding = reading.encoding
        if encoding is not None and encoding.nodes is not None:
            columns = encoding.edges
        else:
            columns = edge_columns_of(reading.edge_features, **parts)
        if columns is None:
            return None, None
        return columns, columns.encode(len(self.source), **parts)

    def _targets(self, reading: Reading, notes: list[str]) -> tuple[Tensor, Task]:
        """Return the targets; all are missing if a model will predict them."""
        if reading.encoding is not None:
            task = reading.encoding.task
            items = len(self.ptr) - 1 if task.level == "graph" else int(self.ptr[-1])
            return reading.encoding.unknown(items), task
        y, task = make_targets(
            reading.task,
            y=self.y,
            level=self.level,
            names=self.target_names,
            unknown=self.unknown,
            classes=self.classes,
            notes=notes,
        )
        if task.kind == "regression":
            task = replace(task, unit=self.unit)
        if reading.drop_rare:
            y, task = _without_rare(y, task, reading.drop_rare, notes)
        return y, task

    def _split_by(self, name: str, y: Tensor, task: Task, notes: list[str]) -> NDArray[np.int8]:
        """Split the molecules by a rule, and add a note on the parts."""
        if self.smiles is None or task.level != "graph":
            raise DatasetError(
                f"split {name} takes the SMILES of each graph: attribute smiles of PyG's Data, or "
                "array smiles of a .npz file"
            )
        rule = ScaffoldSplit.named(name)
        scaffolds = rule.scaffolds(self.smiles)
        split = rule.divide(scaffolds)
        columns = split.reshape(len(split), -1)  # (molecules, splits)
        for column, part in itertools.product(columns.T, range(3)):
            chosen = torch.from_numpy(column == part)
            if not chosen.any() or (task.kind != "regression" and _of_one_class(y[chosen])):
                has = "one class only" if chosen.any() else "no molecules"
                raise DatasetError(
                    f"split {name}: the {PARTS[part]} part has {has}, by which nothing can be "
                    "scored; choose another rule or seed"
                )
        several = "of the first, " if columns.shape[1] > 1 else ""
        words = scaffold_words(columns[:, 0], scaffolds, y, task)
        notes.append(f"{name}, {several}{words}")
        return split

    def with_numbers(self, reading: Reading) -> RawGraphs:
        """Return the graphs with their attributes as float32.

        Raises:
            DatasetError: One is not finite.
        """
        return replace(
            self,
            attributes=self._numbers(reading, "node"),
            edge_attributes=self._numbers(reading, "edge"),
        )

    def _numbers(self, reading: Reading, noun: str) -> NDArray[Any] | None:
        """Return the attributes of nodes or edges; check that used ones are finite."""
        values = self.attributes if noun == "node" else self.edge_attributes
        if values is None or not reading.needs("attributes", of_edges=noun == "edge"):
            return values

        def where(row: int) -> str:
            node = row if noun == "node" else int(self.source[row])
            graph = int(np.searchsorted(self.ptr, node, side="right")) - 1
            within = f"node {node - self.ptr[graph]}"
            if noun == "edge":
                within = f"the edge from {within} to {self.target[row] - self.ptr[graph]}"
            return f"{within} (from 0) of graph {graph + self.first}"

        return as_float32(values, where)

    def degrees(self, reading: Reading) -> Integers:
        """Return the in-degree of each node that it will have when packed, `(nodes,)`."""
        keys, _ = self._sorted_edges(reading, Counter(), placed=False)
        return np.bincount(rows_of_keys(keys), minlength=int(self.ptr[-1]))

    def _sorted_edges(
        self, reading: Reading, counted: Counter[EdgeNote], *, placed: bool
    ) -> tuple[Integers, Integers]:
        """See `sorted_edges`."""
        loops = self.loops if reading.keep_loops is None else reading.keep_loops
        repeats = self.repeats if reading.keep_repeats is None else reading.keep_repeats
        keys = edge_keys(self.target, self.source)
        return sorted_edges(keys, counted, loops=loops, repeats=repeats, placed=placed)


def _of_one_class(y: Tensor) -> bool:
    """Whether some items have a single class, or a single answer to each question."""
    # Missing targets are -1 or NaN.
    return all(len(column[column >= 0].unique()) < 2 for column in y.view(len(y), -1).T)


def _without_rare(y: Tensor, task: Task, least: int, notes: list[str]) -> tuple[Tensor, Task]:
    """Drop classes with fewer than `least` items; their items have no target then."""
    if task.kind != "classification":
        raise DatasetError(f"drop_rare is {least}, but the task is {task}")
    counts = torch.bincount(y + 1, minlength=task.outputs + 1)[1:]  # (classes,)
    rare = counts < least
    if rare.all():
        raise DatasetError(f"no class has {count(least, task.level)} or more")
    if rare.any():
        named = [name for name, is_rare in zip(task.targets, rare.tolist(), strict=True) if is_rare]
        notes.append(
            f"{count(len(named), 'class', 'classes')} of fewer than {least} {task.level}s left "
            f"out ({some(named)}): {count(int(counts[rare].sum()), task.level)} without a target"
        )
    number = torch.where(rare, -1, (~rare).cumsum(0) - 1)  # (classes,)
    targets = tuple(
        name for name, is_rare in zip(task.targets, rare.tolist(), strict=True) if not is_rare
    )
    return torch.where(y < 0, -1, number[y.clamp(min=0)]), replace(task, targets=targets)
