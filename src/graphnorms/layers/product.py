"""The product of matrices in their own dtype, whatever autocast is set to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels.backend import needs_plain_torch
from graphnorms.tracing import is_traced


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices without rounding them to half precision, in the backward neither.

    What autocast does to a backward depends on where it is called, not on where its forward was.
    In a compiled graph and under `torch.func` only the forward is kept from it.
    """
    if is_traced() or needs_plain_torch("auto"):
        return _multiply(a, b)
    result: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _multiply(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        a, b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad
        return (
            product(grad, b.t()) if needs_a else None,
            product(a.t(), grad) if needs_b else None,
        )


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    if a.is_meta:  # autocast has no such device
        return a @ b
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
