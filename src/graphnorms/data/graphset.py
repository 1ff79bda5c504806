"""GraphSet: many graphs packed in a few tensors, and minibatches of them made by gathers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.batch import GatherTable, GraphBatch, dense, form_batch, gather_edges
from graphnorms.data.describe import describe
from graphnorms.data.feature_columns import Columns
from graphnorms.data.fingerprint import fingerprint_of
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.onehot import OneHot
from graphnorms.data.tasks import Task
from graphnorms.data.text_format import count
from graphnorms.data.twins import Twins, find_twins
from graphnorms.kernels.point import widest_float


class GraphSet:
    """A set of graphs with a target each, or a target for each of their nodes, packed in memory.

    The rows of all nodes stand below each other, graph by graph, and so do the edges, node by
    node. Neighbour ids count within their graph, so that a graph reads the same wherever it
    stands, and a minibatch is a handful of gathers whatever the number of graphs.

    Row i of `(edge_ptr, edge_index)` lists the sources j of the edges j→i, as in `Adjacency`;
    `(transpose_ptr, transpose_index)` are the same edges by source, and the same tensors where
    every graph is symmetric. Graphs without edges and graphs without nodes are allowed. A
    graph set is not to be changed: its tensors, counts and fingerprint are kept.

    One-hot features are kept as the columns of their ones and made dense for a minibatch: a byte
    or two per node and label, where dense features take 4 bytes per node and feature. Readers
    make such features wherever they encode labels or degrees. `x` and `edge_features` are then
    made anew at every access, as large as the whole set: keep them while you use them; `kept_x`
    and `kept_edge_features` are what is kept.

    Shapes: `x` `(nodes, features)` and `edge_features` `(edges, edge features)`, float32; `ptr`
    `(graphs + 1,)`, `edge_ptr` `(nodes + 1,)` and `edge_index` `(edges,)`, int64; `y` as `Task`
    says and `split` `(items,)`, or `(items, splits)` of several, int8, where the items are the
    graphs or, if the task is about nodes, the nodes; one device.

    Args:
        name: What to call the set.
        x: Node features, dense or `OneHot`.
        ptr: Where each graph's nodes begin in `x`, and where the last one's end.
        edge_ptr: Where each node's edges begin in `edge_index`, and where the last one's end.
        edge_index: The sources of the edges, as node ids within their graph.
        y: Target of each item.
        task: What the targets are. Classes are named also where no item of a subset has them.
        features: What the columns of `x` are, in words.
        columns, edge_columns: What the columns of `x` and of `edge_features` are, for other graphs
            to be encoded alike, if known.
        edge_features: Row k belongs to the edge at place k of `edge_index`; dense or `OneHot`.
        split: The part that each item is in: 0 training, 1 validation, 2 test, -1 unused; a
            column for each of several splits.
        split_name: What made the split, e.g. `"scaffold"`; `"given"` if nothing says.
        notes: What the user should be told of how the set was made.
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
        task: Task,
        features: str,
        columns: Columns | None = None,
        edge_features: Tensor | OneHot | None = None,
        edge_columns: Columns | None = None,
        split: Tensor | None = None,
        split_name: str = "",
        transpose_ptr: Tensor | None = None,
        transpose_index: Tensor | None = None,
        notes: Sequence[str] = (),
        validate: bool = True,
    ) -> None:
        if (transpose_ptr is None) != (transpose_index is None):
            raise ValueError("transpose_ptr and transpose_index must be given together")
        self.name = name
        self.kept_x = x.contiguous()
        self.ptr = ptr
        self.edge_ptr = edge_ptr.contiguous()
        self.edge_index = edge_index.contiguous()
        if transpose_ptr is None or transpose_index is None:
            self.transpose_ptr, self.transpose_index = self.edge_ptr, self.edge_index
        else:
            self.transpose_ptr = transpose_ptr.contiguous()
            self.transpose_index = transpose_index.contiguous()
        self.y = y
        self.task = task
        self.features = features
        self.columns = columns
        self.edge_columns = edge_columns
        self.kept_edge_features = None if edge_features is None else edge_features.contiguous()
        self.split = split[:, 0] if split is not None and split.shape[1:] == (1,) else split
        self.split_name = "" if split is None else split_name or "given"
        self.notes = tuple(notes)
        if validate:
            check_graph_set(self)

    def __len__(self) -> int:
        """Number of graphs."""
        return self.ptr.shape[0] - 1

    @property
    def x(self) -> Tensor:
        """Node features, `(nodes, features)` float32; new at every access if kept as `OneHot`."""
        return dense(self.kept_x)

    @property
    def edge_features(self) -> Tensor | None:
        """Edge features, `(edges, edge features)` float32, if there are any; new as `x` is."""
        return None if self.kept_edge_features is None else dense(self.kept_edge_features)

    @property
    def num_nodes(self) -> int:
        """Number of nodes of all graphs."""
        return self.kept_x.shape[0]

    @property
    def num_edges(self) -> int:
        """Number of directed edges of all graphs: an undirected edge counts twice."""
        return self.edge_index.shape[0]

    @property
    def num_items(self) -> int:
        """Number of graphs, or of nodes if the task is about nodes."""
        return self.y.shape[0]

    @property
    def num_features(self) -> int:
        """Number of columns of `x`."""
        return self.kept_x.shape[1]

    @property
    def num_edge_features(self) -> int:
        """Number of columns of `edge_features`; 0 if there are none."""
        return 0 if self.kept_edge_features is None else self.kept_edge_features.shape[1]

    @property
    def num_splits(self) -> int:
        """Number of given splits."""
        if self.split is None:
            return 0
        return 1 if self.split.dim() == 1 else self.split.shape[1]

    @property
    def num_outputs(self) -> int:
        """Results of a model per item."""
        return self.task.outputs

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called where the set comes from; empty for other tasks."""
        return self.task.targets if self.task.kind == "classification" else ()

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for other tasks."""
        return len(self.class_names)

    @property
    def symmetric(self) -> bool:
        """Whether every graph has each of its edges in both directions."""
        return self.transpose_index is self.edge_index

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.kept_x.device

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Number of items known to be of each class; empty for other tasks."""
        if self.task.kind != "classification":
            return ()
        # One more bin, in front, for the items whose class is not known.
        return tuple(torch.bincount(self.y + 1, minlength=self.num_classes + 1).tolist()[1:])

    @property
    def known(self) -> Tensor:
        """Which items have a target, or one of several, `(items,)` bool."""
        if self.task.kind == "classification":
            return self.y >= 0
        return ~self.y.isnan().all(1)

    @cached_property
    def same_inputs(self) -> bool:
        """Whether all graphs are the same but for their targets, so that nothing can be learned."""
        if len(self) < 2 or self.task.level == "node":
            return False
        x, edges = self.kept_x, self.kept_edge_features
        parts = [
            self.ptr.diff(),
            self.edge_ptr.diff(),
            self.edge_index,
            x.columns if isinstance(x, OneHot) else x,
            edges.columns if isinstance(edges, OneHot) else edges,
        ]
        return all(part is None or _repeats(part, len(self)) for part in parts)

    @cached_property
    def twins(self) -> Twins:
        """Which graphs are the same but for the order of their nodes, features included."""
        return find_twins(self)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content, 16 hexadecimal digits: what training on the set depends on.

        Equal for equal tensors, task and split on every device, and for one-hot features
        however they are kept; names do not enter. Whatever a set of graphs with a class each need
        not have, such as edge features, enters only where it is there, so that older fingerprints
        stay what they are.
        """
        return fingerprint_of(self)

    def __repr__(self) -> str:
        edges = "symmetric" if self.symmetric else "directed"
        parts = [f"{self.num_features} features ({self.features})"]
        if self.num_edge_features:
            parts.append(f"{self.num_edge_features} edge features")
        usual = self.task.kind == "classification" and self.task.level == "graph"
        parts.append(f"{self.num_classes} classes" if usual else str(self.task))
        if self.split is not None:
            parts.append(f"{self.split_name} split")
        if self.device.type != "cpu":
            parts.append(str(self.device))
        return (
            f"GraphSet({self.name!r}: {count(len(self), 'graph')}, {self.num_nodes} nodes, "
            f"{self.num_edges} edges ({edges}), {', '.join(parts)})"
        )

    def to(self, device: torch.device | str) -> GraphSet:
        """Return the set on `device`; itself if it is there already.

        Targets in float64 are rounded to float32 for a device that has no float64.
        """
        x = self.kept_x.to(device)
        if x is self.kept_x:
            return self
        moved = {
            name: value.to(device)
            for name, value in self._arguments().items()
            if isinstance(value, Tensor | OneHot) and name != "y"
        }
        return self._with(**moved, y=_targets_on(x.device, self.y))

    def with_targets(self, y: Tensor, task: Task | None = None) -> GraphSet:
        """Return the same graphs with other targets, of the same task or of another."""
        return self._with(y=_targets_on(self.device, y), task=task or self.task)

    def subset(self, graph_ids: Tensor | Sequence[int]) -> GraphSet:
        """Return a set of the graphs asked for, in that order; all classes keep their number.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        plan = self.gather_table.plan(graph_ids)
        nodes, _ = plan.nodes()
        places, _ = plan.edges()
        items = nodes if self.task.level == "node" else plan.graph_ids
        edges = [
            gather_edges(degree, index, nodes, places) for degree, index in self.neighbour_lists
        ]
        transpose_ptr, transpose_index = (None, None) if self.symmetric else edges[1]
        edge_features = self.kept_edge_features
        return self._with(
            x=self.kept_x.index_select(0, nodes),
            ptr=plan.ptr,
            edge_ptr=edges[0][0],
            edge_index=edges[0][1],
            transpose_ptr=transpose_ptr,
            transpose_index=transpose_index,
            y=self.y.index_select(0, items),
            edge_features=None if edge_features is None else edge_features.index_select(0, places),
            split=None if self.split is None else self.split.index_select(0, items),
        )

    def node_ids(self, graph_ids: Tensor | Sequence[int]) -> Tensor:
        """Return which nodes of the set the rows of `batch(graph_ids)` are, `(nodes,)` int64.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        return self.gather_table.plan(graph_ids).nodes()[0]

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
        return form_batch(self, graph_ids)

    def describe(self) -> str:
        """Say in two lines what is to be predicted, and from what; in a third any notes."""
        return describe(self)

    @cached_property
    def gather_table(self) -> GatherTable:
        """Where each graph stands, for the gathers of minibatches and subsets."""
        return GatherTable(self.ptr, self.edge_ptr)

    @cached_property
    def neighbour_lists(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """In-degree of each node and the sources; unless symmetric, out-degree and targets too."""
        edges = self.edge_ptr.diff(), self.edge_index
        transpose = () if self.symmetric else ((self.transpose_ptr.diff(), self.transpose_index),)
        return (edges, *transpose)

    @cached_property
    def transpose_order(self) -> Tensor:
        """The place in `edge_index` of each edge of the transpose, `(edges,)`."""
        first = torch.repeat_interleave(self.ptr[:-1], self.ptr.diff())  # (nodes,)

        def through_the_set(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            return ptr, index + torch.repeat_interleave(first, ptr.diff())

        edges = through_the_set(self.edge_ptr, self.edge_index)
        transpose: tuple[Tensor, ...] = ()
        if not self.symmetric:
            transpose = through_the_set(self.transpose_ptr, self.transpose_index)
        return Adjacency(*edges, *transpose, validate=False).transpose_order

    def _with(self, **changes: Any) -> GraphSet:
        """A set of the same content but for some of the constructor's arguments, right as made."""
        return GraphSet(**(self._arguments() | changes), validate=False)

    def _arguments(self) -> dict[str, Any]:
        """Those that the constructor makes this set of."""
        return {
            "name": self.name,
            "x": self.kept_x,
            "ptr": self.ptr,
            "edge_ptr": self.edge_ptr,
            "edge_index": self.edge_index,
            "transpose_ptr": None if self.symmetric else self.transpose_ptr,
            "transpose_index": None if self.symmetric else self.transpose_index,
            "y": self.y,
            "task": self.task,
            "features": self.features,
            "columns": self.columns,
            "edge_columns": self.edge_columns,
            "edge_features": self.kept_edge_features,
            "split": self.split,
            "split_name": self.split_name,
            "notes": self.notes,
        }


def _repeats(rows: Tensor, times: int) -> bool:
    """Whether some rows are so many times the same rows."""
    if len(rows) % times:
        return False
    parts = rows.view(times, -1)
    return bool((parts == parts[:1]).all())


def _targets_on(device: torch.device, y: Tensor) -> Tensor:
    return y.to(device, widest_float(device) if y.dtype == torch.float64 else y.dtype)
