"""The contract of the sum over neighbours: `aggregate`, its checks and errors."""

from __future__ import annotations

from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation import autograd, reference
from graphnorms.kernels.calls import check_features, needs_plain_torch
from graphnorms.kernels.dispatch import choose_aggregate


def aggregate(
    x: Tensor,
    adjacency: Adjacency,
    *,
    self_weight: float = 0.0,
    node_scale: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Sum the features of the neighbours: $y = D(A + wI)Dx$, with $D$ diagonal.

    GIN's $Q$ is $w = 1 + \varepsilon$ without $D$; GCN's is $w = 1$ with
    $D = \mathrm{diag}(1 / \sqrt{d + 1})$.

    Shapes: `x` and the result `(nodes, channels)`.

    Args:
        x: The features.
        adjacency: The edges; row i sums over the sources of the edges that end in i.
        self_weight: $w$, the weight of the node itself.
        node_scale: The diagonal of $D$, `(nodes,)`; `None` for 1. It takes no gradient.
        backend: `"auto"`, or one backend by name, which then never falls back.

    Raises:
        ValueError: `x` is not `(adjacency.num_nodes, channels)` or not floating, or is on
            another device.
        BackendRefusedError: The backend asked for cannot run this; the message says why.
    """
    check_features(x)
    if x.shape[0] != adjacency.num_nodes:
        raise ValueError(f"x has {x.shape[0]} rows, but the adjacency {adjacency.num_nodes} nodes")
    if x.device != adjacency.ptr.device:
        raise ValueError(f"x is on {x.device}, but the adjacency is on {adjacency.ptr.device}")
    if node_scale is not None and node_scale.shape != (x.shape[0],):
        raise ValueError(
            f"node_scale is {tuple(node_scale.shape)}, expected one number per node, "
            f"({x.shape[0]},)"
        )
    chosen = choose_aggregate(x.device.type, x.dtype, backend)
    if chosen == "reference" or needs_plain_torch(backend):
        return reference.aggregate(x, adjacency, self_weight=self_weight, node_scale=node_scale)
    if node_scale is not None:
        node_scale = node_scale.detach()
    return autograd.aggregate(x, adjacency, self_weight, node_scale)
