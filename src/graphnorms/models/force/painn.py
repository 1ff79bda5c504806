"""PaiNN: scalars and vectors of atoms, messages by distance and direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphnorms.models.force.radial_edges import Edges, RadialFactory
from graphnorms.models.norm_slot import GraphContext, NormFactory

NEIGHBOURS = 10.0
"""Sums over neighbours are divided by the root of this number, so that they begin at about 1."""


class PaiNNBlock(nn.Module):
    r"""Messages from the neighbours, then an exchange of scalars and vectors of each atom.

    With scalars $s_i \in \mathbb{R}^C$, vectors $v_i \in \mathbb{R}^{3 \times C}$, radial networks
    $\phi$ of the distance and the direction $u_{ij}$ to the neighbour,

    $$ (m, a, b)_{ij} = \mathrm{MLP}(s_j) \odot \phi(d_{ij}), \quad
       s_i \leftarrow s_i + f\big(\mathrm{Norm}(W \textstyle\sum_j m_{ij})\big), \quad
       v_i \leftarrow v_i + \textstyle\sum_j (a_{ij} \odot v_j + b_{ij} \odot u_{ij}), $$

    $$ (p, q, r)_i = W_2 f\big(\mathrm{Norm}(W_1 [s_i, |V v_i|])\big), \quad
       s_i \leftarrow s_i + p_i + q_i \odot \langle U v_i, V v_i \rangle, \quad
       v_i \leftarrow v_i + r_i \odot U v_i . $$

    The norm sees scalars only. Lengths are $\sqrt{|v|^2 + 1} - 1$, which has all derivatives where
    a vector is 0, as it is wherever the neighbours of an atom are symmetric.

    Shapes: scalars `(nodes, channels)`, vectors `(nodes, 3, channels)`.

    Args:
        channels: Width of scalars and vectors.
        norm: Makes the norms, with their activation.
        radial: Makes the radial network.

    Source: Schütt et al. 2021, https://arxiv.org/abs/2102.03150, where there are no norms, and
    lengths are $\sqrt{|v|^2 + 10^{-8}}$.
    """

    def __init__(self, channels: int, norm: NormFactory, radial: RadialFactory) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.linear2 = nn.Linear(channels, 3 * channels)
        self.radial = radial(3 * channels)
        self.combine = nn.Linear(channels, channels)
        self.norm = norm(channels)
        self.vectors = nn.Linear(channels, 2 * channels, bias=False)
        self.exchange = nn.Linear(2 * channels, channels)
        self.norm2 = norm(channels)
        self.exchange2 = nn.Linear(channels, 3 * channels)
        self.activation = nn.SiLU()

    def forward(
        self, s: Tensor, v: Tensor, edges: Edges, contexts: tuple[GraphContext, GraphContext]
    ) -> tuple[Tensor, Tensor]:
        """Transform scalars and vectors; the contexts are those of atoms and edges."""
        context, of_edges = contexts
        source = edges.rows.source
        sent = self.linear2(self.activation(self.linear(s))).index_select(0, source)
        message, kept, added = (sent * self.radial(edges, of_edges)).chunk(3, 1)
        turned = kept.unsqueeze(1) * v.index_select(0, source)  # (edges, 3, channels)
        turned = turned + added.unsqueeze(1) * edges.unit.unsqueeze(2)
        v = v + edges.sums(turned) / math.sqrt(NEIGHBOURS)
        y = self.combine(edges.sums(message) / math.sqrt(NEIGHBOURS))
        s = self.norm(y, context, source=s, residual=s)

        first, second = self.vectors(v).chunk(2, 2)
        length = (second.square().sum(1) + 1).sqrt() - 1
        y = self.exchange(torch.cat((s, length), 1))
        p, q, r = self.exchange2(self.norm2(y, context, source=s)).chunk(3, 1)
        s = s + p + q * (first * second).sum(1)
        return s, v + r.unsqueeze(1) * first
