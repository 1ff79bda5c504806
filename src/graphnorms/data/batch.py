"""Minibatches of a packed set, formed by gathers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.atoms import Atoms
from graphnorms.data.onehot import OneHot
from graphnorms.index_checks import check_integer_vector
from graphnorms.kernels.cpu import extension, gather
from graphnorms.offsets import offsets_of
from graphnorms.segments import Segments

if TYPE_CHECKING:
    from graphnorms.data.array_files import ArrayFolder
    from graphnorms.data.graphset import GraphSet


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """A minibatch: some graphs as one graph of many components.

    Args:
        x: Node features, `(nodes, features)` float32.
        y: Targets of the items, which are the graphs or the nodes of the batch; see `Task`.
        segments: The graphs of the rows of `x`.
        adjacency: The edges, with node ids over the whole batch.
        edge_features: `(edges, edge features)` float32 in the edge order of `adjacency`, if the set
            has any.
    """

    x: Tensor
    y: Tensor
    segments: Segments
    adjacency: Adjacency
    edge_features: Tensor | None = None
    atoms: Atoms | None = None

    @property
    def num_graphs(self) -> int:
        """Number of graphs."""
        return self.segments.num_segments


def form_batch(graphs: GraphSet, graph_ids: Tensor) -> GraphBatch:
    """Form the minibatch of some graphs in the given order, see `GraphSet.batch`.

    Edge features are always gathered by tensor operations, also with the C++ extension.
    """
    if len(graphs) == 1 and len(graphs.gather_table.choose(graph_ids)[0]) == 1:
        return _whole(graphs)
    if graphs.y.device.type == "cpu" and extension.unavailable() is None:
        return _copied(graphs, graph_ids)
    batch = _gathered(graphs, graphs.gather_table.plan(graph_ids))
    if graphs.files is not None and not graphs.files.is_small:
        graphs.release()
    return batch


def _whole(graphs: GraphSet) -> GraphBatch:
    """Return the only graph of a set, without a copy."""
    edges: list[Tensor] = []
    for pair in graphs.neighbour_lists:
        edges += pair
    has_features = graphs.kept_edge_features is not None
    nodes = graphs.num_nodes
    index = torch.zeros(nodes, dtype=torch.int64, device=graphs.device)
    return GraphBatch(
        x=graphs.x,
        y=graphs.y,
        segments=Segments(graphs.ptr, None, nodes, longest=nodes, index=index),
        adjacency=Adjacency(
            *edges,
            transpose_order=graphs.transpose_order if has_features else None,
            validate=False,
        ),
        edge_features=graphs.edge_features,
        atoms=graphs.atoms,
    )


def _copied(graphs: GraphSet, graph_ids: Tensor) -> GraphBatch:
    ids, table = graphs.gather_table.choose(graph_ids)
    files = graphs.files
    read = _read(graphs, files, table) if files is not None and not files.is_small else None
    made = gather.gather(
        table,
        rows_of(graphs.kept_x),
        graphs.num_features,
        (graphs.edge_ptr, graphs.edge_index),
        None if graphs.symmetric else (graphs.transpose_ptr, graphs.transpose_index),
        read,
    )
    atoms = graphs.atoms
    if atoms is not None:
        if read is not None:
            atoms = Atoms(**{name: read[name] for name in atoms.tensors()}, cutoff=atoms.cutoff)
        else:
            edges = None if atoms.shifts is None else consecutive(table[1], table[3])[0]
            atoms = atoms.of(consecutive(table[0], table[2])[0], edges)
    moved = None
    if graphs.kept_edge_features is not None:
        places, shift = consecutive(table[1], table[3])  # first edges, numbers of edges
        moved = read or places, shift
    return _assembled(
        graphs,
        made.x,
        consecutive(table[0], table[2])[0] if graphs.task.level == "node" else ids,
        Segments(made.ptr, None, made.x.shape[0], longest=made.longest, index=made.graph),
        (*made.edges, *(made.transpose or ())),
        moved,
        atoms,
    )


def _read(graphs: GraphSet, files: ArrayFolder, table: Tensor) -> Mapping[str, Tensor]:
    """Return the rows of all arrays that some graphs of a packed set have, by the arrays' names."""
    arrays = {"x": rows_of(graphs.kept_x)}
    for kind, pair in zip(("edge", "transpose"), graphs.neighbour_lists, strict=False):
        arrays |= {f"{kind}_ptr": pair[0], f"{kind}_index": pair[1]}
    if graphs.kept_edge_features is not None:
        arrays["edge_features"] = rows_of(graphs.kept_edge_features)
        arrays["transpose_order"] = graphs.transpose_order
    if graphs.atoms is not None:
        arrays |= graphs.atoms.tensors()
    mapped = [name for name, array in arrays.items() if files.tensors[name] is array]
    made = files.read(mapped, table)
    for name, array in arrays.items():
        if name not in made:  # other features or targets than those of the folder
            first, counts = table[1::2] if name in files.by_edge else table[::2]
            made[name] = array.index_select(0, consecutive(first, counts)[0])
    return made


def _gathered(graphs: GraphSet, plan: GatherPlan) -> GraphBatch:
    nodes, graph_of_node = plan.nodes()
    places, graph_of_edge = plan.edges()
    first = plan.ptr.index_select(0, graph_of_edge)  # (edges,), the graph's first node
    edges: list[Tensor] = []
    for offsets, index in graphs.neighbour_lists:
        ptr, neighbours = gather_edges(offsets, index, nodes, places)
        edges += [ptr, neighbours.add_(first)]
    moved = None
    if graphs.kept_edge_features is not None:
        moved = places, plan.shift[1].index_select(0, graph_of_edge)
    return _assembled(
        graphs,
        dense(graphs.kept_x.index_select(0, nodes)),
        nodes if graphs.task.level == "node" else plan.graph_ids,
        Segments(plan.ptr, None, plan.num_nodes, longest=plan.longest, index=graph_of_node),
        tuple(edges),
        moved,
        None if graphs.atoms is None else graphs.atoms.of(nodes, places),
    )


def _assembled(
    graphs: GraphSet,
    x: Tensor,
    items: Tensor,
    segments: Segments,
    edges: tuple[Tensor, ...],
    moved: tuple[Tensor | Mapping[str, Tensor], Tensor] | None,
    atoms: Atoms | None,
) -> GraphBatch:
    """Assemble the minibatch.

    Args:
        graphs, x, segments: The set, and the gathered features and segments.
        items: The items of the targets.
        edges: The CSR pair of the edges, followed by that of the transpose if there is one.
        moved: The positions of the edges in the set, or what `_read` has found there, and the
            differences to those in the batch; only for a set with edge features.
        atoms: The gathered atoms, if the nodes are atoms.
    """
    edge_features, order = None, None
    if moved is not None and graphs.kept_edge_features is not None:
        found, shift = moved
        features = graphs.kept_edge_features
        if isinstance(found, Tensor):
            features = features.index_select(0, found)
            order = graphs.transpose_order.index_select(0, found)
        else:
            rows, order = found["edge_features"], found["transpose_order"]
            features = OneHot(rows, features.shape[1]) if isinstance(features, OneHot) else rows
        edge_features = dense(features)
        # The edges of a graph have the same positions in both lists, so the same shift converts
        # them back.
        order = order - shift
    return GraphBatch(
        x=x,
        y=graphs.y.index_select(0, items),
        segments=segments,
        adjacency=Adjacency(*edges, transpose_order=order, validate=False),
        edge_features=edge_features,
        atoms=atoms,
    )


@dataclass(frozen=True, eq=False)
class GatherPlan:
    """The positions of the nodes and edges of some graphs, before and after the gather.

    "Both" below means nodes in row 0 and edges in row 1.

    Args:
        graph_ids: The graphs, `(graphs,)`, on the device of the set like all tensors here.
        counts: Number of nodes and edges of each graph, both, `(2, graphs)`.
        offsets: Offsets of the graphs after the gather, both, `(2, graphs + 1)`.
        shift: Position before the gather minus position after it, both, `(2, graphs)`.
        num_nodes, num_edges: Numbers of gathered nodes and edges.
        longest: Number of nodes of the largest graph.
    """

    graph_ids: Tensor
    counts: Tensor
    offsets: Tensor
    shift: Tensor
    num_nodes: int
    num_edges: int
    longest: int

    @property
    def ptr(self) -> Tensor:
        """Offsets of the graphs' nodes after the gather, `(graphs + 1,)`."""
        return self.offsets[0]

    def nodes(self) -> tuple[Tensor, Tensor]:
        """Return the rows of the nodes to gather, and their graphs, `(nodes,)` each."""
        return self._places(0, self.num_nodes)

    def edges(self) -> tuple[Tensor, Tensor]:
        """Return the positions of the edges to gather, and their graphs, `(edges,)` each."""
        return self._places(1, self.num_edges)

    def _places(self, kind: int, number: int) -> tuple[Tensor, Tensor]:
        # Adding the shift of its graph to every row replaces a loop over graphs.
        graph = torch.repeat_interleave(self.counts[kind], output_size=number)
        places = self.shift[kind].index_select(0, graph)
        places += torch.arange(number, device=places.device)
        return places, graph


class GatherTable:
    """The positions and sizes of all graphs, for planning gathers.

    For ids on the host, e.g. of a shuffled epoch, planning costs a GPU one small copy without
    synchronization. Ids on the GPU cost one synchronization, for the number of nodes and edges.

    Args:
        ptr, edge_bounds: Offsets of the graphs' nodes and edges, `(graphs + 1,)`.
    """

    def __init__(self, ptr: Tensor, edge_bounds: Tensor) -> None:
        bounds = torch.stack((ptr, edge_bounds))  # (2, graphs + 1)
        # First node, first edge, number of nodes, number of edges: (4, graphs).
        self._table = torch.cat((bounds[:, :-1], bounds.diff(dim=1)))
        self._host_table = self._table.cpu()

    def plan(self, graph_ids: Tensor | Sequence[int]) -> GatherPlan:
        """Plan the gather of some graphs in the given order.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or an id is outside the set. (For
                ids on a GPU, the device asserts the range.)
        """
        ids, chosen = self.choose(graph_ids)
        device = self._table.device
        first, counts = chosen[:2], chosen[2:]
        num_graphs = ids.shape[0]
        offsets = counts.new_zeros(2, num_graphs + 1)
        torch.cumsum(counts, 1, out=offsets[:, 1:])
        shift = first - offsets[:, :-1]
        largest = counts[0].max() if num_graphs else offsets[0, 0]
        num_nodes, num_edges, longest = torch.stack((*offsets[:, -1], largest)).tolist()
        if chosen.device != device:
            ids, counts, offsets, shift = send((ids, counts, offsets, shift), device)
        return GatherPlan(ids, counts, offsets, shift, num_nodes, num_edges, longest)

    def choose(self, graph_ids: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Check the ids, and select their columns of the table.

        Returns:
            The ids as int64, and first node, first edge, number of nodes and number of edges of
            each graph, `(4, graphs)`; both on the device of the ids, or on the CPU if the set is
            there.

        Raises:
            ValueError: See `plan`.
        """
        ids = torch.as_tensor(graph_ids)
        if ids.shape == (0,):
            ids = ids.long()  # an empty list makes a tensor of floats
        check_integer_vector("graph_ids", ids)
        ids = ids.long()
        if self._table.device.type == "cpu":
            ids = ids.cpu()
        table = self._host_table if ids.device.type == "cpu" else self._table
        try:
            chosen = table.index_select(1, ids)  # (4, graphs)
        except (IndexError, RuntimeError):
            # The gather detects an id outside the set for free; only then search for it.
            self._check_range(ids)
            raise
        return ids, chosen

    def _check_range(self, ids: Tensor) -> None:
        num_graphs = self._table.shape[1]
        wrong = ids[(ids < 0) | (ids >= num_graphs)]
        if wrong.shape[0]:
            expected = f"ids in 0 … {num_graphs - 1}" if num_graphs else "none: the set is empty"
            raise ValueError(f"graph_ids holds {int(wrong[0])}, expected {expected}") from None


def dense(x: Tensor | OneHot) -> Tensor:
    """Return features as a matrix."""
    return x.dense() if isinstance(x, OneHot) else x


def rows_of(x: Tensor | OneHot) -> Tensor:
    """Return features as they are stored: the columns of one-hot features."""
    return x.columns if isinstance(x, OneHot) else x


def gather_edges(
    ptr: Tensor, index: Tensor, nodes: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """Gather the CSR pair of some nodes with unchanged ids: `(nodes + 1,)` and `(edges,)`.

    `places` also applies to the transpose: the edges of a graph begin at the same position in both.
    """
    degree = ptr.index_select(0, nodes + 1) - ptr.index_select(0, nodes)
    return offsets_of(degree), index.index_select(0, places)


def send(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy small int64 tensors to a device in a single transfer."""
    packed = torch.cat([tensor.flatten() for tensor in tensors])
    if device.type == "cuda":
        packed = packed.pin_memory()  # a copy from unpinned memory synchronizes
    packed = packed.to(device, non_blocking=True)
    parts = torch.split_with_sizes(packed, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def consecutive(first: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate runs of consecutive rows.

    Args:
        first, counts: First row and number of rows of each run, `(runs,)`, on the CPU.

    Returns:
        The rows, `(rows,)`, and their differences to their positions in the result.
    """
    shift = torch.repeat_interleave(first - (counts.cumsum(0) - counts), counts)
    return shift + torch.arange(shift.shape[0]), shift
