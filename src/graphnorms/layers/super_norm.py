"""SuperNorm: BatchNorm calibrated and enhanced by the subgraph around each node."""

from __future__ import annotations

import functools
from types import MappingProxyType
from typing import Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.base import Norm
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.neighbourhoods import targets
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.segments import Segments, as_segments
from graphnorms.tracing import is_traced

_DECAY: Final = 0.01
"""$p$ of `subgraph_factors`."""

_DIAGONALS: Final = MappingProxyType({"graph": 0.0, "node": 1e-3})
r"""$\delta$ of `subgraph_factors` by the level of the task."""


class SuperNorm(Norm):
    r"""Normalize over the minibatch, calibrated and enhanced by the subgraph around each node.

    $\xi_i$ is a factor of the subgraph spanned by node $i$ and its neighbours; see
    `subgraph_factors`. With $V$ the nodes of the graph of $i$, the calibration before and the
    enhancement after a BatchNorm without parameters are, in every channel,

    $$ c_i = \frac{\xi_i^2}{\sum_{j \in V} \xi_j}, \quad
       \tilde x_i = x_i + w_c \, c_i \, \frac{1}{|V|} \sum_{j \in V} x_j, \quad
       \hat x = \mathrm{BatchNorm}(\tilde x), $$

    $$ e_i = \frac{c_i}{\sum_{j \in V} c_j}, \qquad
       y_i = f\Big(\tfrac{1}{2} \big(\gamma + e_i^{w_e}\big) \, \hat x_i + \beta\Big). $$

    $w_c$ and $w_e$ are initialized to 0, where the layer is BatchNorm. The factors distinguish
    nodes with equal features, so that a network can distinguish graphs of such nodes. In `eval()`
    BatchNorm uses its running averages.

    As in the authors' code, the rows of a minibatch with a single graph are standardized first:
    $x_i \leftarrow (x_i - \mu_i) / \sqrt{\sigma_i^2 + \varepsilon}$ with mean and variance of the
    channels of node $i$. In node-level tasks every minibatch is a single graph; in graph-level
    tasks one may be by chance, and its graph then gets another result than among others.
    `standardize_rows` removes this dependence on the minibatch; the lab standardizes rows in
    node-level tasks only.

    Shapes: `x` and the result `(nodes, channels)`; `factors` $\xi$ `(nodes,)`; `weight`, `bias`,
    `calibration` $w_c$ and `enhancement` $w_e$ `(channels,)`. Precision: statistics and factors
    in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$ of BatchNorm, and of rows, in the squared unit of `x`.
        momentum: Weight of the new batch in the running averages; `None` for a cumulative average.
        affine: Whether to learn $\gamma$ and $\beta$; without them
            $y = f(e^{w_e} \hat x)$.
        standardize_rows: Whether to standardize rows first; `None` does so if the minibatch is a
            single graph and not shared by several ranks.
        activation, dropout, device, dtype, backend: See `Norm`.
        process_group: Ranks whose nodes count as one minibatch in BatchNorm: `"world"`, a
            `ProcessGroup`, or `None` for those of this rank alone. Every rank has whole graphs.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `momentum` is outside 0 … 1, `x` is not
            `(nodes, in_channels)` or has a single row in training, `factors` is missing or not one
            number per node, or `batch` does not assign exactly the rows of `x`.

    Source: Chen et al., KDD 2023, https://arxiv.org/abs/2305.19903, as in the authors' code since
    its publication: `modules/norm/supernorm.py` of chenchkx/SuperNorm at 6660673 (December 2023;
    the code is that of June 2023).
    """

    statistics_of = "batch"
    per_graph = True
    calibration: nn.Parameter
    enhancement: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        standardize_rows: bool | None = None,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        self.affine = affine
        self.standardize_rows = standardize_rows
        self.batch_norm = BatchNorm(
            in_channels,
            eps,
            momentum,
            affine=False,
            backend=self.backend,
            process_group=self.process_group,
            **place(options),
        )
        self.batch_norm._takes_single_elements = False
        self._add_parameters(
            in_channels, options, calibration=True, enhancement=True, weight=affine, bias=affine
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` to 1, all others to 0, and reset the running averages."""
        self.batch_norm.reset_parameters()
        super().reset_parameters()
        nn.init.zeros_(self.calibration)
        nn.init.zeros_(self.enhancement)

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
        """Normalize `x`, using the factors of the subgraphs around the nodes.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
            factors: $\\xi$ from `subgraph_factors`, positive.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if factors is None:
            raise ValueError(
                "factors is not given; pass factors=subgraph_factors(adjacency), computed once "
                "per graph"
            )
        if factors.shape != (x.shape[0],) or not factors.is_floating_point():
            raise ValueError(
                f"factors is {tuple(factors.shape)} of {factors.dtype}, expected one floating "
                f"number per node, ({x.shape[0]},)"
            )
        given = factors
        segments = as_segments(batch, rows_of=x, num_segments=batch_size, mask=mask)
        return self._transformed(
            x, residual, mask, lambda x: self._by_subgraphs(x, given, segments, mask)
        )

    def _by_subgraphs(
        self, x: Tensor, factors: Tensor, segments: Segments, mask: Tensor | None
    ) -> Tensor:
        wide = self._standardized(x.to(accumulation_dtype(x.dtype)), segments)
        factor = factors.to(wide.dtype).unsqueeze(1)  # (nodes, 1)
        if mask is not None:
            factor = torch.where(mask.unsqueeze(1), factor, 1)
        calibrated = factor.square() / _total(factor, segments)
        enhanced = calibrated / _total(calibrated, segments)
        mean = _total(wide, segments) / _total(torch.ones_like(factor), segments)
        moved = wide + self.calibration.to(wide.dtype) * calibrated * mean
        standard = self.batch_norm(moved, mask=mask)
        gain = enhanced ** self.enhancement.to(wide.dtype)  # (nodes, channels)
        if self.weight is None:
            y: Tensor = gain * standard
        else:
            weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
            y = 0.5 * (weight + gain) * standard + bias
        return y

    def _standardized(self, x: Tensor, segments: Segments) -> Tensor:
        """Standardize every row over its channels if `standardize_rows` says so."""
        wanted: bool | Tensor | None = self.standardize_rows
        ranks = self._ranks_of_parts()
        if wanted is None and ranks is not None and ranks.size() > 1:
            wanted = False
        elif wanted is None:
            # A trace cannot branch on a size that it does not know.
            ones = torch.ones_like(segments.counts)
            wanted = ones.sum() == 1 if is_traced() else segments.num_segments == 1
        if wanted is False:
            return x
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        standard = centred * torch.rsqrt(variance + self.batch_norm.eps)
        return torch.where(wanted, standard, x) if isinstance(wanted, Tensor) else standard

    def _own_repr(self) -> str:
        given = self.standardize_rows
        rows = "" if given is None else f", standardize_rows={given}"
        return f"{self.in_channels}, affine={self.affine}{rows}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def subgraph_factors(adjacency: Adjacency, *, level: str = "graph") -> Tensor:
    r"""Compute a factor of the subgraph spanned by each node and its neighbours.

    With $n$ nodes, $m$ edges, adjacency matrix $A$ and singular values
    $\sigma_1 \ge \sigma_2 \ge \dots$ of $A + \delta I$,

    $$ \xi = \frac{2m}{n (n - 1)} \, n^2 + p \sum_{k \ge 1} p^{k-1} \sigma_k + p^2 n,
       \qquad p = 0.01, $$

    and 1 for a node without neighbours; $\delta$ is 0 for graph-level tasks and 0.001 for those on
    nodes and edges. An edge counts once, regardless of its direction; loops do not count. For
    directed graphs (ogbn-arxiv, ogbl-citation2) the authors use one direction, which halves the
    first term. The computation runs node by node on the host: do it once per graph, and keep the
    result.

    Args:
        adjacency: The edges of a graph, or of a batch of graphs.
        level: The level of the task: `"graph"`, or `"node"` for nodes and edges.

    Returns:
        $\xi$, `(nodes,)`, float32, on the device of the adjacency.

    Raises:
        ValueError: `level` is neither.

    Source: Chen et al., KDD 2023, https://arxiv.org/abs/2305.19903: `datasets/preprocess.py` of
    chenchkx/SuperNorm at 6660673. Before June 2023 (1a3bc60) it used $p = 0.1$, and the first term
    for nodes only.
    """
    if level not in _DIAGONALS:
        raise unknown_name("level", level, _DIAGONALS)
    around: list[set[int]] = [set() for _ in range(adjacency.num_nodes)]
    ends = zip(targets(adjacency).tolist(), adjacency.index.tolist(), strict=True)
    for i, j in ends:
        if i != j:
            around[i].add(j)
            around[j].add(i)
    diagonal = _DIAGONALS[level]
    factors = [_factor(node, around, diagonal) for node in range(adjacency.num_nodes)]
    return torch.tensor(factors, dtype=torch.float32, device=adjacency.device)


def _factor(node: int, around: list[set[int]], diagonal: float) -> float:
    nodes = sorted({node} | around[node])
    number = len(nodes)
    if number == 1:
        return 1.0
    place = {other: at for at, other in enumerate(nodes)}
    edges = frozenset(
        (place[other], place[near]) for other in nodes for near in around[other] & place.keys()
    )
    return _factor_of(number, edges, diagonal)


@functools.lru_cache(maxsize=1 << 16)
def _factor_of(number: int, edges: frozenset[tuple[int, int]], diagonal: float) -> float:
    # Data sets, especially of molecules, have few distinct subgraphs.
    matrix = diagonal * torch.eye(number, dtype=torch.float64)
    for i, j in edges:
        matrix[i, j] = 1
    weights = _DECAY ** torch.arange(1, number + 1, dtype=torch.float64)
    spectrum = float(torch.linalg.svdvals(matrix) @ weights)
    return len(edges) * number / (number - 1) + spectrum + _DECAY**2 * number


def _total(values: Tensor, segments: Segments) -> Tensor:
    """Give every node the sum over its graph; masked nodes form a separate segment."""
    index = segments.index
    sums = values.new_zeros((segments.num_segments + segments.masked, values.shape[1]))
    return sums.index_add(0, index, values).index_select(0, index)
