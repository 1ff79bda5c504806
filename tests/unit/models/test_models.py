from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.data import GraphBatch, load_dataset, random_graphs
from graphnorms.models import GNN, ModelConfig, derive_seed, initialize, preset, readout
from graphnorms.models.readout import sum_in_order
from graphnorms.segments import Segments


@pytest.fixture(scope="module")
def batch() -> GraphBatch:
    return random_graphs(12, mean_nodes=9.0, num_features=5, seed=3).batch(torch.arange(12))


def dense_adjacency(batch: GraphBatch) -> Tensor:
    adjacency = batch.adjacency
    dense = torch.zeros(adjacency.num_nodes, adjacency.num_nodes, dtype=torch.float64)
    rows = torch.repeat_interleave(torch.arange(adjacency.num_nodes), adjacency.in_degree)
    dense[rows, adjacency.index] = 1.0
    return dense


def norm_by_hand(x: Tensor, batch: GraphBatch, eps: float) -> Tensor:
    """GraphNorm at its initial parameters is InstanceNorm."""
    parts = []
    for graph in range(batch.num_graphs):
        g = x[batch.segments.index == graph]
        parts.append((g - g.mean(0)) / (g.var(0, unbiased=False) + eps).sqrt())
    return torch.cat(parts)


def linear(x: Tensor, layer: torch.nn.Linear) -> Tensor:
    return x @ layer.weight.double().t() + layer.bias.double()


@pytest.mark.parametrize("preset_name", ["default", "graphnorm-paper"])
@pytest.mark.parametrize("name", ["gin", "gcn"])
def test_model_is_the_formula(name: str, preset_name: str, batch: GraphBatch) -> None:
    """F(Norm(W · H · Q)) with dense matrices, layer by layer, to the letter of the presets."""
    config = preset(name, preset_name)
    eps = 1e-6 if preset_name == "graphnorm-paper" else 1e-5
    model = GNN(config, "graph", 5, 3, seed=0).double().eval()
    got = model(batch.x.double(), batch.adjacency, batch.segments)

    a = dense_adjacency(batch)
    eye = torch.eye(a.shape[0], dtype=torch.float64)
    h = batch.x.double()
    for number, layer in enumerate(model.convolutions):
        if name == "gin":
            # the authors add self loops to A and then (1 + 0) x: a node counts twice
            own = 2.0 if preset_name == "graphnorm-paper" else 1.0
            y = torch.relu(norm_by_hand(linear((a + own * eye) @ h, layer.linear), batch, eps))
            y = torch.relu(norm_by_hand(linear(y, layer.linear2), batch, eps))
        else:
            d = (a + eye).sum(1).rsqrt()
            q = d.unsqueeze(1) * (a + eye) * d
            y = q @ h @ layer.linear.weight.double().t() + layer.bias.double()
            y = torch.relu(norm_by_hand(y, batch, eps))
        h = h + y if preset_name == "graphnorm-paper" and number else y
    pooled = torch.stack([h[batch.segments.index == g].sum(0) for g in range(batch.num_graphs)])
    assert torch.allclose(got, linear(pooled, model.head), rtol=1e-9, atol=1e-9)


def test_paper_preset_is_the_authors_protocol() -> None:
    gin = preset("gin", "graphnorm-paper")
    assert (gin.layers, gin.hidden, gin.residual, gin.dropout) == (4, 64, True, 0.5)
    assert (gin.dropout_on, gin.readout) == ("logits", "sum")
    assert preset("gin", "graphnorm-paper", node_labels=False).readout == "mean"
    assert preset("gcn", "graphnorm-paper").self_weight == 1.0


@pytest.mark.parametrize(
    ("norm", "eps"),
    [("graph", 1e-6), ("graph:eps=0.1", 0.1), ("batch", 1e-5), ("instance", 1e-5)],
)
def test_epsilon_of_the_paper_preset_is_graph_norms(norm: str, eps: float) -> None:
    model = GNN(preset("gin", "graphnorm-paper"), norm, 5, 3, seed=0)
    assert {slot.norm2.norm.eps for slot in model.convolutions} == {eps}


def test_config_reads_back_what_it_says() -> None:
    config = preset("gcn", "graphnorm-paper")
    read = ModelConfig(**json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert hash(read) == hash(config)


@pytest.mark.parametrize("on", ["features", "logits"])
def test_dropout_is_where_the_config_says(on: str, batch: GraphBatch) -> None:
    config = ModelConfig(name="gcn", dropout=0.9, dropout_on=on)
    model = GNN(config, "none", 5, 4, seed=0)
    torch.manual_seed(0)
    dropped = (model(batch.x, batch.adjacency, batch.segments) == 0).float().mean()
    assert (float(dropped) > 0.5) == (on == "logits")


def test_sums_in_order_are_sums() -> None:
    """Those of a GPU, which torch has on the CPU as well; with empty graphs, and twice."""
    segments = Segments.from_ptr(torch.tensor([0, 0, 4, 4, 9, 10, 10]))
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()

    def total(x: Tensor) -> Tensor:
        return sum_in_order(x, segments.ptr, segments.index)

    torch.testing.assert_close(total(x), readout(x, segments, "sum"))
    assert torch.autograd.gradcheck(total, x)
    assert torch.autograd.gradgradcheck(total, x)
    assert not sum_in_order(x[:0], segments.ptr[:2], segments.index[:0]).any()


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_readouts(how: str) -> None:
    segments = Segments.from_batch(torch.tensor([3, 0, 0, 3, 3]), 5)
    x = torch.tensor([[1.0], [-2.0], [-4.0], [5.0], [3.0]], requires_grad=True)
    got = readout(x, segments, how)
    want = {
        "sum": [-6.0, 0.0, 0.0, 9.0, 0.0],
        "mean": [-3.0, 0.0, 0.0, 3.0, 0.0],
        "max": [-2.0, 0.0, 0.0, 5.0, 0.0],
    }[how]
    assert got[:, 0].tolist() == want
    (grad,) = torch.autograd.grad(got, x, torch.tensor([[1.0], [1.0], [1.0], [2.0], [1.0]]))
    slope = {
        "sum": [2.0, 1, 1, 2, 2],
        "mean": [2 / 3, 0.5, 0.5, 2 / 3, 2 / 3],
        "max": [0.0, 1, 0, 2, 0],
    }
    assert grad[:, 0].tolist() == pytest.approx(slope[how])


def test_node_head(batch: GraphBatch) -> None:
    model = GNN(ModelConfig(name="gin", head="node"), "batch", 5, 3, seed=0)
    assert model(batch.x, batch.adjacency, batch.segments).shape == (batch.x.shape[0], 3)


def test_gine_is_the_formula(batch: GraphBatch) -> None:
    """The messages edge by edge, from dense matrices, layer by layer."""
    config = ModelConfig(name="gine", layers=2, self_weight=1.5, residual=True)
    model = GNN(config, "graph", 5, 3, edge_channels=2, seed=0).double().eval()
    adjacency = batch.adjacency
    generator = torch.Generator().manual_seed(0)
    edges = torch.randn(adjacency.num_edges, 2, generator=generator, dtype=torch.float64)
    got = model(batch.x.double(), adjacency, batch.segments, edges)

    target = torch.repeat_interleave(torch.arange(adjacency.num_nodes), adjacency.in_degree)
    h = batch.x.double()
    for number, layer in enumerate(model.convolutions):
        rows = []
        for node in range(adjacency.num_nodes):
            at = target == node
            messages = torch.relu(h[adjacency.index[at]] + linear(edges[at], layer.edge_linear))
            rows.append(1.5 * h[node] + messages.sum(0))
        y = torch.relu(norm_by_hand(linear(torch.stack(rows), layer.linear), batch, 1e-5))
        y = torch.relu(norm_by_hand(linear(y, layer.linear2), batch, 1e-5))
        h = h + y if number else y
    pooled = torch.stack([h[batch.segments.index == g].sum(0) for g in range(batch.num_graphs)])
    torch.testing.assert_close(got, linear(pooled, model.head))


def test_gine_without_features_of_edges(batch: GraphBatch) -> None:
    with pytest.raises(ValueError, match="no edge features, which"):
        GNN(preset("gine"), "graph", 5, 3, seed=0)
    model = GNN(preset("gine"), "graph", 5, 3, edge_channels=2, seed=0)
    with pytest.raises(ValueError, match="which GINE needs"):
        model(batch.x, batch.adjacency, batch.segments)


def test_initial_weights_do_not_depend_on_the_norm() -> None:
    models = [GNN(preset("gin"), norm, 5, 3, seed=7) for norm in gn.CATALOG]
    linears = [
        {
            name: value
            for name, value in model.named_parameters()
            if ".norm" not in name and ("linear" in name or "head" in name)
        }
        for model in models
    ]
    for other in linears[1:]:
        assert list(other) == list(linears[0])
        assert all(torch.equal(other[name], linears[0][name]) for name in other)
    reseeded = GNN(preset("gin"), "none", 5, 3, seed=8)
    assert not torch.equal(reseeded.head.weight, models[0].head.weight)


def test_initialize_leaves_the_global_random_state() -> None:
    layer = torch.nn.Linear(3, 3)
    before = torch.get_rng_state()
    initialize(layer, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    assert derive_seed(1, "a", "bc") != derive_seed(1, "ab", "c")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preset("gim"), "unknown model 'gim'; did you mean gin"),
        (lambda: preset("gin", "paper"), "unknown preset 'paper'; did you mean graphnorm-paper"),
        (lambda: preset("gine", "graphnorm-paper"), "'graphnorm-paper' has no gine, expected gin"),
        (lambda: ModelConfig(name="gin", readout="maxx"), "unknown readout 'maxx'"),
        (lambda: ModelConfig(name="gin", layers=0), "layers is 0"),
        (lambda: ModelConfig(name="gin", norm_eps={"grapf": 1e-6}), "unknown norm 'grapf'"),
        (lambda: ModelConfig(name="gin", norm_eps=1e-6), "norm_eps is 1e-06, expected ε by norm"),
        (lambda: ModelConfig(name="gin", dropout=1.0), r"dropout is 1\.0"),
        (lambda: ModelConfig(name="gcn", train_eps=True), "train_eps is True, which is for gin"),
        (
            lambda: GNN(preset("gin"), "grapf", 5, 3, seed=0),
            "unknown norm 'grapf'; did you",
        ),
        (lambda: GNN(preset("gin"), "graph", 0, 3, seed=0), "in_channels is 0"),
        (lambda: gn.make_norm("instanc", 4), "unknown norm 'instanc'; did you mean instance"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_mutag_model_runs_on_every_norm() -> None:
    graphs = load_dataset("MUTAG")
    batch = graphs.batch(torch.arange(20))
    for norm in gn.CATALOG:
        model = GNN(preset("gin"), norm, graphs.num_features, graphs.num_classes, seed=0)
        assert torch.isfinite(model(batch.x, batch.adjacency, batch.segments)).all()
