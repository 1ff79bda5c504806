"""Normalizations outside of graph convolutions: which ones fit, and where they stand in a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.layers import ContraNorm, GraphSizeNorm
from graphnorms.layers.factory import lookup, make_norm
from graphnorms.models.slot import NORM_PLACES, RESIDUAL_PLACES

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = MappingProxyType({
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
})  # fmt: skip
"""The activations by name. They are modules, so that a hook can see what goes into them."""

_OF_GRAPHS: Final = (ContraNorm, GraphSizeNorm)
"""What looks at a whole graph, though it measures no mean and no spread of it."""


def make_activation(name: str) -> nn.Module:
    """Build an activation by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def plain_norm(
    norm: str, channels: int, *, eps: float, rows_only: str | None = None, **arguments: Any
) -> nn.Module:
    """Build a normalization that asks for nothing but rows, and at most for their segments.

    Args:
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        channels: Width of the rows.
        eps: Its ε, where it has one.
        rows_only: Why the model has no segment of several rows to normalize over, as half a
            sentence; `None` where it has.
        arguments: Handed to the layer.

    Raises:
        ValueError: The norm is unknown or refuses its arguments, needs what only a graph neural
            network has, or takes its statistics over a graph where there is none.
    """
    row = lookup(norm)
    instead = "try 'batch', 'layer' or 'rms'"
    if row.needs:
        needs = " and ".join(row.needs)
        raise ValueError(
            f"the norm {norm!r} needs {needs}, which only a graph neural network has; {instead}"
        )
    if rows_only is not None and (row.segment == "graph" or row.layer in _OF_GRAPHS):
        raise ValueError(f"the norm {norm!r} looks at whole graphs, and {rows_only}; {instead}")
    return make_norm(norm, channels, eps=eps, **arguments)


class PlacedNorm(nn.Module):
    r"""One normalization with an activation and, where a layer has one, the residual sum.

    With `place` and `residual_place` the four orders there are:

    | | residual after the norm | before the norm |
    |---|---|---|
    | norm before the activation | $f(\mathrm{Norm}(x)) + r$ | $f(\mathrm{Norm}(x + r))$ |
    | norm after the activation | $\mathrm{Norm}(f(x)) + r$ | $\mathrm{Norm}(f(x) + r)$ |

    They are those of `NormSlot`, for features of any shape that `norm` takes and any activation,
    which is a module of its own and not fused: a hook on it sees a unit's input.

    Args:
        norm: The normalization.
        activation: The name of $f$, one of `ACTIVATIONS`.
        place: `"before-activation"` or `"after-activation"`.
        residual_place: `"after-norm"` or `"before-norm"`.

    Raises:
        ValueError: A name is unknown.
    """

    def __init__(
        self,
        norm: nn.Module,
        activation: str = "relu",
        *,
        place: str = "before-activation",
        residual_place: str = "after-norm",
    ) -> None:
        super().__init__()
        for kind, given, known in (
            ("norm_place", place, NORM_PLACES),
            ("residual_place", residual_place, RESIDUAL_PLACES),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        self.after_activation = place == "after-activation"
        self.sum_first = residual_place == "before-norm"
        self.norm = norm
        self.activation = make_activation(activation)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalize and activate `x`, and add the residual, which has its shape."""
        if self.after_activation:
            x = self.activation(x)
        if residual is not None and self.sum_first:
            x, residual = x + residual, None
        x = self.norm(x)
        if not self.after_activation:
            x = self.activation(x)
        return x if residual is None else x + residual


def check_sizes(**sizes: int) -> None:
    """Refuse a number of channels, layers or heads that is not positive."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}, expected a positive number")
