"""What the readers find in a file, before features and classes are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.features import Features, make_features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.task import Task

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RawGraphs:
    """Graphs as a reader delivers them, checked by it: the ids are right, no graph is empty.

    Args:
        name: The data set.
        ptr: Where each graph's nodes begin, `(graphs + 1,)`.
        source, target: The edges source→target in any order, as node ids through the whole
            set, `(edges,)` each.
        y: Class of each graph as the file has it, any integers, `(graphs,)`.
        labels: Node labels, `(nodes, columns)`, or None.
        attributes: Node attributes, `(nodes, columns)`, or None.
    """

    name: str
    ptr: Integers
    source: Integers
    target: Integers
    y: Integers
    labels: Integers | None = None
    attributes: NDArray[np.float32] | None = None

    def pack(
        self, features: Features, *, classes: Literal["ascending", "first appearance"] = "ascending"
    ) -> GraphSet:
        """Pack the graphs, the neighbours of each node in ascending order.

        The same graphs give the same tensors, and so the same fingerprint, in whatever order
        the file lists their edges.

        Args:
            features: What the features are made of, see `make_features`.
            classes: In which order the graphs' classes are numbered from 0.

        Raises:
            DatasetError: The graphs do not have what `features` asks for.
        """
        num_nodes = int(self.ptr[-1])
        first = np.repeat(self.ptr[:-1], np.diff(self.ptr))  # (nodes,), the graph's first node
        keys, ptr, index = _csr(self.target, self.source, num_nodes)
        transpose_keys, transpose_ptr, transpose_index = _csr(self.source, self.target, num_nodes)
        symmetric = np.array_equal(keys, transpose_keys)
        index -= first[index]
        transpose_index -= first[transpose_index]
        x, description = make_features(
            features,
            name=self.name,
            degree=np.diff(ptr),
            labels=self.labels,
            attributes=self.attributes,
        )
        kinds, y = _number_classes(self.y, classes)
        return GraphSet(
            name=self.name,
            x=x,
            ptr=torch.from_numpy(self.ptr),
            edge_ptr=torch.from_numpy(ptr),
            edge_index=torch.from_numpy(index),
            y=torch.from_numpy(y),
            task=Task(kind="classification", targets=tuple(map(str, kinds))),
            features=description,
            transpose_ptr=None if symmetric else torch.from_numpy(transpose_ptr),
            transpose_index=None if symmetric else torch.from_numpy(transpose_index),
            validate=False,
        )


def _csr(row: Integers, column: Integers, num_nodes: int) -> tuple[Integers, Integers, Integers]:
    """Sort entries by row, then column: the sorted keys, the offsets and the columns."""
    keys = np.sort(row * num_nodes + column)
    counts = np.bincount(row, minlength=num_nodes)
    ptr = np.zeros(num_nodes + 1, dtype=np.int64)
    np.cumsum(counts, out=ptr[1:])
    return keys, ptr, keys % max(num_nodes, 1)


def _number_classes(y: Integers, order: str) -> tuple[Integers, Integers]:
    """The classes in their order, and the number of each graph's class in it."""
    kinds, first, number = np.unique(y, return_index=True, return_inverse=True)
    if order == "first appearance":
        rank = np.argsort(first)  # (classes,), which class comes at each place
        kinds, number = kinds[rank], np.argsort(rank)[number]
    return kinds, number.astype(np.int64)
