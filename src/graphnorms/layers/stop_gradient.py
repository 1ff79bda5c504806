"""A tensor without its gradient, in traced graphs too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.tracing import is_watched

_library = torch.library.Library("graphnorms", "FRAGMENT")
_library.define("constant(Tensor x) -> Tensor")
_library.impl("constant", torch.clone, "CompositeExplicitAutograd")


def _no_gradient(ctx: Any, grad: Tensor) -> None:
    return None


torch.library.register_autograd("graphnorms::constant", _no_gradient, lib=_library)


def stop_gradient(x: Tensor) -> Tensor:
    """Return x without its gradient.

    torch's `core_aten_decompositions` remove `detach`, so that gradients would flow through a graph
    that `make_fx` traced with them. No decomposition table contains our own operator.
    """
    if not is_watched():
        return x.detach()
    y: Tensor = torch.ops.graphnorms.constant(x)
    return y
