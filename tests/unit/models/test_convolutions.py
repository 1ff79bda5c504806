from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.models import GCNConv, GINEConv, GraphContext, NormSlot
from graphnorms.segments import Segments

NODES = 30


@pytest.fixture(scope="module")
def pyg() -> Any:
    """`torch_geometric.nn`; importing it calls what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


class Nothing(nn.Module):
    """In place of a normalization with its ReLU, so that the rest is compared by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, context: GraphContext, **given: Any) -> Tensor:
        return x


def one_graph(adjacency: gn.Adjacency, edge_features: Tensor | None = None) -> GraphContext:
    segments = Segments.single(adjacency.num_nodes)
    return GraphContext(adjacency, segments, edge_features=edge_features)


def edge_index(loops: bool) -> Tensor:
    edges = torch.randint(0, NODES, (2, 90), generator=torch.Generator().manual_seed(0))
    return edges if loops else edges[:, edges[0] != edges[1]]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def both(mine: Any, theirs: Any) -> None:
    """Compare two results and their gradients with respect to what each depends on."""
    (y, inputs), (expected, others) = mine, theirs
    torch.testing.assert_close(y, expected)
    grad_y = draw(*y.shape, seed=9)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, grad_y), torch.autograd.grad(expected, others, grad_y)
    )


def gcn_of_both(pyg: Any) -> tuple[Any, GCNConv]:
    """PyG's GCN with a bias of random numbers, and ours with its weights."""
    theirs = pyg.GCNConv(5, 4).double()
    theirs.bias.data = draw(4, seed=3)
    mine = GCNConv(5, 4, Nothing).double()
    mine.load_state_dict({"linear.weight": theirs.lin.weight, "bias": theirs.bias})
    return theirs, mine


@pytest.mark.parametrize("learned", [False, True], ids=["given", "learned"])
def test_gcn_on_a_weighted_graph_is_that_of_pyg(learned: bool, pyg: Any) -> None:
    """Through the degrees too, where the weights are learned."""
    edges = edge_index(loops=False)
    theirs, mine = gcn_of_both(pyg)
    x = draw(NODES, 5).requires_grad_()
    weight = draw(edges.shape[1], seed=1).abs().requires_grad_(learned)
    adjacency = gn.Adjacency.from_edge_index(edges, NODES)
    inputs = [x, weight] if learned else [x]
    both(
        (
            mine(x, one_graph(adjacency), edge_weight=weight),
            [*inputs, mine.bias, mine.linear.weight],
        ),
        (theirs(x, edges, weight), [*inputs, theirs.bias, theirs.lin.weight]),
    )


def test_weights_of_pygs_gcn_give_its_results(pyg: Any) -> None:
    theirs, mine = gcn_of_both(pyg)
    edges, x = edge_index(loops=False), draw(NODES, 5).requires_grad_()
    adjacency = gn.Adjacency.from_edge_index(edges, NODES)
    both(
        (mine(x, one_graph(adjacency)), [x, mine.bias, mine.linear.weight]),
        (theirs(x, edges), [x, theirs.bias, theirs.lin.weight]),
    )


def test_gcn_adds_its_bias_behind_the_neighbours() -> None:
    """A path of five nodes whose features are 0: each gives the bias, whatever its degree."""
    path = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    layer = GCNConv(3, 2, Nothing)
    nn.init.constant_(layer.bias, -0.55)
    y = layer(torch.zeros(5, 3), one_graph(gn.Adjacency.from_edge_index(path, 5)))
    assert torch.equal(y, torch.full((5, 2), -0.55))


def test_gcn_begins_with_glorots_weights_and_no_bias() -> None:
    layer = GCNConv(200, 100, Nothing)
    bound = (6 / 300) ** 0.5
    assert 0.99 * bound < layer.linear.weight.abs().max() <= bound
    assert layer.linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not layer.bias.any()


def test_gcn_with_weights_of_one_is_gcn() -> None:
    edges = edge_index(loops=True)
    adjacency = gn.Adjacency.from_edge_index(edges, NODES)
    layer = GCNConv(5, 4, Nothing).double()
    x, context = draw(NODES, 5), one_graph(adjacency)
    ones = torch.ones(edges.shape[1], dtype=torch.float64)
    torch.testing.assert_close(layer(x, context, edge_weight=ones), layer(x, context))


def test_gcn_where_weights_cancel() -> None:
    """A degree of 0 scales by 0, and has no gradient that is not finite."""
    adjacency = gn.Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 3)
    layer = GCNConv(2, 2, Nothing)
    weight = torch.tensor([-1.0, 0.5], requires_grad=True)
    y = layer(torch.ones(3, 2), one_graph(adjacency), edge_weight=weight)
    assert y[1].tolist() == [0.0, 0.0]
    (grad,) = torch.autograd.grad(y, weight, torch.ones_like(y))
    assert grad.isfinite().all()


def test_gine_is_that_of_pyg(pyg: Any) -> None:
    edges = edge_index(loops=True)
    mine = GINEConv(5, 4, Nothing, edge_channels=3, self_weight=1.25).double()
    mlp = nn.Sequential(mine.linear, mine.linear2)
    theirs = pyg.GINEConv(mlp, eps=0.25, edge_dim=3).double()
    theirs.lin = mine.edge_linear
    x = draw(NODES, 5).requires_grad_()
    features = draw(edges.shape[1], 3, seed=1).requires_grad_()
    adjacency = gn.Adjacency.from_edge_index(edges, NODES)
    inputs = [x, features, *mine.parameters()]
    both(
        (mine(x, one_graph(adjacency, features)), inputs),
        (theirs(x, edges, features), inputs),
    )


def test_gine_with_a_norm_under_autocast() -> None:
    adjacency = gn.Adjacency.from_edge_index(edge_index(loops=True), NODES)
    layer = GINEConv(5, 4, lambda c: NormSlot("graph", c), edge_channels=3)
    features = draw(adjacency.num_edges, 3, seed=1).float()
    arguments = (draw(NODES, 5).float(), one_graph(adjacency, features))
    expected = layer(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(*arguments)
    assert y.dtype == torch.bfloat16
    assert (y - expected).abs().max() < 0.2
    assert (y >= 0).all()
