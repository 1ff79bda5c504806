"""What the readers find in a file, before features and targets are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.features import (
    Attributes,
    EdgeFeatures,
    Features,
    Labels,
    make_edge_features,
    make_features,
)
from graphnorms.data.graphset import GraphSet
from graphnorms.data.onehot import OneHot
from graphnorms.data.targets import ClassOrder, TaskKind, make_targets

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RawGraphs:
    """Graphs as a reader delivers them, checked by it: the ids are right, no graph is empty.

    Args:
        name: The data set.
        ptr: Where each graph's nodes begin, `(graphs + 1,)`.
        source, target: The edges source→target in any order, as node ids through the whole
            set, `(edges,)` each.
        y: Targets as the file has them, see `make_targets`.
        labels: Node labels, `(nodes, columns)`, or None.
        attributes: Node attributes, `(nodes, columns)`, or None.
        edge_labels, edge_attributes: The same of the edges, in the order of `source`.
        level: Whether `"graph"` or `"node"` has the targets.
        target_names, unit, unknown: What is known of the targets, see `make_targets`.
        split: The part of each item, `(items,)`, or None.
        split_name: What made the split.
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
    split: NDArray[np.int8] | None = None
    split_name: str = ""

    def pack(
        self,
        features: Features,
        *,
        task: TaskKind = "auto",
        edge_features: EdgeFeatures = "auto",
        classes: ClassOrder = "ascending",
    ) -> GraphSet:
        """Pack the graphs, the neighbours of each node in ascending order.

        The same graphs give the same tensors, and so the same fingerprint, in whatever order
        the file lists their edges (but for the features of parallel edges, which keep it).

        Args:
            features: What the features are made of, see `make_features`.
            task: What the targets are, see `make_targets`.
            edge_features: What the edge features are made of, see `make_edge_features`.
            classes: In which order the classes are numbered from 0.

        Raises:
            DatasetError: The graphs do not have what is asked for.
        """
        num_nodes = int(self.ptr[-1])
        first = np.repeat(self.ptr[:-1], np.diff(self.ptr))  # (nodes,), the graph's first node
        edge_labels, edge_attributes = self.edge_labels, self.edge_attributes
        keys = self.target * num_nodes + self.source  # (edges,)
        if edge_labels is not None or edge_attributes is not None:
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            edge_labels, edge_attributes = (
                _rows(values, order) for values in (edge_labels, edge_attributes)
            )
        else:
            keys = np.sort(keys)
        transpose_keys = np.sort(self.source * num_nodes + self.target)
        symmetric = np.array_equal(keys, transpose_keys)
        ptr, index = _csr(keys, first, num_nodes)
        transpose = _csr(transpose_keys, first, num_nodes)
        x, description = make_features(
            features,
            name=self.name,
            degree=np.diff(ptr),
            labels=self.labels,
            attributes=self.attributes,
        )
        y, made_task = make_targets(
            task,
            name=self.name,
            y=self.y,
            level=self.level,
            names=self.target_names,
            unit=self.unit,
            unknown=self.unknown,
            classes=classes,
        )
        return GraphSet(
            name=self.name,
            x=x,
            ptr=torch.from_numpy(self.ptr),
            edge_ptr=torch.from_numpy(ptr),
            edge_index=torch.from_numpy(index),
            y=y,
            task=made_task,
            features=description,
            edge_features=make_edge_features(
                edge_features, name=self.name, labels=edge_labels, attributes=edge_attributes
            ),
            split=None if self.split is None else torch.from_numpy(self.split),
            split_name=self.split_name,
            transpose_ptr=None if symmetric else torch.from_numpy(transpose[0]),
            transpose_index=None if symmetric else torch.from_numpy(transpose[1]),
            validate=False,
        )


def _csr(keys: Integers, first: Integers, num_nodes: int) -> tuple[Integers, Integers]:
    """The offsets and columns of sorted keys, the columns counted within their graph."""
    row, column = np.divmod(keys, max(num_nodes, 1))
    ptr = np.zeros(num_nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=num_nodes), out=ptr[1:])
    return ptr, column - first[column]


def _rows(values: Any, order: Integers) -> Any:
    """Labels or attributes of the edges in another order."""
    if isinstance(values, OneHot):
        return values.index_select(0, torch.from_numpy(order))
    return None if values is None else values[order]
