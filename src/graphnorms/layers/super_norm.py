"""SuperNorm: BatchNorm that sees the subgraph around each node, before and behind it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.problem import accumulation_dtype, check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.checks import check_features
from graphnorms.layers.neighbourhoods import targets
from graphnorms.segments import Segments, as_segments, check_mask

_DECAY = 0.1
"""What the authors weigh the terms of a factor with, one power for each."""


class SuperNorm(Norm):
    r"""Normalize over the minibatch, calibrated and enhanced by the subgraph around each node.

    $\xi_i$ is a factor of the subgraph that node $i$ and its neighbours span; see
    `subgraph_factors`. With $V$ the nodes of the graph of $i$, the calibration before and the
    enhancement behind a BatchNorm without parameters are, in every channel,

    $$ c_i = \frac{\xi_i^2}{\sum_{j \in V} \xi_j}, \quad
       \tilde x_i = x_i + w_c \, c_i \, \frac{1}{|V|} \sum_{j \in V} x_j, \quad
       \hat x = \mathrm{BatchNorm}(\tilde x), $$

    $$ e_i = \frac{c_i}{\sum_{j \in V} c_j}, \qquad
       y_i = f\Big(\tfrac{1}{2} \big(\gamma + e_i^{w_e}\big) \, \hat x_i + \beta\Big). $$

    $w_c$ and $w_e$ begin as 0, where the layer is BatchNorm. By the factors nodes differ whose
    features do not, so that a network can tell apart graphs whose nodes all look alike. In
    `eval()` BatchNorm uses its running averages.

    The authors' code scales rows to unit length first where the minibatch is a single graph;
    this layer does not.

    Shapes: `x` and the result `(nodes, channels)`; `factors` $\xi$ `(nodes,)`; `weight`, `bias`,
    `calibration` $w_c$ and `enhancement` $w_e$ `(channels,)`. Precision: statistics and factors
    in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$ of BatchNorm, in the squared unit of `x`.
        momentum: Weight of a batch in its running averages; `None` for the plain average.
        affine: Whether to learn $\gamma$ and $\beta$; without them
            $y = f(e^{w_e} \hat x)$.
        activation: $f$: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or `"silu"`.
        dropout: Share of the entries to drop in training.
        device, dtype: Where and how the parameters are made.
        backend: That of BatchNorm; `"auto"`, or one backend by name.
        process_group: Ranks whose nodes count as one minibatch in BatchNorm: `"world"`, a
            `ProcessGroup`, or `None` for those of the rank alone. Graphs are whole on a rank.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `momentum` is outside 0 … 1, `x` is
            not `(nodes, in_channels)` or has a single row in training, `factors` is missing or
            not one number per node, or `batch` does not assign exactly the rows of `x`.

    Source: Chen et al., KDD 2023, https://arxiv.org/abs/2305.19903; the formulas are those of
    the authors' code.
    """

    statistics_of = "batch"
    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        self.affine = affine
        self.batch_norm = BatchNorm(
            in_channels, eps, momentum, affine=False, device=device, dtype=dtype, backend=backend
        )
        self.batch_norm._takes_single_elements = False
        self.calibration = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        self.enhancement = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        self._add_affine(in_channels, affine, device, dtype)
        self.process_group = process_group
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` to 1, all others to 0, and reset the running averages."""
        self.batch_norm.reset_parameters()
        nn.init.zeros_(self.calibration)
        nn.init.zeros_(self.enhancement)
        self._reset_affine()

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x` with regard to the subgraphs around the nodes.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
            factors: $\\xi$, what `subgraph_factors` makes of the edges; positive.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if mask is not None:
            check_mask(mask, x.shape[0], x.device)
        if factors is None:
            raise ValueError(
                "factors is not given; pass factors=subgraph_factors(adjacency), made once for "
                "each graph"
            )
        if factors.shape != (x.shape[0],) or not factors.is_floating_point():
            raise ValueError(
                f"factors is {tuple(factors.shape)} of {factors.dtype}, expected one floating "
                f"number per node, ({x.shape[0]},)"
            )
        given = factors
        segments = as_segments(batch, rows_of=x, num_segments=batch_size, mask=mask)
        return self._finish(
            x, residual, mask, lambda x: self._by_subgraphs(x, given, segments, mask)
        )  # fmt: skip

    def _by_subgraphs(
        self, x: Tensor, factors: Tensor, segments: Segments, mask: Tensor | None
    ) -> Tensor:
        wide = x.to(accumulation_dtype(x.dtype))
        factor = factors.to(wide.dtype).unsqueeze(1)  # (nodes, 1)
        if mask is not None:
            factor = torch.where(mask.unsqueeze(1), factor, 1)
        calibrated = factor.square() / _total(factor, segments)
        enhanced = calibrated / _total(calibrated, segments)
        mean = _total(wide, segments) / _total(torch.ones_like(factor), segments)
        moved = wide + self.calibration.to(wide.dtype) * calibrated * mean
        standard = self.batch_norm(moved, mask=mask)
        gain = enhanced ** self.enhancement.to(wide.dtype)  # (nodes, channels)
        y: Tensor
        if self.weight is not None and self.bias is not None:
            y = 0.5 * (self.weight.to(wide.dtype) + gain) * standard + self.bias.to(wide.dtype)
        else:
            y = gain * standard
        return y.to(x.dtype)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, affine={self.affine}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def subgraph_factors(adjacency: Adjacency, *, spectral: bool = True) -> Tensor:
    r"""Measure the subgraph that each node spans with its neighbours.

    With $n$ nodes, $m$ edges between them and $\sigma_1 \ge \sigma_2 \ge \dots$ the singular
    values of its adjacency matrix,

    $$ \xi = \frac{2m}{n (n - 1)} \, n^2 + 10^{-2} \, n
       + 10^{-1} \sum_{k \ge 1} 10^{1-k} \sigma_k, $$

    and 1 for a node without neighbours. Edges count once, whatever their direction; loops do
    not. It is worked out node by node on the host: do it once for each graph, and keep it with
    the graph.

    Args:
        adjacency: The edges of a graph, or of a batch of graphs.
        spectral: Whether to add the second and the third term, as the authors do for tasks on
            graphs; for tasks on nodes and edges they do not.

    Returns:
        $\xi$, `(nodes,)`, float32, on the device of the adjacency.

    Source: Chen et al., KDD 2023, https://arxiv.org/abs/2305.19903, after the authors' code.
    """
    around: list[set[int]] = [set() for _ in range(adjacency.num_nodes)]
    ends = zip(targets(adjacency).tolist(), adjacency.index.tolist(), strict=True)
    for i, j in ends:
        if i != j:
            around[i].add(j)
            around[j].add(i)
    factors = [_factor(node, around, spectral) for node in range(adjacency.num_nodes)]
    return torch.tensor(factors, dtype=torch.float32, device=adjacency.device)


def _factor(node: int, around: list[set[int]], spectral: bool) -> float:
    nodes = sorted({node} | around[node])
    number = len(nodes)
    if number == 1:
        return 1.0
    place = {other: at for at, other in enumerate(nodes)}
    edges = frozenset(
        (place[other], place[near]) for other in nodes for near in around[other] & place.keys()
    )
    return _factor_of(number, edges, spectral)


@functools.lru_cache(maxsize=1 << 16)
def _factor_of(number: int, edges: frozenset[tuple[int, int]], spectral: bool) -> float:
    # A set of graphs, of molecules above all, has few subgraphs that differ.
    factor = len(edges) * number / (number - 1)
    if spectral:
        matrix = torch.zeros(number, number, dtype=torch.float64)
        for i, j in edges:
            matrix[i, j] = 1
        singular = torch.linalg.svdvals(matrix)
        weights = _DECAY ** torch.arange(number, dtype=torch.float64)
        factor += number * _DECAY**2 + _DECAY * float(singular @ weights)
    return factor


def _total(values: Tensor, segments: Segments) -> Tensor:
    """Give every node the sum over its graph; masked nodes have one of their own."""
    index = segments.index
    sums = values.new_zeros((segments.num_segments + segments.masked, values.shape[1]))
    return sums.index_add(0, index, values).index_select(0, index)
