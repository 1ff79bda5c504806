"""Gradient norms by layer, which tell whether gradients vanish or explode."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import accumulation_dtype
from graphnorms.probes.capture import Side, hooked, require_called
from graphnorms.probes.state import Loss, layers_of, objective


def gradient_norms(
    model: nn.Module, loss: Loss, *, by: Literal["layer", "parameter"] = "layer"
) -> dict[str, float]:
    r"""Measure $\lVert \partial L / \partial W_l \rVert_2$ for every layer.

    A layer is a module that holds learned parameters of its own; its norm is that of all their
    entries together (Frobenius). A parameter that the loss does not depend on has norm 0.

    `.grad` is not touched, and the model is restored, running averages included.

    Args:
        model: The model.
        loss: Computes its loss on a batch.
        by: `"layer"` for one number per module, `"parameter"` for one per parameter.

    Returns:
        The norms by name of module or parameter, in the order of `model.named_parameters()`.

    Raises:
        ValueError: `by` is neither, or `loss` does not return one number that depends on the
            parameters.

    Source: Glorot & Bengio 2010 for the question; Xiong et al. 2020, fig. 3,
    https://arxiv.org/abs/2002.04745, for the norm per parameter.
    """
    if by not in ("layer", "parameter"):
        raise unknown_name("by", by, ("layer", "parameter"))
    with objective(model, loss) as at:
        norms = {name: _norm(part) for name, part in at.split(at.gradient()[1]).items()}
    if by == "parameter":
        return norms
    return {
        layer: math.hypot(*(norms[name] for name in names))
        for layer, names in layers_of(model).items()
    }


def activation_gradient_norms(
    model: nn.Module, loss: Loss, layers: Iterable[str], *, side: Side = "output"
) -> dict[str, float]:
    r"""Measure $\lVert \partial L / \partial h_l \rVert_2$ for the features of some layers.

    This is the error signal that reaches a layer. For a layer that is called several times the
    norm is over all calls. Features on which the loss does not depend have norm 0.

    Args:
        model: The model.
        loss: Computes its loss on a batch.
        layers: Names of modules, as in `model.named_modules()`.
        side: `"output"` for what they return, `"input"` for what they are called with.

    Raises:
        ValueError: A layer is unknown, was not called, or its features take no gradient.

    Source: Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html.
    """
    names = list(layers)
    squares: dict[str, float] = defaultdict(float)
    tensors: list[Tensor] = []
    called = set()
    counts = False  # a loss that holds forces differentiates the features on its way, too

    def receive(name: str, x: Tensor) -> None:
        called.add(name)
        if not x.requires_grad:
            raise ValueError(
                f"the {side} of the layer {name!r} takes no gradient: no parameter is before it"
            )

        def add(gradient: Tensor, name: str = name) -> None:
            if counts:
                squares[name] += _norm(gradient) ** 2

        # A hook sees the gradient of the features as they are now, also if they are
        # overwritten in place afterwards.
        x.register_hook(add)
        tensors.append(x)

    with objective(model, loss) as at:
        with hooked(model, names, side, receive):
            value = at.value()
        for name in names:
            require_called(name, name in called)
        # With the parameters, so that the backward also goes past a change in place.
        wanted = [*tensors, *at.parameters.values()]
        counts = True
        torch.autograd.grad(value, wanted, allow_unused=True)
    return {name: math.sqrt(squares[name]) for name in names}


def _norm(x: Tensor) -> float:
    """The norm over all entries, in float32 or wider; that of a half would overflow."""
    return float(torch.linalg.vector_norm(x.to(accumulation_dtype(x.dtype))))
