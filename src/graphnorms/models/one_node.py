"""Linears, norms and sums over neighbours run behind each other by one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from graphnorms.kernels.aggregation.operands import Weights
from graphnorms.kernels.chain import Chain
from graphnorms.kernels.cpu import extension
from graphnorms.layers.base import Norm
from graphnorms.layers.inner_batch_norm import is_called_plainly
from graphnorms.models.linear import Linear
from graphnorms.models.norm_slot import GraphContext, NormSlot
from graphnorms.tracing import is_plain

_OF_LINEAR: Final = {"weight", "bias"}

Part = nn.Module | Tensor | Weights
"""A Linear, a slot, a bias, or the weights of a sum over neighbours."""


def in_one_node(
    x: Tensor, context: GraphContext, residual: Tensor | None, parts: Sequence[Part]
) -> Tensor | None:
    """Run the parts of one or more convolutions behind each other, as one node with gradients.

    Args:
        x: What the first of them is given.
        context: The batch.
        residual: What the last one, a slot, adds.
        parts: The parts.

    Returns:
        The result; `None` where the parts must be called one by one: off the CPU, in traced or
        transformed code, under autocast, with a layer that is not a single kernel, or with one
        that is replaced or has a hook, which would see nothing.
    """
    if not (is_plain(x) and x.is_cpu):
        return None
    if not _fit(x, context, residual, parts):
        return None
    chain, width = Chain(context.adjacency), x.shape[1]
    for part in parts:
        if type(part) is NormSlot:
            norm: Any = part._modules["norm"]
            call = norm.as_call(x, context.segments, width)
            if call is None:
                return None
            chain.normalize(*call)
        elif isinstance(part, Tensor):
            chain.bias(part)
        elif isinstance(part, Weights):
            chain.sum(part)
        else:
            weights: Any = part._parameters
            weight: Tensor = weights["weight"]
            chain.linear(weight, weights["bias"])
            width = weight.shape[0]
    return chain.run(x, residual)


def _fit(x: Tensor, context: GraphContext, residual: Tensor | None, parts: Sequence[Part]) -> bool:
    if (
        x.dim() != 2
        or x.shape[0] != context.adjacency.num_nodes
        or x.shape[0] != context.segments.num_rows
        or not x.shape[1]
        or x.dtype not in extension.DTYPES
        or torch.is_autocast_enabled("cpu")
        or _has_any_global_hook()
        or extension.unavailable() is not None
    ):
        return False
    width = x.shape[1]
    for part in parts:
        if type(part) is NormSlot:
            if not _is_one_kernel(part, width, residual):
                return False
        elif isinstance(part, Tensor):
            if not _is_like(part, x):
                return False
        elif type(part) is Weights:
            if any(each is not None and each.requires_grad for each in part[:2]):
                return False
        else:
            module: Any = part
            own = module._parameters  # without those that are parametrized
            if not (
                type(module).forward is Linear.forward
                and is_called_plainly(module)
                and own.keys() == _OF_LINEAR
                and _is_like(own["weight"], x)
                and (own["bias"] is None or _is_like(own["bias"], x))
            ):
                return False
            width = own["weight"].shape[0]
    return residual is None or (residual.dtype is x.dtype and residual.shape == (x.shape[0], width))


def _is_like(parameter: Tensor, x: Tensor) -> bool:
    return (
        type(parameter) in (nn.Parameter, Tensor)
        and parameter.dtype is x.dtype
        and parameter.is_cpu
    )


def _is_one_kernel(slot: NormSlot, width: int, residual: Tensor | None) -> bool:
    """Whether a slot does nothing but one call of the primitive for features of a width."""
    norm: Any = slot._modules["norm"]
    if not (
        is_called_plainly(slot)
        and slot.first is None
        and (residual is None or not slot.sum_first)
        and isinstance(norm, Norm)
        and norm.is_one_call
    ):
        return False
    return bool(
        is_called_plainly(norm)
        and norm.in_channels in (None, width)
        and norm.backend == "auto"
        and norm._ranks is None
    )
