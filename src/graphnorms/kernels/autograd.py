"""Autograd and `torch.library` for the normalization; `aggregation.autograd` is the counterpart.

There are two operators, forward and backward, each with a fake implementation and a gradient
formula. Graphs made by `torch.compile`, `torch.export` and `make_fx` contain one node for each and
can be differentiated repeatedly. In eager mode an `autograd.Function` calls the kernels directly,
which halves the cost of a small call. Dynamo drops the second derivative of a Function, so traced
code uses the operators only.

The gradient of the backward is plain torch in closed form: `derivatives.double_backward`. It is a
function of the saved tensors, not a derivative with respect to them. So a path from one input to
another, e.g. γ computed from x, is counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels import derivatives
from graphnorms.kernels.backend import KERNELS, TRITON, Backend
from graphnorms.kernels.point import (
    ACTIVATIONS,
    FUNCTIONS,
    Call,
    Over,
    Parameters,
    Point,
    accumulation_dtype,
)
from graphnorms.segments import Segments
from graphnorms.tracing import is_plain, is_transformed

_library = torch.library.Library("graphnorms", "DEF")
_SEGMENTS = "Tensor ptr, Tensor? order, Tensor? seed"
_PARAMETERS = "Tensor? mean_scale, Tensor? weight, Tensor? bias"
_NUMBERS = (
    "bool masked, int center, int scale, int groups, float eps, int activation, float dropout, "
    "int function"
)
_library.define(
    f"normalize_forward(Tensor x, Tensor? residual, {_SEGMENTS}, {_PARAMETERS}, {_NUMBERS}, "
    "bool moment) -> (Tensor, Tensor)"
)
_library.define(
    f"normalize_backward(Tensor grad_y, Tensor x, {_SEGMENTS}, {_PARAMETERS}, Tensor statistics, "
    f"{_NUMBERS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _flat(call: Call) -> tuple[tuple[Tensor, Tensor | None, Tensor | None], tuple[Any, ...]]:
    """Flatten a call to the tensors and numbers that the operators take."""
    segments, (center, scale, _, groups, function), eps, activation, dropout, seed = call
    others = (ACTIVATIONS.index(activation), dropout, FUNCTIONS.index(function))
    numbers = (segments.masked, center or 0, scale or 0, groups, eps, *others)
    return (segments.ptr, segments.order, seed), numbers


def _call_of(
    x: Tensor, ptr: Tensor, order: Tensor | None, seed: Tensor | None, *numbers: Any
) -> Call:
    """Rebuild the call from the flat arguments of an operator."""
    masked, center, scale, groups, eps, activation, dropout, function = numbers
    over = (Over(center) if center else None, Over(scale) if scale else None)
    segments = Segments(ptr, order, x.shape[0], masked=masked)
    point = Point(*over, groups=groups, function=FUNCTIONS[function])
    return Call(segments, point, eps, ACTIVATIONS[activation], dropout, seed)


def as_operators(backend: Backend) -> dict[str, Callable[..., Any]]:
    """Make the implementations of the operators from the kernels of a backend."""

    def forward(x: Tensor, residual: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
        *numbers, moment = rest[6:]
        call = _call_of(x, *rest[:3], *numbers)
        return backend.forward(x, residual, rest[3:6], call, moment)

    def backward(grad_y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        statistics, *numbers, needs = rest[6:]
        call = _call_of(x, *rest[:3], *numbers)
        grads = backend.backward(grad_y, x, rest[3:6], statistics, call, needs)
        # An operator must return tensors: an empty one for a gradient that is not needed.
        return tuple(grad_y.new_empty(0) if grad is None else grad for grad in grads)

    return {"normalize_forward": forward, "normalize_backward": backward}


for _backend in KERNELS.values():
    for _name, _operator in as_operators(_backend).items():
        _library.impl(_name, _operator, _backend.device)


def as_operator(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward as an operator, for tracers and dispatch modes."""
    tensors, numbers = _flat(call)
    found: tuple[Tensor, Tensor] = torch.ops.graphnorms.normalize_forward.default(
        x, residual, *tensors, *parameters, *numbers, moment
    )
    return found


def _backward_as_operator(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tensors, numbers = _flat(call)
    found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.graphnorms.normalize_backward.default(
        grad_y, x, *tensors, *parameters, statistics, *numbers, needs
    )
    return found


@torch.library.register_fake("graphnorms::normalize_forward", lib=_library)
def _(x: Tensor, residual: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *numbers, moment = rest[6:]
    centers, scales = _call_of(x, *rest[:3], *numbers).cells(x)
    size = centers + scales * (2 if moment else 1)
    return x.new_empty(tuple(x.shape)), x.new_empty(size, dtype=accumulation_dtype(x.dtype))


@torch.library.register_fake("graphnorms::normalize_backward", lib=_library)
def _(grad_y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ptr, _, _, mean_scale, weight, bias = rest[:6]
    needs = rest[-1]
    own = any(parameter is not None and parameter.dim() == 2 for parameter in (weight, bias))
    affine = (ptr.shape[0] - 1, x.shape[1]) if own else (x.shape[1],)
    shares = () if mean_scale is None else tuple(mean_scale.shape)
    dtype = accumulation_dtype(x.dtype)
    grads = [
        x.new_empty(shape if needed and parameter is not None else (0,), dtype=dtype)
        for needed, parameter, shape in zip(
            needs[1:], (mean_scale, weight, bias), (shares, affine, affine), strict=True
        )
    ]
    return x.new_empty(tuple(x.shape) if needs[0] else (0,)), grads[0], grads[1], grads[2]


class _Normalize(torch.autograd.Function):
    """`segment_normalize` by a kernel; returns y, and the statistics if requested.

    It has no `setup_context`, which would bind default arguments at every call. Under a transform
    of `torch.func` the reference runs instead.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        mean_scale: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        rest: tuple[Call, bool, Backend],
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run the forward kernel and save x and two statistics per cell.

        `rest` is a single tuple, because every argument of a Function costs time.
        """
        call, statistics, backend = rest
        y, kept = backend.forward(x, residual, (mean_scale, weight, bias), call, statistics)
        ctx.save_for_backward(x, mean_scale, weight, bias)
        ctx.rest = call, kept, backend
        ctx.set_materialize_grads(False)
        if not statistics:
            return y
        ctx.mark_non_differentiable(kept)
        return y, kept

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel, as an operator if its result needs a gradient."""
        grad_y = grads[0]
        if grad_y is None:
            return (None,) * 6
        needs_x, needs_residual, needs_scale, needs_weight, needs_bias, _ = ctx.needs_input_grad
        needs = [needs_x, needs_scale, needs_weight, needs_bias]
        x, mean_scale, weight, bias = ctx.saved_tensors
        call, kept, backend = ctx.rest
        if torch.is_grad_enabled() or not is_plain(grad_y):
            run = _slow_backward(grad_y, backend)
        else:
            run = backend.backward
        grad_x, grad_scale, grad_weight, grad_bias = run(
            grad_y, x, (mean_scale, weight, bias), kept, call, needs
        )
        # Written out: a loop would cost a twentieth of the backward of a small call.
        return (
            grad_x if needs_x else None,
            grad_y if needs_residual else None,
            _in_dtype_of(mean_scale, grad_scale) if needs_scale else None,
            _in_dtype_of(weight, grad_weight) if needs_weight else None,
            _in_dtype_of(bias, grad_bias) if needs_bias else None,
            None,
        )


def _in_dtype_of(parameter: Tensor, grad: Tensor) -> Tensor:
    return grad if grad.dtype == parameter.dtype else grad.to(parameter.dtype)


def _slow_backward(grad_y: Tensor, backend: Backend) -> Any:
    """Return the backward for gradients that are traced or differentiated again."""
    if torch.compiler.is_compiling():
        return _backward_as_operator
    interpreted = backend is TRITON and grad_y.is_cpu
    if is_transformed() or (interpreted and torch.is_grad_enabled()):
        # Neither torch.func transforms nor the interpreter support the operator.
        return _in_plain_torch
    return _backward_as_operator


def _in_plain_torch(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, ...]:
    return derivatives.backward(grad_y, x, parameters, call)


# `Function.apply` without its handling of `torch.func`, which takes a quarter of its time.
apply: Any = super(torch.autograd.Function, _Normalize).apply


def _forward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, *segments, mean_scale, weight, bias = inputs[:8]
    # The statistics are a function of x; the formula accounts for it.
    statistics = output[1]
    ctx.save_for_backward(x, mean_scale, weight, bias, *segments, statistics)
    ctx.numbers = inputs[8:-1]
    ctx.mark_non_differentiable(statistics)
    ctx.set_materialize_grads(False)


def _forward_formula(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Any, ...]:
    if grad_y is None:
        return (None,) * 17
    needs_x, needs_residual, _, _, _, *needs_parameters = ctx.needs_input_grad[:8]
    needs = [needs_x, *needs_parameters]
    *inputs, ptr, order, seed, statistics = ctx.saved_tensors
    x, *parameters = inputs
    call = _call_of(x, ptr, order, seed, *ctx.numbers)
    found = _backward_as_operator(grad_y, x, parameters, statistics, call, needs)
    grad_x, *of_parameters = _as_asked(found, inputs, needs)
    return grad_x, grad_y if needs_residual else None, None, None, None, *of_parameters, *_NO[:9]


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_y, x, *segments, mean_scale, weight, bias, _ = inputs[:9]
    ctx.save_for_backward(grad_y, x, mean_scale, weight, bias, *segments)
    ctx.numbers = inputs[9:-1]
    ctx.needs = list(inputs[-1])
    ctx.set_materialize_grads(False)


def _backward_formula(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    grad_y, x, *parameters, ptr, order, seed = ctx.saved_tensors
    given = [
        cotangent if needed and tensor is not None else None
        for cotangent, needed, tensor in zip(cotangents, ctx.needs, (x, *parameters), strict=True)
    ]
    call = _call_of(x, ptr, order, seed, *ctx.numbers)
    found = derivatives.double_backward(given, grad_y, x, parameters, call)
    needs = [*ctx.needs_input_grad[:2], *ctx.needs_input_grad[5:8]]
    grads = _as_asked(found, (grad_y, x, *parameters), needs)
    return *grads[:2], None, None, None, *grads[2:], *_NO


_NO = (None,) * 10
"""Gradients of the arguments without one."""

for _name, _formula, _setup in (
    ("normalize_forward", _forward_formula, _forward_setup),
    ("normalize_backward", _backward_formula, _backward_setup),
):
    torch.library.register_autograd(
        f"graphnorms::{_name}", _formula, setup_context=_setup, lib=_library
    )


def _as_asked(found: Any, inputs: Any, needs: list[bool]) -> list[Tensor | None]:
    """Convert gradients to the dtypes of their inputs; `None` for those that are not needed."""
    return [
        _in_dtype_of(tensor, grad) if needed else None
        for grad, tensor, needed in zip(found, inputs, needs, strict=True)
    ]
