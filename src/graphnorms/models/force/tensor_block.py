"""A block of an equivariant model: features are spherical harmonics of degrees 0, 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphnorms.models.force.harmonics import (
    LMAX,
    SelfProduct,
    components_of,
    spherical_harmonics,
)
from graphnorms.models.force.painn import NEIGHBOURS
from graphnorms.models.force.radial_edges import Edges, RadialFactory
from graphnorms.models.norm_slot import GraphContext

DegreesFactory = Callable[[int], nn.Module | None]
"""Makes the norm of features `(nodes, 9, channels)` for a number of channels; None for none."""


class DegreeLinear(nn.Module):
    """A linear map of the channels for each degree; only scalars have a bias.

    Shapes: `x` `(nodes, 9, in_channels)`, the result `(nodes, 9, out_channels)`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.of_degrees = nn.ModuleList(
            nn.Linear(in_channels, out_channels, bias=degree == 0) for degree in range(LMAX + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map the channels."""
        parts = by_degree(x)
        return torch.cat([f(part) for f, part in zip(self.of_degrees, parts, strict=True)], 1)


class Gate(nn.Module):
    r"""SiLU of scalars; other degrees times a sigmoid of a linear map of the scalars.

    Shapes: `x` and the result `(nodes, 9, channels)`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, LMAX * channels)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the gate."""
        scalars, *rest = by_degree(x)
        gates = self.linear(scalars).sigmoid().chunk(LMAX, 2)
        rest = [part * gate for part, gate in zip(rest, gates, strict=True)]
        return torch.cat((self.activation(scalars), *rest), 1)


class TensorBlock(nn.Module):
    r"""Messages of all degrees from the neighbours, then products of each atom with itself.

    With $x_i \in \mathbb{R}^{9 \times C}$, radial networks $a_l, b_l$ of the distance, the
    harmonics $Y$ of the direction to the neighbour, $F$ a gate and $P$ the products that commute
    with rotations (`SelfProduct`),

    $$ m_{i,l} = \textstyle\sum_j \big( a_l(d_{ij}) \odot x_{j,l}
         + b_l(d_{ij}) \odot x_{j,0} \, Y_l(u_{ij}) \big), \quad
       x \leftarrow x + F(\mathrm{Norm}(W m)), \quad
       x \leftarrow x + F\big(\mathrm{Norm}(W_2 P(W_1 x))\big). $$

    It commutes with rotations and reflections if the norm does.

    Shapes: `x` and the result `(nodes, 9, channels)`.

    Args:
        channels: Width of every component.
        norm: Makes the norms.
        radial: Makes the radial network.
    """

    def __init__(self, channels: int, norm: DegreesFactory, radial: RadialFactory) -> None:
        super().__init__()
        self.radial = radial((2 * LMAX + 1) * channels)
        self.linear = DegreeLinear(channels, channels)
        self.norm = norm(channels)
        self.gate = Gate(channels)
        self.before = DegreeLinear(channels, channels)
        self.product = SelfProduct(channels)
        self.linear2 = DegreeLinear(channels, channels)
        self.norm2 = norm(channels)
        self.gate2 = Gate(channels)

    def forward(
        self, x: Tensor, edges: Edges, contexts: tuple[GraphContext, GraphContext]
    ) -> Tensor:
        """Transform the features; the contexts are those of atoms and edges."""
        context, of_edges = contexts
        x = x + self.gate(normalized(self.norm, self._messages(x, edges, of_edges), context))
        y = self.linear2(self.product(self.before(x)))
        z: Tensor = x + self.gate2(normalized(self.norm2, y, context))
        return z

    def _messages(self, x: Tensor, edges: Edges, of_edges: GraphContext) -> Tensor:
        weights = self.radial(edges, of_edges).unsqueeze(1).chunk(2 * LMAX + 1, 2)
        harmonics = spherical_harmonics(edges.unit).unsqueeze(2)
        sent = by_degree(x.index_select(0, edges.rows.source))
        parts = [edges.sums(weights[0] * sent[0])]
        for degree in range(1, LMAX + 1):
            turned = weights[LMAX + degree] * sent[0] * by_degree(harmonics)[degree]
            parts.append(edges.sums(weights[degree] * sent[degree] + turned))
        y: Tensor = self.linear(torch.cat(parts, 1) / math.sqrt(NEIGHBOURS))
        return y


def normalized(norm: nn.Module | None, x: Tensor, context: GraphContext) -> Tensor:
    """Apply a norm; None is none."""
    if norm is None:
        return x
    y: Tensor = norm(x, context.segments)
    return y


def by_degree(x: Tensor) -> tuple[Tensor, ...]:
    """Split the components, the second dimension, by degree."""
    parts: tuple[Tensor, ...] = x.split(
        [len(components_of(degree)) for degree in range(LMAX + 1)], 1
    )
    return parts
