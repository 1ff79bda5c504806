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
from graphnorms.kernels.point import Call, Parameters, accumulation_dtype

library: Final = torch.library.Library("graphnorms", "DEF")
_PARAMETERS = "Tensor? mean_scale, Tensor? weight, Tensor? bias"
_CALL = (
    "Tensor ptr, Tensor? order, Tensor? seed, Tensor? table, bool masked, int center, int scale, "
    "int groups, int centers, int scales, float eps, int activation, float dropout, int function"
)
"""A call as the last arguments but one of each operator; see `Call.flat`."""
TENSORS_OF_CALL: Final = 4
_SIZE: Final = _CALL.count(",") + 1
library.define(
    f"normalize_forward(Tensor x, Tensor? residual, {_PARAMETERS}, {_CALL}, bool moment) "
    "-> (Tensor, Tensor)"
)
library.define(
    f"normalize_backward(Tensor grad_y, Tensor x, {_PARAMETERS}, Tensor statistics, {_CALL}, "
    "bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)"
)
library.define(
    "normalize_double_backward(Tensor? of_grad_x, Tensor? of_grad_mean_scale, "
    f"Tensor? of_grad_weight, Tensor? of_grad_bias, Tensor grad_y, Tensor x, {_PARAMETERS}, "
    f"Tensor statistics, {_CALL}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def flat(call: Call) -> tuple[Any, ...]:
    """Flatten a call to arguments of the operators."""
    tensors, numbers = call.flat()
    return *tensors, call.segments.masked, *numbers


def split(arguments: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Any]:
    """Split the arguments of an operator into those before the call, the call, and the last."""
    return arguments[: -_SIZE - 1], arguments[-_SIZE - 1 : -1], arguments[-1]


def call_of(x: Tensor, flattened: Sequence[Any]) -> Call:
    """Rebuild the call from what `flat` returns."""
    tensors, (masked, *numbers) = flattened[:TENSORS_OF_CALL], flattened[TENSORS_OF_CALL:]
    return Call.of_flat(x, tensors, masked, numbers)


def as_operators(backend: Backend) -> dict[str, Callable[..., Any]]:
    """Make the implementations of the operators from the kernels of a backend."""

    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        (x, residual, *parameters), call, moment = split(arguments)
        return backend.forward(x, residual, _three(parameters), call_of(x, call), moment)

    def backward(*arguments: Any) -> tuple[Tensor, ...]:
        (grad_y, x, *parameters, statistics), call, needs = split(arguments)
        grads = backend.backward(grad_y, x, _three(parameters), statistics, call_of(x, call), needs)
        # An operator must return tensors: an empty one for a gradient that is not needed.
        return tuple(grad_y.new_empty(0) if grad is None else grad for grad in grads)

    def double_backward(*arguments: Any) -> tuple[Tensor, ...]:
        tensors, call, needs = split(arguments)
        cotangents, (grad_y, x, *parameters, statistics) = tensors[:4], tensors[4:]
        grads = backend.double_backward(
            cotangents, grad_y, x, _three(parameters), statistics, call_of(x, call), needs
        )
        return tuple(
            x.new_empty(0) if grad is None or not needed else grad.contiguous()
            for grad, needed in zip(grads, needs, strict=True)
        )

    return {
        "normalize_forward": forward,
        "normalize_backward": backward,
        "normalize_double_backward": double_backward,
    }


def _three(parameters: Sequence[Tensor | None]) -> Parameters:
    mean_scale, weight, bias = parameters
    return mean_scale, weight, bias


for _backend in KERNELS.values():
    for _name, _operator in as_operators(_backend).items():
        library.impl(_name, _operator, _backend.device)


def forward_operator(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward as an operator, for tracers and dispatch modes."""
    found: tuple[Tensor, Tensor] = torch.ops.graphnorms.normalize_forward.default(
        x, residual, *parameters, *flat(call), moment
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
    found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.graphnorms.normalize_backward.default(
        grad_y, x, *parameters, statistics, *flat(call), needs
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
    run = torch.ops.graphnorms.normalize_double_backward.default
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = run(
        *cotangents, grad_y, x, *parameters, statistics, *flat(call), needs
    )
    return found


@torch.library.register_fake("graphnorms::normalize_forward", lib=library)
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    (x, *_), call, moment = split(arguments)
    centers, scales = call_of(x, call).cells(x)
    size = centers + scales * (2 if moment else 1)
    return x.new_empty(tuple(x.shape)), x.new_empty(size, dtype=accumulation_dtype(x.dtype))


@torch.library.register_fake("graphnorms::normalize_backward", lib=library)
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (_, x, *parameters, _), (ptr, *_), needs = split(arguments)
    of_x = x.new_empty(tuple(x.shape) if needs[0] else (0,))
    return of_x, *_fake_of_parameters(x, ptr, parameters, needs[1:])


@torch.library.register_fake("graphnorms::normalize_double_backward", lib=library)
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (*_, x, mean_scale, weight, bias, _), (ptr, *_), needs = split(arguments)
    of_grad_y, of_x = (x.new_empty(tuple(x.shape) if needed else (0,)) for needed in needs[:2])
    parameters = (mean_scale, weight, bias)
    return of_grad_y, of_x, *_fake_of_parameters(x, ptr, parameters, needs[2:])


def _fake_of_parameters(
    x: Tensor, ptr: Tensor, parameters: Sequence[Tensor | None], needs: list[bool]
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
