"""Colour refinement (1-WL) of many graphs at once, in NumPy.

The new colour of a node is a 64-bit hash of its old colour and its neighbours' colours, combined
with the features of the edges between. A cell is the set of nodes of one colour. Each graph is
refined until a step splits none of its cells: further steps would distinguish no more graphs.

Source: Weisfeiler & Leman, 1968.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.batch import consecutive
from graphnorms.data.integer_arrays import Integers, offsets, run_starts
from graphnorms.data.onehot import OneHot

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet

Hashes = NDArray[np.uint64]

_ROUND = 20_000  # minimal cost of a refinement step, in visited edges and nodes
_PEELED = 1000  # maximal number of rounds of removing leaves
_ODD, OWN, OUT = (
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA24BAED4963EE407)
)


class TooMuchError(Exception):
    """The work budget is spent."""


@dataclass
class Work:
    """The remaining work, in visited edges and nodes; a core visits 40 million per second."""

    left: int

    def spend(self, visits: int) -> None:
        """Reduce the budget.

        Raises:
            TooMuchError: The budget is spent.
        """
        self.left -= visits + _ROUND
        if self.left < 0:
            raise TooMuchError


@dataclass(frozen=True, eq=False)
class Packed:
    """Concatenated graphs, edges sorted by target; ids are over all graphs.

    Args:
        ptr: Where each graph's nodes begin, `(graphs + 1,)`.
        edge_ptr: Where each node's edges begin, `(nodes + 1,)`.
        source: Source of each edge, `(edges,)`.
        x: Hash of each node's features, `(nodes,)`.
        kind: Hash of each edge's features, `(edges,)`; None if edges have none.
        directed: Whether some edges have no reverse.
    """

    ptr: Integers
    edge_ptr: Integers
    source: Integers
    x: Hashes
    kind: Hashes | None
    directed: bool

    @classmethod
    def of(cls, graphs: GraphSet, *, structure_only: bool) -> Packed:
        """Pack a set, with or without its features."""
        graphs = graphs.to("cpu")
        ptr, edge_ptr = graphs.ptr.numpy(), graphs.edge_ptr.numpy()
        first = np.repeat(np.repeat(ptr[:-1], np.diff(ptr)), np.diff(edge_ptr))
        edge_features = None if structure_only else graphs.kept_edge_features
        return cls(
            ptr,
            edge_ptr,
            graphs.edge_index.numpy() + first,
            np.ones(graphs.num_nodes, np.uint64) if structure_only else _row_hash(graphs.kept_x),
            None if edge_features is None else _row_hash(edge_features),
            not graphs.symmetric,
        )

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self.ptr) - 1

    @cached_property
    def sizes(self) -> Integers:
        """Number of nodes of each graph, `(graphs,)`."""
        return np.diff(self.ptr)

    @cached_property
    def work(self) -> Integers:
        """Nodes plus edges of each graph, `(graphs,)`."""
        return self.sizes + np.diff(self.edge_ptr[self.ptr])

    @cached_property
    def graph(self) -> Integers:
        """The graph of each node, `(nodes,)`."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @cached_property
    def target(self) -> Integers:
        """Target of each edge, `(edges,)`."""
        return np.repeat(np.arange(len(self.x)), np.diff(self.edge_ptr))

    @cached_property
    def by_source(self) -> tuple[Integers, Integers]:
        """The edges in the order of their sources, and the offsets of the nodes."""
        counts = np.bincount(self.source, minlength=len(self.x))
        return np.argsort(self.source, kind="stable"), offsets(counts)

    @cached_property
    def start(self) -> Hashes:
        """The initial colours from features and loops, `(nodes,)`."""
        loops = self.source == self.target
        if not loops.any():
            return mix(self.x)
        kinds = np.ones(int(loops.sum()), np.uint64) if self.kind is None else self.kind[loops]
        of_node = np.zeros(len(self.x), np.uint64)
        np.add.at(of_node, self.source[loops], mix(kinds))
        return mix(self.x + OWN * of_node)

    def take(self, ids: Integers) -> tuple[Packed, Integers]:
        """Select graphs, possibly repeatedly; also return the ids of their nodes."""
        nodes, ptr = runs(self.ptr, ids)
        places, edge_ptr = runs(self.edge_ptr, nodes)
        shift = np.repeat(ptr[:-1] - self.ptr[ids], np.diff(edge_ptr[ptr]))  # (edges,)
        kind = None if self.kind is None else self.kind[places]
        source = self.source[places] + shift
        return Packed(ptr, edge_ptr, source, self.x[nodes], kind, self.directed), nodes

    def without_trees(self, colour: Hashes) -> Packed:
        """Remove leaves repeatedly; the features of the result are the colours.

        Stable colours determine the trees attached to a node, and components that are trees: two
        graphs with the same colours are isomorphic iff their remainders are.

        Args:
            colour: The stable colours, `(nodes,)`.
        """
        degree = np.diff(self.edge_ptr) - np.bincount(
            self.target[self.source == self.target], minlength=len(self.x)
        )
        if self.directed:
            degree += np.diff(self.by_source[1]) - np.bincount(
                self.source[self.source == self.target], minlength=len(self.x)
            )
        left = np.ones(len(self.x), dtype=bool)
        leaves = np.flatnonzero(degree <= 1)
        for _ in range(_PEELED):
            if not len(leaves):
                break
            left[leaves] = False
            others = self._neighbours(leaves)
            np.subtract.at(degree, others, 1)
            leaves = np.unique(others[left[others] & (degree[others] <= 1)])
        kept = left[self.source] & left[self.target]
        place = np.cumsum(left) - 1
        return replace(
            self,
            ptr=offsets(left)[self.ptr],
            edge_ptr=offsets(np.bincount(self.target[kept], minlength=len(left))[left]),
            source=place[self.source[kept]],
            x=colour[left],
            kind=None if self.kind is None else self.kind[kept],
        )

    def _neighbours(self, nodes: Integers) -> Integers:
        places, _ = runs(self.edge_ptr, nodes)
        found = self.source[places]
        if self.directed:
            order, ptr = self.by_source
            found = np.append(found, self.target[order[runs(ptr, nodes)[0]]])
        return found

    def step(self, colour: Hashes, work: Work) -> Hashes:
        """Refine the colours once."""
        work.spend(int(self.work.sum()))
        into, out_of = self.sums(mix(colour))
        if out_of is not None:
            into = into + OUT * mix(out_of)
        return mix(colour * _ODD + into)

    def refined(self, colour: Hashes, work: Work) -> Hashes:
        """Refine each graph until a step splits none of its cells."""
        found, packed, nodes = colour.copy(), self, np.arange(len(colour))
        cells, dividing = packed.cells(colour), np.ones(len(packed), dtype=bool)
        while True:
            colour = packed.step(colour, work)
            here = dividing[packed.graph]
            found[nodes[here]] = colour[here]
            before, cells = cells, packed.cells(colour)
            dividing &= cells > before
            if not dividing.any():
                return found
            if 2 * packed.work[dividing].sum() < packed.work.sum():
                packed, kept = packed.take(np.flatnonzero(dividing))
                nodes, colour, cells = nodes[kept], colour[kept], cells[dividing]
                dividing = np.ones(len(packed), dtype=bool)

    def sums(self, value: Hashes) -> tuple[Hashes, Hashes | None]:
        """Sum over the sources of each node, and over its targets if the graphs are directed."""
        sums = _segment_sums(self.sent(value[self.source]), self.edge_ptr)
        if not self.directed:
            return sums, None
        order, ptr = self.by_source
        return sums, _segment_sums(self.sent(value[self.target])[order], ptr)

    def sent(self, value: Hashes) -> Hashes:
        """Combine values of the edges' ends with the edge features, `(edges,)`."""
        return value if self.kind is None else mix(value ^ self.kind)

    def hashes(self, colour: Hashes) -> Hashes:
        """Hash the colours and the size of each graph, `(graphs,)`."""
        return _segment_sums(mix(colour), self.ptr) + OWN * self.sizes.astype(np.uint64)

    def cells(self, colour: Hashes) -> Integers:
        """Count the cells of each graph, `(graphs,)`."""
        bits = np.uint64(max(1, len(self).bit_length()))
        above = np.uint64(64) - bits
        keys = np.sort((self.graph.astype(np.uint64) << above) | (mix(colour) >> bits))
        return np.bincount((keys[run_starts(keys)] >> above).astype(np.int64), minlength=len(self))

    def certificates(self, colour: Hashes) -> list[bytes]:
        """Hash the content of each graph in the order of its colours, which must be distinct.

        Equal certificates mean isomorphic graphs, up to collisions of BLAKE2b.
        """
        order = np.lexsort((colour, self.graph))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order)) - np.repeat(self.ptr[:-1], self.sizes)
        bounds = self.edge_ptr[self.ptr]
        of_graph = np.diff(bounds)
        first = np.repeat(offsets(self.sizes**2)[:-1], of_graph)  # (edges,)
        keys = np.repeat(rank, np.diff(self.edge_ptr)) * np.repeat(self.sizes, of_graph)
        keys += first + rank[self.source]
        if self.kind is None:
            edges = (np.sort(keys) - first)[:, None]
        else:
            by_key = np.lexsort((self.kind, keys))
            edges = np.stack((keys[by_key] - first, self.kind[by_key].view(np.int64)), 1)
        x = self.x[order]
        return [
            blake2b(
                x[self.ptr[g] : self.ptr[g + 1]].tobytes()
                + edges[bounds[g] : bounds[g + 1]].tobytes(),
                digest_size=20,
            ).digest()
            for g in range(len(self))
        ]


def first_of(numbers: Hashes) -> Integers:
    """Return the position of the first occurrence of each number, `(numbers,)`."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return first[inverse]


def mix(values: Hashes) -> Hashes:
    """Mix the bits of each number bijectively: the finalizer of SplitMix64."""
    values = values + _ODD
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def runs(ptr: Integers, ids: Integers) -> tuple[Integers, Integers]:
    """Concatenate some runs of `ptr`; return their positions and new offsets."""
    first, counts = ptr[ids], ptr[ids + 1] - ptr[ids]
    places, _ = consecutive(torch.from_numpy(first), torch.from_numpy(counts))
    return places.numpy(), offsets(counts)


def _row_hash(rows: Tensor | OneHot) -> Hashes:
    """Hash each row, `(rows,)`."""
    values = rows.columns if isinstance(rows, OneHot) else rows + 0.0  # -0 is 0
    if values.is_floating_point():
        values = values.contiguous().view(torch.int32)
    found = np.zeros(values.shape[0], np.uint64)
    for column in values.T:  # sequentially, so that the order of columns matters
        found = mix(found ^ column.numpy().astype(np.int64).view(np.uint64))
    return found


def _segment_sums(values: Hashes, ptr: Integers) -> Hashes:
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=sums[1:])
    return sums[ptr[1:]] - sums[ptr[:-1]]
