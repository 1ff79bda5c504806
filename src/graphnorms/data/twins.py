"""Finds isomorphic graphs in a set.

First, colour refinement (`graphnorms.data.colour_refinement`): graphs with different colours are
not isomorphic. Graphs with the same colours are then compared exactly, except for trees, which
colours determine. One node of a shared colour gets a new colour, and refinement continues, until
all colours are distinct: two graphs with equal edges and features, colour by colour, are
isomorphic. If they differ, another choice of nodes may still show an isomorphism, so all choices
are tried. The total work is bounded.

Source: McKay & Piperno, Practical graph isomorphism II, Journal of Symbolic Computation 60, 2014
(individualization and refinement).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from torch import Tensor

from graphnorms.data.colour_refinement import (
    OUT,
    OWN,
    Hashes,
    Packed,
    TooMuchError,
    Work,
    first_of,
    mix,
    runs,
)
from graphnorms.data.integer_arrays import Integers, run_starts
from graphnorms.data.onehot import OneHot

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet

_WORK: Final = 250_000_000  # visited edges and nodes; at most half of it for the colours
_COPIES: Final = 2_000_000  # nodes and edges of the copies of graphs with one colouring


@dataclass(frozen=True, eq=False, kw_only=True)
class Twins:
    """The groups of isomorphic graphs.

    Args:
        same: The first isomorphic graph of each graph, `(graphs,)`.
        alike: Likewise for equal colours: message passing cannot distinguish these graphs.
        undecided: Number of graphs for which the search was too expensive. They count as different,
            so the number of twins is a lower bound.
    """

    same: Integers
    alike: Integers
    undecided: int


def find_twins(graphs: GraphSet, *, structure_only: bool = False) -> Twins:
    """Find isomorphic graphs, regardless of their targets.

    Args:
        graphs: The set.
        structure_only: Ignore the features of nodes and edges.
    """
    return _Search(Packed.of(graphs, structure_only=structure_only)).twins()


def have_same_inputs(graphs: GraphSet) -> bool:
    """Whether all graphs are equal as they are stored, see `GraphSet.same_inputs`."""
    number = len(graphs)
    if number < 2 or graphs.task.level == "node" or graphs.atoms is not None:
        return False
    if not (_repeats(graphs.ptr.diff(), number) and _repeats(graphs.edge_bounds.diff(), number)):
        return False
    x, edges = graphs.kept_x, graphs.kept_edge_features
    parts = [
        graphs.edge_ptr.diff(),
        graphs.edge_index,
        x.columns if isinstance(x, OneHot) else x,
        edges.columns if isinstance(edges, OneHot) else edges,
    ]
    return all(part is None or _repeats(part, number) for part in parts)


def _repeats(rows: Tensor, times: int) -> bool:
    """Whether the rows consist of equal repetitions."""
    if len(rows) % times:
        return False
    parts = rows.view(times, -1)
    return bool((parts == parts[:1]).all())


def node_colours(graphs: GraphSet) -> Integers | None:
    """Number nodes so that message passing cannot distinguish equal numbers, `(nodes,)`.

    This is the stable colouring from the node features over the whole set; None if it is too
    expensive.
    """
    packed = Packed.of(graphs, structure_only=False)
    one = replace(packed, ptr=packed.ptr[[0, -1]])  # refine the set as a single graph
    try:
        return first_of(one.refined(one.start, Work(_WORK)))
    except TooMuchError:
        return None


class _Search:
    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.work = Work(_WORK // 2)

    def twins(self) -> Twins:
        """Find them."""
        colours, members, colour, undecided = self._colour_classes()
        alike, same = first_of(colours), np.arange(len(self.packed))
        among, nodes = self.packed.take(members)
        self.work = Work(_WORK // 2)
        hard = among.without_trees(colour[nodes])
        certificates = self._greedy(hard)
        # Groups of equal certificates, by the first graph with the same colours.
        rivals: dict[int, dict[bytes | int, list[int]]] = {}
        for at, (graph, certificate) in enumerate(zip(members.tolist(), certificates, strict=True)):
            of_colours = rivals.setdefault(int(alike[graph]), {})
            of_colours.setdefault(at if certificate is None else certificate, []).append(at)
        for of_colours in rivals.values():
            for merged, decided in self._settle(list(of_colours.values()), certificates, hard):
                same[members[merged]] = members[merged].min()
                undecided += 0 if decided else len(merged)
        return Twins(same=same, alike=alike, undecided=undecided)

    def _colour_classes(self) -> tuple[Hashes, Integers, Hashes, int]:
        """Distinguish graphs by their colours.

        Returns:
            A number per graph, different for different colours; the graphs that share their
            colours; the stable colours of their nodes, `(nodes,)` over all nodes; and the number of
            graphs that were too expensive to refine, which have unique numbers.
        """
        found = np.zeros(len(self.packed), np.uint64)
        stable = np.zeros(len(self.packed.x), np.uint64)
        ids, nodes = np.arange(len(self.packed)), np.arange(len(stable))
        packed, colour, cells = self.packed, self.packed.start, np.zeros(len(found), np.int64)
        open_ = np.ones(len(ids), dtype=bool)
        members = np.zeros(len(ids), dtype=bool)
        while open_.any():
            hashes = packed.hashes(colour)
            _, inverse, counts = np.unique(hashes[open_], return_inverse=True, return_counts=True)
            shared = open_.copy()
            shared[open_] = counts[inverse] > 1  # the others are unique
            before, cells = cells, packed.cells(colour)
            # Graphs with the same colours become stable together.
            ready = shared & (cells == before)
            found[ids[open_]] = hashes[open_]
            members[ids[ready]] = True
            here = ready[packed.graph]
            stable[nodes[here]] = colour[here]
            open_ = shared & ~ready
            if 2 * packed.work[open_].sum() < packed.work.sum():
                packed, kept = packed.take(np.flatnonzero(open_))
                ids, nodes, colour, cells = ids[open_], nodes[kept], colour[kept], cells[open_]
                open_ = np.ones(len(ids), dtype=bool)
            try:
                colour = packed.step(colour, self.work) if len(ids) else colour
            except TooMuchError:
                found[ids[open_]] = mix(ids[open_].astype(np.uint64))
                return found, np.flatnonzero(members), stable, int(open_.sum())
        return found, np.flatnonzero(members), stable, 0

    def _greedy(self, packed: Packed) -> list[bytes | None]:
        """Return certificates for one order of the nodes of each graph; None if too expensive."""
        found: list[bytes | None] = [None] * len(packed)
        ids = np.arange(len(packed))
        colour = _ranked(packed, packed.start)
        try:
            while len(ids):
                colour = packed.refined(colour, self.work)
                first, size, _ = _chosen_cell(packed, colour)
                if len(done := np.flatnonzero(size == 0)):
                    finished, nodes = packed.take(done)
                    texts = finished.certificates(colour[nodes])
                    for at, text in zip(ids[done], texts, strict=True):
                        found[at] = text
                open_ = np.flatnonzero(size)
                colour[first[open_]] = mix(colour[first[open_]] + OWN)
                ids, (packed, nodes) = ids[open_], packed.take(open_)
                colour = colour[nodes]
        except TooMuchError:
            pass
        return found

    def _settle(
        self, groups: Sequence[list[int]], certificates: Sequence[bytes | None], packed: Packed
    ) -> list[tuple[list[int], bool]]:
        """Merge groups of isomorphic graphs; also return whether the result is certain."""
        if len(groups) == 1:
            return [(groups[0], True)]
        if any(certificates[group[0]] is None for group in groups):
            return [(group, False) for group in groups]
        try:
            names = self._canonical(packed.take(np.array([group[0] for group in groups]))[0])
        except TooMuchError:
            return [(group, False) for group in groups]
        merged: dict[object, list[int]] = {}
        for name, group in zip(names, groups, strict=True):
            merged.setdefault(name, []).extend(group)
        return [(sorted(group), True) for group in merged.values()]

    def _canonical(self, packed: Packed) -> list[object]:
        """Return names of graphs with the same colours, equal iff the graphs are isomorphic.

        All nodes of a cell are tried, each in a copy of its graph. The copies with the smallest
        hash are kept, which is the same choice in isomorphic graphs.
        """
        names: list[tuple[object, ...]] = [()] * len(packed)
        owner = np.arange(len(packed))
        colour = _ranked(packed, packed.start)
        while len(owner):
            colour = packed.refined(colour, self.work)
            hashes = packed.hashes(colour)
            least = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
            np.minimum.at(least, owner, hashes)
            for one in np.unique(owner):
                names[one] = (*names[one], int(least[one]))
            counts = Counter(names)
            several = np.array([counts[names[one]] > 1 for one in owner])
            kept = np.flatnonzero((hashes == least[owner]) & several)
            (packed, nodes), owner = packed.take(kept), owner[kept]
            colour = colour[nodes]
            _, size, cells = _chosen_cell(packed, colour)
            if len(done := np.flatnonzero(size == 0)):
                finished, nodes = packed.take(done)
                texts: dict[int, bytes] = {}
                for one, text in zip(
                    owner[done], finished.certificates(colour[nodes]), strict=True
                ):
                    texts[one] = min(texts.get(one, text), text)
                for one, text in texts.items():
                    names[one] = (*names[one], text)
            copies = np.repeat(np.arange(len(owner)), size)
            if packed.work[copies].sum() > _COPIES:
                raise TooMuchError
            own = cells - packed.ptr[copies]  # the chosen node of each copy, within its graph
            (packed, nodes), owner = packed.take(copies), owner[copies]
            colour = colour[nodes]
            at = packed.ptr[:-1] + own
            colour[at] = mix(colour[at] + OWN)
        return list(names)


def _chosen_cell(packed: Packed, colour: Hashes) -> tuple[Integers, Integers, Integers]:
    """Return the smallest cell with several nodes of each graph, ties broken by colour.

    Returns:
        Its first node, `(graphs,)`, or -1; its size, or 0; and the nodes of all these cells.
    """
    order, begin = _cells(packed, colour)
    size, head = np.diff(begin), order[begin[:-1]]
    open_ = np.flatnonzero(size > 1)
    graph = packed.graph[head[open_]]
    best = np.lexsort((colour[head[open_]], size[open_], graph))
    graph, open_ = graph[best], open_[best]
    starts = run_starts(graph)
    graph, open_ = graph[starts], open_[starts]
    first, sizes = np.full(len(packed), -1), np.zeros(len(packed), np.int64)
    first[graph], sizes[graph] = head[open_], size[open_]
    return first, sizes, order[runs(begin, open_)[0]]


def _cells(packed: Packed, colour: Hashes) -> tuple[Integers, Integers]:
    """Return the nodes sorted by graph and colour, `(nodes,)`, and the offsets of the cells."""
    order = np.lexsort((colour, packed.graph))
    starts = run_starts(colour[order], packed.graph[order])
    return order, np.append(np.flatnonzero(starts), len(order))


def _ranked(packed: Packed, colour: Hashes) -> Hashes:
    """Distinguish nodes of the same colour with the same neighbours, in any order.

    They are interchangeable, so any order will do.
    """
    own = mix(np.arange(len(colour), dtype=np.uint64) + OWN)
    into, out_of = packed.sums(own)
    loops = packed.source == packed.target
    if loops.any():  # already in the colours
        loop = packed.sent(own[packed.source])[loops]
        np.subtract.at(into, packed.target[loops], loop)
        if out_of is not None:
            np.subtract.at(out_of, packed.target[loops], loop)
    out_of = into if out_of is None else out_of
    ranked = colour + np.uint64(0)
    for seen in ((into, out_of), (into + own, out_of + own))[: 1 if packed.kind is not None else 2]:
        key = mix(mix(mix(colour) + seen[0]) + seen[1])
        order = np.lexsort((key, packed.graph))
        at = np.arange(len(order))
        first = np.maximum.accumulate(np.where(run_starts(key[order], packed.graph[order]), at, 0))
        rank = np.empty(len(order), np.uint64)
        rank[order] = (at - first).astype(np.uint64)
        ranked = np.where(rank > 0, mix(ranked + rank * OUT), ranked)
    return ranked
