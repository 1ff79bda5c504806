"""Sums over edges, their arguments, and the definition to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.adjacency import Adjacency
from graphnorms.testing import tolerance

NODES = 50
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
KINDS = ["plain", "scaled", "weighted", "weighted and scaled", "features"]


def edges(kind: str) -> Tensor:
    """Unsorted edges, loops and parallel ones among them; the last node is isolated."""
    generator = torch.Generator().manual_seed(4)
    edge_index = torch.randint(0, NODES - 1, (2, 130), generator=generator)
    edge_index = torch.cat([edge_index, edge_index[:, :9], torch.tensor([[3, 3], [3, 3]])], 1)
    if kind == "symmetric":
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
    return edge_index[:, torch.randperm(edge_index.shape[1], generator=generator)]


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def quantities(kind: str, number: int, channels: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The arguments of one kind of call; weights and scales in a dtype of their own."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    found = {}
    if "scaled" in kind:
        found["node_scale"] = draw(NODES, dtype=wide, seed=2).abs() + 0.1
    if "weighted" in kind:
        found["edge_weight"] = draw(number, dtype=wide, seed=3)
    if kind == "features":
        found["edge_features"] = draw(number, channels, dtype=dtype, seed=3)
    return found


def by_loop(
    x: Tensor,
    edge_index: Tensor,
    self_weight: float,
    node_scale: Tensor | None = None,
    edge_weight: Tensor | None = None,
    edge_features: Tensor | None = None,
) -> Tensor:
    """The definition, edge by edge in float64."""
    x = x.double()
    scale = torch.ones(x.shape[0]).double() if node_scale is None else node_scale.double()
    rows = list((self_weight * scale.unsqueeze(1) * x).unbind())
    for number, (source, target) in enumerate(edge_index.t().tolist()):
        message = scale[source] * x[source]
        if edge_weight is not None:
            message = message * edge_weight[number].double()
        if edge_features is not None:
            message = torch.relu(message + edge_features[number].double())
        rows[target] = rows[target] + message
    return scale.unsqueeze(1) * torch.stack(rows)


def check_sum(
    graph: str, channels: int, kind: str, self_weight: float, dtype: torch.dtype, backend: str
) -> None:
    """Result and gradients against the definition."""
    edge_index = edges(graph)
    adjacency = Adjacency.from_edge_index(edge_index, NODES)
    x = draw(NODES, channels, dtype=dtype).requires_grad_()
    given = quantities(kind, edge_index.shape[1], channels, dtype)
    learned = {name: t.requires_grad_() for name, t in given.items() if name != "node_scale"}
    y = gn.aggregate(x, adjacency, self_weight=self_weight, backend=backend, **given)
    assert y.dtype == dtype
    expected = by_loop(x, edge_index, self_weight, **given)
    # What is summed, with every term positive: the scale of the rounding errors.
    size = by_loop(
        x.abs(), edge_index, self_weight, **{name: t.abs() for name, t in given.items()}
    ).max()
    allowed = 4 * tolerance(dtype, 50)
    assert (y.double() - expected).abs().max() <= allowed * size

    grad_y = draw(NODES, channels, dtype=dtype, seed=5)
    inputs = [x, *learned.values()]
    mine = torch.autograd.grad(y, inputs, grad_y)
    theirs = torch.autograd.grad(expected, inputs, grad_y.double())
    for got, wanted, asked in zip(mine, theirs, inputs, strict=True):
        assert got.dtype == asked.dtype
        # Autograd rounds theirs once, to the dtype of what it is the gradient of.
        scale = wanted.double().abs().max() * channels**0.5
        assert (got.double() - wanted.double()).abs().max() <= 2 * allowed * scale


def check_one_gradient_alone(kind: str, needs: tuple[bool, bool], backend: str) -> None:
    """The gradient of x, or of the edges, is the same where it alone is asked for."""
    adjacency = Adjacency.from_edge_index(edges("directed"), NODES)
    given = quantities(kind, adjacency.num_edges, 20, torch.float32)
    name = "edge_features" if kind == "features" else "edge_weight"
    grad_y = draw(NODES, 20, seed=5)
    x = draw(NODES, 20)

    def grads(x: Tensor, edge: Tensor) -> list[Tensor]:
        arguments = given | {name: edge}
        y = gn.aggregate(x, adjacency, self_weight=0.5, backend=backend, **arguments)
        return list(torch.autograd.grad(y, [t for t in (x, edge) if t.requires_grad], grad_y))

    both = grads(x.requires_grad_(), given[name].requires_grad_())
    alone = grads(x.requires_grad_(needs[0]), given[name].requires_grad_(needs[1]))
    torch.testing.assert_close(
        alone, [grad for grad, need in zip(both, needs, strict=True) if need]
    )
