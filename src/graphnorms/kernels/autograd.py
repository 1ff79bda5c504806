"""Where the normalization meets autograd and `torch.library`; see also that of `aggregation`.

The operators carry the tensors and numbers of a kernel call, so that `torch.compile` and
`torch.export` see one node each. They are made differentiable by the Functions below: an
`autograd.Function` over plain operators costs half as much per call as registering a backward
for them. When a gradient is to be differentiated again the backward is replayed through the
reference, which is plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels import reference
from graphnorms.kernels.calls import runs_directly
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.problem import ACTIVATIONS, Over, accumulation_dtype, statistics_sizes
from graphnorms.kernels.triton import normalize as triton
from graphnorms.segments import Segments

_library = torch.library.Library("graphnorms", "DEF")
_library.define(
    "normalize_forward(Tensor x, Tensor? residual, Tensor ptr, Tensor? order, Tensor? seed, "
    "Tensor? mean_scale, Tensor? weight, Tensor? bias, int center, int scale, int groups, "
    "float eps, int activation, float dropout, int longest, bool masked, bool moment) "
    "-> (Tensor, Tensor)"
)
_library.define(
    "normalize_backward(Tensor grad_y, Tensor x, Tensor ptr, Tensor? order, Tensor? seed, "
    "Tensor? mean_scale, Tensor? weight, Tensor? bias, Tensor statistics, int center, int scale, "
    "int groups, float eps, int activation, float dropout, int longest, bool masked, "
    "bool[] needs) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def of_tensors(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., Any]:
    """A backward as an operator, whose results are tensors: an empty one where none is asked."""

    def operator(grad_y: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, ...]:
        grads = backward(grad_y, *rest, **named)
        return tuple(grad_y.new_empty(0) if grad is None else grad for grad in grads)

    return operator


_library.impl("normalize_forward", cpu.normalize_forward, "CPU")
_library.impl("normalize_backward", of_tensors(cpu.normalize_backward), "CPU")
_library.impl("normalize_forward", triton.normalize_forward, "CUDA")
_library.impl("normalize_backward", of_tensors(triton.normalize_backward), "CUDA")

_normalize_forward = torch.ops.graphnorms.normalize_forward.default
_normalize_backward = torch.ops.graphnorms.normalize_backward.default


@torch.library.register_fake("graphnorms::normalize_forward", lib=_library)
def _(
    x: Tensor, residual: Tensor | None, ptr: Tensor, order: Tensor | None, seed: Tensor | None,
    mean_scale: Tensor | None, weight: Tensor | None, bias: Tensor | None, center: int,
    scale: int, groups: int, eps: float, activation: int, dropout: float, longest: int,
    masked: bool, moment: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    rows, channels = x.shape
    centers, scales = statistics_sizes(center, scale, rows, ptr.shape[0] - 1, channels, groups)
    size = centers + scales * (2 if moment else 1)
    return x.new_empty((rows, channels)), x.new_empty(size, dtype=accumulation_dtype(x.dtype))


@torch.library.register_fake("graphnorms::normalize_backward", lib=_library)
def _(
    grad_y: Tensor, x: Tensor, ptr: Tensor, order: Tensor | None, seed: Tensor | None,
    mean_scale: Tensor | None, weight: Tensor | None, bias: Tensor | None, statistics: Tensor,
    center: int, scale: int, groups: int, eps: float, activation: int, dropout: float,
    longest: int, masked: bool, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    own = any(parameter is not None and parameter.dim() == 2 for parameter in (weight, bias))
    shared = (x.shape[1],)
    affine = (ptr.shape[0] - 1, x.shape[1]) if own else shared
    dtype = accumulation_dtype(x.dtype)
    grads = [
        x.new_empty(shape if needed and parameter is not None else (0,), dtype=dtype)
        for needed, parameter, shape in zip(
            needs[1:], (mean_scale, weight, bias), (shared, affine, affine), strict=True
        )
    ]
    return x.new_empty(tuple(x.shape) if needs[0] else (0,)), grads[0], grads[1], grads[2]


_Choices = tuple[int, int, int, float, int, float, int, bool]
"""Centre, scale, groups, eps, activation and dropout, as the operators take them; and by what GPUs
plan: rows of the longest segment, -1 where the host does not know, and whether any are masked."""

_Rest = tuple[Tensor, Tensor | None, Tensor | None, _Choices, bool, bool, bool]
"""What takes no gradient: ptr, order and seed, the choices, whether the statistics are a result,
whether to skip the operator, and whether Triton's interpreter runs on the CPU. In one piece,
because every argument of a Function costs."""


def normalize(
    x: Tensor, segments: Segments, *, center: Over | None, scale: Over | None, groups: int,
    mean_scale: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float,
    activation: str | None, dropout: float, seed: Tensor | None, residual: Tensor | None,
    statistics: bool, interpreted: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Run `segment_normalize` on the kernels.

    The operators pick them by the device of x; `interpreted` asks for those of the GPU on the
    CPU, which only direct calls can have.

    Returns:
        y; and, if `statistics`, one vector of the mean of each cell of the centre relative to
        the cell's first entry, 1/sqrt(s² + eps), and s². It carries no gradient.
    """
    direct = runs_directly(x)
    longest = segments.longest
    if longest is None or torch.compiler.is_compiling():
        longest = -1  # a compiled graph would hold on to the number
    choices = (
        center or 0, scale or 0, groups, eps, ACTIVATIONS.index(activation), dropout, longest,
        segments.masked,
    )  # fmt: skip
    inputs = (x, residual, mean_scale, weight, bias)
    if direct and not _takes_gradients(inputs):
        # Nothing to differentiate: a small call is done in half the time without a Function.
        run = triton.normalize_forward if interpreted else cpu.normalize_forward
        y, kept = run(
            x, residual, segments.ptr, segments.order, seed, mean_scale, weight, bias, *choices,
            statistics,
        )  # fmt: skip
        return y, kept if statistics else None
    rest = (segments.ptr, segments.order, seed, choices, statistics, direct, interpreted)
    apply: Any = _apply_directly if direct else _Normalize.apply
    results = apply(*inputs, rest)
    return results if statistics else (results, None)


def _takes_gradients(inputs: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in inputs
    )


class _Normalize(torch.autograd.Function):
    """`segment_normalize` by a kernel; returns y, and with `statistics` those too.

    Without `setup_context`, which would bind default arguments at every call: under a transform
    of `torch.func` the API takes the reference.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, mean_scale: Tensor | None,
        weight: Tensor | None, bias: Tensor | None, rest: _Rest,
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        """Run the forward kernel and keep x and two statistics per cell."""
        ptr, order, seed, choices, statistics, direct, interpreted = rest
        run: Any = cpu.normalize_forward if direct else _normalize_forward
        if interpreted:
            run = triton.normalize_forward
        y: Tensor
        kept: Tensor
        y, kept = run(x, residual, ptr, order, seed, mean_scale, weight, bias, *choices, statistics)
        ctx.save_for_backward(x, mean_scale, weight, bias)
        ctx.rest = rest
        ctx.kept = kept
        ctx.set_materialize_grads(False)
        if not statistics:
            return y
        ctx.mark_non_differentiable(kept)
        return y, kept

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel, or the reference where its result shall have a gradient."""
        grad_y = grads[0]
        if grad_y is None:
            return (None,) * 6
        needs_x, needs_residual, needs_scale, needs_weight, needs_bias, _ = ctx.needs_input_grad
        needs = [needs_x, needs_scale, needs_weight, needs_bias]
        grad_residual = grad_y if needs_residual else None
        if not torch.compiler.is_compiling() and (
            torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
        ):
            grad_x, *others = _replayed_backward(ctx, needs, grad_y)
            return grad_x, grad_residual, *others, None
        x, mean_scale, weight, bias = ctx.saved_tensors
        ptr, order, seed, choices, _, _, interpreted = ctx.rest
        run: Any = cpu.normalize_backward if runs_directly(grad_y) else _normalize_backward
        if interpreted:
            run = triton.normalize_backward
        grad_x, grad_scale, grad_weight, grad_bias = run(
            grad_y, x, ptr, order, seed, mean_scale, weight, bias, ctx.kept, *choices, needs
        )
        return (
            grad_x if needs_x else None,
            grad_residual,
            _in_dtype_of(mean_scale, grad_scale) if needs_scale else None,
            _in_dtype_of(weight, grad_weight) if needs_weight else None,
            _in_dtype_of(bias, grad_bias) if needs_bias else None,
            None,
        )


def _in_dtype_of(parameter: Tensor, grad: Tensor) -> Tensor:
    return grad if grad.dtype == parameter.dtype else grad.to(parameter.dtype)


# `Function.apply` without what it does for `torch.func`, which takes a quarter of its time.
_apply_directly = super(torch.autograd.Function, _Normalize).apply


def _replayed_backward(ctx: Any, needs: list[bool], grad_y: Tensor) -> list[Tensor | None]:
    """The gradients of x and the parameters as differentiable functions of them and grad_y."""
    inputs = ctx.saved_tensors
    x, mean_scale, weight, bias = inputs
    ptr, order, seed, choices, *_ = ctx.rest
    center, scale, groups, eps, activation, dropout, _, masked = choices
    with torch.enable_grad():
        y, _, _ = reference.segment_normalize(
            x, Segments(ptr, order, x.shape[0], masked=masked),
            center=Over(center) if center else None, scale=Over(scale) if scale else None,
            groups=groups, mean_scale=mean_scale, weight=weight, bias=bias, eps=eps,
            activation=ACTIVATIONS[activation], dropout=dropout, seed=seed, residual=None,
        )  # fmt: skip
        asked = {i: tensor for i, tensor in enumerate(inputs) if tensor is not None and needs[i]}
        found = torch.autograd.grad(y, list(asked.values()), grad_y, create_graph=True)
    grads: list[Tensor | None] = [None] * 4
    for i, grad in zip(asked, found, strict=True):
        grads[i] = grad
    return grads
