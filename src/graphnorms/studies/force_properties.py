"""What a norm may break in a model of energies and forces, measured of a trained one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.data import GraphSet
from graphnorms.data.clusters import CUTOFF, ELEMENTS
from graphnorms.models import ForceModel
from graphnorms.segments import Segments

PROPERTIES: Final = ("parts", "copies", "edge", "zero")
"""What `properties_of` measures."""

TIGHT, LOOSE = 1e-3, 0.1
"""How far the middle of a tetrahedron is moved, in Å."""


@dataclass(frozen=True)
class _Clusters:
    """Clusters, each with atomic numbers `(atoms,)` and positions `(atoms, 3)`."""

    z: Sequence[Tensor]
    pos: Sequence[Tensor]

    def run(self, model: ForceModel) -> tuple[Tensor, list[Tensor]]:
        """Return energies, `(clusters,)`, and the forces on each cluster, without unit."""
        counts = torch.tensor([len(each) for each in self.z])
        segments = Segments.from_counts(counts)
        pos = torch.cat(list(self.pos)).requires_grad_()
        of = segments.index
        target, source = ((of[:, None] == of) & ~torch.eye(len(of)).bool()).nonzero().T
        energy = model(torch.cat(list(self.z)), pos, torch.stack((source, target)), segments)
        (gradient,) = torch.autograd.grad(energy.sum(), pos)
        return energy.detach()[:, 0], list((-gradient).split(counts.tolist()))


def properties_of(model: ForceModel, graphs: GraphSet, sigma: float) -> dict[str, float]:
    """Measure what a norm may break.

    Args:
        model: The model in float64; energies and forces are in units of `sigma`.
        graphs: Some clusters.
        sigma: The RMS of forces in eV/Å.

    Returns:
        `"parts"` and `"copies"`: how far the energy of two clusters, and of a cluster twice, 30 Å
        apart, is off from the sum, in eV an atom, at most. `"edge"`: the largest force on an atom
        as it leaves, from 0.9 to 1 of the cutoff, in units of the RMS of forces. `"zero"`: in a
        tetrahedron, the stiffness against a move of the middle by 0.001 Å, over that by 0.1 Å.
    """
    assert graphs.atoms is not None
    sizes = graphs.ptr.diff().tolist()
    z, pos = (list(each.split(sizes)) for each in (graphs.atoms.z, graphs.atoms.pos))
    alone, _ = _Clusters(z, pos).run(model)
    apart = torch.tensor([30.0, 0.0, 0.0], dtype=torch.float64)
    found: dict[str, float] = {}
    for name, shift in (("parts", 1), ("copies", 0)):
        others = [(number + shift) % len(z) for number in range(len(z))]
        both = _Clusters(
            [torch.cat((z[a], z[b])) for a, b in enumerate(others)],
            [torch.cat((pos[a], pos[b] + apart)) for a, b in enumerate(others)],
        )
        off = (both.run(model)[0] - alone - alone[others]).abs()
        of_atoms = off / torch.tensor([len(each) for each in both.z])
        found[name] = sigma * float(of_atoms.max())
    leaving = _leaving(z, pos)
    _, forces = leaving.run(model)
    found["edge"] = max(float(force[-1].norm()) for force in forces)
    middle = torch.tensor([(1.0, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]).double() * 0.8
    aside = F.normalize(torch.tensor([3.0, 2.0, 1.0]).double(), dim=0)
    pairs = [(a, b) for a in ELEMENTS for b in ELEMENTS]
    stiff = []
    for move in (TIGHT, LOOSE):
        moved = torch.cat((middle, move * aside[None]))
        _, forces = _Clusters(
            [torch.tensor([b] * 4 + [a]) for a, b in pairs], [moved] * len(pairs)
        ).run(model)
        stiff.append([float(force[-1].norm()) / move for force in forces])
    found["zero"] = statistics.median(a / b for a, b in zip(*stiff, strict=True))
    return found


def _leaving(z: list[Tensor], pos: list[Tensor]) -> _Clusters:
    """Draw the outermost atom of each cluster away until its neighbours are at the cutoff."""
    all_z, all_pos = [], []
    for one, where_ in zip(z, pos, strict=True):
        middle = where_.mean(0)
        last = int((where_ - middle).norm(dim=1).argmax())
        order = [each for each in range(len(one)) if each != last] + [last]
        outward = F.normalize(where_[last] - middle, dim=0)
        for share in torch.linspace(0.9, 1.0, 21).tolist():
            rest = where_[order[:-1]]
            # As far along the line as puts the nearest atom at the share of the cutoff.
            along, reach = (rest - middle) @ outward, (share * CUTOFF) ** 2
            aside = (rest - middle).square().sum(1) - along.square()
            far = float((along + (reach - aside).clamp(min=0).sqrt()).max())
            all_z.append(one[order])
            all_pos.append(torch.cat((rest, (middle + far * outward)[None])))
    return _Clusters(all_z, all_pos)
