"""Models of the user's own: what they are given, and where their weights come from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms
from graphnorms.data import random_graphs
from graphnorms.models import ModelFactory, NormMaker, OwnModel, OwnModelConfig, build_own
from tests.norms import import_pyg

pyg = import_pyg()
CHANNELS = 6
GRAPHS = random_graphs(5, 7, CHANNELS)


def built(factory: Any, norm: str = "graph", seed: int = 0, **changes: Any) -> OwnModel:
    edges = changes.pop("edge_channels", 0)
    config = OwnModelConfig(name="own:make", source="0", **changes)
    return build_own(
        config, factory, norm, CHANNELS, 2, edge_channels=edges, task="binary", seed=seed
    )


def applied(model: OwnModel) -> Tensor:
    batch = GRAPHS.batch(torch.arange(5))
    edges = None
    if model.edge_channels:
        edges = torch.ones(batch.adjacency.num_edges, model.edge_channels)
    return model(batch.x, batch.adjacency, batch.segments, edges)


class Plain(nn.Module):
    """As PyG's examples are: norms by name, one of them behind the pooling, nothing of ours."""

    def __init__(self, in_channels: int, out_channels: int, hidden: int = 8) -> None:
        super().__init__()
        self.gnn = pyg.GIN(in_channels, hidden, 2, norm="BatchNorm")
        self.after = nn.BatchNorm1d(hidden)
        self.head = nn.Linear(hidden, out_channels)
        nn.init.constant_(self.head.bias, 7.0)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = pyg.global_mean_pool(self.gnn(x, edge_index, batch=batch), batch)
        return self.head(self.after(x))


class Taking(nn.Module):
    """A norm that is called with the batch, and one in a Sequential that cannot be."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormMaker) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(in_channels, 8)
        self.norm = norm(8)
        self.rest = nn.Sequential(nn.Linear(8, 8), norm(8, eps=0.5), nn.ReLU())
        self.head = nn.Linear(8, out_channels)

    def forward(self, data: Any) -> Tensor:
        x = self.norm(self.conv(data.x, data.edge_index), data.batch)
        return self.head(pyg.global_add_pool(self.rest(x), data.batch, data.num_graphs))


def test_norms_of_nodes_are_replaced_and_others_stay() -> None:
    model = built(Plain)
    kinds = [type(part) for part in model.modules()]
    assert kinds.count(graphnorms.GraphNorm) == 1 + 2, "one between the convolutions, two in MLPs"
    assert pyg.BatchNorm not in kinds
    assert type(model.model.after) is nn.BatchNorm1d
    assert applied(model).shape == (5, 2)


def test_a_replaced_model_is_that_with_the_norms_written_into_it() -> None:
    """The batch reaches norms that PyG calls without it."""
    model = built(Plain, "instance").eval()
    batch = GRAPHS.batch(torch.arange(5))
    x, edge_index = batch.x, batch.adjacency.to_edge_index()
    inner = model.model.gnn
    for layer in range(2):
        conv = inner.convs[layer]
        x = x + torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])
        x = conv.nn.lins[0](x)
        x = conv.nn.lins[1](by_hand(x, batch.segments.counts).relu())
        if layer == 0:
            x = by_hand(x, batch.segments.counts).relu()
    pooled = torch.stack([part.mean(0) for part in x.split(batch.segments.counts.tolist())])
    expected = model.model.head(model.model.after(pooled))
    torch.testing.assert_close(applied(model), expected)


def by_hand(x: Tensor, counts: Tensor) -> Tensor:
    parts = x.split(counts.tolist())
    return torch.cat([(p - p.mean(0)) / (p.var(0, correction=0) + 1e-5).sqrt() for p in parts])


@pytest.mark.parametrize("factory", [Plain, Taking])
def test_weights_are_those_of_the_factory_and_the_same_for_all_norms(factory: Any) -> None:
    states = {norm: built(factory, norm).state_dict() for norm in ("none", "batch", "diff-group")}
    state = torch.random.get_rng_state()
    assert_same(states["batch"], built(factory, "batch").state_dict())
    assert torch.equal(torch.random.get_rng_state(), state)
    shared = states["none"].keys()
    assert len(shared) > 4
    for norm in ("batch", "diff-group"):
        assert shared < states[norm].keys()
        assert_same(states["none"], {name: states[norm][name] for name in shared})
    other = built(factory, "none", seed=1).state_dict()
    assert any(not torch.equal(other[name], states["none"][name]) for name in shared)
    if factory is Plain:
        assert states["batch"]["model.head.bias"].tolist() == [7.0, 7.0]


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_batch_reaches_norms_that_are_called_without() -> None:
    model = built(Taking, "instance")
    batch = GRAPHS.batch(torch.arange(5))
    x = model.model.conv(batch.x, batch.adjacency.to_edge_index())
    x = model.model.rest[0](by_hand(x, batch.segments.counts))
    parts = x.split(batch.segments.counts.tolist())
    x = torch.cat([(p - p.mean(0)) / (p.var(0, correction=0) + 0.5).sqrt() for p in parts]).relu()
    pooled = torch.stack([part.sum(0) for part in x.split(batch.segments.counts.tolist())])
    torch.testing.assert_close(applied(model), model.model.head(pooled))


def test_a_model_is_given_what_its_forward_names() -> None:
    batch = GRAPHS.batch(torch.arange(5))
    seen: dict[str, Any] = {}

    class Net(nn.Module):
        def __init__(self, norm: NormMaker) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5, 2))

        def forward(
            self,
            ptr,
            num_nodes,
            num_graphs,
            batch,
            x,
            edge_index,
            edge_attr,
            segments,
            adjacency,
            more=3,
            *,
            batch_size,
        ):
            seen.update(locals())
            return self.weight

    applied(built(lambda norm: Net(norm), edge_channels=3))
    assert seen["x"] is batch.x or torch.equal(seen["x"], batch.x)
    assert (seen["num_nodes"], seen["num_graphs"], seen["batch_size"], seen["more"]) == (
        batch.x.shape[0],
        5,
        5,
        3,
    )
    assert torch.equal(seen["batch"], batch.segments.index)
    assert torch.equal(seen["ptr"], batch.segments.ptr)
    again = graphnorms.Adjacency.from_edge_index(seen["edge_index"], batch.x.shape[0])
    assert torch.equal(again.index, batch.adjacency.index)
    assert torch.equal(again.ptr, batch.adjacency.ptr)
    assert seen["edge_attr"].shape == (batch.adjacency.num_edges, 3)
    assert graphnorms.segments.as_segments(seen["batch"], rows_of=batch.x) is seen["segments"]


def test_inputs_of_a_sequential_of_pyg_and_lazy_parameters() -> None:
    def make(out_channels: int) -> nn.Module:
        return pyg.Sequential(
            "x, edge_index, batch",
            [
                (pyg.GCNConv(-1, 8), "x, edge_index -> x"),
                pyg.BatchNorm(8),
                (pyg.global_add_pool, "x, batch -> x"),
                pyg.Linear(-1, out_channels),
            ],
        )

    first, second = built(make, "batch"), built(make, "pair")
    assert applied(first).shape == (5, 2)
    assert torch.equal(*(m.state_dict()["model.module_0.lin.weight"] for m in (first, second)))


def test_a_factory_is_given_what_it_asks_for() -> None:
    calls: list[dict[str, Any]] = []

    def make(
        in_channels,
        out_channels,
        hidden_channels,
        edge_dim,
        task,
        level,
        norm,
        norm_name,
        layers=9,
        **more,
    ):
        given = locals()
        given.pop("calls")
        calls.append(given)
        return Taking(in_channels, out_channels, norm)

    built(make, "pair:scale=2", hidden=5)
    first = calls[0]
    assert str(first.pop("norm")) == "pair:scale=2"
    assert first == {
        "in_channels": 6,
        "out_channels": 2,
        "hidden_channels": 5,
        "edge_dim": None,
        "task": "binary",
        "level": "graph",
        "norm_name": "pair:scale=2",
        "layers": 9,
        "more": {},
    }
    assert [call["norm_name"] for call in calls[1:]] == ["none"]
    built(make, layers=2, edge_channels=4)
    last = calls[-1]
    assert (last["layers"], last["hidden_channels"], last["edge_dim"]) == (2, 64, 4)


def test_one_number_per_item_may_lack_its_dimension() -> None:
    class Net(Plain):
        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return super().forward(x, edge_index, batch).squeeze(1)

    config = OwnModelConfig(name="own:make", source="0")
    model = build_own(config, Net, "batch", CHANNELS, 1, task="regression", seed=0)
    assert applied(model).shape == (5, 1)


class Wrong(nn.Module):
    def __init__(self, norm: NormMaker, width: int = 2) -> None:
        super().__init__()
        self.norm = norm(CHANNELS)
        self.linear = nn.Linear(CHANNELS, width)


def forwarding(forward: Any, width: int = 2) -> Any:
    return lambda norm: type("Net", (Wrong,), {"forward": forward})(norm, width)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            lambda wide: None,
            "own:make has the argument 'wide', expected some of in_ch",
        ),
        (lambda norm: 3, "own:make returns something of type int, expected a torch.nn.Module"),
        (lambda: nn.Linear(2, 2), "the model of own:make has no norm to replace"),
        (lambda norm: nn.Identity(), "the forward of own:make has the input|no parameters"),
        (
            forwarding(lambda self, x, y: x),
            "has the input 'y', expected some of x",
        ),
        (
            forwarding(lambda self, x, edge_attr: x),
            "needs edge_attr, but edges have no features",
        ),
        (forwarding(lambda self, *all: 0), "own:make has no named inputs"),
        (forwarding(lambda self, x: (x, x)), "something of type tuple, expected a tensor of shape"),
        (
            forwarding(lambda self, x: self.linear(x)),
            r"tensor of shape \(\d+, 2\) for 5 graphs, expected \(5, 2\); does it pool",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(factory: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        applied(built(factory))
    assert "\n" not in str(error.value)


def test_norms_that_need_more_are_refused() -> None:
    with pytest.raises(ValueError, match="the norm 'adja' needs adjacency"):
        built(Taking, "adja")
    with pytest.raises(ValueError, match="'adja' needs adjacency"):
        built(Plain, "adja")


def test_sizes_that_a_factory_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="layers is 3, but own:make takes no layers"):
        built(Plain, layers=3)


def test_a_factory_in_memory_is_called_what_it_calls_itself() -> None:
    factory = ModelFactory.of(Plain)
    assert (factory.name, factory.in_memory) == ("Plain", True)
    assert len(factory.source) == 16
    assert ModelFactory.of(lambda norm: None).name == "lambda"
