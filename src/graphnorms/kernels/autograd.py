"""Autograd for the normalization; `aggregation.autograd` is the counterpart.

In traced code the operators of `graphnorms.kernels.operators` run, each with a gradient formula.
In eager mode an `autograd.Function` calls the kernels directly, which halves the cost of a small
call: `_Normalize`, whose backward is `_Backward` where it is differentiated again. Dynamo drops the
second derivative of a Function, so traced code uses the operators only.

The double backward is a kernel, too. What is differentiated a third time is
`derivatives.double_backward`, the closed form in plain torch, as a function of the saved tensors
and not a derivative with respect to them. So a path from one input to another, e.g. γ computed from
x, is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels import derivatives
from graphnorms.kernels.backend import TRITON, Backend, in_closed_form
from graphnorms.kernels.operators import (
    TENSORS_OF_CALL,
    backward_operator,
    call_of,
    double_backward_operator,
    library,
    split,
)
from graphnorms.kernels.point import Call, Parameters
from graphnorms.tracing import is_plain, is_traced, is_transformed, will_run


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
        """Run the backward kernel, by `_Backward` where it may be differentiated again."""
        grad_y = grads[0]
        if grad_y is None:
            return (None,) * 6
        needs_x, needs_residual, needs_scale, needs_weight, needs_bias, _ = ctx.needs_input_grad
        needs = [needs_x, needs_scale, needs_weight, needs_bias]
        x, mean_scale, weight, bias = ctx.saved_tensors
        parameters = (mean_scale, weight, bias)
        call, kept, backend = ctx.rest
        if torch.is_grad_enabled() and is_plain(grad_y):
            needs = _needs_now(ctx.next_functions, needs, parameters)
            _, needs_scale, needs_weight, needs_bias = needs
            found = apply_backward(grad_y, x, *parameters, (kept, call, backend, needs))
        else:
            found = once(grad_y, x, parameters, kept, (call, backend, needs))
        grad_x, grad_scale, grad_weight, grad_bias = found
        # Written out: a loop would cost a twentieth of the backward of a small call.
        return (
            grad_x if needs_x else None,
            grad_y if needs_residual else None,
            _in_dtype_of(mean_scale, grad_scale) if needs_scale else None,
            _in_dtype_of(weight, grad_weight) if needs_weight else None,
            _in_dtype_of(bias, grad_bias) if needs_bias else None,
            None,
        )


def once(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    kept: Tensor,
    rest: tuple[Call, Backend, list[bool]],
) -> tuple[Tensor | None, ...]:
    """Run the backward where no kernel of it needs a node; see `Backward`."""
    call, backend, needs = rest
    run = backend.backward if is_plain(grad_y) else _traced_backward(backend, grad_y)
    found: tuple[Tensor | None, ...] = run(grad_y, x, parameters, kept, call, needs)
    return found


def _in_dtype_of(parameter: Tensor, grad: Tensor) -> Tensor:
    return grad if grad.dtype == parameter.dtype else grad.to(parameter.dtype)


def _traced_backward(backend: Backend, grad_y: Tensor) -> Any:
    """Return the backward for a gradient that is not plain."""
    interpreted = backend is TRITON and grad_y.is_cpu
    if not torch.compiler.is_compiling() and (is_transformed() or interpreted):
        # Neither torch.func transforms nor the interpreter support the operator.
        return _in_plain_torch
    return backward_operator


def _in_plain_torch(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, ...]:
    return derivatives.backward(grad_y, x, parameters, call)


def _needs_now(edges: Any, needs: list[bool], parameters: Parameters) -> list[bool]:
    """Return which gradients this backward uses.

    `ctx.needs_input_grad` is true for all that require one, e.g. for γ where a force asks for the
    gradient of x alone. x is not looked up: torch's answer for a leaf is a slow error.

    Args:
        edges: `ctx.next_functions`: one for each tensor, the parameters last.
        needs: Which of x and the parameters require a gradient.
        parameters: α, γ and β.
    """
    needs_x, *others = needs
    last = iter(edges[len(edges) - sum(tensor is not None for tensor in parameters) :])
    nodes = [None if tensor is None else next(last)[0] for tensor in parameters]
    return [needs_x, *(need and will_run(node) for need, node in zip(others, nodes, strict=True))]


class _Backward(torch.autograd.Function):
    """The backward by a kernel where it is differentiated again; saves x, grad_y and the same
    statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        grad_y: Tensor,
        x: Tensor,
        mean_scale: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        rest: tuple[Tensor, Call, Backend, list[bool]],
    ) -> tuple[Tensor | None, ...]:
        """Run the backward kernel."""
        kept, call, backend, needs = rest
        ctx.save_for_backward(grad_y, x, mean_scale, weight, bias)
        ctx.rest = rest
        ctx.set_materialize_grads(False)
        return backend.backward(grad_y, x, (mean_scale, weight, bias), kept, call, needs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the double backward."""
        grad_y, x, *parameters = ctx.saved_tensors
        kept, call, backend, _ = ctx.rest
        needs = list(ctx.needs_input_grad[:5])
        run = _double_backward(cotangents, grad_y, backend)
        found = run(cotangents, grad_y, x, tuple(parameters), kept, call, needs)
        return *as_asked(found, (grad_y, x, *parameters), needs), None


def _double_backward(
    cotangents: Sequence[Tensor | None], grad_y: Tensor, backend: Backend | None
) -> Any:
    """Return the double backward for some tensors: the kernel of a backend, or the operator, or
    plain torch where there is a third derivative or a batch of cotangents."""
    if torch.is_grad_enabled() or is_transformed():
        return in_closed_form
    plain = is_plain(grad_y)
    for tensor in cotangents:
        plain = plain and (tensor is None or is_plain(tensor))
    if plain and backend is not None:
        return backend.double_backward
    return double_backward_operator if plain or is_traced() else in_closed_form


# `Function.apply` without its handling of `torch.func`, which takes a quarter of its time.
apply: Any = super(torch.autograd.Function, _Normalize).apply
apply_backward: Any = super(torch.autograd.Function, _Backward).apply


def _forward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    (x, _, *parameters), call, _ = split(inputs)
    # The statistics are a function of x; the formula accounts for it.
    statistics = output[1]
    _save(ctx, (x, *parameters, statistics), call)
    ctx.mark_non_differentiable(statistics)


def _forward_formula(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Any, ...]:
    if grad_y is None:
        return _and_none(ctx, [None] * 5)
    needs_x, needs_residual, *needs_parameters = ctx.needs_input_grad[:5]
    needs = [needs_x, *needs_parameters]
    (*inputs, statistics), call = _saved(ctx)
    x, mean_scale, weight, bias = inputs
    parameters = (mean_scale, weight, bias)
    found = backward_operator(grad_y, x, parameters, statistics, call_of(x, call), needs)
    grad_x, *of_parameters = as_asked(found, inputs, needs)
    return _and_none(ctx, [grad_x, grad_y if needs_residual else None, *of_parameters])


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, call, needs = split(inputs)
    _save(ctx, tensors, call)
    ctx.needs = list(needs)


def _backward_formula(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    (*inputs, statistics), call = _saved(ctx)
    grad_y, x, *parameters = inputs
    given = [
        cotangent if needed and tensor is not None else None
        for cotangent, needed, tensor in zip(cotangents, ctx.needs, inputs[1:], strict=True)
    ]
    needs = list(ctx.needs_input_grad[:5])
    run = _double_backward(given, grad_y, None)
    found = run(given, grad_y, x, tuple(parameters), statistics, call_of(x, call), needs)
    return _and_none(ctx, [*as_asked(found, inputs, needs), None])


def _double_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    (*tensors, _), call, needs = split(inputs)
    _save(ctx, tensors, call)
    ctx.needs = list(needs)


def _double_backward_formula(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    """Differentiate the closed form at aliases of the saved tensors, or a path from one to another
    would count twice."""
    saved, call = _saved(ctx)
    needs = ctx.needs_input_grad[: len(saved)]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [
            tensor
            if tensor is None or not needed
            else tensor.view_as(tensor)
            if again
            else tensor.detach().requires_grad_()
            for tensor, needed in zip(saved, needs, strict=True)
        ]
        of_x, of_scale, of_weight, of_bias, grad_y, x, *parameters = inputs
        cotangents = (of_x, of_scale, of_weight, of_bias)
        found = derivatives.double_backward(
            cotangents, grad_y, x, tuple(parameters), call_of(x, call)
        )
    outputs = [
        (output, grad)
        for output, grad, needed in zip(found, grads, ctx.needs, strict=True)
        if needed and grad is not None and output is not None and output.requires_grad
    ]
    asked = [tensor for tensor, needed in zip(inputs, needs, strict=True) if needed]
    results = iter(
        torch.autograd.grad(
            [output for output, _ in outputs],
            asked,
            [grad for _, grad in outputs],
            create_graph=again,
            allow_unused=True,
        )
        if outputs
        else [None] * len(asked)
    )
    return _and_none(ctx, [*(next(results) if needed else None for needed in needs), None])


def _save(ctx: Any, tensors: Sequence[Tensor | None], call: Sequence[Any]) -> None:
    """Save tensors of an operator, and the call at its end."""
    ctx.save_for_backward(*tensors, *call[:TENSORS_OF_CALL])
    ctx.numbers = call[TENSORS_OF_CALL:]
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> tuple[list[Any], list[Any]]:
    """Return what `_save` saved."""
    saved = list(ctx.saved_tensors)
    return saved[:-TENSORS_OF_CALL], [*saved[-TENSORS_OF_CALL:], *ctx.numbers]


def _and_none(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Append `None` for the arguments of an operator that have no gradient: the call and the last
    one."""
    return *grads, *[None] * (TENSORS_OF_CALL + len(ctx.numbers) + 1)


for _name, _formula, _setup in (
    ("normalize_forward", _forward_formula, _forward_setup),
    ("normalize_backward", _backward_formula, _backward_setup),
    ("normalize_double_backward", _double_backward_formula, _double_backward_setup),
):
    torch.library.register_autograd(
        f"graphnorms::{_name}", _formula, setup_context=_setup, lib=library
    )


def as_asked(found: Any, inputs: Any, needs: list[bool]) -> list[Tensor | None]:
    """Convert gradients to the dtypes of their inputs; `None` for those that are not needed."""
    return [
        _in_dtype_of(tensor, grad) if needed else None
        for grad, tensor, needed in zip(found, inputs, needs, strict=True)
    ]
