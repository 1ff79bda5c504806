"""A tensor as a constant for the gradient, in traced graphs too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.tracing import is_watched

_library = torch.library.Library("graphnorms", "FRAGMENT")
_library.define("constant(Tensor x) -> Tensor")
_library.impl("constant", torch.clone, "CompositeExplicitAutograd")


def _formula(ctx: Any, grad: Tensor) -> None:
    return None


torch.library.register_autograd("graphnorms::constant", _formula, lib=_library)


def constant(x: Tensor) -> Tensor:
    """Return x without its gradient.

    `detach` is decomposed away by torch's `core_aten_decompositions`: the gradient of a graph that
    `make_fx` has traced with them would flow on. No table knows the operator that stands in for it.
    """
    if not is_watched():
        return x.detach()
    y: Tensor = torch.ops.graphnorms.constant(x)
    return y
