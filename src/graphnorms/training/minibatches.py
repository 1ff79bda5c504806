"""Minibatches of the items of one part of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graphnorms.data import GraphBatch, GraphSet
from graphnorms.data.neighbours import NeighbourSampler, sampled_batch
from graphnorms.data.text_format import count
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.models.initialize import derive_seed
from graphnorms.training.forces import rows_of

_EVALUATION_NODES = 1 << 16  # nodes per evaluation batch, to bound the memory

_FACTORS_GRAPHS = 256  # graphs per batch when computing subgraph factors


class Minibatch(NamedTuple):
    """The inputs of a training step.

    Args:
        batch: The graphs.
        targets: The targets of their items; missing for items of another part. For energies and
            forces, rows of atoms, see `graphnorms.training.forces`.
        factors: The subgraph factors of the nodes, if the model uses them.
    """

    batch: GraphBatch
    targets: Tensor
    factors: Tensor | None = None


class Items:
    """The training, validation or test items: graphs or nodes.

    Minibatches have whole graphs.

    Args:
        graphs: The set, on the device of the computation.
        ids: Ids of the items, on the CPU.
        whole: A batch of all graphs, reused whenever all are requested.
        factors: The subgraph factors of all nodes of the set, if minibatches need them.

    Attributes:
        targets: The targets of the items.
        graph_ids: The graphs that contain the items, on the CPU.
        shuffled: Ids of what the minibatches of an epoch are made of, on the CPU.
        minibatch_targets: The targets of minibatches of all these graphs.
        complete: Whether none of these targets is missing.
    """

    def __init__(
        self,
        graphs: GraphSet,
        ids: Tensor,
        whole: GraphBatch | None = None,
        factors: Tensor | None = None,
    ) -> None:
        self._graphs = graphs
        self._whole = whole
        self._factors = factors
        self._number = ids.shape[0]
        on_device = ids.to(graphs.device)
        self.targets = graphs.y.index_select(0, on_device)
        self.graph_ids = ids
        self.minibatch_targets = self.targets
        # Targets of all nodes, missing for other parts, if graphs have nodes of several parts.
        self._masked: Tensor | None = None
        if graphs.task.level == "node":
            self.graph_ids = torch.unique(torch.searchsorted(graphs.ptr.cpu(), ids, right=True) - 1)
            nodes = graphs.node_ids(self.graph_ids)
            y = graphs.y
            if int(graphs.known[nodes].sum()) > self._number:
                y = torch.full_like(graphs.y, torch.nan if y.is_floating_point() else -1)
                y[on_device] = self.targets
                self._masked = y
            self.minibatch_targets = y.index_select(0, nodes)
        elif graphs.atoms is not None:
            nodes = graphs.node_ids(ids).to(graphs.device)
            forces = graphs.atoms.forces.index_select(0, nodes)
            self.minibatch_targets = rows_of(self.targets, forces, graphs.ptr.diff()[on_device])
            graphs.release()  # the forces of all atoms are here now
        self.shuffled = self.graph_ids
        self.complete = not bool(_missing(self.minibatch_targets).any())

    def __len__(self) -> int:
        """Number of items."""
        return self._number

    def minibatch(self, graph_ids: Tensor) -> Minibatch:
        """Form a minibatch of some graphs; does not synchronize a GPU.

        Args:
            graph_ids: The ids of the graphs, on the CPU.
        """
        if self._whole is not None and graph_ids.shape[0] == len(self._graphs):
            targets = self._whole.y if self._masked is None else self._masked
            return Minibatch(self._whole, targets, self._factors)
        batch = self._graphs.batch(graph_ids)
        if batch.atoms is not None:
            return Minibatch(batch, rows_of(batch.y, batch.atoms.forces, batch.segments.counts))
        if self._masked is None and self._factors is None:
            return Minibatch(batch, batch.y)
        nodes = self._graphs.node_ids(graph_ids)
        targets = batch.y if self._masked is None else self._masked.index_select(0, nodes)
        factors = None if self._factors is None else self._factors.index_select(0, nodes)
        return Minibatch(batch, targets, factors)

    def training_minibatch(self, ids: Tensor, epoch: int, step: int) -> Minibatch:
        """Form the minibatch of a training step.

        Args:
            ids: Out of `shuffled`.
            epoch, step: Which step it is, for what is drawn.
        """
        return self.minibatch(ids)

    def rows_of(self, places: Tensor) -> Tensor:
        """Return the rows of the outputs for all graphs of the part that belong to some of them.

        Args:
            places: Which of `graph_ids`, `(graphs,)`.
        """
        if self._graphs.task.level == "graph" and self._graphs.atoms is None:
            return places.to(self._graphs.device)
        sizes = self._graphs.ptr.diff()[self.graph_ids.to(self._graphs.device)]
        rows = torch.arange(int(sizes.sum()), device=sizes.device).split(sizes.tolist())
        return torch.cat([rows[place] for place in places.tolist()])

    def nodes_of(self, graph_ids: Tensor) -> Tensor:
        """Count the nodes of some graphs, on the CPU."""
        return self._graphs.ptr.diff().cpu()[graph_ids]

    @property
    def bytes_of_batches(self) -> int:
        """Estimate the bytes of all minibatches in order; none for a batch that is there anyway."""
        if self._whole is not None:
            return 0
        graphs = self._graphs
        nodes = int(self.nodes_of(self.graph_ids).sum())
        edges = int(graphs.edge_bounds.diff().cpu()[self.graph_ids].sum())
        per_edge = 8 * (1 + (not graphs.symmetric)) + 4 * graphs.num_edge_features
        return nodes * (4 * graphs.num_features + 24) + edges * per_edge

    def minibatches(self) -> Iterator[Minibatch]:
        """Form minibatches of all graphs in order, of bounded size."""
        nodes = self.nodes_of(self.graph_ids).cumsum(0)
        part = torch.div(nodes, _EVALUATION_NODES, rounding_mode="floor")
        sizes = torch.unique_consecutive(part, return_counts=True)[1]
        for graph_ids in self.graph_ids.split(sizes.tolist()):
            yield self.minibatch(graph_ids)


class SampledItems(Items):
    """Training nodes of one large graph: a minibatch has some of them and sampled neighbours.

    What is drawn depends on the seed, the epoch and the step alone. Targets of neighbours are
    missing.

    Args:
        graphs, ids, whole, factors: See `Items`.
        sizes: Most neighbours of a node, hop by hop, see `NeighbourSampler`.
        seed: Of the samples.
    """

    def __init__(
        self,
        graphs: GraphSet,
        ids: Tensor,
        whole: GraphBatch | None = None,
        factors: Tensor | None = None,
        *,
        sizes: Sequence[int],
        seed: int,
    ) -> None:
        super().__init__(graphs, ids, whole, factors)
        self.shuffled = ids
        self.complete = False
        self._seed = seed
        self._sampler = NeighbourSampler(graphs.edge_ptr.cpu(), graphs.edge_index.cpu(), sizes)

    def training_minibatch(self, ids: Tensor, epoch: int, step: int) -> Minibatch:
        """Form the minibatch of some nodes and their sampled neighbours."""
        seed = derive_seed(self._seed, "neighbours", epoch, step)
        sample = self._sampler.sample(ids, torch.Generator().manual_seed(seed))
        batch = sampled_batch(self._graphs, sample)
        targets = torch.full_like(batch.y, torch.nan if batch.y.is_floating_point() else -1)
        targets[: ids.shape[0]] = batch.y[: ids.shape[0]]
        nodes = sample.nodes
        factors = None if self._factors is None else self._factors[nodes.to(self._factors.device)]
        return Minibatch(batch, targets, factors)


def batch_sizes(graphs: int, batch_size: int) -> list[int]:
    """Return the number of graphs, or of sampled nodes, of each minibatch of an epoch.

    A single remaining graph is merged into the minibatch before: a norm after the readout could not
    normalize it alone, nor could a norm before it if the graph has one node. A requested batch size
    of 1 is respected.
    """
    full, rest = divmod(graphs, batch_size)
    sizes = [batch_size] * full
    if rest == 1 and full:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def sizes_of(given: Sequence[int], layers: int | None, graphs: GraphSet) -> list[int]:
    """Return the numbers of neighbours hop by hop: one for each layer, or one for all.

    Args:
        given: The numbers.
        layers: Of the model; None if it does not tell, and then all numbers are hops.
        graphs: The data.

    Raises:
        ValueError: They are as many as neither, or the set is no graph with targets of nodes.
    """
    if len(graphs) > 1 or graphs.task.level != "node":
        raise ValueError(
            f"num_neighbors samples nodes of one graph with targets of nodes, and {graphs.name} "
            f"has {count(len(graphs), 'graph')} and {graphs.task}; leave it out"
        )
    if layers is None:
        return list(given)
    if len(given) not in (1, layers):
        raise ValueError(
            f"num_neighbors has {len(given)} entries, expected one for all or one for each of the "
            f"{layers} layers"
        )
    return list(given) * (layers if len(given) == 1 else 1)


def require_several(train: Tensor, graphs: GraphSet) -> None:
    """Refuse to train on fewer than two items.

    Args:
        train: Ids of the training items.
        graphs: The set.

    Raises:
        ValueError: There are fewer than two.
    """
    if train.shape[0] < 2:
        what = "graph" if graphs.task.level == "graph" else "labelled node"
        raise ValueError(
            f"the training part of {graphs.name} has {count(train.shape[0], what)}, expected 2 or "
            "more; use more data, another split or fewer folds"
        )


def factors_of(graphs: GraphSet) -> Tensor:
    """Compute the subgraph factors of all nodes of a set on the host, `(nodes,)`."""
    parts = torch.arange(len(graphs)).split(_FACTORS_GRAPHS)
    level = graphs.task.level
    return torch.cat(
        [subgraph_factors(graphs.batch(part).adjacency, level=level) for part in parts]
    )


def _missing(y: Tensor) -> Tensor:
    return y.isnan() if y.is_floating_point() else y < 0
