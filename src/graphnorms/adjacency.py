"""Adjacency: the edges of a graph or of a batch of graphs as CSR, with the transpose."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.index_checks import INTEGERS, check_offsets
from graphnorms.offsets import offsets_in
from graphnorms.tracing import assert_async, is_plain, is_traced, is_watched, may_keep


class Adjacency:
    """The edges j→i sorted by target i, with the transpose for the backward.

    Row i of the CSR pair `(ptr, index)` lists the sources j of the edges j→i, so that `A x` sums
    over `index[ptr[i]:ptr[i + 1]]`. The backward needs `Aᵀ`, the same edges sorted by source. It is
    stored, because computing it needs a sort; for a symmetric graph, as in most data sets, it is
    `A` itself: the same tensors, not copies.

    Self loops are ordinary edges, and parallel edges count repeatedly.

    Weights and features of edges are not stored here, only their positions: the edge at position k
    of `index` has the number `order[k]`, that at position k of `transpose_index` the number
    `transpose_order[k]`. The two orders differ also for a symmetric graph, since i→j and j→i are
    two edges.

    Shapes: `ptr` and `transpose_ptr` `(nodes + 1,)`; `index`, `transpose_index`, `order` and
    `transpose_order` `(edges,)`; all int64 on one device.

    Args:
        ptr: Offsets of the rows into `index`.
        index: The sources of the edges, row by row.
        transpose_ptr, transpose_index: The same edges sorted by source: row j lists the targets i.
            If omitted, the graph must be symmetric.
        order: The number of the edge at each position; `None` if edges are numbered as in `index`.
        transpose_order: The same for the transpose; `None` computes it at first use.
        validate: Whether to check the contents, including symmetry: two sorts, and one
            synchronization of a GPU. Kernels only check that ids are in range, so disable it only
            for tensors that are correct by construction.

    Raises:
        ValueError: The tensors do not have the shape, dtype and device above; `ptr` does not ascend
            from 0 to `edges`; an id lies outside the nodes; the transpose has other edges; a graph
            without transpose is not symmetric; or the orders are not consistent numberings of the
            edges.
    """

    __slots__ = (
        "_in_degree",
        "_transpose_order",
        "index",
        "num_edges",
        "num_nodes",
        "order",
        "ptr",
        "symmetric",
        "transpose_index",
        "transpose_ptr",
    )

    def __init__(
        self,
        ptr: Tensor,
        index: Tensor,
        transpose_ptr: Tensor | None = None,
        transpose_index: Tensor | None = None,
        *,
        order: Tensor | None = None,
        transpose_order: Tensor | None = None,
        validate: bool = True,
    ) -> None:
        if (transpose_ptr is None) != (transpose_index is None):
            raise ValueError("transpose_ptr and transpose_index must be given together")
        self.symmetric = transpose_ptr is None
        self.ptr, self.index, self.order = ptr, index, order
        self.transpose_ptr = ptr if transpose_ptr is None else transpose_ptr
        self.transpose_index = index if transpose_index is None else transpose_index
        self._transpose_order = transpose_order
        self._in_degree: Tensor | None = None
        self._check_shapes()
        self.num_nodes = ptr.shape[0] - 1
        self.num_edges = index.shape[0]
        if validate:
            self._check_contents()

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, num_nodes: int) -> Adjacency:
        """Sort the edges of PyG's `edge_index`, and check whether the graph is symmetric.

        The sort is stable: the sources of a target keep their order in `edge_index`, and so do the
        targets of a source. Edges are numbered as in `edge_index`, so weights and features of edges
        are given in its order. On a GPU this synchronizes once, for the checks and the symmetry;
        make an Adjacency once per graph and reuse it.

        Args:
            edge_index: `(2, edges)` of any integer dtype: sources above, targets below.
                Duplicates are kept.
            num_nodes: Number of nodes; the ids are `0 … num_nodes - 1`.

        Raises:
            ValueError: `edge_index` has another shape or dtype, `num_nodes` is negative, or an
                id is not a node.
        """
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            raise ValueError(
                f"edge_index has shape {tuple(edge_index.shape)}, expected (2, edges): "
                "sources in the first row, targets in the second"
            )
        if edge_index.dtype not in INTEGERS:
            raise ValueError(f"edge_index is {edge_index.dtype}, expected integers (torch.int64)")
        if num_nodes < 0:
            raise ValueError(f"num_nodes is {num_nodes}, expected 0 or more")
        edge_index = edge_index.long()
        source, target = edge_index  # (edges,) each
        differs = unsorted = True  # assumed in a traced graph
        if is_traced():
            inside = ((edge_index >= 0) & (edge_index < num_nodes)).all()
            assert_async(inside, f"edge_index holds an id outside 0 … {num_nodes} - 1")
        elif source.shape[0]:
            moved = (target.diff() < 0).any()
            forward = _sorted_keys(target, source, num_nodes)
            backward = _sorted_keys(source, target, num_nodes)
            # A single synchronization for all four values.
            low, high, differs, unsorted = torch.stack(
                (edge_index.min(), edge_index.max(), (forward != backward).any(), moved)
            ).tolist()
            del forward, backward
            _check_ids("edge_index", low, high, num_nodes)
        else:
            differs = unsorted = False
        by_target, order = _stable_sort(target) if unsorted else (target, None)
        ptr = offsets_in(by_target, num_nodes)
        index = source.clone() if order is None else source[order]
        if not differs:
            return cls(ptr, index, order=order, validate=False)
        by_source, transpose_order = _stable_sort(source)
        return cls(
            ptr,
            index,
            offsets_in(by_source, num_nodes),
            target[transpose_order],
            order=order,
            transpose_order=transpose_order,
            validate=False,
        )

    @property
    def transpose(self) -> tuple[Tensor, Tensor]:
        """The CSR pair of `Aᵀ`: `(transpose_ptr, transpose_index)`."""
        return self.transpose_ptr, self.transpose_index

    @property
    def transpose_order(self) -> Tensor:
        """The number of the edge at each position of `transpose_index`, `(edges,)`.

        If not given, it is computed at first use, by two sorts.
        """
        if self._transpose_order is None:
            row, transpose_row = self._rows()
            # Both lists have the same edges: equal positions in the sorted lists are equal edges.
            place = torch.argsort(self.index * self.num_nodes + row, stable=True)
            transpose_place = torch.argsort(
                transpose_row * self.num_nodes + self.transpose_index, stable=True
            )
            numbers = torch.empty_like(place)
            numbers[transpose_place] = place if self.order is None else self.order[place]
            if is_watched():
                return numbers  # part of the trace
            self._transpose_order = numbers
        return self._transpose_order

    @property
    def in_degree(self) -> Tensor:
        """Number of edges that end in each node, `(nodes,)` int64; computed at first use."""
        if self._in_degree is not None:
            return self._in_degree
        in_degree = self.ptr.diff()
        if may_keep(self.ptr):
            self._in_degree = in_degree
        return in_degree

    def to_edge_index(self) -> Tensor:
        """Return PyG's `edge_index`, `(2, edges)`: sources above, targets below.

        Edges keep their original order, in which weights and features are given.
        """
        edge_index = torch.stack((self.index, _rows(self.ptr, self.num_edges)))
        if self.order is None:
            return edge_index
        return torch.empty_like(edge_index).index_copy(1, self.order, edge_index)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.ptr.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Adjacency:
        """Return the adjacency on `device`; itself if it is already there."""
        ptr = self.ptr.to(device, non_blocking=non_blocking)
        if ptr is self.ptr:
            return self
        moved = {
            name: tensor.to(device, non_blocking=non_blocking)
            for name, tensor in self._tensors().items()
        }
        return Adjacency(**{**moved, "ptr": ptr}, validate=False)

    def __repr__(self) -> str:
        kind = "symmetric" if self.symmetric else "directed"
        where = "" if self.device.type == "cpu" else f", {self.device}"
        return f"Adjacency({self.num_nodes} nodes, {self.num_edges} edges, {kind}{where})"

    def _tensors(self) -> dict[str, Tensor]:
        """Return the tensors by the name of the argument, without those shared with the
        transpose."""
        tensors = {
            "ptr": self.ptr,
            "index": self.index,
            "transpose_ptr": None if self.symmetric else self.transpose_ptr,
            "transpose_index": None if self.symmetric else self.transpose_index,
            "order": self.order,
            "transpose_order": self._transpose_order,
        }
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def _check_shapes(self) -> None:
        for name, tensor in self._tensors().items():
            if tensor.dim() != 1 or tensor.dtype != torch.int64:
                raise ValueError(
                    f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, "
                    "expected torch.int64 with one dimension"
                )
            if tensor.device != self.ptr.device:
                raise ValueError(
                    f"ptr is on {self.ptr.device} and {name} on {tensor.device}; "
                    "expected one device"
                )
            if name.endswith("order") and tensor.shape != self.index.shape:
                raise ValueError(
                    f"{name} has {tensor.shape[0]} numbers, expected one for each of the "
                    f"{self.index.shape[0]} edges"
                )
        nodes, edges = self.ptr.shape[0] - 1, self.index.shape[0]
        if nodes < 0:
            raise ValueError("ptr is empty, expected nodes + 1 offsets, the first one 0")
        sizes = self.transpose_ptr.shape[0] - 1, self.transpose_index.shape[0]
        if sizes != (nodes, edges):
            raise ValueError(
                f"the transpose has {sizes[0]} nodes and {sizes[1]} edges, expected {nodes} and "
                f"{edges} like the adjacency itself"
            )

    def _check_contents(self) -> None:
        for prefix, ptr, index in (
            ("", self.ptr, self.index),
            ("transpose_", self.transpose_ptr, self.transpose_index),
        )[: 1 if self.symmetric else 2]:
            check_offsets(ptr, self.num_edges, f"{prefix}ptr", "edges")
            if self.num_edges:
                low, high = (int(end) for end in torch.aminmax(index))
                _check_ids(f"{prefix}index", low, high, self.num_nodes)
        row, transpose_row = self._rows()
        edges = _sorted_keys(row, self.index, self.num_nodes)
        transposed = _sorted_keys(self.transpose_index, transpose_row, self.num_nodes)
        if not torch.equal(edges, transposed):
            raise ValueError(
                "the graph is not symmetric; pass its transpose, or use "
                "Adjacency.from_edge_index, which computes it"
                if self.symmetric
                else "transpose_ptr and transpose_index have other edges than ptr and index"
            )
        numbers = torch.arange(self.num_edges, device=self.device)
        for name, order in (("order", self.order), ("transpose_order", self._transpose_order)):
            if order is not None and not torch.equal(torch.sort(order)[0], numbers):
                raise ValueError(
                    f"{name} does not hold each of the numbers 0 … {self.num_edges - 1} once, "
                    "one for every edge"
                )
        if self._transpose_order is not None:
            place = torch.argsort(numbers if self.order is None else self.order)
            place = place[self._transpose_order]  # of each edge of the transpose in `index`
            if not (
                torch.equal(self.index[place], transpose_row)
                and torch.equal(row[place], self.transpose_index)
            ):
                raise ValueError(
                    "transpose_order is not consistent with "
                    f"{'index' if self.order is None else 'order'}; omit it to compute it"
                )

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Return the row of every entry of `index` and of `transpose_index`, `(edges,)` each."""
        return _rows(self.ptr, self.num_edges), _rows(self.transpose_ptr, self.num_edges)


def _check_ids(name: str, low: int, high: int, num_nodes: int) -> None:
    if low < 0 or high >= num_nodes:
        nodes = f"0 … {num_nodes - 1}" if num_nodes else "none, for there are no nodes"
        raise ValueError(
            f"{name} holds node id {low if low < 0 else high}, expected ids in {nodes}"
        )


def _rows(ptr: Tensor, num_edges: int) -> Tensor:
    """The row of every entry, `(edges,)`."""
    return torch.repeat_interleave(ptr.diff(), output_size=num_edges)


def _sorted_keys(row: Tensor, column: Tensor, num_nodes: int) -> Tensor:
    """Encode edges as sorted numbers, which are equal for two lists of the same edges."""
    return _sort(row * num_nodes + column)


def _stable_sort(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Sort ids from 0, equal ones in their order; return them and the order."""
    bits = ids.shape[0].bit_length()
    if not _sorts_by_numpy(ids) or int(ids.max()).bit_length() + bits > 63:
        return torch.sort(ids, stable=True)
    # Ids and positions as one number each: distinct ones have one order.
    keys = _sort((ids << bits) + torch.arange(ids.shape[0]))
    return keys >> bits, keys & ((1 << bits) - 1)


def _sort(keys: Tensor) -> Tensor:
    """Sort fresh numbers, which may be overwritten."""
    if not _sorts_by_numpy(keys):
        return torch.sort(keys)[0]
    keys.numpy().sort()  # vectorized, and without the order that torch returns as well
    return keys


def _sorts_by_numpy(keys: Tensor) -> bool:
    return keys.is_cpu and keys.shape[0] > 0 and is_plain(keys)
