"""Which graphs of a set are the same but for the order of their nodes.

Colour refinement (1-WL) comes first: it hashes what each node sees of its neighbours, again and
again, and graphs whose colours differ are proved to differ. Graphs with the same colours are then
compared exactly. One node of a colour that several have is given a colour of its own, and
refinement goes on, until every node has its own: two graphs whose edges and features are then the
same, colour by colour, are isomorphic. Where they are not the same, another choice of the nodes
could have shown that they are, so all choices are gone through; the work on that is bounded.

All graphs are refined at once, in NumPy. Features enter as 64-bit hashes of their values.

Source: Weisfeiler & Leman, 1968; McKay & Piperno, Practical graph isomorphism II, Journal of
Symbolic Computation 60, 2014 (individualization and refinement).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.gather import consecutive
from graphnorms.data.onehot import OneHot

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet

Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]

_WORK = 500_000_000  # edges and nodes visited, some 20 seconds of one core
_COPIES = 2_000_000  # nodes and edges of the copies of the graphs of one colouring

_ODD, _OWN, _OUT = (
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA24BAED4963EE407)
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Twins:
    """Which graphs are the same but for the order of their nodes.

    Args:
        same: Isomorphic graphs have the same number here, that of the first of them, `(graphs,)`.
        alike: Likewise of graphs with the same colours: message passing cannot tell them apart.
        undecided: Graphs that may have a twin which it was too much work to find. They count as
            different, so that there can only be more twins than told.
    """

    same: Integers
    alike: Integers
    undecided: int


def find_twins(graphs: GraphSet, *, structure_only: bool = False) -> Twins:
    """Find the graphs that are the same but for the order of their nodes, their targets aside.

    Args:
        graphs: The set.
        structure_only: Leave out the features of nodes and edges. Otherwise graphs are the same
            only if a model, which sees the features as well, cannot but treat them alike.
    """
    packed = _Packed.of(graphs, structure_only=structure_only)
    return _Search(packed).twins()


def node_colours(graphs: GraphSet) -> Integers | None:
    """Number nodes so that those with one number look alike to all message passing, `(nodes,)`.

    That is the stable colouring by refinement from the node features, through the whole set; None
    where it is too much work.
    """
    packed = _Packed.of(graphs, structure_only=False)
    try:
        return _first_of(_Search(packed).refined(packed, packed.start))
    except _TooMuchError:
        return None


@dataclass(frozen=True, eq=False)
class _Packed:
    """Graphs below each other, edges by target; ids count through all of them.

    Args:
        ptr: Where each graph's nodes begin, `(graphs + 1,)`.
        edge_ptr: Where each node's edges begin, `(nodes + 1,)`.
        source: Of each edge, `(edges,)`.
        x: Hash of each node's features, `(nodes,)`.
        kind: Hash of each edge's features, `(edges,)`; None if edges have none.
        directed: Whether some edges go in one direction only.
    """

    ptr: Integers
    edge_ptr: Integers
    source: Integers
    x: Hashes
    kind: Hashes | None
    directed: bool

    @classmethod
    def of(cls, graphs: GraphSet, *, structure_only: bool) -> _Packed:
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
        return len(self.ptr) - 1

    @property
    def work(self) -> int:
        """What it takes to go through all of it once."""
        return len(self.x) + len(self.source)

    @cached_property
    def graph(self) -> Integers:
        """The graph of each node, `(nodes,)`."""
        return np.repeat(np.arange(len(self)), np.diff(self.ptr))

    @cached_property
    def target(self) -> Integers:
        """Of each edge, `(edges,)`."""
        return np.repeat(np.arange(len(self.x)), np.diff(self.edge_ptr))

    @cached_property
    def by_source(self) -> tuple[Integers, Integers]:
        """The edges in the order of their sources, and where each node's begin."""
        counts = np.bincount(self.source, minlength=len(self.x))
        return np.argsort(self.source, kind="stable"), _offsets(counts)

    @cached_property
    def start(self) -> Hashes:
        """The colours to begin with: features and loops, `(nodes,)`."""
        loops = self.source == self.target
        if not loops.any():
            return _mix(self.x)
        kinds = np.ones(int(loops.sum()), np.uint64) if self.kind is None else self.kind[loops]
        of_node = np.zeros(len(self.x), np.uint64)
        np.add.at(of_node, self.source[loops], _mix(kinds))
        return _mix(self.x + _OWN * of_node)

    def take(self, ids: Integers) -> tuple[_Packed, Integers]:
        """Some graphs, possibly several times, and which nodes theirs are."""
        nodes, ptr = _runs(self.ptr, ids)
        places, edge_ptr = _runs(self.edge_ptr, nodes)
        shift = np.repeat(ptr[:-1] - self.ptr[ids], np.diff(edge_ptr[ptr]))  # (edges,)
        kind = None if self.kind is None else self.kind[places]
        source = self.source[places] + shift
        return _Packed(ptr, edge_ptr, source, self.x[nodes], kind, self.directed), nodes

    def sums(self, value: Hashes) -> tuple[Hashes, Hashes | None]:
        """The sum over the sources of each node, and over its targets if they are others."""
        sums = _segment_sums(self._sent(value[self.source]), self.edge_ptr)
        if not self.directed:
            return sums, None
        order, ptr = self.by_source
        return sums, _segment_sums(self._sent(value[self.target])[order], ptr)

    def _sent(self, value: Hashes) -> Hashes:
        return value if self.kind is None else _mix(value ^ self.kind)

    def hashes(self, colour: Hashes) -> Hashes:
        """A hash of the colours of each graph, `(graphs,)`."""
        return _segment_sums(_mix(colour), self.ptr)

    def count(self, colour: Hashes) -> int:
        """How many cells there are, of one colour in one graph each."""
        cells = np.sort(_mix(colour + _OWN * self.graph.astype(np.uint64)))
        return int((cells[1:] != cells[:-1]).sum()) + bool(len(cells))

    def cells(self, colour: Hashes) -> tuple[Integers, Integers]:
        """Nodes by graph and colour, `(nodes,)`, and where each cell of one colour begins."""
        order = np.lexsort((colour, self.graph))
        one, graph = colour[order], self.graph[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (one[1:] != one[:-1]) | (graph[1:] != graph[:-1])
        return order, np.append(np.flatnonzero(new), len(order))

    def certificates(self, colour: Hashes) -> list[bytes]:
        """All that each graph holds, in the order of its nodes' colours, each its own."""
        order = np.lexsort((colour, self.graph))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order)) - np.repeat(self.ptr[:-1], np.diff(self.ptr))
        source, target = rank[self.source], rank[self.target]
        kind = np.zeros(len(source), np.uint64) if self.kind is None else self.kind
        of_edge = self.graph[self.target]
        edges = np.stack((source.astype(np.uint64), target.astype(np.uint64), kind), 1)
        edges = edges[np.lexsort((kind, source, target, of_edge))]
        x, bounds = self.x[order], self.edge_ptr[self.ptr]
        return [
            x[self.ptr[g] : self.ptr[g + 1]].tobytes() + edges[bounds[g] : bounds[g + 1]].tobytes()
            for g in range(len(self))
        ]


class _TooMuchError(Exception):
    """The work allowed is done."""


class _Search:
    def __init__(self, packed: _Packed) -> None:
        self.packed = packed
        self.left = _WORK

    def twins(self) -> Twins:
        """Find them."""
        packed = self.packed
        colours, members, among, colour = self._colour_classes()
        alike = _first_of(colours)
        same = np.arange(len(packed))
        undecided = 0
        if among is None:
            undecided, members = len(members), members[:0]
        certificates = self._greedy(among, colour) if among is not None else []
        groups: dict[tuple[int, bytes | int], list[int]] = {}
        for graph, certificate in zip(members.tolist(), certificates, strict=True):
            key: bytes | int = graph if certificate is None else certificate
            groups.setdefault((int(alike[graph]), key), []).append(graph)
        rivals: dict[int, list[list[int]]] = {}
        for (first, _), group in groups.items():
            rivals.setdefault(first, []).append(group)
        for of_colours in rivals.values():
            for merged, decided in self._settle(of_colours, certificates, members):
                same[merged] = min(merged)
                undecided += 0 if decided else len(merged)
        return Twins(same=same, alike=alike, undecided=undecided)

    def refined(self, packed: _Packed, colour: Hashes) -> Hashes:
        """Refine colours until no cell divides any more."""
        cells = packed.count(colour)
        while True:
            colour = self._step(packed, colour)
            before, cells = cells, packed.count(colour)
            if cells == before:
                return colour

    def _step(self, packed: _Packed, colour: Hashes) -> Hashes:
        self.left -= packed.work
        if self.left < 0:
            raise _TooMuchError
        into, out_of = packed.sums(_mix(colour))
        if out_of is not None:
            into = into + _OUT * _mix(out_of)
        return _mix(colour * _ODD + into)

    def _colour_classes(self) -> tuple[Hashes, Integers, _Packed | None, Hashes]:
        """Tell graphs of other colours apart.

        Returns:
            A number for each graph, other numbers for graphs of other colours; the graphs that
            have the colours of another; those packed; and their stable colours. Where there are
            none packed it was too much work to refine these graphs, which have a number each.
        """
        found = np.zeros(len(self.packed), np.uint64)
        ids, packed, colour = np.arange(len(self.packed)), self.packed, self.packed.start
        cells = -1
        while len(ids):
            found[ids] = packed.hashes(colour) + _OWN * np.diff(packed.ptr).astype(np.uint64)
            _, inverse, counts = np.unique(found[ids], return_inverse=True, return_counts=True)
            kept = np.flatnonzero(counts[inverse] > 1)  # the others are told from all others
            if len(kept) < len(ids):
                ids, (packed, nodes) = ids[kept], packed.take(kept)
                colour = colour[nodes]
            before, cells = cells, packed.count(colour)
            if cells == before and len(kept) == len(inverse):
                break
            try:
                colour = self._step(packed, colour)
            except _TooMuchError:
                found[ids] = _mix(ids.astype(np.uint64))
                return found, ids, None, colour
        return found, ids, packed, colour

    def _greedy(self, packed: _Packed, colour: Hashes) -> list[bytes | None]:
        """What graphs hold in an order of their nodes; None where that was too much work."""
        found: list[bytes | None] = [None] * len(packed)
        ids = np.arange(len(packed))
        try:
            if len(ids):
                colour = _ranked(packed, colour)
            while len(ids):
                colour = self.refined(packed, colour)
                chosen = _chosen_cell(packed, colour)
                done = np.flatnonzero(chosen[1] == 0)
                if len(done):
                    finished, nodes = packed.take(done)
                    for at, text in zip(
                        ids[done], finished.certificates(colour[nodes]), strict=True
                    ):
                        found[at] = text
                open_ = np.flatnonzero(chosen[1])
                colour = colour.copy()
                colour[chosen[0][open_]] = _mix(colour[chosen[0][open_]] + _OWN)
                ids, (packed, nodes) = ids[open_], packed.take(open_)
                colour = colour[nodes]
        except _TooMuchError:
            pass
        return found

    def _settle(
        self, groups: Sequence[list[int]], certificates: Sequence[bytes | None], members: Integers
    ) -> list[tuple[list[int], bool]]:
        """Groups of the same colours, those merged that are the same; and whether that is sure."""
        if len(groups) == 1:
            return [(groups[0], True)]
        place = np.searchsorted(members, [group[0] for group in groups])
        if any(certificates[at] is None for at in place):
            return [(group, False) for group in groups]
        names: list[object]
        try:
            names = self._canonical(np.array([group[0] for group in groups]))
        except _TooMuchError:
            return [(group, False) for group in groups]
        merged: dict[object, list[int]] = {}
        for name, group in zip(names, groups, strict=True):
            merged.setdefault(name, []).extend(group)
        return [(sorted(group), True) for group in merged.values()]

    def _canonical(self, ids: Integers) -> list[object]:
        """Names of graphs of the same colours, equal exactly for those that are the same.

        All nodes of a cell are tried, each in a copy of its graph. Of the copies those with the
        smallest hash stay, which is the same choice in isomorphic graphs.
        """
        names: list[tuple[object, ...]] = [()] * len(ids)
        owner = np.arange(len(ids))
        packed, _ = self.packed.take(ids)
        colour = _ranked(packed, self.refined(packed, packed.start))
        while len(owner):
            colour = self.refined(packed, colour)
            hashes = packed.hashes(colour)
            least = np.full(len(ids), np.iinfo(np.uint64).max, np.uint64)
            np.minimum.at(least, owner, hashes)
            for one in np.unique(owner):
                names[one] = (*names[one], int(least[one]))
            counts = {name: names.count(name) for name in set(names)}
            kept = np.flatnonzero(
                (hashes == least[owner]) & np.array([counts[names[one]] > 1 for one in owner])
            )
            (packed, nodes), owner = packed.take(kept), owner[kept]
            colour = colour[nodes]
            _, size, cells = _chosen_cell(packed, colour)
            done = np.flatnonzero(size == 0)
            if len(done):
                finished, nodes = packed.take(done)
                texts: dict[int, bytes] = {}
                for one, text in zip(
                    owner[done], finished.certificates(colour[nodes]), strict=True
                ):
                    texts[one] = min(texts.get(one, text), text)
                for one, text in texts.items():
                    names[one] = (*names[one], text)
            copies = np.repeat(np.arange(len(owner)), size)
            if (
                np.diff(packed.ptr)[copies] + np.diff(packed.edge_ptr[packed.ptr])[copies]
            ).sum() > _COPIES:
                raise _TooMuchError
            own = cells - packed.ptr[copies]  # the node of each copy, within its graph
            (packed, nodes), owner = packed.take(copies), owner[copies]
            colour = colour[nodes]
            at = packed.ptr[:-1] + own
            colour[at] = _mix(colour[at] + _OWN)
        return list(names)


def _chosen_cell(packed: _Packed, colour: Hashes) -> tuple[Integers, Integers, Integers]:
    """The smallest cell of several nodes of each graph, of these the one of the least colour.

    Returns:
        Its first node, `(graphs,)`, or -1; its size, or 0; and all nodes of all of them.
    """
    order, begin = packed.cells(colour)
    size, head = np.diff(begin), order[begin[:-1]]
    open_ = np.flatnonzero(size > 1)
    graph = packed.graph[head[open_]]
    best = np.lexsort((colour[head[open_]], size[open_], graph))
    graph, open_ = graph[best], open_[best]
    new = np.ones(len(graph), dtype=bool)
    new[1:] = graph[1:] != graph[:-1]
    graph, open_ = graph[new], open_[new]
    first, sizes = np.full(len(packed), -1), np.zeros(len(packed), np.int64)
    first[graph], sizes[graph] = head[open_], size[open_]
    return first, sizes, order[_runs(begin, open_)[0]]


def _ranked(packed: _Packed, colour: Hashes) -> Hashes:
    """Number the nodes of one colour that have the same neighbours, in any order.

    They can change places without anything else changing, so that one order is as good as any.
    """
    own = _mix(np.arange(len(colour), dtype=np.uint64) * _ODD + _OWN)
    into, out_of = packed.sums(own)
    loops = packed.source == packed.target
    if loops.any():  # these are in the colours
        loop = packed._sent(own[packed.source])[loops]
        np.subtract.at(into, packed.target[loops], loop)
        if out_of is not None:
            np.subtract.at(out_of, packed.target[loops], loop)
    out_of = into if out_of is None else out_of
    ranked = colour + np.uint64(0)
    for seen in ((into, out_of), (into + own, out_of + own))[: 1 if packed.kind is not None else 2]:
        key = _mix(_mix(_mix(colour) + seen[0]) + seen[1])
        order = np.lexsort((key, packed.graph))
        same = np.zeros(len(order), dtype=bool)
        same[1:] = (key[order][1:] == key[order][:-1]) & (
            packed.graph[order][1:] == packed.graph[order][:-1]
        )
        starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
        rank = np.empty(len(order), np.uint64)
        rank[order] = (np.arange(len(order)) - starts).astype(np.uint64)
        ranked = np.where(rank > 0, _mix(ranked + rank * _OUT), ranked)
    return ranked


def _first_of(numbers: Hashes) -> Integers:
    """The place of the first of each number, `(numbers,)`."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return first[inverse]


def _row_hash(rows: Tensor | OneHot) -> Hashes:
    """A hash of each row, `(rows,)`."""
    values = rows.columns if isinstance(rows, OneHot) else rows + 0.0  # -0 is 0
    if values.is_floating_point():
        values = values.contiguous().view(torch.int32)
    found = np.zeros(values.shape[0], np.uint64)
    for column in values.T:  # mixed one after the other, so that their order counts
        found = _mix(found ^ column.numpy().astype(np.int64).view(np.uint64))
    return found


def _mix(values: Hashes) -> Hashes:
    """Mix the bits of each number, one to one: the end of SplitMix64."""
    values = values + _ODD
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _segment_sums(values: Hashes, ptr: Integers) -> Hashes:
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=sums[1:])
    return sums[ptr[1:]] - sums[ptr[:-1]]


def _offsets(counts: Integers) -> Integers:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))


def _runs(ptr: Integers, ids: Integers) -> tuple[Integers, Integers]:
    """The places of some runs of `ptr`, one below the other, and where each begins there."""
    first, counts = ptr[ids], ptr[ids + 1] - ptr[ids]
    places, _ = consecutive(torch.from_numpy(first), torch.from_numpy(counts))
    return places.numpy(), _offsets(counts)
