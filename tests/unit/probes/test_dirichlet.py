from __future__ import annotations

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.probes import dirichlet_energy
from tests.unit.probes.common import SIZES, complete, draw, random_edges

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


def test_a_path_by_hand() -> None:
    """Degrees 1, 2, 1: x/√(1 + d) = 1/√2, 4/√3, 0."""
    x = torch.tensor([[1.0], [4.0], [0.0]], dtype=torch.float64)
    path = gn.Adjacency.from_edge_index(PATH, 3)
    assert dirichlet_energy(x, path, laplacian="combinatorial").tolist() == [9 + 16]
    expected = (2**-0.5 - 4 * 3**-0.5) ** 2 + 16 / 3
    assert dirichlet_energy(x, path).tolist() == pytest.approx([expected], rel=1e-14)
    relative = dirichlet_energy(x, path, relative=True)
    assert relative.tolist() == pytest.approx([expected / 17], rel=1e-14)


@pytest.mark.parametrize("nodes", [2, 5, 9])
def test_a_complete_graph_by_hand(nodes: int) -> None:
    """Σ_{i<j} (x_i − x_j)² = n² Var(x); all 1 + d are n."""
    x = draw(nodes, 3)
    variance = float(x.var(0, correction=0).sum())
    energy = dirichlet_energy(x, complete(nodes), laplacian="combinatorial")
    assert energy.tolist() == pytest.approx([nodes**2 * variance], rel=1e-12)
    energy = dirichlet_energy(x, complete(nodes))
    assert energy.tolist() == pytest.approx([nodes * variance], rel=1e-12)


@pytest.mark.parametrize("laplacian", ["normalized", "combinatorial"])
def test_it_is_the_trace_with_the_laplacian(laplacian: str) -> None:
    """Over a batch, with parallel edges and self loops."""
    edges = random_edges(SIZES, 3, directed=False)
    adjacency = gn.Adjacency.from_edge_index(edges, sum(SIZES))
    segments = gn.Segments.from_counts(torch.tensor(SIZES))
    x = draw(sum(SIZES), 4)
    a = torch.zeros(sum(SIZES), sum(SIZES), dtype=torch.float64)
    a.index_put_((edges[1], edges[0]), torch.ones(edges.shape[1]).double(), accumulate=True)
    eye = torch.eye(sum(SIZES)).double()
    if laplacian == "normalized":
        scale = (a + eye).sum(1).rsqrt()
        delta = eye - scale.unsqueeze(1) * (a + eye) * scale
    else:
        delta = torch.diag(a.sum(1)) - a
    per_node = (x * (delta @ x)).sum(1)
    expected = torch.zeros(len(SIZES)).double().index_add(0, segments.index, per_node)
    found = dirichlet_energy(x, adjacency, segments, laplacian=laplacian)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_has_no_energy() -> None:
    path = gn.Adjacency.from_edge_index(PATH, 3)
    ones = torch.ones(3, 2)
    assert dirichlet_energy(ones, path, laplacian="combinatorial").tolist() == [0]
    assert float(dirichlet_energy(ones, path)) > 0.01
    smooth = torch.tensor([2.0, 3.0, 2.0]).sqrt().unsqueeze(1)
    assert float(dirichlet_energy(smooth, path)) == pytest.approx(0, abs=1e-12)
    alone = gn.Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 3)
    assert dirichlet_energy(ones, alone).tolist() == [0]
    assert dirichlet_energy(ones * 0, path, relative=True).isnan().all()


def test_the_gradient_and_half_precision() -> None:
    path = gn.Adjacency.from_edge_index(PATH, 3)

    def energy(x: Tensor) -> Tensor:
        return dirichlet_energy(x, path, relative=True)

    assert torch.autograd.gradcheck(energy, draw(3, 2).requires_grad_())
    x = torch.full((3, 1), 300.0, dtype=torch.float16) * torch.tensor([[1], [-1], [1]])
    assert dirichlet_energy(x.half(), path, laplacian="combinatorial").tolist() == [720_000]


def test_errors() -> None:
    x = torch.ones(3, 2)
    path = gn.Adjacency.from_edge_index(PATH, 3)
    with pytest.raises(ValueError, match="not symmetric"):
        dirichlet_energy(x, gn.Adjacency.from_edge_index(PATH[:, :2][:, :1], 3))
    with pytest.raises(ValueError, match="unknown laplacian"):
        dirichlet_energy(x, path, laplacian="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 rows"):
        dirichlet_energy(x[:2], path)
