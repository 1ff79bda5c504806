"""GraphSet: many graphs packed in a few tensors, and minibatches of them made by gathers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.checks import check_offsets, check_tensor
from graphnorms.data.gather import GatherTable
from graphnorms.data.onehot import OneHot
from graphnorms.kernels.cpu import extension, gather
from graphnorms.segments import Segments


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """A minibatch: the graphs asked for as one graph of many components.

    Args:
        x: Node features, `(nodes, features)` float32.
        y: Class of each graph, `(graphs,)` int64.
        segments: Which rows of `x` belong to which graph.
        adjacency: The edges, with the nodes counted through the batch.
    """

    x: Tensor
    y: Tensor
    segments: Segments
    adjacency: Adjacency

    @property
    def num_graphs(self) -> int:
        """Number of graphs."""
        return self.y.shape[0]


class GraphSet:
    """A set of graphs with a class each, packed in memory.

    The rows of all nodes stand below each other, graph by graph, and so do the edges, node by
    node. Neighbour ids count within their graph, so that a graph reads the same wherever it
    stands, and a minibatch is a handful of gathers whatever the number of graphs.

    Row i of `(edge_ptr, edge_index)` lists the sources j of the edges j→i, as in `Adjacency`;
    `(transpose_ptr, transpose_index)` are the same edges by source, and the same tensors where
    every graph is symmetric. Graphs without edges and graphs without nodes are allowed. A
    graph set is not to be changed: its tensors, counts and fingerprint are kept.

    One-hot features are kept as the columns of their ones and made dense for a minibatch: a byte
    or two per node and label, where dense features take 4 bytes per node and feature. Readers
    make such features wherever they encode labels or degrees. `x` is then made anew at every
    access, as large as the whole set: keep it while you use it.

    Shapes: `x` `(nodes, features)` float32; `ptr` `(graphs + 1,)`, `edge_ptr` `(nodes + 1,)`,
    `edge_index` `(edges,)` and `y` `(graphs,)`, all int64; one device.

    Args:
        name: What to call the set.
        x: Node features, dense or `OneHot`.
        ptr: Where each graph's nodes begin in `x`, and where the last one's end.
        edge_ptr: Where each node's edges begin in `edge_index`, and where the last one's end.
        edge_index: The sources of the edges, as node ids within their graph.
        y: Class of each graph, `0 … classes - 1`.
        class_names: What the classes are called where the set comes from, one for each class,
            also for a class that no graph of a subset has.
        features: What the columns of `x` are, in words.
        transpose_ptr, transpose_index: The same edges by source; neither says symmetric.
        validate: Check the contents of the tensors too, symmetry included.

    Raises:
        ValueError: The tensors do not fit together as described; the message says which.
    """

    def __init__(
        self,
        *,
        name: str,
        x: Tensor | OneHot,
        ptr: Tensor,
        edge_ptr: Tensor,
        edge_index: Tensor,
        y: Tensor,
        class_names: Sequence[str],
        features: str,
        transpose_ptr: Tensor | None = None,
        transpose_index: Tensor | None = None,
        validate: bool = True,
    ) -> None:
        if (transpose_ptr is None) != (transpose_index is None):
            raise ValueError("give transpose_ptr and transpose_index together, or neither")
        self.name = name
        self._x = x.contiguous()
        self.ptr = ptr
        self.edge_ptr = edge_ptr.contiguous()
        self.edge_index = edge_index.contiguous()
        if transpose_ptr is None or transpose_index is None:
            self.transpose_ptr, self.transpose_index = self.edge_ptr, self.edge_index
        else:
            self.transpose_ptr = transpose_ptr.contiguous()
            self.transpose_index = transpose_index.contiguous()
        self.y = y
        self.class_names = tuple(class_names)
        self.features = features
        if validate:
            self._validate()

    def __len__(self) -> int:
        """Number of graphs."""
        return self.y.shape[0]

    @property
    def x(self) -> Tensor:
        """Node features, `(nodes, features)` float32; new at every access if kept as `OneHot`."""
        return _dense(self._x)

    @property
    def num_nodes(self) -> int:
        """Number of nodes of all graphs."""
        return self._x.shape[0]

    @property
    def num_edges(self) -> int:
        """Number of directed edges of all graphs: an undirected edge counts twice."""
        return self.edge_index.shape[0]

    @property
    def num_features(self) -> int:
        """Number of columns of `x`."""
        return self._x.shape[1]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def symmetric(self) -> bool:
        """Whether every graph has each of its edges in both directions."""
        return self.transpose_index is self.edge_index

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self._x.device

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Number of graphs of each class."""
        return tuple(torch.bincount(self.y, minlength=self.num_classes).tolist())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content, 16 hexadecimal digits: what training on the set depends on.

        Equal for equal tensors and number of classes on every device, and for one-hot features
        however they are kept; names do not enter.
        """
        digest = hashlib.sha256(str(self.num_classes).encode())
        tensors = [self.ptr, self.edge_ptr, self.edge_index, self.y]
        if not self.symmetric:
            tensors += [self.transpose_ptr, self.transpose_index]
        # A large matrix of zeros and ones is hashed without ever being whole.
        x = self._x.chunks() if isinstance(self._x, OneHot) else (self._x,)
        digest.update(f";<f4{tuple(self._x.shape)}".encode())
        for part in x:
            digest.update(_little_endian(part).data)
        for tensor in tensors:
            array = _little_endian(tensor)
            digest.update(f";{array.dtype.str}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        edges = "symmetric" if self.symmetric else "directed"
        where = "" if self.device.type == "cpu" else f", {self.device}"
        return (
            f"GraphSet({self.name!r}: {len(self)} graphs, {self.num_nodes} nodes, "
            f"{self.num_edges} edges ({edges}), {self.num_features} features "
            f"({self.features}), {self.num_classes} classes{where})"
        )

    def to(self, device: torch.device | str) -> GraphSet:
        """Return the set on `device`; itself if it is there already."""
        x = self._x.to(device)
        if x is self._x:
            return self
        return self._with(
            x=x,
            ptr=self.ptr.to(device),
            edge_ptr=self.edge_ptr.to(device),
            edge_index=self.edge_index.to(device),
            transpose_ptr=None if self.symmetric else self.transpose_ptr.to(device),
            transpose_index=None if self.symmetric else self.transpose_index.to(device),
            y=self.y.to(device),
        )

    def subset(self, graph_ids: Tensor | Sequence[int]) -> GraphSet:
        """Return a set of the graphs asked for, in that order; all classes keep their number.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        plan = self._gather_table.plan(graph_ids)
        nodes, _ = plan.nodes()
        places, _ = plan.edges()
        edge_ptr, edge_index = _gather_edges(self._in_degree, self.edge_index, nodes, places)
        transpose_ptr, transpose_index = None, None
        if not self.symmetric:
            transpose_ptr, transpose_index = _gather_edges(
                self._out_degree, self.transpose_index, nodes, places
            )
        return self._with(
            x=self._x.index_select(0, nodes),
            ptr=plan.ptr,
            edge_ptr=edge_ptr,
            edge_index=edge_index,
            transpose_ptr=transpose_ptr,
            transpose_index=transpose_index,
            y=self.y.index_select(0, plan.graph_ids),
        )

    def batch(self, graph_ids: Tensor) -> GraphBatch:
        """Form a minibatch of the graphs asked for, in that order.

        On the CPU one pass of the C++ extension; without it, and on a GPU, a fixed number of
        tensor operations, whatever the number of graphs. For a set on a GPU keep the ids on the
        CPU: nothing is then read back from the device.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        if self.device.type == "cpu" and extension.unavailable() is None:
            return self._copied_batch(graph_ids)
        plan = self._gather_table.plan(graph_ids)
        nodes, graph_of_node = plan.nodes()
        places, graph_of_edge = plan.edges()
        shift = plan.ptr.index_select(0, graph_of_edge)  # (edges,), the graph's first node
        ptr, index = _gather_edges(self._in_degree, self.edge_index, nodes, places)
        index += shift
        if self.symmetric:
            adjacency = Adjacency(ptr, index, validate=False)
        else:
            transpose_ptr, transpose_index = _gather_edges(
                self._out_degree, self.transpose_index, nodes, places
            )
            transpose_index += shift
            adjacency = Adjacency(ptr, index, transpose_ptr, transpose_index, validate=False)
        return GraphBatch(
            x=_dense(self._x.index_select(0, nodes)),
            y=self.y.index_select(0, plan.graph_ids),
            segments=Segments(
                plan.ptr, None, plan.num_nodes, longest=plan.longest, index=graph_of_node
            ),
            adjacency=adjacency,
        )

    def _copied_batch(self, graph_ids: Tensor) -> GraphBatch:
        ids, table = self._gather_table.choose(graph_ids)
        x = self._x.columns if isinstance(self._x, OneHot) else self._x
        transpose = None if self.symmetric else (self.transpose_ptr, self.transpose_index)
        edges = (self.edge_ptr, self.edge_index)
        made = gather.gather(table, x, self.num_features, edges, transpose)
        return GraphBatch(
            x=made.x,
            y=self.y.index_select(0, ids),
            segments=Segments(
                made.ptr, None, made.x.shape[0], longest=made.longest, index=made.graph
            ),
            adjacency=Adjacency(*made.edges, *(made.transpose or ()), validate=False),
        )

    @cached_property
    def _gather_table(self) -> GatherTable:
        return GatherTable(self.ptr, self.edge_ptr)

    @cached_property
    def _in_degree(self) -> Tensor:
        return self.edge_ptr.diff()

    @cached_property
    def _out_degree(self) -> Tensor:
        return self.transpose_ptr.diff()

    def _with(
        self,
        *,
        x: Tensor | OneHot,
        ptr: Tensor,
        edge_ptr: Tensor,
        edge_index: Tensor,
        transpose_ptr: Tensor | None,
        transpose_index: Tensor | None,
        y: Tensor,
    ) -> GraphSet:
        """A set of the same name, classes and features with other tensors, right as made."""
        return GraphSet(
            name=self.name,
            x=x,
            ptr=ptr,
            edge_ptr=edge_ptr,
            edge_index=edge_index,
            y=y,
            class_names=self.class_names,
            features=self.features,
            transpose_ptr=transpose_ptr,
            transpose_index=transpose_index,
            validate=False,
        )

    def _validate(self) -> None:
        if isinstance(self._x, OneHot):
            self._x.validate()
        else:
            check_tensor("x", self._x, torch.float32, 2)
        vectors = {
            "ptr": self.ptr,
            "edge_ptr": self.edge_ptr,
            "edge_index": self.edge_index,
            "transpose_ptr": self.transpose_ptr,
            "transpose_index": self.transpose_index,
            "y": self.y,
        }
        for name, vector in vectors.items():
            check_tensor(name, vector, torch.int64, 1)
            if vector.device != self.device:
                raise ValueError(
                    f"{name} is on {vector.device} and x on {self.device}; expected one device"
                )
        check_offsets("ptr", self.ptr, len(self), "graphs", self.num_nodes, "nodes")
        counts = self.ptr.diff()
        sizes = torch.repeat_interleave(counts, counts)  # (nodes,), nodes of each one's graph
        first = torch.repeat_interleave(self.ptr[:-1], counts)  # (nodes,)
        pairs = [("edge", self.edge_ptr, self.edge_index)]
        if not self.symmetric:
            pairs.append(("transpose", self.transpose_ptr, self.transpose_index))
        shifted = []
        for kind, ptr, index in pairs:
            check_offsets(
                f"{kind}_ptr", ptr, self.num_nodes, "nodes", index.shape[0], f"{kind} ids"
            )
            row = torch.repeat_interleave(ptr.diff())  # (edges,)
            outside = ((index < 0) | (index >= sizes[row])).nonzero()
            if outside.shape[0]:
                at = int(outside[0, 0])
                raise ValueError(
                    f"{kind}_index holds {int(index[at])} at {at}, but that edge's graph has "
                    f"{int(sizes[row[at]])} nodes; ids count from 0 within each graph"
                )
            shifted += [ptr, index + first[row]]
        Adjacency(*shifted)  # finds out whether the transpose holds the same edges
        wrong = self.y[(self.y < 0) | (self.y >= self.num_classes)]
        if wrong.shape[0]:
            raise ValueError(
                f"y holds class {int(wrong[0])}, expected 0 … {self.num_classes - 1}, "
                f"for there are {self.num_classes} class_names"
            )


def _dense(x: Tensor | OneHot) -> Tensor:
    return x.dense() if isinstance(x, OneHot) else x


def _little_endian(tensor: Tensor) -> np.ndarray[Any, Any]:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _gather_edges(
    degree: Tensor, index: Tensor, nodes: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """The CSR pair of some nodes, its ids as they are: `(nodes + 1,)` and `(edges,)`, new.

    `places` serves the transpose as well: a graph has as many edges by source as by target, so
    that they begin at the same place.
    """
    ptr = degree.new_zeros(nodes.shape[0] + 1)
    torch.cumsum(degree.index_select(0, nodes), 0, out=ptr[1:])
    return ptr, index.index_select(0, places)
