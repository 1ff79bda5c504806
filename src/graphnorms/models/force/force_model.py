"""Models of energies, whose gradients are forces, with the normalization as an argument."""

from __future__ import annotations

import functools
from typing import Any, Final

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.factory import needs_of
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.models.force.force_config import ForceModelConfig
from graphnorms.models.force.force_norms import (
    check_edge_norm,
    check_force_norm,
    make_equivariant_norm,
)
from graphnorms.models.force.harmonics import COMPONENTS, LMAX
from graphnorms.models.force.painn import PaiNNBlock
from graphnorms.models.force.radial_edges import RadialNet, Reach
from graphnorms.models.force.tensor_block import TensorBlock, normalized
from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import GraphContext, NormSlot
from graphnorms.models.readout import readout
from graphnorms.segments import Segments

ELEMENTS: Final = 119
"""Atomic numbers from 0 to 118."""


class ForceModel(nn.Module):
    r"""The energy of each graph of atoms, as a sum over atoms; forces are its gradient.

    $$ E = \sum_i \mathrm{MLP}(s_i), \qquad F_i = -\partial E / \partial r_i $$

    with $s_i$ the scalars of an atom after some blocks, which start as an embedding of its element.
    The energy does not change under rotations, reflections, shifts and permutations, and it and
    the force are continuous at the cutoff. With norms of atoms alone (LayerNorm, RMSNorm) it is
    the sum of the energies of parts that are farther from each other than the cutoff; norms over
    graphs or batches give that up.

    | norm | `"painn"`: scalars `(atoms, channels)` | `"equivariant"`: `(atoms, 9, channels)` |
    |---|---|---|
    | none | none | none |
    | layer, rms | the layers | `EquivariantLayerNorm`, `EquivariantRMSNorm` |
    | graph, instance | the layers | `IrrepsGraphNorm`, with shift scalars and fixed |
    | batch | the layer | `IrrepsBatchNorm` |
    | others | those with a continuous energy | refused |

    Args:
        config: The architecture.
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon; or a user-defined one.
        seed: Seed of the initial weights; each depends on the seed and its name only.

    Raises:
        ValueError: The norm is unknown, or makes no sense in this model; the message says why.
    """

    def __init__(self, config: ForceModelConfig, norm: str | OwnNorm, *, seed: int) -> None:
        super().__init__()
        invariant = config.name == "painn"
        check_force_norm(config.edge_norm)
        if invariant:
            check_force_norm(norm)
        hidden = config.hidden
        self.config = config
        self.in_channels = ELEMENTS
        self.out_channels = 1
        self.edge_channels = 0
        self.needs = {*needs_of(config.edge_norm), *(needs_of(norm) if invariant else ())}
        self.reach = Reach(config.cutoff, config.radial)
        self.embedding = nn.Embedding(ELEMENTS, hidden)
        slot = functools.partial(
            NormSlot,
            eps=config.eps_of(norm),
            num_types=ELEMENTS,
            condition_channels=hidden,
            activation="silu",
        )
        radial = functools.partial(self._radial, functools.partial(slot, config.edge_norm))
        self.blocks = nn.ModuleList()
        self.norm: nn.Module | None = None
        if invariant:
            for _ in range(config.layers):
                self.blocks.append(PaiNNBlock(hidden, functools.partial(slot, norm), radial))
        else:
            make = functools.partial(
                make_equivariant_norm, norm, lmax=LMAX, eps=config.eps_of(norm)
            )
            for _ in range(config.layers):
                self.blocks.append(TensorBlock(hidden, make, radial))
            self.norm = make(hidden)
        self.linear = nn.Linear(hidden, hidden)
        self.activation = nn.SiLU()
        self.head = nn.Linear(hidden, 1)
        initialize(self, seed)

    def _radial(self, slot: Any, out_channels: int) -> RadialNet:
        config = self.config
        net = RadialNet(
            config.radial,
            config.hidden,
            out_channels,
            lambda channels: slot(channels, eps=config.eps_of(config.edge_norm), of_edges=True),
        )
        check_edge_norm(net.norm, config.edge_norm)
        return net

    def forward(
        self,
        z: Tensor,
        pos: Tensor,
        edge_index: Tensor,
        segments: Segments,
        shifts: Tensor | None = None,
    ) -> Tensor:
        """Return the energy of each graph, `(graphs, 1)`.

        Args:
            z: The atomic numbers, `(atoms,)`.
            pos: The positions in Å, `(atoms, 3)`; float64 keeps small distances of large numbers.
            edge_index: Sources above, targets below, `(2, edges)`, with both directions; edges
                longer than the cutoff have no effect.
            segments: Which atom belongs to which graph.
            shifts: Added to the position of the source of an edge, `(edges, 3)`, for periodic
                images.
        """
        adjacency = Adjacency.from_edge_index(edge_index, z.shape[0])
        edges = self.reach.edges(pos, adjacency, segments, shifts, self.dtype)
        s: Tensor = self.embedding(z)
        context = GraphContext(
            adjacency,
            segments,
            types=z if "types" in self.needs else None,
            condition=readout(s, segments, "mean") if "condition" in self.needs else None,
            edge_rows=edges.rows,
        )
        contexts = context, context.of_edges()
        if self.config.name == "painn":
            v = s.new_zeros(s.shape[0], 3, s.shape[1])
            for block in self.blocks:
                s, v = block(s, v, edges, contexts)
        else:
            x = torch.cat((s.unsqueeze(1), s.new_zeros(s.shape[0], COMPONENTS - 1, s.shape[1])), 1)
            for block in self.blocks:
                x = block(x, edges, contexts)
            s = normalized(self.norm, x, context)[:, 0]
        of_atoms = self.head(self.activation(self.linear(s)))  # (atoms, 1)
        return readout(of_atoms, segments, "sum")

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the model."""
        return self.head.weight.dtype

    def num_parameters(self) -> int:
        """Count the parameters."""
        return sum(parameter.numel() for parameter in self.parameters())
