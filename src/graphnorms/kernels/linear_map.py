"""The linear map W of `F(Norm(W · H · Q))`: C++ kernels where they are faster than torch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from graphnorms.kernels.cpu import extension
from graphnorms.kernels.tensor_checks import check_memory
from graphnorms.tracing import is_plain

_PLAIN: Final = (Tensor, torch.nn.Parameter)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Compute $y = x W^\top + b$ like `torch.nn.functional.linear`.

    On x86 CPUs with AVX2 a kernel computes float32 matrices, and another all gradients in one pass;
    torch's own products run in all other cases. What decides are dtype, device, shape and
    instruction set, not measured times, so that a machine gives the same bits every time; so does
    every number of threads.

    Shapes: `x` `(rows, in_channels)` or with more dimensions in front, `weight`
    `(out_channels, in_channels)`, `bias` `(out_channels,)`.

    Precision: float32 sums, as in torch; the gradients of the parameters are summed over chunks of
    256 rows, then over the chunks. A second derivative is computed by torch.

    Args:
        x: The features.
        weight, bias: $W$ and $b$; `None` for 0.

    Raises:
        RuntimeError: The shapes do not fit; the message is torch's.
    """
    if not _has_kernel(x, weight, bias):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        result: Tensor = _apply(x, weight, bias)
        return result
    return _forward(x, weight, bias)


def _has_kernel(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a kernel takes these tensors."""
    return (
        x.dim() == weight.dim() == 2
        and x.is_cpu
        and is_plain(x)  # so no mode or transform is active that could wrap the others
        and not torch.is_autocast_enabled("cpu")
        and extension.unavailable() is None
        and _is_taken(x, weight, bias)
    )


def _is_parameter(tensor: Tensor) -> bool:
    return (
        type(tensor) in _PLAIN
        and tensor.dtype is torch.float32
        and tensor.is_cpu
        and tensor.is_contiguous()
    )


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `linear` of plain tensors of one dtype on the CPU, without a node."""
    return _forward(x, weight, bias) if _is_taken(x, weight, bias) else F.linear(x, weight, bias)


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, weight and bias that are needed; see `forward`."""
    in_torch = not (_is_taken(x, weight, bias) and is_plain(grad_y))
    return _backward(grad_y, x, weight, needs, in_torch=in_torch)


def _is_taken(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a kernel takes matrices, where there is one and nothing is traced."""
    return (
        x.dtype is torch.float32
        and x.shape[1] == weight.shape[1] > 0
        and _is_parameter(weight)
        and (bias is None or (bias.shape == weight.shape[:1] and _is_parameter(bias)))
        and extension.multiplies_faster()
    )


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = x.new_empty((x.shape[0], weight.shape[0]))
    run = extension.kernels().linear_forward
    if not run(x, weight, bias, torch.get_num_threads(), y) and not run(
        extension.features(x), weight, bias, torch.get_num_threads(), y
    ):
        check_memory("weight", weight)
        if bias is not None:
            check_memory("bias", bias)
        raise extension.unreadable()
    return y


class _Linear(torch.autograd.Function):
    """The map and its gradients by kernels; see `graphnorms.kernels.autograd`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run the kernel; saves x and the weight."""
        ctx.save_for_backward(x, weight)
        return _forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the kernel, or plain torch where it may be differentiated again."""
        (grad_y,) = grads
        x, weight = ctx.saved_tensors
        in_torch = torch.is_grad_enabled() or not is_plain(grad_y)
        return _backward(grad_y, x, weight, ctx.needs_input_grad, in_torch=in_torch)


def _backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool], *, in_torch: bool
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, weight and bias that are needed."""
    needs_x, needs_weight, needs_bias = needs
    if in_torch:
        return (
            grad_y @ weight if needs_x else None,
            grad_y.t() @ x if needs_weight else None,
            grad_y.sum(0) if needs_bias else None,
        )
    grad_x = x.new_empty(x.shape) if needs_x else None
    grad_weight = weight.new_empty(weight.shape) if needs_weight else None
    grad_bias = weight.new_empty(weight.shape[:1]) if needs_bias else None
    run, threads = extension.kernels().linear_backward, torch.get_num_threads()
    found = (grad_x, grad_weight, grad_bias)
    if not run(grad_y, x, weight, threads, *found) and not run(
        extension.features(grad_y), extension.features(x), weight, threads, *found
    ):
        raise extension.unreadable()
    return found


# See `graphnorms.kernels.autograd.apply`.
_apply: Any = super(torch.autograd.Function, _Linear).apply
