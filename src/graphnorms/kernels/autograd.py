"""Where the normalization meets autograd and `torch.library`; see also that of `aggregation`.

Two operators carry the tensors and numbers of a kernel call: forward and backward, each with a fake
and a formula for its gradient, so that graphs made by `torch.compile`, `torch.export` and `make_fx`
hold one node for each and can be differentiated as often as wanted. In eager mode an
`autograd.Function` calls the kernels themselves, at half the cost of a small call. Dynamo drops the
second derivative of any Function, so traced code never meets one.

The gradient of the backward is plain torch, in closed form: `derivatives.double_backward`. It is a
function of the saved tensors, not a derivative with respect to them, so that a path from one input
to another, as where γ is computed from x, is counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels import derivatives
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.point import Call, Operands, Parameters, accumulation_dtype
from graphnorms.kernels.triton import normalize as triton
from graphnorms.tracing import is_plain, is_transformed

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


def as_operators(kernels: ModuleType) -> dict[str, Callable[..., Any]]:
    """Make the implementations of the operators from the kernels of a backend."""

    def forward(
        x: Tensor, residual: Tensor | None, ptr: Tensor, order: Tensor | None,
        seed: Tensor | None, *rest: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        *numbers, moment = rest[3:]
        operands = Operands(ptr, order, seed, *numbers)
        found: tuple[Tensor, Tensor] = kernels.normalize_forward(
            x, residual, rest[:3], operands, moment
        )
        return found

    def backward(
        grad_y: Tensor, x: Tensor, ptr: Tensor, order: Tensor | None, seed: Tensor | None,
        *rest: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        statistics, *numbers, needs = rest[3:]
        operands = Operands(ptr, order, seed, *numbers)
        grads = kernels.normalize_backward(grad_y, x, rest[:3], statistics, operands, needs)
        # The results of an operator are tensors: an empty one where none is asked for.
        return tuple(grad_y.new_empty(0) if grad is None else grad for grad in grads)

    return {"normalize_forward": forward, "normalize_backward": backward}


for _device, _kernels in (("CPU", cpu), ("CUDA", triton)):
    for _name, _operator in as_operators(_kernels).items():
        _library.impl(_name, _operator, _device)


def _normalize_forward(
    x: Tensor, residual: Tensor | None, parameters: Parameters, operands: Operands, moment: bool
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = torch.ops.graphnorms.normalize_forward.default(
        x, residual, *operands[:3], *parameters, *operands[3:], moment
    )
    return found


def _normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    operands: Operands,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.graphnorms.normalize_backward.default(
        grad_y, x, *operands[:3], *parameters, statistics, *operands[3:], needs
    )
    return found


@torch.library.register_fake("graphnorms::normalize_forward", lib=_library)
def _(
    x: Tensor, residual: Tensor | None, ptr: Tensor, order: Tensor | None, seed: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    *numbers, moment = rest[3:]
    centers, scales = Operands(ptr, order, seed, *numbers).cells(*x.shape)
    size = centers + scales * (2 if moment else 1)
    return x.new_empty(tuple(x.shape)), x.new_empty(size, dtype=accumulation_dtype(x.dtype))


@torch.library.register_fake("graphnorms::normalize_backward", lib=_library)
def _(
    grad_y: Tensor, x: Tensor, ptr: Tensor, order: Tensor | None, seed: Tensor | None,
    mean_scale: Tensor | None, weight: Tensor | None, bias: Tensor | None, *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    needs = rest[-1]
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


def normalize(
    x: Tensor, call: Call, *, plain: bool, interpreted: bool, statistics: bool
) -> tuple[Tensor, Tensor | None]:
    """Run `segment_normalize` on the kernels of the device of x.

    Args:
        x, call: What.
        plain: Whether kernels may be called directly.
        interpreted: Whether to run those of the GPU, on the CPU.
        statistics: Whether to return them.

    Returns:
        y; and, if `statistics`, one vector of the mean of each cell of the centre relative to
        the cell's first entry, 1/sqrt(s² + eps), and s². It carries no gradient.
    """
    longest = call.segments.longest
    if longest is None or not plain:
        longest = -1  # a traced graph would hold on to the number
    operands = Operands.of(call, longest)
    inputs = (x, call.residual, call.mean_scale, call.weight, call.bias)
    kernels = cpu if x.is_cpu and not interpreted else triton
    differentiated = False
    if plain and torch.is_grad_enabled():
        for tensor in inputs:
            if tensor is not None and tensor.requires_grad:
                differentiated = True
                break
    if not differentiated:
        # Nothing to differentiate: a small call is done in half the time without a Function.
        run = kernels.normalize_forward if plain else _normalize_forward
        y, kept = run(x, call.residual, inputs[2:], operands, statistics)
        return y, kept if statistics else None
    results = _apply(*inputs, (operands, statistics, kernels))
    return results if statistics else (results, None)


class _Normalize(torch.autograd.Function):
    """`segment_normalize` by a kernel; returns y, and with `statistics` those too.

    Without `setup_context`, which would bind default arguments at every call: under a transform
    of `torch.func` the API takes the reference.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, mean_scale: Tensor | None,
        weight: Tensor | None, bias: Tensor | None, rest: tuple[Operands, bool, ModuleType],
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        """Run the forward kernel and keep x and two statistics per cell.

        `rest` is one piece, because every argument of a Function costs.
        """
        operands, statistics, kernels = rest
        y: Tensor
        kept: Tensor
        parameters = (mean_scale, weight, bias)
        y, kept = kernels.normalize_forward(x, residual, parameters, operands, statistics)
        ctx.save_for_backward(x, mean_scale, weight, bias)
        ctx.rest = operands, kept, kernels
        ctx.set_materialize_grads(False)
        if not statistics:
            return y
        ctx.mark_non_differentiable(kept)
        return y, kept

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel, as an operator where its result shall have a gradient."""
        grad_y = grads[0]
        if grad_y is None:
            return (None,) * 6
        needs_x, needs_residual, needs_scale, needs_weight, needs_bias, _ = ctx.needs_input_grad
        needs = [needs_x, needs_scale, needs_weight, needs_bias]
        x, mean_scale, weight, bias = ctx.saved_tensors
        operands, kept, kernels = ctx.rest
        if torch.is_grad_enabled() or not is_plain(grad_y):
            run = _slow_backward(grad_y, kernels)
        else:
            run = kernels.normalize_backward
        grad_x, grad_scale, grad_weight, grad_bias = run(
            grad_y, x, (mean_scale, weight, bias), kept, operands, needs
        )
        # Spelled out: this is a twentieth of the backward of a small call.
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


def _slow_backward(grad_y: Tensor, kernels: ModuleType) -> Any:
    """Return what computes gradients that are watched, or differentiated again."""
    if torch.compiler.is_compiling():
        return _normalize_backward
    interpreted = kernels is triton and grad_y.is_cpu
    if is_transformed() or (interpreted and torch.is_grad_enabled()):
        # Neither a transform of torch.func nor the interpreter has the operator.
        return _in_plain_torch
    return _normalize_backward


def _in_plain_torch(
    grad_y: Tensor, x: Tensor, parameters: Parameters, statistics: Tensor, operands: Operands,
    needs: list[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    return derivatives.backward(grad_y, x, operands.call(x, parameters))


# `Function.apply` without what it does for `torch.func`, which takes a quarter of its time.
_apply: Any = super(torch.autograd.Function, _Normalize).apply


def _forward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, ptr, order, seed, mean_scale, weight, bias, *numbers, _ = inputs
    # The statistics are a function of x: their share of its second gradient is in the formula.
    statistics = output[1]
    ctx.save_for_backward(x, mean_scale, weight, bias, ptr, order, seed, statistics)
    ctx.numbers = numbers
    ctx.mark_non_differentiable(statistics)
    ctx.set_materialize_grads(False)


def _forward_formula(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Any, ...]:
    if grad_y is None:
        return (None,) * 17
    needs_x, needs_residual, _, _, _, *needs_parameters = ctx.needs_input_grad[:8]
    needs = [needs_x, *needs_parameters]
    *inputs, ptr, order, seed, statistics = ctx.saved_tensors
    x, *parameters = inputs
    operands = Operands(ptr, order, seed, *ctx.numbers)
    found = _normalize_backward(grad_y, x, parameters, statistics, operands, needs)
    grad_x, *of_parameters = _as_asked(found, inputs, needs)
    return grad_x, grad_y if needs_residual else None, None, None, None, *of_parameters, *_NO[:9]


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_y, x, ptr, order, seed, mean_scale, weight, bias, _, *numbers, needs = inputs
    ctx.save_for_backward(grad_y, x, mean_scale, weight, bias, ptr, order, seed)
    ctx.numbers = numbers
    ctx.needs = list(needs)
    ctx.set_materialize_grads(False)


def _backward_formula(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    grad_y, x, *parameters, ptr, order, seed = ctx.saved_tensors
    given = [
        cotangent if needed and tensor is not None else None
        for cotangent, needed, tensor in zip(cotangents, ctx.needs, (x, *parameters), strict=True)
    ]
    call = Operands(ptr, order, seed, *ctx.numbers).call(x, parameters)
    found = derivatives.double_backward(given, grad_y, x, call)
    needs = [*ctx.needs_input_grad[:2], *ctx.needs_input_grad[5:8]]
    grads = _as_asked(found, (grad_y, x, *parameters), needs)
    return *grads[:2], None, None, None, *grads[2:], *_NO[:10]


_NO = (None,) * 10
"""For the arguments that take no gradient."""

for _name, _formula, _setup in (
    ("normalize_forward", _forward_formula, _forward_setup),
    ("normalize_backward", _backward_formula, _backward_setup),
):
    torch.library.register_autograd(
        f"graphnorms::{_name}", _formula, setup_context=_setup, lib=_library
    )


def _as_asked(found: Any, inputs: Any, needs: list[bool]) -> list[Tensor | None]:
    """Gradients in the dtypes of their inputs; `None` for what was not asked for."""
    return [
        _in_dtype_of(tensor, grad) if needed else None
        for grad, tensor, needed in zip(found, inputs, needs, strict=True)
    ]
