"""GraphSet: many graphs packed in a few tensors."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.array_files import ArrayFolder, with_mapped, without_mapped
from graphnorms.data.atoms import Atoms
from graphnorms.data.batch import GatherTable, GraphBatch, dense, form_batch, gather_edges
from graphnorms.data.describe import describe, summary
from graphnorms.data.feature_columns import Columns
from graphnorms.data.fingerprint import fingerprint_of
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.onehot import OneHot
from graphnorms.data.tasks import Task, targets_on
from graphnorms.data.twins import Twins, find_twins, have_same_inputs

_EDGES: Final = ("ptr", "edge_ptr", "edge_index", "transpose_ptr", "transpose_index")
_OF_EDGES: Final = ("edge_bounds", "gather_table", "transpose_order")
"""Derived values that depend on the edges alone."""


class GraphSet:
    """A packed set of graphs with targets for graphs or nodes.

    The rows of all nodes are concatenated, graph by graph, and so are the edges, node by node.
    Neighbour ids are relative to the graph, so a minibatch takes a few gathers, regardless of the
    number of graphs.

    Row i of `(edge_ptr, edge_index)` lists the sources j of the edges j→i, as in `Adjacency`;
    `(transpose_ptr, transpose_index)` are the same edges by source, and the same tensors if every
    graph is symmetric. Graphs without edges and without nodes are allowed. Do not modify a graph
    set: derived values such as its fingerprint are cached.

    A set larger than memory is kept in a packed folder: `save` writes it, `open` reads it as
    minibatches ask for it.

    One-hot features are stored as `OneHot` and made dense per minibatch: they take a byte or two
    per node and label, where dense features take 4 bytes per node and feature. Readers encode
    labels and degrees so. `x` and `edge_features` are then computed at every access for the whole
    set: store them in a variable if you need them. `kept_x` and `kept_edge_features` are the stored
    features.

    Shapes: `x` `(nodes, features)` and `edge_features` `(edges, edge features)`, float32; `ptr`
    `(graphs + 1,)`, `edge_ptr` `(nodes + 1,)` and `edge_index` `(edges,)`, int64; `y` as `Task`
    says and `split` `(items,)`, or `(items, splits)` for several, int8, where the items are the
    graphs or, in node-level tasks, the nodes; all on one device.

    Args:
        name: Name of the set.
        x: Node features, dense or `OneHot`.
        ptr: Offsets of the graphs' nodes in `x`.
        edge_ptr: Offsets of the nodes' edges in `edge_index`.
        edge_index: The sources of the edges, as node ids within their graph.
        y: Target of each item.
        task: The task. A subset keeps all classes, even those without an item.
        features: Description of the columns of `x`.
        columns, edge_columns: The columns of `x` and of `edge_features`, if known, to encode other
            graphs alike.
        edge_features: Row k belongs to the edge at position k of `edge_index`; dense or `OneHot`.
        split: Part of each item: 0 training, 1 validation, 2 test, -1 unused; a column per split.
        split_name: Origin of the split, e.g. `"scaffold"`; `"given"` if unknown.
        metric: Name of the official metric of the set, if it has one.
        source_rows: Row of each graph in its file, `(graphs,)`, if rows were left out.
        notes: Remarks for the user on how the set was made.
        atoms: The nodes as atoms in space, with the forces on them, for the task `"forces"`.
        files: The mapped files of a packed folder that hold the tensors, if any.
        transpose_ptr, transpose_index: The same edges by source; omit both for symmetric graphs.
        validate: Whether to check the contents of the tensors, including symmetry.

    Raises:
        ValueError: The tensors are not consistent; the message names the tensor.
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
        metric: str = "",
        source_rows: Tensor | None = None,
        transpose_ptr: Tensor | None = None,
        transpose_index: Tensor | None = None,
        notes: Sequence[str] = (),
        atoms: Atoms | None = None,
        files: ArrayFolder | None = None,
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
        self.metric = metric
        self.source_rows = source_rows
        self.notes = tuple(notes)
        self.atoms = atoms
        self.files = files
        if validate:
            check_graph_set(self)

    def __len__(self) -> int:
        """Number of graphs."""
        return self.ptr.shape[0] - 1

    @property
    def x(self) -> Tensor:
        """Node features, `(nodes, features)` float32; computed at every access if stored as
        `OneHot`."""
        return dense(self.kept_x)

    @property
    def edge_features(self) -> Tensor | None:
        """Edge features, `(edges, edge features)` float32, if any; computed like `x`."""
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
        """Number of graphs, or of nodes in node-level tasks."""
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
        """Outputs of a model per item."""
        return self.task.outputs

    @property
    def class_names(self) -> tuple[str, ...]:
        """The original names of the classes; empty for other tasks."""
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
        """The device of the tensors."""
        return self.kept_x.device

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Number of items of each class; empty for other tasks."""
        if self.task.kind != "classification":
            return ()
        # The first bin counts the items without a class.
        return tuple(torch.bincount(self.y + 1, minlength=self.num_classes + 1).tolist()[1:])

    @property
    def known(self) -> Tensor:
        """Which items have at least one target, `(items,)` bool."""
        if self.task.kind == "classification":
            return self.y >= 0
        return ~self.y.isnan().all(1)

    @cached_property
    def same_inputs(self) -> bool:
        """Whether all graphs are equal except for their targets, so that nothing can be learned."""
        return have_same_inputs(self)

    @cached_property
    def twins(self) -> Twins:
        """The graphs that are isomorphic, including features."""
        return find_twins(self)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content relevant to training, 16 hexadecimal digits.

        It depends on tensors, task and split, but not on the device, on the storage of one-hot
        features, or on names. Optional content, such as edge features, is included only if present,
        so that old fingerprints stay valid.
        """
        return fingerprint_of(self)

    def __repr__(self) -> str:
        return f"GraphSet({summary(self)})"

    def to(self, device: torch.device | str) -> GraphSet:
        """Return the set on `device`; itself if it is already there.

        Targets in float64 are rounded to float32 for a device without float64.
        """
        x = self.kept_x.to(device)
        if x is self.kept_x:
            return self
        moved = {
            name: value.to(device)
            for name, value in self._arguments().items()
            if isinstance(value, Tensor | OneHot | Atoms) and name != "y"
        }
        return self._with(**moved, y=targets_on(x.device, self.y), files=None)

    def with_targets(
        self, y: Tensor, task: Task | None = None, forces: Tensor | None = None
    ) -> GraphSet:
        """Return the same graphs with other targets and, optionally, another task or forces."""
        changes: dict[str, Any] = {"y": targets_on(self.device, y), "task": task or self.task}
        if forces is not None and self.atoms is not None:
            changes["atoms"] = replace(self.atoms, forces=targets_on(self.device, forces))
        return self._with(**changes)

    def with_features(self, x: Tensor, features: str) -> GraphSet:
        """Return the same graphs with other node features, and what these are in words."""
        return self._with(x=x, features=features, columns=None)

    def with_split(self, split: Tensor, name: str) -> GraphSet:
        """Return the same graphs with another given split, see `GraphSet`, and its origin."""
        return self._with(split=split, split_name=name)

    def subset(self, graph_ids: Tensor | Sequence[int]) -> GraphSet:
        """Return a subset of the graphs in the given order; classes keep their numbers.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        plan = self.gather_table.plan(graph_ids)
        nodes, _ = plan.nodes()
        places, _ = plan.edges()
        items = nodes if self.task.level == "node" else plan.graph_ids
        edges = [gather_edges(ptr, index, nodes, places) for ptr, index in self.neighbour_lists]
        transpose_ptr, transpose_index = (None, None) if self.symmetric else edges[1]
        edge_features, rows = self.kept_edge_features, self.source_rows
        atoms = None if self.atoms is None else self.atoms.of(nodes, places)
        chosen = self._with(
            x=self.kept_x.index_select(0, nodes),
            ptr=plan.ptr,
            edge_ptr=edges[0][0],
            edge_index=edges[0][1],
            transpose_ptr=transpose_ptr,
            transpose_index=transpose_index,
            y=self.y.index_select(0, items),
            edge_features=None if edge_features is None else edge_features.index_select(0, places),
            split=None if self.split is None else self.split.index_select(0, items),
            source_rows=None if rows is None else rows.index_select(0, plan.graph_ids),
            atoms=atoms,
            files=None,
        )
        self.release()
        return chosen

    def node_ids(self, graph_ids: Tensor | Sequence[int]) -> Tensor:
        """Return the ids of the nodes in the rows of `batch(graph_ids)`, `(nodes,)` int64.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        return self.gather_table.plan(graph_ids).nodes()[0]

    def batch(self, graph_ids: Tensor) -> GraphBatch:
        """Form a minibatch of some graphs in the given order.

        On the CPU this is one pass of the C++ extension; without it, and on a GPU, a fixed number
        of tensor operations. For a set on a GPU keep the ids on the CPU: this avoids
        synchronization.

        Args:
            graph_ids: Ids `0 … len - 1`, `(graphs,)`; a graph may occur more than once.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        return form_batch(self, graph_ids)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, mapped: bool = True, verify: bool = False
    ) -> GraphSet:
        """Open a packed folder, which may be larger than memory.

        Nodes and edges stay on disk. Minibatches are copied from mapped files, or, where these are
        larger than `graphnorms.data.array_files.MOST_RESIDENT`, read past the maps, so that a
        process holds a bounded part of the files. Targets, splits and four numbers per graph are
        held.

        The names, dtypes, shapes and sizes of all files are checked, whether they fit one another,
        the offsets of the graphs, the targets and the split. Edges and features are not read, but
        for those of a single graph: minibatches check what they gather in C++. The fingerprint is
        that of the index.

        Args:
            path: The folder.
            mapped: Whether to map the files; otherwise they are read whole.
            verify: Whether to read all arrays once and compare their fingerprint.

        Raises:
            DatasetError: It is not such a folder, or a file is missing, cut off or inconsistent
                with the others; with `verify` also if the content was changed.
        """
        from graphnorms.data.packed_folder import open_folder

        return open_folder(path, mapped=mapped, verify=verify)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a packed folder for `open`: an `.npy` file per array, and an index in JSON.

        The folder is written under a temporary name and renamed. `graphnorms.data.pack` writes
        graphs that do not fit into memory together.

        Raises:
            DatasetError: There is something of that name.
        """
        from graphnorms.data.packed_folder import save_folder

        save_folder(self, path)

    def release(self) -> None:
        """Give back the pages of mapped files that have been read; see `open`."""
        if self.files is not None:
            self.files.release()

    def know(self, **values: Any) -> None:
        """Take over derived values that are known from elsewhere, by the names of properties."""
        self.__dict__.update({name: each for name, each in values.items() if each is not None})

    def describe(self) -> str:
        """Describe targets and inputs in two lines, and any notes in a third."""
        return describe(self)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file with one graph per row; see `graphnorms.data.save_parquet`."""
        from graphnorms.data.readers.packed_parquet import save_parquet

        save_parquet(self, path)

    @cached_property
    def edge_bounds(self) -> Tensor:
        """Offsets of the graphs' edges, `(graphs + 1,)`."""
        return self.edge_ptr[self.ptr]

    @cached_property
    def gather_table(self) -> GatherTable:
        """The positions of all graphs, for the gathers of minibatches and subsets."""
        return GatherTable(self.ptr, self.edge_bounds)

    @property
    def neighbour_lists(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The CSR pair of all nodes; unless symmetric, followed by that of the transpose."""
        edges = self.edge_ptr, self.edge_index
        return (edges,) if self.symmetric else (edges, (self.transpose_ptr, self.transpose_index))

    @cached_property
    def transpose_order(self) -> Tensor:
        """The position in `edge_index` of each edge of the transpose, `(edges,)`."""
        first = torch.repeat_interleave(self.ptr[:-1], self.ptr.diff())  # (nodes,)

        def with_global_ids(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            return ptr, index + torch.repeat_interleave(first, ptr.diff())

        edges = with_global_ids(self.edge_ptr, self.edge_index)
        transpose: tuple[Tensor, ...] = ()
        if not self.symmetric:
            transpose = with_global_ids(self.transpose_ptr, self.transpose_index)
        return Adjacency(*edges, *transpose, validate=False).transpose_order

    def _with(self, **changes: Any) -> GraphSet:
        """Return a copy with some constructor arguments replaced, without validation."""
        made = GraphSet(**(self._arguments() | changes), validate=False)
        if changes.keys().isdisjoint(_EDGES):
            made.know(**{name: self.__dict__.get(name) for name in _OF_EDGES})
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: of mapped tensors the names of the files."""
        state = dict(vars(self))
        if self.files is None:
            return state
        state.pop("gather_table", None)
        return {**without_mapped(state, self.files), "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state["files"]
        self.__dict__.update(state if files is None else with_mapped(state, files))

    def _arguments(self) -> dict[str, Any]:
        """Return the constructor arguments of this set."""
        kept: dict[str, Any] = {"x": self.kept_x, "edge_features": self.kept_edge_features}
        if self.symmetric:
            kept |= {"transpose_ptr": None, "transpose_index": None}
        return {name: getattr(self, name) for name in _ARGUMENTS - kept.keys()} | kept


_ARGUMENTS: Final = inspect.signature(GraphSet).parameters.keys() - {"validate"}
