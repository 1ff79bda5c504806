"""Singular values of an aggregation Q, with and without the subtraction of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.kernels import aggregate
from graphnorms.kernels.point import widest_float
from graphnorms.segments import Segments

Aggregation = Literal["gin", "gcn"]
AGGREGATIONS: Final = ("gin", "gcn")


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    r"""The singular values of a graph's $Q$ and of $QN$, $N = I - \frac1n 1 1^\top$.

    Args:
        plain: $\lambda_1 \ge \dots \ge \lambda_n$ of $Q$, `(nodes,)` float64.
        centered: $\mu_1 \ge \dots \ge \mu_n = 0$ of $QN$, `(nodes,)` float64.
    """

    plain: Tensor
    centered: Tensor

    @property
    def ratio(self) -> float:
        r"""$\mu_1 / \lambda_1 \le 1$, by how much the largest one shrinks; NaN for $Q = 0$."""
        return float(self.centered[0] / self.plain[0])

    def violations(self, tolerance: float = 1e-10) -> int:
        r"""Count the inequalities of the interlacing that do not hold.

        $\lambda_1 \ge \mu_1 \ge \lambda_2 \ge \mu_2 \ge \dots \ge \lambda_n \ge \mu_n = 0$ are
        $2n - 1$ inequalities and an equation. The theorem says that there are no violations; in
        floating point, none by more than rounding.

        Args:
            tolerance: What an inequality may be off by, times $\lambda_1$.
        """
        allowed = tolerance * self.plain[0]
        too_large = self.centered > self.plain + allowed
        too_small = self.plain[1:] > self.centered[:-1] + allowed
        not_zero = self.centered[-1] > allowed
        # μ_n above λ_n and above 0 is one inequality, not two.
        return int(too_large.sum() + too_small.sum() + (not_zero & ~too_large[-1]))


def aggregation_matrices(
    adjacency: Adjacency,
    segments: Segments | None = None,
    aggregation: Aggregation = "gin",
    *,
    self_weight: float = 1.0,
) -> list[Tensor]:
    r"""Write out the aggregation of each graph as a matrix $M$: row i is what node i gathers.

    GIN: $M = A + w I$. GCN: $M = D^{-1/2} (A + I) D^{-1/2}$, $D$ the in-degrees of $A + I$. Both
    are made by the code that the models run, `aggregate`, applied to the identity.

    With features as rows, $M$ acts from the left: $H' = M H$. Where papers have features as
    columns, $H' = H Q$, it is $Q = M^\top$.

    Shapes: each matrix `(nodes, nodes)` of its graph, float64. Memory: all nodes times the
    nodes of the largest graph.

    Args:
        adjacency: The edges of one graph or of a batch.
        segments: Which node belongs to which graph; `None` for one graph.
        aggregation: `"gin"` or `"gcn"`.
        self_weight: $w = 1 + \varepsilon$ of GIN.

    Raises:
        ValueError: `aggregation` is neither, `segments` has another number of nodes, or an edge
            joins two graphs.

    Source: Kipf & Welling 2017, https://arxiv.org/abs/1609.02907; Xu et al. 2019,
    https://arxiv.org/abs/1810.00826.
    """
    if aggregation not in AGGREGATIONS:
        raise unknown_name("aggregation", aggregation, AGGREGATIONS)
    segments = _segments_of(adjacency, segments)
    if widest_float(adjacency.device) != torch.float64:
        adjacency, segments = adjacency.to("cpu"), segments.to("cpu")
    index, counts = segments.index, segments.counts
    check_edges_within(adjacency, index)
    # One column at least: an aggregation has channels, even of no nodes.
    longest = max([1, *counts.tolist()])
    nodes = torch.arange(adjacency.num_nodes, device=adjacency.device)
    order = nodes if segments.order is None else segments.order
    place = torch.empty_like(nodes)  # of each node within its graph
    place[order] = nodes - segments.ptr[:-1].repeat_interleave(counts)
    # The identities of all graphs below each other: as edges stay within their graph, one
    # aggregation gives the rows of all matrices.
    identity = torch.zeros(
        (adjacency.num_nodes, longest), dtype=torch.float64, device=adjacency.device
    )
    identity[nodes, place] = 1
    if aggregation == "gin":
        rows = aggregate(identity, adjacency, self_weight=self_weight)
    else:
        scale = torch.rsqrt(adjacency.in_degree.double() + 1)
        rows = aggregate(identity, adjacency, self_weight=1.0, node_scale=scale)
    graphs = rows[order].split(counts.tolist())
    return [graph[:, : graph.shape[0]] for graph in graphs]


def spectra(
    adjacency: Adjacency,
    segments: Segments | None = None,
    aggregation: Aggregation = "gin",
    *,
    self_weight: float = 1.0,
) -> list[Spectrum]:
    r"""Compute the singular values of $Q$ and of $QN$ for every graph.

    A GNN layer is $F(\mathrm{Norm}(W H Q))$, and subtracting the mean of a graph is a
    multiplication by $N = I - \frac1n 1 1^\top$: a norm that subtracts it works with $QN$. The
    singular values of $QN$ interlace those of $Q$, so that the largest shrinks (strictly,
    unless its right singular vector is orthogonal to $1$) and the spectrum is no wider: subtracting
    the mean preconditions the aggregation.

    Graphs without nodes are left out. Costs two singular value decompositions per graph, of
    the cube of its nodes.

    Args:
        adjacency: The edges of one graph or of a batch.
        segments: Which node belongs to which graph; `None` for one graph.
        aggregation: `"gin"` or `"gcn"`, see `aggregation_matrices`.
        self_weight: $w = 1 + \varepsilon$ of GIN.

    Raises:
        ValueError: As for `aggregation_matrices`.

    Source: Cai et al. 2021, theorem 3.1 and fig. 2, https://arxiv.org/abs/2009.03294.
    """
    found = []
    for matrix in aggregation_matrices(adjacency, segments, aggregation, self_weight=self_weight):
        if matrix.shape[0]:
            # QN = Mᵀ N = (N M)ᵀ, and N M subtracts from each column its mean.
            centered = matrix - matrix.mean(0)
            found.append(Spectrum(torch.linalg.svdvals(matrix), torch.linalg.svdvals(centered)))
    return found


def interlacing_violations(given: Sequence[Spectrum], tolerance: float = 1e-10) -> int:
    """Count the violations of the interlacing over several graphs, see `Spectrum.violations`."""
    return sum(spectrum.violations(tolerance) for spectrum in given)


def check_edges_within(adjacency: Adjacency, index: Tensor) -> None:
    """Refuse an edge between two graphs.

    Args:
        adjacency: The edges.
        index: The graph of each node, `(nodes,)`.
    """
    target = torch.repeat_interleave(adjacency.in_degree, output_size=adjacency.num_edges)
    crossing = (index[target] != index[adjacency.index]).nonzero()
    if crossing.shape[0]:
        edge = int(crossing[0, 0])
        i, j = int(target[edge]), int(adjacency.index[edge])
        raise ValueError(
            f"the edge {j} → {i} joins graph {int(index[j])} and graph {int(index[i])}; expected "
            "edges within graphs only"
        )


def _segments_of(adjacency: Adjacency, segments: Segments | None) -> Segments:
    if segments is None:
        return Segments.single(adjacency.num_nodes, adjacency.device)
    if segments.masked:
        raise ValueError("segments has masked rows, expected every node in a graph")
    if segments.num_rows != adjacency.num_nodes:
        raise ValueError(
            f"segments has {segments.num_rows} rows, but the adjacency {adjacency.num_nodes} nodes"
        )
    return segments
