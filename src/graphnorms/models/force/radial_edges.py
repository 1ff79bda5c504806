"""The edges between atoms: directions, radial functions, and the network on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.models.edge_rows import EdgeRows
from graphnorms.models.force.unit_linear import BEHIND_SILU, UnitLinear
from graphnorms.models.norm_slot import GraphContext, NormFactory
from graphnorms.segments import Segments

_POWER = 6


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges of a batch in the order of their targets.

    Args:
        rows: Sources, targets, and sums over the edges of a target.
        unit: The direction from the target to the source, `(edges, 3)`.
        radial: The radial functions of the distance, `(edges, functions)`.
        envelope: Falls from 1 to 0 at the cutoff, with two derivatives, `(edges, 1)`.
    """

    rows: EdgeRows
    unit: Tensor
    radial: Tensor
    envelope: Tensor

    def sums(self, x: Tensor) -> Tensor:
        """Sum `(edges, …)` over the edges of each target, `(nodes, …)`."""
        y: Tensor = self.rows.sums(x.flatten(1)).unflatten(1, x.shape[1:])
        return y


@dataclass(frozen=True, slots=True)
class Reach:
    """How far atoms act on each other.

    Args:
        cutoff: The distance at which an atom stops to act.
        functions: Number of radial functions.
    """

    cutoff: float
    functions: int

    def edges(
        self,
        pos: Tensor,
        adjacency: Adjacency,
        segments: Segments,
        shifts: Tensor | None,
        dtype: torch.dtype,
    ) -> Edges:
        r"""Compute what a model needs of the edges from the positions.

        The radial functions are $\sqrt{2c} \sin(n \pi d / c) / d$, of order 1, the envelope is
        $1 - 28 u^6 + 48 u^7 - 21 u^8$ with $u = d / c$, and 0 beyond $c$.

        Args:
            pos: The positions, `(nodes, 3)`; differences are taken in their dtype.
            adjacency, segments: The edges, and the graphs of the atoms.
            shifts: Added to the position of the source, `(edges, 3)`; None for 0.
            dtype: That of the result.

        Source: Gasteiger et al. 2020, https://arxiv.org/abs/2003.03123.
        """
        rows = EdgeRows.of(adjacency, segments)
        vector = pos.index_select(0, rows.source) - pos.index_select(0, rows.target)
        if shifts is not None:
            vector = vector + rows.sorted(shifts).to(vector.dtype)
        distance = vector.square().sum(1, keepdim=True).sqrt()
        unit = vector / distance
        number = torch.arange(1, self.functions + 1, device=pos.device, dtype=pos.dtype)
        radial = (number * (math.pi / self.cutoff) * distance).sin() / distance
        radial = radial * math.sqrt(2 * self.cutoff)
        u = (distance / self.cutoff).clamp(max=1)
        p = _POWER
        falling = (
            1
            - (p + 1) * (p + 2) / 2 * u**p
            + p * (p + 2) * u ** (p + 1)
            - p * (p + 1) / 2 * u ** (p + 2)
        )
        return Edges(rows, unit.to(dtype), radial.to(dtype), falling.to(dtype))


class RadialNet(nn.Module):
    r"""A network on the radial functions, $\phi(d) = e(d) \, W_2 f(\mathrm{Norm}(W_1 b(d) + c_1))$.

    $e$ is the envelope: whatever the norm, an atom at the cutoff has no effect.

    Args:
        functions: Number of radial functions.
        hidden: Width of the hidden layer.
        out_channels: Number of results.
        norm: Makes the norm of the edges, with its activation.
    """

    def __init__(self, functions: int, hidden: int, out_channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.linear = UnitLinear(functions, hidden)
        self.norm = norm(hidden)
        self.linear2 = UnitLinear(hidden, out_channels, bias=False, gain=BEHIND_SILU)

    def forward(self, edges: Edges, context: GraphContext) -> Tensor:
        """Return the results of all edges, `(edges, out_channels)`; `context` is of edges."""
        x = self.linear(edges.radial)
        y: Tensor = self.linear2(self.norm(x, context, source=x)) * edges.envelope
        return y


RadialFactory = Callable[[int], RadialNet]
"""Makes the network of a block for a number of results."""
