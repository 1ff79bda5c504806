"""The primitive's contract: `segment_normalize` and `aggregate`, their checks and errors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from graphnorms.adjacency import Adjacency
from graphnorms.errors import BackendRefusedError, unknown_name
from graphnorms.kernels import autograd, reference
from graphnorms.kernels.dispatch import choose_aggregate, choose_normalize
from graphnorms.kernels.problem import ACTIVATIONS, Over
from graphnorms.segments import Segments


def segment_normalize(
    x: Tensor,
    segments: Segments,
    *,
    center: Over | None,
    scale: Over | None,
    groups: int = 1,
    mean_scale: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Center, scale and transform features within their cells: the one equation.

    $$ o = x - \alpha \mu, \quad s^2 = \mathrm{mean}(o^2), \quad
       y = f\Big(\gamma \frac{o}{\sqrt{s^2 + \varepsilon}} + \beta\Big) $$

    $\mu$ is the mean over the entries that share a cell of the domain `center`, $s^2$ the
    second moment over those that share a cell of `scale` (see `Over`). $s^2$ is the variance
    only where both domains are the same and $\alpha = 1$. Without a centre $o = x$; without a
    scale $y = f(\gamma o + \beta)$.

    Shapes: `x` and the result `(rows, channels)`; parameters `(channels,)`.

    Precision: statistics in float32 or wider, centred before squaring, relative to an entry of
    the cell, in both directions: the error does not grow with $|\mu| / \sigma$. The result has
    the dtype of `x`. NaN and infinities stay within their cells.

    Args:
        x: The features.
        segments: Which rows belong together.
        center: Over what the mean is taken, or `None` to subtract nothing.
        scale: Over what the second moment is taken, or `None` to divide by nothing.
        groups: Channel groups of `Over.CHANNELS` and `Over.BOTH`.
        mean_scale: $\alpha$, how much of the mean to remove; `None` for 1.
        weight, bias: $\gamma$ and $\beta$; `None` for 1 and 0.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation: $f$: `None` or `"relu"`, fused into the same pass.
        backend: `"auto"`, or one backend by name, which then never falls back.

    Raises:
        ValueError: A shape or dtype that does not fit, `groups` that do not divide the
            channels, or an unknown activation or backend.
        BackendRefusedError: The backend asked for cannot run this; the message says why.
    """
    _check(x, segments, groups, mean_scale, weight, bias, activation)
    if mean_scale is not None and center is None:
        raise ValueError("mean_scale is given, but center is None: there is no mean to scale")
    y, _, _ = normalize_with_statistics(
        x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
        weight=weight, bias=bias, eps=eps, activation=activation, backend=backend,
    )  # fmt: skip
    return y


def normalize_with_statistics(
    x: Tensor,
    segments: Segments,
    *,
    center: Over | None,
    scale: Over | None,
    groups: int = 1,
    mean_scale: Tensor | None = None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str | None,
    backend: str,
    statistics: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run `segment_normalize` on arguments that fit each other, as a layer knows of its own.

    Returns:
        y; and, if `statistics`, the mean per cell of `center` and the second moment per cell of
        `scale`. The two carry no gradient.
    """
    chosen = choose_normalize(
        x.device.type, x.dtype, center, scale, mean_scale is not None, activation, backend
    )
    if chosen == "reference" or _needs_plain_torch(backend):
        plain = reference.segment_normalize(
            x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=eps, activation=activation,
        )  # fmt: skip
        if not statistics:
            return plain[0], None, None
        return plain[0], plain[1].detach(), plain[2].detach()
    y, shift, moment = autograd.normalize(
        x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
        weight=weight, bias=bias, eps=eps, activation=activation, statistics=statistics,
    )  # fmt: skip
    if shift is not None and center is not None and x.shape[0]:
        entries = x.detach()
        if center is Over.NODES and segments.num_segments == 1 and segments.order is None:
            shift = shift + entries[:1]
        else:
            entries = entries.to(shift.dtype)
            shift = shift + reference.first_of_cells(entries, segments, center, groups)
    return y, shift, moment


def _needs_plain_torch(backend: str) -> bool:
    """Whether the call is one that only the reference can serve.

    Those are the transforms of `torch.func` and forward-mode differentiation, which go through
    every operation by itself, and an export to ONNX, which knows torch's operations alone.

    Raises:
        BackendRefusedError: It is, but another backend was asked for by name.
    """
    if torch._C._are_functorch_transforms_active():
        reason = "torch.func transforms"
    elif forward_ad._current_level >= 0:
        reason = "forward-mode differentiation"
    elif torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
        reason = "an export to ONNX"
    else:
        return False
    if backend != "auto":
        raise BackendRefusedError(
            f"backend {backend!r} cannot run this: it is under {reason}, which needs plain "
            "torch; use backend='auto' for one that can"
        )
    return True


def activate(y: Tensor, activation: str | None) -> Tensor:
    """Apply an activation by itself, where there is no normalization to fuse it with."""
    return reference.ACTIVATION_FUNCTIONS[activation](y)


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
    _check_features(x)
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
    if chosen == "reference" or _needs_plain_torch(backend):
        return reference.aggregate(x, adjacency, self_weight=self_weight, node_scale=node_scale)
    if node_scale is not None:
        node_scale = node_scale.detach()
    return autograd.aggregate(x, adjacency, self_weight, node_scale)


def _check(
    x: Tensor,
    segments: Segments,
    groups: int,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> None:
    _check_features(x)
    rows, channels = x.shape
    if segments.num_rows != rows:
        raise ValueError(f"segments has {segments.num_rows} rows, but x has {rows}")
    if segments.ptr.device != x.device:
        raise ValueError(f"segments is on {segments.ptr.device}, but x is on {x.device}")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels of x")
    for name, parameter in (("mean_scale", mean_scale), ("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape != (channels,):
            raise ValueError(
                f"{name} is {tuple(parameter.shape)}, expected one number per channel of x, "
                f"({channels},)"
            )
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", str(activation), [str(name) for name in ACTIVATIONS])


def _check_features(x: Tensor) -> None:
    if x.dim() != 2 or not x.shape[1] or not x.is_floating_point():
        raise ValueError(
            f"x is {tuple(x.shape)} of {x.dtype}, expected (rows, channels) of a floating dtype"
        )
