"""What holds for every model: batches of graphs, orders, two derivatives, weights, configs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.models import GNN, MODELS, ModelConfig
from graphnorms.segments import Segments
from graphnorms.training.trial_config import content_hash

COUNTS = [5, 1, 7, 3]
NODES = sum(COUNTS)
BATCH = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
EDGES = torch.tensor([[0, 1, 1, 2, 6, 7, 8, 13, 14, 6], [1, 0, 2, 1, 7, 6, 9, 14, 13, 6]])
"""With a directed edge, a loop, and nodes and graphs without edges."""
FORMS: dict[str, dict[str, Any]] = {
    **{model: {"name": model} for model in MODELS},
    "gps pre": {"name": "gps", "norm_place": "pre", "qk_norm": "rms"},
    "gps sandwich rezero": {
        "name": "gps", "norm_place": "sandwich", "residual_place": "rezero", "qk_norm": "l2"
    },
    "gps deepnorm": {"name": "gps", "residual_place": "deepnorm", "qk_norm": "layer"},
    "gatedgcn rezero": {"name": "gatedgcn", "residual_place": "rezero", "edge_norm": "batch"},
    "gin deepnorm": {"name": "gin", "residual": True, "residual_place": "deepnorm"},
    "gat rezero": {"name": "gat", "residual": True, "residual_place": "rezero", "heads": 2},
}  # fmt: skip


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def model_of(form: str, norm: str = "layer", *, edge_channels: int = 2, **changes: Any) -> GNN:
    """A model in float64, in which ReZero's numbers are not 0."""
    config = ModelConfig(**{"hidden": 8, "layers": 2, "dropout": 0.0, **FORMS[form], **changes})
    model = GNN(config, norm, 3, 2, edge_channels=edge_channels, seed=0).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gains"):
                parameter.fill_(0.7)
    return model


def applied(model: GNN, x: Tensor, edges: Tensor, batch: Tensor, features: Tensor) -> Tensor:
    adjacency = gn.Adjacency.from_edge_index(edges, len(x))
    logits: Tensor = model(x, adjacency, Segments.from_batch(batch, 4), features)
    return logits


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_alone_gives_what_it_gives_in_the_batch(form: str) -> None:
    changes = {"edge_norm": "instance"} if form == "gatedgcn" else {}
    model = model_of(form, "graph", **changes).eval()
    x, features = draw(NODES, 3), draw(EDGES.shape[1], 2, seed=1)
    together = applied(model, x, EDGES, BATCH, features)
    for graph, first in enumerate((0, 5, 6, 13)):
        own = graph == BATCH
        chosen = own[EDGES[0]]
        adjacency = gn.Adjacency.from_edge_index(EDGES[:, chosen] - first, COUNTS[graph])
        alone = model(x[own], adjacency, Segments.single(COUNTS[graph]), features[chosen])
        torch.testing.assert_close(alone[0], together[graph], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("head", ["graph", "node"])
@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_nodes_and_edges_does_not_matter(form: str, head: str) -> None:
    """Nodes of a graph need not lie side by side."""
    model = model_of(form, "graph", head=head)
    x, features = draw(NODES, 3), draw(EDGES.shape[1], 2, seed=1)
    want = applied(model, x, EDGES, BATCH, features)
    generator = torch.Generator().manual_seed(2)
    nodes = torch.randperm(NODES, generator=generator)  # old number of each node
    edges = torch.randperm(EDGES.shape[1], generator=generator)
    number = torch.argsort(nodes)
    got = applied(model, x[nodes], number[EDGES[:, edges]], BATCH[nodes], features[edges])
    torch.testing.assert_close(got, want if head == "graph" else want[nodes], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_two_derivatives(form: str) -> None:
    """In the features of nodes and edges; without a ReLU's kink nearby, and for small graphs."""
    model = model_of(form, "layer")
    x, features = draw(NODES, 3).requires_grad_(), draw(EDGES.shape[1], 2, seed=1).requires_grad_()

    def call(x: Tensor, features: Tensor) -> Tensor:
        return applied(model, x, EDGES, BATCH, features)[:, 0]

    assert torch.autograd.gradcheck(call, (x, features), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, features), fast_mode=True)


@pytest.mark.parametrize("norm", ["batch", "graph"])
@pytest.mark.parametrize("form", FORMS)
def test_graphs_without_edges_or_nodes(form: str, norm: str) -> None:
    model = model_of(form, norm)
    none = torch.zeros(2, 0, dtype=torch.long)
    x = draw(NODES, 3).requires_grad_()
    batch = BATCH.masked_fill(BATCH == 1, 0)  # graph 1 has no nodes
    logits = applied(model, x, none, batch, draw(0, 2))
    assert logits.isfinite().all()
    grads = torch.autograd.grad(logits.sum(), [x, *model.parameters()], allow_unused=True)
    assert all(grad is None or bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_is_learned(form: str) -> None:
    model = model_of(form, "batch")
    logits = applied(model, draw(NODES, 3), EDGES, BATCH, draw(EDGES.shape[1], 2, seed=1))
    logits.square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("form", ["sage", "gat", "gatedgcn", "gps", "gps pre", "gps deepnorm"])
def test_initial_weights_do_not_depend_on_the_norm(form: str) -> None:
    norms = [norm for norm, row in gn.CATALOG.items() if "adjacency" not in row.needs]
    states = [model_of(form, norm).state_dict() for norm in norms]
    shared = {name for name in states[0] if ".norm" not in name}
    assert len(shared) > 6
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in shared)


@pytest.mark.parametrize("model", ["gat", "gatedgcn", "gps"])
def test_edge_features_are_optional_but_not_lost(model: str) -> None:
    x, features = draw(NODES, 3), draw(EDGES.shape[1], 2, seed=1)
    adjacency = gn.Adjacency.from_edge_index(EDGES, NODES)
    segments = Segments.from_batch(BATCH, 4)
    without = model_of(model, edge_channels=0)
    assert torch.equal(
        without(x, adjacency, segments), without(x, adjacency, segments, edge_features=None)
    )
    with_them = model_of(model)
    one = with_them(x, adjacency, segments, features)
    assert not torch.allclose(one, with_them(x, adjacency, segments, features + 1))
    with pytest.raises(ValueError, match=r"no edge features, which this .* was built for"):
        with_them(x, adjacency, segments)


@pytest.mark.parametrize("form", FORMS)
def test_a_config_reads_back_what_it_says(form: str) -> None:
    config = ModelConfig(**FORMS[form])
    assert ModelConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("model", "expected"),
    [("gin", "aec6bda02f382d10"), ("gcn", "f27b5a3f8b3b05b6"), ("gine", "3c21ea2b1d6f76d5")],
)
def test_trials_of_0_2_keep_their_keys(model: str, expected: str) -> None:
    assert content_hash(ModelConfig(name=model).to_dict()) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "gin", "norm_place": "pre"}, "norm_place is pre, which is for gps; gin has befo"),
        (
            {"name": "gps", "norm_place": "after-activation"},
            "which is for models of convolutions; gps has post, pre, sandwich",
        ),
        ({"name": "gps", "residual": False}, "residual is none, but the parts of gps have"),
        (
            {"name": "gps", "norm_place": "pre", "residual_place": "deepnorm"},
            "residual is deepnorm, where the norm follows the sum, but norm_place is pre",
        ),
        ({"name": "gps", "norm_place": "sandwich", "residual_place": "before-norm"}, "follows"),
        ({"name": "gcn", "heads": 2}, "heads is 2, which is for gat and gps, but the model is gcn"),
        ({"name": "gat", "qk_norm": "rms"}, "qk_norm is rms, which is for gps"),
        ({"name": "gine", "edge_norm": "batch"}, "edge_norm is batch, which is for gatedgcn"),
        ({"name": "gatedgcn", "edge_norm": "btch"}, "unknown norm 'btch'; did you mean batch"),
        ({"name": "gps", "qk_norm": "rmss"}, "unknown qk_norm 'rmss'; did you mean rms"),
        ({"name": "gps", "heads": 0}, "heads is 0"),
        ({"name": "gat", "hidden": 30}, "hidden is 30, expected a multiple of the 4 heads of gat"),
        ({"name": "gps", "layer_dropout": 1.0}, r"layer_dropout is 1\.0, expected a number from"),
        ({"name": "gin", "residual_place": "rezro"}, "unknown residual_place 'rezro'; did you"),
    ],
)
def test_what_a_model_does_not_have_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        ModelConfig(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "scaled"),
    [
        ("gin", {"linear", "linear2"}),
        ("gcn", {"linear"}),
        ("sage", {"linear", "linear_self"}),
        ("gat", {"linear"}),
        ("gatedgcn", {"self_linear", "neighbour_linear"}),
    ],
)
def test_deepnorm_of_convolutions(name: str, scaled: set[str]) -> None:
    """Three convolutions have two sums: α = 2^(1/4), and β = 8^(-1/4) from the second one on."""
    config = {"name": name, "layers": 3, "hidden": 8, "residual": True}
    deep, plain = (
        GNN(ModelConfig(**config, residual_place=place), "layer", 3, 2, seed=0)
        for place in ("deepnorm", "before-norm")
    )
    assert deep.residual_scale == pytest.approx(2**0.25)
    others = plain.state_dict()
    for key, value in deep.state_dict().items():
        parts = key.split(".")
        shrinks = parts[0] == "convolutions" and parts[1] != "0" and parts[2] in scaled
        shrinks = shrinks and parts[3] == "weight"
        torch.testing.assert_close(value, others[key] * (8**-0.25 if shrinks else 1))


@pytest.mark.parametrize("residual", ["after-norm", "before-norm", "rezero", "deepnorm"])
def test_residual_sums_of_convolutions(residual: str) -> None:
    """From the convolutions without residuals and LayerNorm by hand; the first has no sum."""
    model = model_of("sage", layers=3, residual=True, residual_place=residual)
    x = draw(NODES, 3)
    adjacency = gn.Adjacency.from_edge_index(EDGES, NODES)
    want = x
    for number, layer in enumerate(model.convolutions):
        mean = torch.stack(
            [
                want[EDGES[0, EDGES[1] == node]].sum(0) / max(1, int((EDGES[1] == node).sum()))
                for node in range(NODES)
            ]
        )
        y = mean @ layer.linear.weight.T + layer.linear_self(want)

        def norm(z: Tensor) -> Tensor:
            return torch.nn.functional.layer_norm(z, (8,)).relu()

        if number == 0:
            want = norm(y)
        elif residual in ("before-norm", "deepnorm"):
            want = norm(y + (2**0.25 if residual == "deepnorm" else 1) * want)
        else:
            want = want + (0.7 if residual == "rezero" else 1) * norm(y)
    segments = Segments.from_batch(BATCH, 4)
    pooled = torch.stack([want[graph == BATCH].sum(0) for graph in range(4)])
    torch.testing.assert_close(model(x, adjacency, segments), model.head(pooled))
