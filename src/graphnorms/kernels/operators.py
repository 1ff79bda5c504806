"""The operators of the normalization for `torch.library`, and their fake implementations.

There is one each for forward, backward and double backward; `graphnorms.kernels.autograd` has their
gradients. Graphs made by `torch.compile`, `torch.export` and `make_fx` contain one node for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.kernels.backend import KERNELS, Backend
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

library: Final = torch.library.Library("graphnorms", "DEF")
_SEGMENTS = "Tensor ptr, Tensor? order, Tensor? seed"
_PARAMETERS = "Tensor? mean_scale, Tensor? weight, Tensor? bias"
_NUMBERS = (
    "bool masked, int center, int scale, int groups, float eps, int activation, float dropout, "
    "int function"
)
library.define(
    f"normalize_forward(Tensor x, Tensor? residual, {_SEGMENTS}, {_PARAMETERS}, {_NUMBERS}, "
    "bool moment) -> (Tensor, Tensor)"
)
library.define(
    f"normalize_backward(Tensor grad_y, Tensor x, {_SEGMENTS}, {_PARAMETERS}, Tensor statistics, "
    f"{_NUMBERS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)"
)
library.define(
    "normalize_double_backward(Tensor? of_grad_x, Tensor? of_grad_mean_scale, "
    "Tensor? of_grad_weight, Tensor? of_grad_bias, Tensor grad_y, Tensor x, "
    f"{_SEGMENTS}, {_PARAMETERS}, Tensor statistics, {_NUMBERS}, bool[] needs) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def flat(call: Call) -> tuple[tuple[Tensor, Tensor | None, Tensor | None], tuple[Any, ...]]:
    """Flatten a call to the tensors and numbers that the operators take."""
    segments, (center, scale, _, groups, function), eps, activation, dropout, seed = call
    others = (ACTIVATIONS.index(activation), dropout, FUNCTIONS.index(function))
    numbers = (segments.masked, center or 0, scale or 0, groups, eps, *others)
    return (segments.ptr, segments.order, seed), numbers


def call_of(
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
        call = call_of(x, *rest[:3], *numbers)
        return backend.forward(x, residual, rest[3:6], call, moment)

    def backward(grad_y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        statistics, *numbers, needs = rest[6:]
        call = call_of(x, *rest[:3], *numbers)
        grads = backend.backward(grad_y, x, rest[3:6], statistics, call, needs)
        # An operator must return tensors: an empty one for a gradient that is not needed.
        return tuple(grad_y.new_empty(0) if grad is None else grad for grad in grads)

    def double_backward(*arguments: Any) -> tuple[Tensor, ...]:
        cotangents, (grad_y, x), rest = arguments[:4], arguments[4:6], arguments[6:]
        statistics, *numbers, needs = rest[6:]
        call = call_of(x, *rest[:3], *numbers)
        grads = backend.double_backward(cotangents, grad_y, x, rest[3:6], statistics, call, needs)
        return tuple(
            x.new_empty(0) if grad is None or not needed else grad.contiguous()
            for grad, needed in zip(grads, needs, strict=True)
        )

    return {
        "normalize_forward": forward,
        "normalize_backward": backward,
        "normalize_double_backward": double_backward,
    }


for _backend in KERNELS.values():
    for _name, _operator in as_operators(_backend).items():
        library.impl(_name, _operator, _backend.device)


def forward_operator(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward as an operator, for tracers and dispatch modes."""
    tensors, numbers = flat(call)
    found: tuple[Tensor, Tensor] = torch.ops.graphnorms.normalize_forward.default(
        x, residual, *tensors, *parameters, *numbers, moment
    )
    return found


def backward_operator(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward as an operator; an empty tensor for a gradient that is not needed."""
    tensors, numbers = flat(call)
    found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.graphnorms.normalize_backward.default(
        grad_y, x, *tensors, *parameters, statistics, *numbers, needs
    )
    return found


def double_backward_operator(
    cotangents: Sequence[Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run the double backward as an operator; an empty tensor for a gradient not needed."""
    tensors, numbers = flat(call)
    run = torch.ops.graphnorms.normalize_double_backward.default
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = run(
        *cotangents, grad_y, x, *tensors, *parameters, statistics, *numbers, needs
    )
    return found


@torch.library.register_fake("graphnorms::normalize_forward", lib=library)
def _(x: Tensor, residual: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *numbers, moment = rest[6:]
    centers, scales = call_of(x, *rest[:3], *numbers).cells(x)
    size = centers + scales * (2 if moment else 1)
    return x.new_empty(tuple(x.shape)), x.new_empty(size, dtype=accumulation_dtype(x.dtype))


@torch.library.register_fake("graphnorms::normalize_backward", lib=library)
def _(grad_y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_parameters = _fake_of_parameters(x, *rest[:6], needs=rest[-1][1:])
    return x.new_empty(tuple(x.shape) if rest[-1][0] else (0,)), *of_parameters


@torch.library.register_fake("graphnorms::normalize_double_backward", lib=library)
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, *rest = arguments[5:]
    of_grad_y, of_x = (x.new_empty(tuple(x.shape) if needed else (0,)) for needed in rest[-1][:2])
    return of_grad_y, of_x, *_fake_of_parameters(x, *rest[:6], needs=rest[-1][2:])


def _fake_of_parameters(
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    seed: Tensor | None,
    *parameters: Tensor | None,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    mean_scale, weight, bias = parameters
    own = any(parameter is not None and parameter.dim() == 2 for parameter in (weight, bias))
    affine = (ptr.shape[0] - 1, x.shape[1]) if own else (x.shape[1],)
    shares = () if mean_scale is None else tuple(mean_scale.shape)
    dtype = accumulation_dtype(x.dtype)
    grads = [
        x.new_empty(shape if needed and parameter is not None else (0,), dtype=dtype)
        for needed, parameter, shape in zip(
            needs, parameters, (shares, affine, affine), strict=True
        )
    ]
    return grads[0], grads[1], grads[2]
