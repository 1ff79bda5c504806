"""The generated clusters: forces are the gradients of energies, and nothing acts beyond 5 Å."""

from __future__ import annotations

import pytest
import torch
from tests.norms import normal

from graphnorms.data import load_dataset
from graphnorms.data.clusters import (
    CUTOFF,
    ELEMENTS,
    OFFSETS,
    SIZES,
    clusters,
    energy_and_forces,
)
from graphnorms.errors import DatasetError

Z = torch.tensor([[1, 6, 7, 8, 6, 1], [8, 8, 7, 6, 1, 7]])


def test_forces_are_the_gradient() -> None:
    pos = (1.3 * normal(2, 6, 3)).requires_grad_()
    energy, forces = energy_and_forces(Z, pos)
    (gradient,) = torch.autograd.grad(energy.sum(), pos)
    torch.testing.assert_close(forces, -gradient, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forces.sum(1), torch.zeros(2, 3).double(), rtol=0, atol=1e-12)


def test_the_formula_of_two_and_three_atoms() -> None:
    """A pair at 1.5 Å, and a right angle, by hand."""
    pos = torch.tensor([[(0.0, 0, 0), (1.5, 0, 0), (0, 1.2, 0)]], dtype=torch.float64)
    z = torch.tensor([[6, 7, 8]])
    pair = {
        (i, j): float(energy_and_forces(z[:, [i, j]], pos[:, [i, j]])[0])
        - OFFSETS[ELEMENTS.index(int(z[0, i]))]
        - OFFSETS[ELEMENTS.index(int(z[0, j]))]
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    decay = torch.tensor(-1.7 * (1.5 - 1.55)).exp().item()
    depth = (2.8 * 2.2) ** 0.5 * (decay**2 - 2 * decay)
    charged = 14.399645 * 0.1 * -0.15 * torch.tensor(-0.75).exp().item() / 1.5
    assert pair[0, 1] == pytest.approx((depth + charged) * (1 - 0.09) ** 3, rel=1e-6)

    def side(r: float) -> float:
        return max(0.0, 1 - (r / 2.6) ** 2) ** 3

    a, b = 1.5, 1.2
    c = (a * a + b * b) ** 0.5
    angles = (
        0.8 * (0 + 1 / 3) ** 2 * side(a) * side(b)
        + 1.0 * (a / c + 0.4) ** 2 * side(a) * side(c)
        + 0.6 * (b / c + 0.5) ** 2 * side(b) * side(c)
    )
    whole = float(energy_and_forces(z, pos)[0]) - sum(OFFSETS[1:])
    assert whole == pytest.approx(sum(pair.values()) + angles, rel=1e-9)


def test_parts_that_are_far_apart_add_up() -> None:
    pos = 0.7 * normal(2, 6, 3)
    apart = pos + torch.where(torch.arange(6) < 3, 0.0, 3 * CUTOFF)[:, None]
    parts = [energy_and_forces(Z[:, part], pos[:, part]) for part in (slice(3), slice(3, 6))]
    energy, forces = energy_and_forces(Z, apart)
    torch.testing.assert_close(energy, parts[0][0] + parts[1][0], rtol=1e-13, atol=0)
    torch.testing.assert_close(forces, torch.cat([each[1] for each in parts], 1))


def test_the_set() -> None:
    graphs = load_dataset("Clusters")
    assert len(graphs) == 1000
    assert graphs.task.kind == "forces"
    sizes = graphs.ptr.diff()
    assert sizes.bincount().tolist() == [0] * SIZES[0] + [100] * len(SIZES)
    atoms = graphs.atoms
    assert atoms is not None
    assert set(atoms.z.tolist()) == set(ELEMENTS)
    for graph in (0, 57, 999):
        own = slice(*graphs.ptr[graph : graph + 2].tolist())
        energy, forces = energy_and_forces(atoms.z[None, own], atoms.pos[None, own])
        torch.testing.assert_close(graphs.y[graph], energy, rtol=0, atol=1e-6)
        torch.testing.assert_close(atoms.forces[own], forces[0], rtol=0, atol=1e-6)
    assert 0.4 < torch.pdist(atoms.pos[:3]).min() < 8
    assert 1 < atoms.forces.square().mean().sqrt() < 10
    assert clusters(20, 1).fingerprint == clusters(20, 1).fingerprint
    assert clusters(20, 1).fingerprint != clusters(20, 2).fingerprint


def test_options_are_refused() -> None:
    with pytest.raises(DatasetError, match="takes no options"):
        load_dataset("clusters", "degree")
    with pytest.raises(ValueError, match="number is 0"):
        clusters(0)
