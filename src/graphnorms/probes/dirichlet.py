"""Dirichlet energy: how much features differ along edges, which measures over-smoothing."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.kernels.point import accumulation_dtype
from graphnorms.kernels.tensor_checks import check_features
from graphnorms.segments import Segments, as_segments

Laplacian = Literal["normalized", "combinatorial"]
LAPLACIANS: Final = ("normalized", "combinatorial")


def dirichlet_energy(
    x: Tensor,
    adjacency: Adjacency,
    segments: Segments | None = None,
    *,
    laplacian: Laplacian = "normalized",
    relative: bool = False,
) -> Tensor:
    r"""Sum the squared differences of the features along the edges of each graph.

    With every undirected edge $\{i, j\}$ counted once, and $d_i$ the degree of $i$,

    $$ E(x) = \mathrm{tr}(x^\top \Delta x) = \sum_{\{i, j\}}
       \Big\lVert \frac{x_i}{\sqrt{1 + d_i}} - \frac{x_j}{\sqrt{1 + d_j}} \Big\rVert^2,
       \qquad \Delta = I - D^{-1/2} (A + I) D^{-1/2} $$

    for `"normalized"`, the Laplacian of the graph with self loops added, $D$ the degrees of
    $A + I$: that of GCN. For `"combinatorial"`, $\Delta = D_A - A$, and
    $E(x) = \sum_{\{i, j\}} \lVert x_i - x_j \rVert^2$.

    The first is 0 where $x_i \propto \sqrt{1 + d_i}$ in every component, to which GCN smooths;
    the second where $x$ is constant in every component. `relative` divides by
    $\lVert x \rVert^2$: the Rayleigh quotient, from 0 to the largest eigenvalue (below 2 for the
    normalized one), which a norm cannot change by scaling. It is NaN where $x = 0$.

    Parallel edges count as often as they occur; a self loop of the graph adds to the degree only.
    A graph without edges has energy 0. Gradients are taken with respect to `x`.

    Shapes: `x` `(nodes, channels)`, the result `(graphs,)`. Precision: float32 or wider; as a
    sum of squares it is never negative, however small.

    Args:
        x: The features.
        adjacency: The edges, each in both directions.
        segments: Which node belongs to which graph; `None` for one graph.
        laplacian: `"normalized"` or `"combinatorial"`.
        relative: Divide by the squared norm of the features.

    Raises:
        ValueError: `laplacian` is neither, the graph is not symmetric, or `x`, `adjacency` and
            `segments` do not have the same nodes.

    Source: Cai & Wang 2020, https://arxiv.org/abs/2006.13318 (normalized); Rusch et al. 2023,
    https://arxiv.org/abs/2303.10993 (combinatorial, there divided by the nodes and with each
    edge counted twice).
    """
    check_features(x)
    if laplacian not in LAPLACIANS:
        raise unknown_name("laplacian", laplacian, LAPLACIANS)
    if not adjacency.symmetric:
        raise ValueError(
            f"{adjacency} is not symmetric, and the energy is of undirected graphs; add the "
            "edges of the other direction"
        )
    if x.shape[0] != adjacency.num_nodes:
        raise ValueError(f"x has {x.shape[0]} rows, but the adjacency {adjacency.num_nodes} nodes")
    segments = as_segments(segments, rows_of=x)
    graph = segments.index
    wide = x.to(accumulation_dtype(x.dtype))
    scaled = wide
    if laplacian == "normalized":
        scaled = wide * torch.rsqrt(adjacency.in_degree.to(wide.dtype) + 1).unsqueeze(1)
    target = torch.repeat_interleave(adjacency.in_degree, output_size=adjacency.num_edges)
    squares = (scaled[target] - scaled[adjacency.index]).square().sum(1)  # (edges,)
    # Both directions of an edge are stored.
    energy = wide.new_zeros(segments.num_segments).index_add(0, graph[target], squares / 2)
    if not relative:
        return energy
    return energy / torch.zeros_like(energy).index_add(0, graph, wide.square().sum(1))
