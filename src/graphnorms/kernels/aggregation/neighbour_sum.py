"""The sum over neighbours: `aggregate` and its checks."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation import autograd, reference
from graphnorms.kernels.aggregation.operands import Weights
from graphnorms.kernels.backend import pick, runs_as_operator
from graphnorms.kernels.tensor_checks import check_features
from graphnorms.tracing import is_plain


def aggregate(
    x: Tensor,
    adjacency: Adjacency,
    *,
    self_weight: float = 0.0,
    node_scale: Tensor | None = None,
    edge_weight: Tensor | None = None,
    edge_features: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Sum the features of the neighbours: $y = D(A + wI)Dx$, with $D$ diagonal.

    GIN's $Q$ is $w = 1 + \varepsilon$ without $D$; GCN's is $w = 1$ with
    $D = \mathrm{diag}(1 / \sqrt{d + 1})$. With `edge_weight` $A$ holds the weights of the edges
    in place of ones. With `edge_features` $z$ it is the sum of GINE instead,

    $$ y_i = w x_i + \sum_{j \to i} \mathrm{ReLU}(x_j + z_{ji}). $$

    Weights and features of edges are in the order of the `edge_index` that the adjacency was built
    from; for an adjacency built from a CSR pair without `order`, in that of `index`.

    Shapes: `x` and the result `(nodes, channels)`.

    Precision: sums in float32 or wider; the result has the dtype of `x`. Forward and backward give
    the same bits for every number of threads.

    Args:
        x: The features.
        adjacency: The edges; row i sums over the sources of the edges that end in i.
        self_weight: $w$, the weight of the node itself.
        node_scale: The diagonal of $D$, `(nodes,)`; `None` for 1.
        edge_weight: The weight of each edge, `(edges,)`; `None` for 1.
        edge_features: $z$, `(edges, channels)` in the dtype of `x`; not with `node_scale` or
            `edge_weight`.
        backend: `"auto"`, or the name of a backend, without a fallback to another.

    Raises:
        ValueError: `x` is not `(adjacency.num_nodes, channels)` or not floating; another tensor
            does not have the shape above, a floating dtype and the device of `x`; or
            `edge_features` is given with `node_scale` or `edge_weight`.
        BackendRefusedError: The requested backend cannot run this; the message says why.

    Source: for the sum with `edge_features`, Hu et al. 2020, https://arxiv.org/abs/1905.12265.
    """
    check_features(x)
    if x.shape[0] != adjacency.num_nodes:
        raise ValueError(f"x has {x.shape[0]} rows, but the adjacency {adjacency.num_nodes} nodes")
    if x.device != adjacency.ptr.device:
        raise ValueError(f"x is on {x.device}, but the adjacency is on {adjacency.ptr.device}")
    if node_scale is not None:
        _check_vector("node_scale", node_scale, "node", x.shape[0], x)
    if edge_weight is not None:
        _check_vector("edge_weight", edge_weight, "edge", adjacency.num_edges, x)
    if edge_features is not None:
        if node_scale is not None or edge_weight is not None:
            other = "edge_weight" if node_scale is None else "node_scale"
            raise ValueError(f"edge_features is given with {other}; expected one of the two")
        _check_edge_features(edge_features, adjacency.num_edges, x)
    if node_scale is not None and node_scale.requires_grad and torch.is_grad_enabled():
        # The kernels treat D as a constant.
        column = node_scale.to(x.dtype).unsqueeze(1)  # (nodes, 1)
        return column * aggregate(
            column * x,
            adjacency,
            self_weight=self_weight,
            edge_weight=edge_weight,
            backend=backend,
        )
    wanted = (x.device.type, x.dtype, None, None, False, False, backend)
    plain = is_plain(x)
    chosen = pick(*wanted) if plain else None
    weights = Weights(node_scale, edge_weight, edge_features, self_weight)
    if chosen is None and (plain or not runs_as_operator(x, *wanted)):
        return reference.aggregate(x, adjacency, weights)
    return autograd.aggregate(x, adjacency, weights, chosen)


def _check_vector(name: str, vector: Tensor, noun: str, length: int, x: Tensor) -> None:
    if vector.shape != (length,) or not vector.is_floating_point():
        raise ValueError(
            f"{name} is {tuple(vector.shape)} of {vector.dtype}, expected one floating number "
            f"per {noun}, ({length},)"
        )
    if vector.device != x.device:
        raise ValueError(f"{name} is on {vector.device}, but x is on {x.device}")


def _check_edge_features(edge_features: Tensor, edges: int, x: Tensor) -> None:
    if edge_features.shape != (edges, x.shape[1]):
        raise ValueError(
            f"edge_features is {tuple(edge_features.shape)}, expected one row per edge and as "
            f"many channels as x, ({edges}, {x.shape[1]})"
        )
    if edge_features.dtype != x.dtype:
        raise ValueError(f"edge_features is {edge_features.dtype}, but x is {x.dtype}")
    if edge_features.device != x.device:
        raise ValueError(f"edge_features is on {edge_features.device}, but x is on {x.device}")
