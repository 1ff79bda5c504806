"""Which graphs of a set are the same but for the order of their nodes.

Colour refinement comes first (`graphnorms.data.colour_refinement`): graphs whose colours differ are
proved to differ. Graphs with the same colours are then compared exactly. Trees are not: colours
tell them apart. Of what is left, one node of a colour that several have is given a colour of its
own, and refinement goes on, until every node has its own: two graphs whose edges and features are
then the same, colour by colour, are isomorphic. Where they are not the same, another choice of the
nodes could have shown that they are, so all choices are gone through. The work on all that is
bounded.

Source: McKay & Piperno, Practical graph isomorphism II, Journal of Symbolic Computation 60, 2014
(individualization and refinement).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

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

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet

_WORK: Final = 250_000_000  # edges and nodes visited: half of it at most for the colours
_COPIES: Final = 2_000_000  # nodes and edges of the copies of the graphs of one colouring


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
    return _Search(Packed.of(graphs, structure_only=structure_only)).twins()


def node_colours(graphs: GraphSet) -> Integers | None:
    """Number nodes so that those with one number look alike to all message passing, `(nodes,)`.

    That is the stable colouring by refinement from the node features, through the whole set; None
    where it is too much work.
    """
    packed = Packed.of(graphs, structure_only=False)
    one = replace(packed, ptr=packed.ptr[[0, -1]])  # as one graph, which is refined as one
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
        # Groups of one certificate, by the first graph of the same colours.
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
        """Tell graphs of other colours apart.

        Returns:
            A number for each graph, other numbers for graphs of other colours; the graphs that
            have the colours of another; the stable colours of their nodes, `(nodes,)`, of all
            nodes; and how many graphs it was too much work to refine, which have a number each.
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
            shared[open_] = counts[inverse] > 1  # the others are told from all others
            before, cells = cells, packed.cells(colour)
            # Graphs of the same colours became stable together: they are as they will be.
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
        """What graphs hold in an order of their nodes; None where that was too much work."""
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
        """Groups of the same colours, those merged that are the same; and whether that is sure."""
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
        """Names of graphs of the same colours, equal exactly for those that are the same.

        All nodes of a cell are tried, each in a copy of its graph. Of the copies those with the
        smallest hash stay, which is the same choice in isomorphic graphs.
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
            own = cells - packed.ptr[copies]  # the node of each copy, within its graph
            (packed, nodes), owner = packed.take(copies), owner[copies]
            colour = colour[nodes]
            at = packed.ptr[:-1] + own
            colour[at] = mix(colour[at] + OWN)
        return list(names)


def _chosen_cell(packed: Packed, colour: Hashes) -> tuple[Integers, Integers, Integers]:
    """The smallest cell of several nodes of each graph, of these the one of the least colour.

    Returns:
        Its first node, `(graphs,)`, or -1; its size, or 0; and all nodes of all of them.
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
    """Nodes by graph and colour, `(nodes,)`, and where each cell of one colour begins."""
    order = np.lexsort((colour, packed.graph))
    starts = run_starts(colour[order], packed.graph[order])
    return order, np.append(np.flatnonzero(starts), len(order))


def _ranked(packed: Packed, colour: Hashes) -> Hashes:
    """Number the nodes of one colour that have the same neighbours, in any order.

    They can change places without anything else changing, so that one order is as good as any.
    """
    own = mix(np.arange(len(colour), dtype=np.uint64) + OWN)
    into, out_of = packed.sums(own)
    loops = packed.source == packed.target
    if loops.any():  # these are in the colours
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
