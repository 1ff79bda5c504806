"""Neighbour sampling: minibatches of nodes of one large graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.batch import GraphBatch, dense
from graphnorms.data.graphset import GraphSet
from graphnorms.offsets import offsets_of
from graphnorms.segments import Segments

ALL = -1
"""In place of a number of neighbours: all of them."""


class Sample(NamedTuple):
    """Some nodes of a graph and the edges that were drawn between them.

    Args:
        nodes: The nodes as ids in the graph, `(nodes,)`: the seeds first, then hop by hop in
            ascending order those that are new.
        ptr, sources: The edges as a CSR pair over positions in `nodes`, `(nodes + 1,)` and
            `(edges,)`; the nodes of the last hop have none.
        places: The position of each edge in the graph's own list, `(edges,)`.
    """

    nodes: Tensor
    ptr: Tensor
    sources: Tensor
    places: Tensor


class NeighbourSampler:
    """Draws neighbourhoods of nodes, hop by hop, uniformly and without replacement.

    Of every node the sources of at most so many of its incoming edges are drawn, independently of
    other nodes; of a node with fewer all are taken. A node is expanded once, at the hop where it is
    first reached, as by PyG's `NeighborLoader`. The result depends on the arguments and on the
    generator alone.

    Args:
        ptr, index: The edges of the graph as a CSR pair on the CPU, see `Adjacency`.
        sizes: Most neighbours of a node, hop by hop; `ALL` for all.

    Source: Hamilton et al. 2017, https://arxiv.org/abs/1706.02216, section 3.1, which draws with
    replacement; subsets by Floyd's algorithm, Bentley & Floyd 1987,
    https://doi.org/10.1145/30401.315746.
    """

    def __init__(self, ptr: Tensor, index: Tensor, sizes: Sequence[int]) -> None:
        self.ptr, self.index, self.sizes = ptr, index, tuple(sizes)
        self._position = torch.full((ptr.shape[0] - 1,), -1)  # in `nodes`, of each node

    def sample(self, seeds: Tensor, generator: torch.Generator) -> Sample:
        """Draw the neighbourhood of some nodes, each given once.

        Args:
            seeds: The nodes, `(seeds,)`.
            generator: On the CPU.
        """
        position = self._position
        position[seeds] = torch.arange(seeds.shape[0])
        nodes, frontier = [seeds], seeds
        counts, places = [], []
        number = seeds.shape[0]
        for size in self.sizes:
            count, place = self._edges(frontier, size, generator)
            counts.append(count)
            places.append(place)
            reached = self.index[place]
            frontier = torch.unique(reached[position[reached] < 0])
            position[frontier] = torch.arange(number, number + frontier.shape[0])
            number += frontier.shape[0]
            nodes.append(frontier)
        every, place = torch.cat(nodes), torch.cat(places)
        counts.append(torch.zeros_like(frontier))
        sources = position[self.index[place]]
        position[every] = -1
        return Sample(every, offsets_of(torch.cat(counts)), sources, place)

    def _edges(self, nodes: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw edges that end in some nodes: how many of each, and their positions in order."""
        first, degree = self.ptr[nodes], self.ptr[nodes + 1] - self.ptr[nodes]
        count = degree if size == ALL else degree.clamp(max=size)
        offsets = offsets_of(count)
        row = torch.repeat_interleave(count)
        within = torch.arange(row.shape[0]) - offsets[row]  # (edges,), from 0 in each row
        large = degree > count
        if bool(large.any()):
            chosen = _subsets(degree[large], size, generator).flatten()
            within[large[row]] = chosen
        return count, first[row] + within


def _subsets(total: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw a subset of `size` of the numbers below each total, `(rows, size)`, ascending."""
    chosen = torch.empty((total.shape[0], size), dtype=torch.int64)
    # float64 resolves every number below 2^53.
    uniform = torch.rand((total.shape[0], size), generator=generator, dtype=torch.float64)
    for step in range(size):
        last = total - size + step
        drawn = (uniform[:, step] * (last + 1)).long()
        taken = (chosen[:, :step] == drawn.unsqueeze(1)).any(1)
        chosen[:, step] = torch.where(taken, last, drawn)
    return chosen.sort(1).values


def sampled_batch(graphs: GraphSet, sample: Sample) -> GraphBatch:
    """Form the minibatch of a sample of a set of one graph, which is one graph itself.

    `y` has the targets of all nodes of the sample, seeds and neighbours.
    """
    transpose_order = torch.sort(sample.sources, stable=True).indices
    number = sample.nodes.shape[0]
    target = torch.repeat_interleave(sample.ptr.diff())
    leaving = torch.bincount(sample.sources, minlength=number)
    adjacency = Adjacency(
        sample.ptr,
        sample.sources,
        offsets_of(leaving),
        target[transpose_order],
        transpose_order=transpose_order,
        validate=False,
    )
    device = graphs.device
    nodes, edges = sample.nodes.to(device), graphs.kept_edge_features
    ptr = torch.tensor([0, number])
    return GraphBatch(
        x=dense(graphs.kept_x.index_select(0, nodes)),
        y=graphs.y.index_select(0, nodes),
        segments=Segments(ptr, None, number, longest=number).to(device),
        adjacency=adjacency.to(device),
        edge_features=None
        if edges is None
        else dense(edges.index_select(0, sample.places.to(device))),
    )
