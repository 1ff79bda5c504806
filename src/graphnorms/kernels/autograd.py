"""Where the kernels meet autograd and `torch.library`.

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

from graphnorms.kernels import reference
from graphnorms.kernels.calls import runs_directly as _runs_directly
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
_library.impl("normalize_forward", cpu.normalize_forward, "CPU")
_library.impl("normalize_backward", cpu.normalize_backward, "CPU")

_normalize_forward = torch.ops.graphnorms.normalize_forward.default
_normalize_backward = torch.ops.graphnorms.normalize_backward.default


@torch.library.register_fake("graphnorms::normalize_forward", lib=_library)
def _(
    x: Tensor, ptr: Tensor, order: Tensor | None, mean_scale: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, center: int, scale: int, groups: int,
    eps: float, activation: int, statistics: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rows, channels = x.shape
    segments = ptr.shape[0] - 1
    dtype = accumulation_dtype(x.dtype)
    scales = cells(scale, rows, segments, channels, groups)
    return (
        x.new_empty((rows, channels)),
        x.new_empty(cells(center, rows, segments, channels, groups), dtype=dtype),
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


_Choices = tuple[int, int, int, float, int]
"""Centre, scale, groups, eps and activation, as the operators take them."""


def normalize(
    x: Tensor, segments: Segments, *, center: Over | None, scale: Over | None, groups: int,
    mean_scale: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float,
    activation: str | None, statistics: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Run `segment_normalize` on the kernels.

    Returns:
        y; and, if `statistics`, the mean of each cell of the centre relative to the cell's first
        entry, and s². The two carry no gradient.
    """
    choices = (center or 0, scale or 0, groups, eps, ACTIVATIONS.index(activation))
    results = _Normalize.apply(  # type: ignore[no-untyped-call]
        x, mean_scale, weight, bias, segments.ptr, segments.order, choices, statistics
    )
    if statistics:
        y, shift, moment = results
        return y, shift, moment
    return results, None, None


class _Normalize(torch.autograd.Function):
    """`segment_normalize` by a kernel; returns y, and with `statistics` the mean and s².

    Without `setup_context`, which would bind default arguments at every call: under a transform
    of `torch.func` the API takes the reference.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean_scale: Tensor | None, weight: Tensor | None,
        bias: Tensor | None, ptr: Tensor, order: Tensor | None,
        choices: _Choices, statistics: bool,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Run the forward kernel and keep x and two statistics per cell."""
        run = cpu.normalize_forward if _runs_directly(x) else _normalize_forward
        y, shift, rstd, moment = run(x, ptr, order, mean_scale, weight, bias, *choices, statistics)
        ctx.save_for_backward(x, mean_scale, weight, bias, ptr, order, shift, rstd)
        ctx.choices = choices
        ctx.set_materialize_grads(False)
        if not statistics:
            return y
        ctx.mark_non_differentiable(shift, moment)
        return y, shift, moment

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel, or the reference where its result shall have a gradient."""
        grad_y = grads[0]
        if grad_y is None:
            return (None,) * 8
        x, mean_scale, weight, bias, ptr, order, shift, rstd = ctx.saved_tensors
        need_x, need_mean_scale, need_weight, need_bias, *_ = ctx.needs_input_grad
        needs = [need_x, need_mean_scale, need_weight, need_bias]
        if not torch.compiler.is_compiling() and (
            torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
        ):
            segments = Segments(ptr, order, x.shape[0])
            inputs = (x, mean_scale, weight, bias)
            return (*_replayed_backward(inputs, needs, segments, ctx.choices, grad_y), *(None,) * 4)
        choices: _Choices = ctx.choices
        run = cpu.normalize_backward if _runs_directly(grad_y) else _normalize_backward
        grad_x, grad_mean_scale, grad_weight, grad_bias = run(
            grad_y, x, ptr, order, mean_scale, weight, bias, shift, rstd, *choices, needs
        )
        return (
            grad_x if need_x else None,
            grad_mean_scale.to(mean_scale.dtype) if need_mean_scale else None,
            grad_weight.to(weight.dtype) if need_weight else None,
            grad_bias.to(bias.dtype) if need_bias else None,
            None, None, None, None,
        )  # fmt: skip


def _replayed_backward(
    inputs: tuple[Tensor | None, ...],
    needs: list[bool],
    segments: Segments,
    choices: _Choices,
    grad_y: Tensor,
) -> list[Tensor | None]:
    """The gradients as differentiable functions of the inputs and of grad_y."""
    x, mean_scale, weight, bias = inputs
    assert x is not None
    center, scale, groups, eps, activation = choices
    with torch.enable_grad():
        y, _, _ = reference.segment_normalize(
            x, segments, center=Over(center) if center else None,
            scale=Over(scale) if scale else None, groups=groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=eps, activation=ACTIVATIONS[activation],
        )  # fmt: skip
        asked = {i: tensor for i, tensor in enumerate(inputs) if tensor is not None and needs[i]}
        found = torch.autograd.grad(y, list(asked.values()), grad_y, create_graph=True)
    grads: list[Tensor | None] = [None] * 4
    for i, grad in zip(asked, found, strict=True):
        grads[i] = grad
    return grads
