"""Where the kernels meet autograd and `torch.library`; no other module does.

The operators carry the tensors and numbers of a kernel call, so that `torch.compile` and
`torch.export` see one node each. They are made differentiable by the Functions below: an
`autograd.Function` over plain operators costs half as much per call as registering a backward
for them. When a gradient is to be differentiated again the backward is replayed through the
reference, which is plain torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels import reference
from graphnorms.kernels.cpu import backend as cpu
from graphnorms.kernels.problem import ACTIVATIONS, Over, accumulation_dtype, cells
from graphnorms.segments import Segments

_library = torch.library.Library("graphnorms", "DEF")
_library.define(
    "normalize_forward(Tensor x, Tensor ptr, Tensor? order, Tensor? mean_scale, Tensor? weight, "
    "Tensor? bias, int center, int scale, int groups, float eps, int activation, "
    "bool statistics) -> (Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "normalize_backward(Tensor grad_y, Tensor x, Tensor ptr, Tensor? order, Tensor? mean_scale, "
    "Tensor? weight, Tensor? bias, Tensor shift, Tensor rstd, int center, int scale, "
    "int groups, float eps, int activation, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "aggregate(Tensor x, Tensor ptr, Tensor index, Tensor? node_scale, float self_weight) -> Tensor"
)
_library.impl("normalize_forward", cpu.normalize_forward, "CPU")
_library.impl("normalize_backward", cpu.normalize_backward, "CPU")
_library.impl("aggregate", cpu.aggregate, "CPU")


@torch.library.register_fake("graphnorms::normalize_forward", lib=_library)
def _(
    x: Tensor, ptr: Tensor, order: Tensor | None, mean_scale: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, center: int, scale: int, groups: int,
    eps: float, activation: int, statistics: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rows, channels = x.shape
    segments = ptr.shape[0] - 1
    dtype = accumulation_dtype(x.dtype)
    scales = cells(Over(scale) if scale else None, rows, segments, channels, groups)
    return (
        x.new_empty((rows, channels)),
        x.new_empty(
            cells(Over(center) if center else None, rows, segments, channels, groups), dtype=dtype
        ),
        x.new_empty(scales, dtype=dtype),
        x.new_empty(scales if statistics else (0, 0), dtype=dtype),
    )


@torch.library.register_fake("graphnorms::normalize_backward", lib=_library)
def _(
    grad_y: Tensor, x: Tensor, ptr: Tensor, order: Tensor | None, mean_scale: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, shift: Tensor, rstd: Tensor, center: int,
    scale: int, groups: int, eps: float, activation: int, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    channels = x.shape[1]
    dtype = accumulation_dtype(x.dtype)
    grads = [x.new_empty((channels,) if needed else (0,), dtype=dtype) for needed in needs[1:]]
    grad_x = x.new_empty(tuple(x.shape) if needs[0] else (0,))
    return grad_x, grads[0], grads[1], grads[2]


@torch.library.register_fake("graphnorms::aggregate", lib=_library)
def _(
    x: Tensor, ptr: Tensor, index: Tensor, node_scale: Tensor | None, self_weight: float
) -> Tensor:
    return x.new_empty(tuple(x.shape))


def normalize(
    x: Tensor, segments: Segments, *, center: Over | None, scale: Over | None, groups: int,
    mean_scale: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float,
    activation: str | None, statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Run `segment_normalize` on the kernels.

    Returns:
        y; the mean of each cell of the centre relative to the cell's first entry; and s², empty
        unless `statistics`. The two carry no gradient.
    """
    results: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(  # type: ignore[no-untyped-call]
        x, mean_scale, weight, bias, segments, center or 0, scale or 0, groups, eps,
        ACTIVATIONS.index(activation), statistics,
    )  # fmt: skip
    return results


def aggregate(
    x: Tensor, adjacency: Adjacency, self_weight: float, node_scale: Tensor | None
) -> Tensor:
    """Run `aggregate` on the kernels."""
    y: Tensor = _Aggregate.apply(  # type: ignore[no-untyped-call]
        x, adjacency, self_weight, node_scale
    )
    return y


class _Normalize(torch.autograd.Function):
    """`segment_normalize` by a kernel; returns y, the mean and s², the last two detached."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean_scale: Tensor | None, weight: Tensor | None,
        bias: Tensor | None, segments: Segments, center: int, scale: int, groups: int,
        eps: float, activation: int, statistics: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Run the forward kernel and keep x and two statistics per cell."""
        y, shift, rstd, moment = torch.ops.graphnorms.normalize_forward(
            x, segments.ptr, segments.order, mean_scale, weight, bias, center, scale, groups,
            eps, activation, statistics,
        )  # fmt: skip
        ctx.save_for_backward(x, mean_scale, weight, bias, shift, rstd)
        ctx.segments = segments
        ctx.choices = (center, scale, groups, eps, activation)
        ctx.mark_non_differentiable(shift, moment)
        ctx.set_materialize_grads(False)
        return y, shift, moment

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel, or the reference where its result shall have a gradient."""
        grad_y = grads[0]
        if grad_y is None:
            return (None,) * 11
        if torch.is_grad_enabled():
            return (*_replayed_backward(ctx, grad_y), *(None,) * 7)
        x, mean_scale, weight, bias, shift, rstd = ctx.saved_tensors
        center, scale, groups, eps, activation = ctx.choices
        needs = list(ctx.needs_input_grad[:4])
        results = torch.ops.graphnorms.normalize_backward(
            grad_y, x, ctx.segments.ptr, ctx.segments.order, mean_scale, weight, bias, shift,
            rstd, center, scale, groups, eps, activation, needs,
        )  # fmt: skip
        parameters = (mean_scale, weight, bias)
        return (
            results[0] if needs[0] else None,
            *(
                grad.to(parameter.dtype) if needed else None
                for grad, parameter, needed in zip(results[1:], parameters, needs[1:], strict=True)
            ),
            *(None,) * 7,
        )


def _replayed_backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as differentiable functions of the inputs and of grad_y."""
    x, mean_scale, weight, bias, _, _ = ctx.saved_tensors
    center, scale, groups, eps, activation = ctx.choices
    inputs = (x, mean_scale, weight, bias)
    with torch.enable_grad():
        y, _, _ = reference.segment_normalize(
            x, ctx.segments, center=Over(center) if center else None,
            scale=Over(scale) if scale else None, groups=groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=eps, activation=ACTIVATIONS[activation],
        )  # fmt: skip
        asked = [i for i in range(4) if ctx.needs_input_grad[i]]
        found = torch.autograd.grad(y, [inputs[i] for i in asked], grad_y, create_graph=True)
    grads: list[Tensor | None] = [None] * 4
    for i, grad in zip(asked, found, strict=True):
        grads[i] = grad
    return tuple(grads)


class _Aggregate(torch.autograd.Function):
    """`aggregate` by a kernel; its backward is the same kernel on the transposed edges."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, adjacency: Adjacency, self_weight: float, node_scale: Tensor | None
    ) -> Tensor:
        """Run the kernel."""
        ctx.adjacency, ctx.self_weight, ctx.node_scale = adjacency, self_weight, node_scale
        y: Tensor = torch.ops.graphnorms.aggregate(
            x, adjacency.ptr, adjacency.index, node_scale, self_weight
        )
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Aggregate along the reversed edges; as a Function again, so it can be differentiated."""
        transposed = _transposed(ctx.adjacency)
        grad_x = aggregate(grads[0], transposed, ctx.self_weight, ctx.node_scale)
        return grad_x, None, None, None


def _transposed(adjacency: Adjacency) -> Adjacency:
    if adjacency.symmetric:
        return adjacency
    return Adjacency(*adjacency.transpose, adjacency.ptr, adjacency.index, validate=False)
