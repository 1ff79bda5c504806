"""Matrix products and other parts of a layer that autocast must not round to half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels.backend import needs_plain_torch
from graphnorms.tracing import is_traced


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Make a context that disables autocast on the device of x."""
    if x.is_meta:  # autocast does not know this device
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices in their own dtype, in the backward as well.

    Autocast applies to a backward where the backward is called, not where its forward was. In a
    compiled graph and under `torch.func` only the forward is protected.
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
    with without_autocast(a):
        return a @ b
