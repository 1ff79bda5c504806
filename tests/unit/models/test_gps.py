"""The block of GPS: PyG's at equal parameters; its places of norms and its residual sums."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.data import load_dataset
from graphnorms.models import GNN, Blocks, GPSLayer, GraphContext, ModelConfig, NormSlot
from graphnorms.segments import Segments

COUNTS = [6, 1, 20, 4]
NODES = sum(COUNTS)
EDGES = torch.tensor(
    [[0, 1, 1, 2, 7, 8, 8, 20, 21, 7, 27, 28, 0], [1, 0, 2, 1, 8, 7, 20, 8, 9, 7, 28, 27, 3]]
)
"""Of a directed graph with a loop, in which most nodes are isolated."""
BATCH = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def pyg() -> Any:
    """`torch_geometric.nn`; importing it calls what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def context_of(edge_features: Tensor | None = None) -> GraphContext:
    segments = Segments.from_batch(BATCH, 4)
    adjacency = gn.Adjacency.from_edge_index(EDGES, NODES)
    return GraphContext(
        adjacency, segments, edge_features=edge_features, blocks=Blocks.of(segments)
    )


def layer_of(norm: str, edge_channels: int = 0, **changes: Any) -> Any:
    """A layer in float64 with parameters away from their first values."""
    config = ModelConfig(name="gps", hidden=8, heads=2, **changes)
    where = "before-norm" if config.sums_before_norm else "after-norm"

    def make(channels: int) -> NormSlot:
        return NormSlot(norm, channels, residual_place=where, activation=None)

    layer = GPSLayer(config, make, edge_channels)
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.add_(0.3 * draw(*parameter.shape, seed=seed))
    return layer.double()


def in_pyg(pyg: Any, mine: Any, norm: str, edge_channels: int, **norm_kwargs: Any) -> Any:
    """PyG's layer, with the parameters of ours."""
    local = nn.Sequential(mine.local.linear, nn.ReLU(), mine.local.linear2)
    conv = pyg.GINConv(local)
    if edge_channels:
        conv = pyg.GINEConv(local, edge_dim=edge_channels)
        conv.lin = mine.local.edge_linear
    theirs = pyg.GPSConv(8, conv, heads=2, norm=norm, norm_kwargs=norm_kwargs).double()
    theirs.attn.in_proj_weight = mine.attention.qkv.weight
    theirs.attn.in_proj_bias = mine.attention.qkv.bias
    theirs.attn.out_proj.weight = mine.attention.out.weight
    theirs.attn.out_proj.bias = mine.attention.out.bias
    theirs.mlp[0], theirs.mlp[3] = mine.linear1, mine.linear2
    for name, slot in zip(("norm1", "norm2", "norm3"), mine.norms_after, strict=True):
        getattr(theirs, name).load_state_dict(slot.norm.state_dict())
    return theirs


@pytest.mark.parametrize("edge_channels", [0, 3])
@pytest.mark.parametrize(
    ("norm", "theirs"),
    [
        ("batch", {"norm": "batch_norm"}),
        ("layer", {"norm": "layer_norm", "mode": "node"}),
        ("layer-graph", {"norm": "layer_norm"}),
        ("graph", {"norm": "graph_norm"}),
    ],
)
def test_layer_is_that_of_pyg(
    norm: str, theirs: dict[str, Any], edge_channels: int, pyg: Any
) -> None:
    """With a graph of one node and isolated nodes: results and gradients to 1e-10."""
    mine = layer_of(norm, edge_channels)
    other = in_pyg(pyg, mine, edge_channels=edge_channels, **theirs)
    x, features = draw(NODES, 8, seed=7).requires_grad_(), None
    if edge_channels:
        features = draw(EDGES.shape[1], 3, seed=8).requires_grad_()
    got = mine(x, context_of(features))
    more = {} if features is None else {"edge_attr": features}
    want = other(x, EDGES, BATCH, **more)
    torch.testing.assert_close(got, want, **CLOSE)
    cotangent = draw(NODES, 8, seed=9)
    shared = [p for name, p in mine.named_parameters() if not name.startswith("norms")]
    inputs = [x, *shared, *([] if features is None else [features])]
    torch.testing.assert_close(
        torch.autograd.grad(got, [*inputs, *mine.norms_after.parameters()], cotangent),
        torch.autograd.grad(
            want,
            [*inputs, *(p for name in "123" for p in getattr(other, f"norm{name}").parameters())],
            cotangent,
        ),
        **CLOSE,
    )


def parts_of(layer: Any, context: GraphContext) -> Any:
    """The three parts, and the norms before and behind each."""

    def feed(z: Tensor) -> Tensor:
        return layer.linear2(layer.linear1(z).relu())

    def norms(slots: Any) -> Any:
        return [lambda z, s=slot: s.norm(z, context.segments) for slot in slots or ()]

    parts = (
        lambda z: layer.local(z, context),
        lambda z: layer.attention(z, context.blocks),
        feed,
    )
    return (*parts, norms(layer.norms_before), norms(layer.norms_after))


@pytest.mark.parametrize("norm", ["layer", "graph", "rms"])
@pytest.mark.parametrize("residual", ["", "rezero"])
@pytest.mark.parametrize("place", ["pre", "sandwich"])
def test_places_where_the_sum_is_last(place: str, residual: str, norm: str) -> None:
    layer, context, x = (
        layer_of(norm, norm_place=place, residual_place=residual),
        context_of(),
        None,
    )
    x = draw(NODES, 8, seed=7)
    message, attend, feed, before, after = parts_of(layer, context)
    a = layer.gains if residual else torch.ones(3)
    after = after or [lambda z: z] * 3
    h = x + a[0] * after[0](message(before[0](x))) + a[1] * after[1](attend(before[1](x)))
    want = h + a[2] * after[2](feed(before[2](h)))
    torch.testing.assert_close(layer(x, context), want, **CLOSE)


@pytest.mark.parametrize("residual", ["before-norm", "after-norm", "rezero", "deepnorm"])
def test_sums_of_post_norm(residual: str) -> None:
    layer, context = layer_of("layer", residual_place=residual, layers=3), context_of()
    x = draw(NODES, 8, seed=7)
    message, attend, feed, _, norm = parts_of(layer, context)
    a = layer.gains if residual == "rezero" else torch.ones(3)
    scale = 6**0.25 if residual == "deepnorm" else 1.0
    if residual == "after-norm":
        h = x + norm[0](message(x)) + norm[1](attend(x))
        want = h + norm[2](feed(h))
    else:
        h = norm[0](scale * x + a[0] * message(x)) + norm[1](scale * x + a[1] * attend(x))
        want = norm[2](scale * h + a[2] * feed(h))
    torch.testing.assert_close(layer(x, context), want, **CLOSE)


def test_rezero_begins_as_the_identity() -> None:
    config = ModelConfig(name="gps", norm_place="pre", residual_place="rezero", head="node")
    model = GNN(config, "layer", 5, 3, seed=0)
    x, context = draw(NODES, 5).float(), context_of()
    inner = model.encoder(x)
    for block in model.convolutions:
        assert torch.equal(block(inner, context), inner)
    model(x, context.adjacency, context.segments).square().sum().backward()
    assert all((block.gains.grad != 0).all() for block in model.convolutions)


def test_deepnorms_numbers_are_the_papers() -> None:
    """An encoder of 18 layers has α = 36^(1/4) and β = 144^(-1/4), and scales values and MLPs."""
    config = ModelConfig(name="gps", layers=18, hidden=8, residual_place="deepnorm")
    assert config.deepnorm == pytest.approx((2.4494897, 0.2886751))
    deep = GNN(config, "layer", 5, 3, seed=0)
    plain = GNN(ModelConfig(name="gps", layers=18, hidden=8), "layer", 5, 3, seed=0)
    ours, others = deep.state_dict(), plain.state_dict()
    assert ours.keys() == others.keys()
    for name, value in ours.items():
        expected = others[name]
        if name.endswith("qkv.weight"):
            expected = torch.cat((expected[:16], 144**-0.25 * expected[16:]))
        elif "convolutions" in name and name.endswith("weight") and value.dim() == 2:
            expected = 144**-0.25 * expected
        torch.testing.assert_close(value, expected)


def test_dropout_is_drawn_in_training_only() -> None:
    layer, context = layer_of("layer", layer_dropout=0.5, attention_dropout=0.2), context_of()
    x, results = draw(NODES, 8), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(layer(x, context))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2])
    assert torch.equal(layer.eval()(x, context), layer(x, context))


@pytest.mark.parametrize("norm", ["graph", "instance", "mean-subtraction"])
@pytest.mark.parametrize("place", ["post", "pre", "sandwich"])
def test_a_norm_that_centers_graphs_leaves_something_to_the_readout(place: str, norm: str) -> None:
    """The sum of centered nodes is 0, so that all graphs would have the same logits."""
    model = GNN(ModelConfig(name="gps", hidden=8, norm_place=place), norm, 5, 1, seed=0).eval()
    context = context_of()
    logits = model(draw(NODES, 5).float(), context.adjacency, context.segments)
    assert logits.detach().std() > 1e-3


@pytest.mark.full("compiled and exported layers")
@pytest.mark.parametrize("training", [True, False])
def test_compiles_in_one_graph_for_batches_of_any_size(training: bool) -> None:
    graphs = load_dataset("MUTAG", edge_features="none")
    config = ModelConfig(name="gps", layers=1, hidden=8, heads=2, dropout=0.0)
    model = GNN(config, "graph", graphs.num_features, 2, seed=0).train(training)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for ids in ([0, 1, 2], [3, 4, 5, 6], [7, 12]):
        batch = graphs.batch(torch.tensor(ids))
        found = []
        for each in (model, compiled):
            model.zero_grad()
            output = each(batch.x, batch.adjacency, batch.segments)
            output.square().sum().backward()
            grads = [parameter.grad for parameter in model.parameters()]
            found.append((output.detach(), torch.cat([grad.flatten() for grad in grads])))
        for one, other in zip(*found, strict=True):
            assert (one - other).abs().max() <= 1e-5 * one.abs().max()


def test_compiled_attention_needs_to_know_the_longest_graph(monkeypatch) -> None:
    segments = Segments(torch.tensor([0, 1, 5]), None, 5)
    assert len(Blocks.of(segments).parts) == 1
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(ValueError, match="longest graph is not known in compiled code"):
        Blocks.of(segments)
