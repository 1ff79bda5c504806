from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.probes import (
    Spectrum,
    aggregation_matrices,
    interlacing_violations,
    spectra,
)
from tests.unit.probes.common import SIZES, complete, random_edges


def by_loop(edges: Tensor, nodes: range, aggregation: str, self_weight: float) -> Tensor:
    """The matrix of one graph, entry by entry."""
    matrix = torch.zeros(len(nodes), len(nodes), dtype=torch.float64)
    for j, i in edges.T.tolist():
        if i in nodes:
            matrix[i - nodes.start, j - nodes.start] += 1
    if aggregation == "gin":
        return matrix + self_weight * torch.eye(len(nodes)).double()
    matrix += torch.eye(len(nodes)).double()
    scale = matrix.sum(1).rsqrt()
    return scale.unsqueeze(1) * matrix * scale


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("aggregation", "self_weight"), [("gin", 2.5), ("gcn", 1.0)])
def test_matrices_entry_by_entry(directed: bool, aggregation: str, self_weight: float) -> None:
    edges = random_edges(SIZES, 1, directed)
    adjacency = gn.Adjacency.from_edge_index(edges, sum(SIZES))
    segments = gn.Segments.from_counts(torch.tensor(SIZES))
    found = aggregation_matrices(adjacency, segments, aggregation, self_weight=self_weight)
    first = 0
    for size, matrix in zip(SIZES, found, strict=True):
        expected = by_loop(edges, range(first, first + size), aggregation, self_weight)
        torch.testing.assert_close(matrix, expected, rtol=1e-14, atol=1e-14)
        first += size


def test_matrices_of_unsorted_graphs() -> None:
    edges = torch.tensor([[0, 2, 1, 3], [2, 0, 3, 1]])
    adjacency = gn.Adjacency.from_edge_index(edges, 4)
    segments = gn.Segments.from_batch(torch.tensor([1, 0, 1, 0]))
    found = aggregation_matrices(adjacency, segments)
    expected = torch.ones(2, 2).double()
    assert all(torch.equal(matrix, expected) for matrix in found)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("aggregation", "self_weight"), [("gin", 1.0), ("gin", 0.0), ("gcn", 1.0)])
def test_singular_values_interlace(directed: bool, aggregation: str, self_weight: float) -> None:
    sizes = SIZES * 8
    edges = random_edges(sizes, 2, directed)
    adjacency = gn.Adjacency.from_edge_index(edges, sum(sizes))
    segments = gn.Segments.from_counts(torch.tensor(sizes))
    found = spectra(adjacency, segments, aggregation, self_weight=self_weight)
    assert len(found) == len(sizes)
    assert interlacing_violations(found) == 0
    assert all(s.centered[0] <= s.plain[0] * (1 + 1e-12) for s in found)
    matrices = aggregation_matrices(adjacency, segments, aggregation, self_weight=self_weight)
    for matrix, spectrum in zip(matrices, found, strict=True):
        # Q of papers, with features as columns, is the transpose.
        q, n = matrix.T.numpy(), matrix.shape[0]
        center = np.eye(n) - 1 / n
        for values, product in ((spectrum.plain, q), (spectrum.centered, q @ center)):
            expected = np.linalg.svd(product, compute_uv=False)
            np.testing.assert_allclose(values.numpy(), expected, atol=1e-12 * n)


@pytest.mark.parametrize("nodes", [2, 3, 7])
def test_a_complete_graph_by_hand(nodes: int) -> None:
    """A + wI = J + (w − 1)I: n + w − 1 along 1, w − 1 else; N takes away the first."""
    (spectrum,) = spectra(complete(nodes), self_weight=3.0)
    plain = [nodes + 2.0] + [2.0] * (nodes - 1)
    assert spectrum.plain.tolist() == pytest.approx(plain)
    assert spectrum.centered.tolist() == pytest.approx([2.0] * (nodes - 1) + [0.0], abs=1e-12)
    assert spectrum.ratio == pytest.approx(2 / (nodes + 2))
    # GCN on it is J/n, a projection onto what N removes.
    (spectrum,) = spectra(complete(nodes), aggregation="gcn")
    assert spectrum.plain[0] == pytest.approx(1)
    assert spectrum.ratio == pytest.approx(0, abs=1e-12)


def test_a_star_by_hand() -> None:
    """GCN without the norm: 1 is not the direction that N removes, so the largest stays > 0.

    The path of 3 nodes, A + I: singular values |1 ± √2| and 1.
    """
    path = gn.Adjacency.from_edge_index(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    (spectrum,) = spectra(path)
    assert spectrum.plain.tolist() == pytest.approx([1 + math.sqrt(2), 1, math.sqrt(2) - 1])
    # N (A + I): the columns less their means, (1/3, 1/3, −2/3), 0, (−2/3, 1/3, 1/3).
    assert spectrum.centered.tolist() == pytest.approx([1, 1 / math.sqrt(3), 0], abs=1e-12)


def test_violations_are_counted() -> None:
    def count(plain: list[float], centered: list[float]) -> int:
        return Spectrum(torch.tensor(plain), torch.tensor(centered)).violations()

    assert count([3, 2, 1], [2.5, 1.5, 0]) == 0
    assert count([3, 2, 1], [3, 1, 0]) == 0
    assert count([3, 2, 1], [3.1, 1.5, 0]) == 1  # above the largest
    assert count([3, 2, 1], [1.9, 1.5, 0]) == 1  # the largest falls below the second
    assert count([3, 2, 1], [2.5, 1.5, 0.5]) == 1  # the last is not 0
    assert count([3, 2, 1], [2.5, 1.5, 1.5]) == 1
    assert count([3, 2, 1], [4, 0.5, 0.2]) == 3


def test_on_molecules() -> None:
    graphs = gn.load_dataset("MUTAG")
    batch = graphs.batch(torch.arange(len(graphs)))
    found = spectra(batch.adjacency, batch.segments)
    assert interlacing_violations(found) == 0
    assert sum(s.ratio for s in found) / len(found) == pytest.approx(0.884, abs=5e-4)


def test_errors() -> None:
    adjacency = complete(4)
    two = gn.Segments.from_counts(torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="joins graph"):
        spectra(adjacency, two)
    with pytest.raises(ValueError, match="unknown aggregation"):
        spectra(adjacency, aggregation="gim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 rows"):
        spectra(adjacency, gn.Segments.single(3))
    masked = gn.Segments.single(4).with_mask(torch.tensor([True, True, True, False]))
    with pytest.raises(ValueError, match="masked"):
        spectra(adjacency, masked)
    empty = gn.Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 0)
    assert spectra(empty, gn.Segments.from_counts(torch.tensor([0, 0]))) == []
