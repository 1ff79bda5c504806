from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.models import (
    EdgeRows,
    GATConv,
    GatedGCNConv,
    GCNConv,
    GINEConv,
    GraphContext,
    NormSlot,
    SAGEConv,
)
from graphnorms.segments import Segments

NODES = 30
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


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
    rows = EdgeRows.of(adjacency, segments)
    return GraphContext(adjacency, segments, edge_features=edge_features, edge_rows=rows)


def edge_index(loops: bool) -> Tensor:
    edges = torch.randint(0, NODES, (2, 90), generator=torch.Generator().manual_seed(0))
    return edges if loops else edges[:, edges[0] != edges[1]]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def both(mine: Any, theirs: Any) -> None:
    """Compare two results and their gradients with respect to what each depends on."""
    (y, inputs), (expected, others) = mine, theirs
    torch.testing.assert_close(y, expected, **CLOSE)
    grad_y = draw(*y.shape, seed=9)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, grad_y),
        torch.autograd.grad(expected, others, grad_y),
        **CLOSE,
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


def with_isolated_nodes(edges: Tensor) -> Tensor:
    """Without the edges of the last ten nodes."""
    return edges[:, (edges < NODES - 10).all(0)]


def drawn(layer: nn.Module) -> Any:
    """A layer in float64 with parameters away from their first values."""
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.add_(0.5 * draw(*parameter.shape, seed=seed))
    return layer.double()


def test_sage_is_that_of_pyg(pyg: Any) -> None:
    edges = with_isolated_nodes(edge_index(loops=True))
    mine = drawn(SAGEConv(5, 4, Nothing))
    theirs = pyg.SAGEConv(5, 4).double()
    theirs.lin_l.weight, theirs.lin_l.bias = mine.linear.weight, mine.linear_self.bias
    theirs.lin_r.weight = mine.linear_self.weight
    x = draw(NODES, 5).requires_grad_()
    adjacency = gn.Adjacency.from_edge_index(edges, NODES)
    assert int(adjacency.in_degree.min()) == 0
    inputs = [x, *mine.parameters()]
    both((mine(x, one_graph(adjacency)), inputs), (theirs(x, edges), inputs))


@pytest.mark.parametrize("edge_channels", [0, 3])
@pytest.mark.parametrize("loops", [False, True])
def test_gat_is_that_of_pyg(loops: bool, edge_channels: int, pyg: Any) -> None:
    """A node that has loops, and one without edges, see themselves once."""
    edges = with_isolated_nodes(edge_index(loops))
    if loops:
        edges = torch.cat((edges, torch.tensor([[0, 29], [0, 29]])), dim=1)
    mine = drawn(GATConv(5, 6, Nothing, heads=2, edge_channels=edge_channels))
    theirs = pyg.GATConv(5, 3, heads=2, edge_dim=edge_channels or None).double()
    theirs.lin.weight, theirs.bias = mine.linear.weight, mine.bias
    for name, parameter in (("att_src", mine.source_weight), ("att_dst", mine.target_weight)):
        delattr(theirs, name)
        setattr(theirs, name, parameter.unsqueeze(0))
    features = None
    if edge_channels:
        features = draw(edges.shape[1], 3, seed=1).requires_grad_()
        # Their attention of an edge is linear in its features, in two factors.
        delattr(theirs, "att_edge")
        theirs.att_edge = torch.ones(1, 2, 3, dtype=torch.float64) / 3
        del theirs.lin_edge.weight
        theirs.lin_edge.weight = mine.edge_linear.weight.repeat_interleave(3, 0)
    x = draw(NODES, 5).requires_grad_()
    adjacency = gn.Adjacency.from_edge_index(edges, NODES)
    inputs = [x, *mine.parameters(), *([] if features is None else [features])]
    both(
        (mine(x, one_graph(adjacency, features)), inputs),
        (theirs(x, edges, features), inputs),
    )


def test_gat_drops_attention_in_training_only() -> None:
    adjacency = gn.Adjacency.from_edge_index(edge_index(loops=False), NODES)
    layer, x = GATConv(5, 4, Nothing, heads=2, dropout=0.5).double(), draw(NODES, 5)
    context = one_graph(adjacency)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(layer(x, context))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2])
    assert torch.equal(layer.eval()(x, context), layer(x, context))


def gated(layer: Any, x: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    """GatedGCN edge by edge, before its norms."""
    source, target = edge_index
    gates = torch.stack(
        [
            layer.edge_linear(e) + layer.target_linear(x[i]) + layer.source_linear(x[j])
            for e, j, i in zip(edges, source.tolist(), target.tolist(), strict=True)
        ]
    )
    y = []
    for node in range(len(x)):
        share = gates[target == node].sigmoid()
        values = layer.neighbour_linear(x[source[target == node]])
        y.append(layer.self_linear(x[node]) + (share * values).sum(0) / (share.sum(0) + 1e-6))
    return torch.stack(y), gates


def test_gated_gcn_is_the_formula() -> None:
    """With BatchNorm on nodes and edges, a ReLU, and residuals, as in GraphGPS."""
    index = with_isolated_nodes(edge_index(loops=True))
    adjacency = gn.Adjacency.from_edge_index(index, NODES)

    def norm(channels: int) -> NormSlot:
        return NormSlot("batch", channels)

    layer = drawn(GatedGCNConv(4, 4, norm, lambda c: NormSlot("batch", c, of_edges=True)))
    x, edges = draw(NODES, 4).requires_grad_(), draw(index.shape[1], 4, seed=1).requires_grad_()
    context = one_graph(adjacency)
    rows = context.edge_rows
    given = rows.sorted(edges)
    y, e = layer(x, given, context, residual=x, edge_residual=given)
    nodes, gates = gated(layer, x, edges, index)

    def normed(z: Tensor, slot: Any) -> Tensor:
        inner = slot.norm.module
        z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        return (z * inner.weight + inner.bias).relu()

    both(
        (torch.cat((y, rows.numbered(e))), [x, edges, *layer.parameters()]),
        (
            torch.cat((x + normed(nodes, layer.norm), edges + normed(gates, layer.norm_edges))),
            [x, edges, *layer.parameters()],
        ),
    )


def test_gates_of_gated_gcn_are_pygs(pyg: Any) -> None:
    """PyG's gates are not divided by their sum, which a second layer of values 1 gives."""
    index = with_isolated_nodes(edge_index(loops=True))
    adjacency = gn.Adjacency.from_edge_index(index, NODES)
    layer = drawn(GatedGCNConv(5, 4, Nothing, None))
    nn.init.zeros_(layer.edge_linear.weight)
    nn.init.zeros_(layer.edge_linear.bias)
    sums = []
    for values in (layer.neighbour_linear, None):
        theirs = pyg.ResGatedGraphConv(5, 4, root_weight=False, bias=False).double()
        theirs.lin_key, theirs.lin_query = layer.target_linear, layer.source_linear
        if values is not None:
            theirs.lin_value = values
        else:
            nn.init.zeros_(theirs.lin_value.weight)
            nn.init.ones_(theirs.lin_value.bias)
        sums.append(theirs)
    x = draw(NODES, 5)
    expected = layer.self_linear(x) + sums[0](x, index) / (sums[1](x, index) + 1e-6)
    y, _ = layer(x, torch.zeros(index.shape[1], 4, dtype=torch.float64), one_graph(adjacency))
    torch.testing.assert_close(y, expected, **CLOSE)


def test_a_norm_per_graph_on_edges_is_over_the_edges_of_a_graph() -> None:
    """Also where nodes are not sorted by graph, and where a graph has no edges."""
    batch = torch.tensor([2, 0, 2, 0, 0, 1, 2])
    index = torch.tensor([[0, 2, 1, 3, 4, 6, 0], [2, 0, 3, 1, 1, 0, 6]])
    adjacency = gn.Adjacency.from_edge_index(index, 7)
    segments = Segments.from_batch(batch, 3)
    rows = EdgeRows.of(adjacency, segments)
    context = GraphContext(adjacency, segments, edge_rows=rows).of_edges()
    e = draw(7, 4)
    got = rows.numbered(NormSlot("instance", 4, of_edges=True).double()(rows.sorted(e), context))
    for graph in (0, 2):
        own = e[batch[index[0]] == graph]
        expected = (own - own.mean(0)) / (own.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(got[batch[index[0]] == graph], expected.relu())


def test_edges_have_no_neighbours() -> None:
    with pytest.raises(ValueError, match="'adja' needs adjacency, which edges do not have"):
        NormSlot("adja", 4, of_edges=True)
