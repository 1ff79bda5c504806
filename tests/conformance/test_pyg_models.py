"""PyG's models as they are, with every norm: each call of one against the formula by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from tests.conformance import oracle
from tests.conformance.oracle import EPS
from tests.norms import randomize

WIDTH, NODES = 8, 24
BATCH = (torch.arange(NODES) * 5) % 3  # unsorted
SORTED = BATCH.sort().values
GRAPHS = 3
EDGES = torch.randint(NODES, (2, 60), generator=torch.Generator().manual_seed(0))
X = torch.randn(NODES, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 2


def _grouped(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    parts = x.view(x.shape[0], 2, -1)
    o = parts - parts.mean(dims, keepdim=True)
    return (o / (o.square().mean(dims, keepdim=True) + EPS).sqrt()).view(x.shape)


def _pair(x: Tensor) -> Tensor:
    o = x - x.mean(0)
    return o / (EPS + o.square().sum(1).mean()).sqrt()


def _contra(x: Tensor) -> Tensor:
    unit = x / x.norm(dim=1, keepdim=True)
    return 2 * x - (unit @ unit.T).softmax(1) @ x


def _node(x: Tensor) -> Tensor:
    return x / (x.var(1, unbiased=False, keepdim=True) + EPS).sqrt().sqrt()


def _ada(x: Tensor) -> Tensor:
    z = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + EPS).sqrt()
    return (1 - 0.1 * z) * z


def _custom(x: Tensor) -> Tensor:
    o = x - x.mean(0)
    return o / (o.square().mean(1, keepdim=True) + EPS).sqrt()


def _graph_by_graph(one: Callable[[Tensor], Tensor]) -> oracle.Formula:
    return lambda x, graphs, p, given: oracle.affine(
        oracle.per_graph(x, graphs, lambda graph, _: one(graph)), p
    )


def _at_once(one: Callable[[Tensor], Tensor]) -> oracle.Formula:
    return lambda x, graphs, p, given: oracle.affine(one(x), p)


def _diff_group(x: Tensor, graphs: Any, p: dict[str, Tensor], given: Any) -> Tensor:
    shares = (x @ p["lin.weight"].T).softmax(1)  # (nodes, groups)
    products = (shares.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
    z = products - products.mean(0)
    z = z / (z.square().mean(0) + EPS).sqrt() * p["norm.weight"] + p["norm.bias"]
    return x + 0.01 * z.view(x.shape[0], -1, x.shape[1]).sum(1)


NORMS: dict[str, oracle.Formula] = {
    "none": oracle.identity,
    "batch": oracle.batch_norm,
    "layer": oracle.layer_norm_node,
    "layer-graph": oracle.layer_norm_graph,
    "instance": oracle.instance_norm,
    "graph": oracle.graph_norm,
    "pair": _graph_by_graph(_pair),
    "mean-subtraction": _graph_by_graph(lambda x: x - x.mean(0)),
    "graph-size": _graph_by_graph(lambda x: x / x.shape[0] ** 0.5),
    "diff-group": _diff_group,
    "rms": oracle.rms_norm,
    "group:num_groups=2": _at_once(lambda x: _grouped(x, (2,))),
    "group-graph:num_groups=2": _graph_by_graph(lambda x: _grouped(x, (0, 2))),
    "node": _at_once(_node),
    "ada": _at_once(_ada),
    "power": _at_once(lambda x: x / (x.square().mean(0) + EPS).sqrt()),
    "contra": _graph_by_graph(_contra),
    "qk:heads=2": oracle.qk_norm("layer", 2),
    "dyt": oracle.dyt,
    "derf": oracle.derf,
    "custom:center=graph,scale=node": _graph_by_graph(_custom),
}
OF_THE_BATCH = ("batch", "diff-group", "power")
"""Those that go by running statistics in `eval()`, where the formula is another."""


def test_every_norm_of_the_catalogue_is_in_the_table() -> None:
    assert {name.partition(":")[0] for name in NORMS} == {
        name for name, row in gn.CATALOG.items() if not row.needs
    }


def sequential(pyg: Any) -> nn.Module:
    layers = [
        (pyg.GCNConv(WIDTH, WIDTH), "x, edge_index -> x"),
        nn.BatchNorm1d(WIDTH),  # called with x alone
        (pyg.GraphNorm(WIDTH), "x, batch -> x"),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
    ]
    model: nn.Module = pyg.Sequential("x, edge_index, batch", layers)
    return model


class Deep(nn.Module):
    """As in PyG's examples: the layers call their norms with `x` alone."""

    def __init__(self, pyg: Any, block: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            pyg.DeepGCNLayer(pyg.GCNConv(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU(), block)
            for _ in range(2)
        )

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, edge_index)
        return x


def basic(name: str, norm: str | None, **more: Any) -> Callable[[Any], nn.Module]:
    return lambda pyg: getattr(pyg, name)(WIDTH, WIDTH, 3, WIDTH, norm=norm, **more)


def with_batch(model: nn.Module) -> Any:
    return model(X, EDGES, batch=BATCH, batch_size=GRAPHS)


MODELS: dict[str, tuple[Callable[[Any], nn.Module], Callable[[nn.Module], Any]]] = {
    "GCN": (basic("GCN", "BatchNorm"), with_batch),
    "GCN jk": (basic("GCN", "GraphNorm", jk="cat"), with_batch),
    "GIN": (basic("GIN", "GraphNorm"), with_batch),
    "GAT": (basic("GAT", "LayerNorm", heads=2), with_batch),
    "GraphSAGE": (basic("GraphSAGE", "InstanceNorm"), with_batch),
    "PNA": (
        basic(
            "PNA",
            "BatchNorm",
            aggregators=["mean", "max"],
            scalers=["identity"],
            deg=torch.tensor([1, 5, 9, 9]),
        ),
        with_batch,
    ),
    "MLP": (lambda pyg: pyg.MLP([WIDTH] * 4, norm="BatchNorm"), lambda m: m(X, BATCH, GRAPHS)),
    "GPSConv": (
        lambda pyg: pyg.GPSConv(WIDTH, pyg.GCNConv(WIDTH, WIDTH), norm="batch_norm"),
        lambda m: m(X, EDGES, SORTED),  # the attention takes no other order
    ),
    "DeepGCNLayer res+": (lambda pyg: Deep(pyg, "res+"), lambda m: m(X, EDGES, BATCH)),
    "DeepGCNLayer plain": (lambda pyg: Deep(pyg, "plain"), lambda m: m(X, EDGES, BATCH)),
    "Sequential": (sequential, lambda m: m(X, EDGES, BATCH)),
}


def exchanged(model: nn.Module, norm: str) -> nn.Module:
    """The model with other norms, of random parameters."""
    result = gn.replace_norms(model.double(), norm)
    assert result.changed
    assert not result.left
    for i, change in enumerate(result.changed):
        assert change.new is not None
        randomize(change.new, torch.Generator().manual_seed(i))
    return result.model


def watch(model: nn.Module) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Note what every norm of ours gives, and for what."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, args: Any, y: Tensor) -> None:
        calls.append((module, args[0].detach(), y.detach()))

    norms = [m for m in model.modules() if type(m).__module__.startswith("graphnorms")]
    inside = {id(part) for norm in norms for part in norm.modules() if part is not norm}
    for norm in norms:
        if id(norm) not in inside:
            norm.register_forward_hook(note)
    return calls


def check(
    calls: list[tuple[nn.Module, Tensor, Tensor]], norm: str, batch: Tensor, graphs: int
) -> None:
    assert calls
    for module, x, y in calls:
        parameters = {
            key.removeprefix("module."): value for key, value in module.named_parameters()
        }
        rows = oracle.rows_of(batch, graphs, x.shape[0])
        expected = NORMS[norm](x, rows, parameters, {})
        assert torch.allclose(y, expected, rtol=1e-9, atol=1e-9), type(module).__name__


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODELS)
def test_every_call_is_the_formula(name: str, norm: str) -> None:
    make, call = MODELS[name]
    model = exchanged(make(load()), norm).train()
    calls = watch(model)
    y = call(model)
    batch = SORTED if name == "GPSConv" else BATCH
    check(calls, norm, batch, GRAPHS)
    y.backward(torch.randn_like(y))
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    calls.clear()
    model.eval()
    assert call(model).isfinite().all()
    if norm not in OF_THE_BATCH:
        check(calls, norm, batch, GRAPHS)


@pytest.mark.parametrize("norm", NORMS)
def test_models_with_node_types(norm: str) -> None:
    types = (["a", "b"], [("a", "to", "b"), ("b", "to", "a"), ("a", "to", "a")])
    homogeneous = load().GraphSAGE(WIDTH, WIDTH, 2, norm="BatchNorm", jk="last")
    model = exchanged(load().to_hetero(homogeneous, types), norm).train()
    assert model.norms[0]["a"] is not model.norms[0]["b"]
    x = {"a": X, "b": X[:12].flip(0)}
    batch = {"a": BATCH, "b": BATCH[:12]}
    edges = dict.fromkeys(types[1], EDGES % 12)
    calls = watch(model)
    for give in ("argument", "by hand"):
        if give == "argument":
            model(x, edges, batch=batch)
        else:
            with gn.batch(batch):
                model(x, edges)
        for kind in ("a", "b"):
            mine = [call for call in calls if call[1].shape[0] == x[kind].shape[0]]
            assert len(mine) == 2
            check(mine, norm, batch[kind], GRAPHS)
        calls.clear()


@pytest.mark.parametrize("norm", NORMS)
def test_inference_by_layers(norm: str) -> None:
    """It calls parts of the model: all rows are one graph, and that has to be said."""
    model: Any = exchanged(load().GCN(WIDTH, WIDTH, 2, norm="GraphNorm", jk="last"), norm).eval()
    with gn.batch(None):
        whole = model(X, EDGES)
        calls = watch(model)
        x = X
        for layer in range(2):
            x = model.inference_per_layer(layer, x, EDGES, NODES)
    if norm not in OF_THE_BATCH:
        check(calls, norm, torch.zeros(NODES, dtype=torch.long), 1)
    assert torch.allclose(x, whole)
    if model.norms[0].per_graph:
        with pytest.raises(ValueError, match="called outside of the model"):
            model.inference_per_layer(0, X, EDGES, NODES)


def test_the_states_of_pygs_norms_load_into_ours_in_a_model() -> None:
    """With PyG's kinds exchanged for ours, the checkpoints of the model fit both ways."""
    for name in ("BatchNorm", "GraphNorm", "InstanceNorm", "LayerNorm", "DiffGroupNorm"):
        more = {"norm_kwargs": {"groups": 2}} if name == "DiffGroupNorm" else {}
        theirs = load().GCN(WIDTH, WIDTH, 3, WIDTH, norm=name, **more)
        ours = gn.replace_norms(theirs, "same", inplace=False).model
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for norm in theirs.norms:
            randomize(norm, torch.Generator().manual_seed(0))
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())
        for model in (ours, theirs):
            model.double()
        assert torch.allclose(with_batch(ours), with_batch(theirs), atol=1e-9), name


@pytest.mark.parametrize("norm", ["pair", "graph-size", "mean-subtraction", "diff-group"])
def test_norms_resolved_by_us_stand_in_pygs_models(norm: str) -> None:
    """PyG itself gives PairNorm the width for its scale, and refuses two others by name."""
    model = load().GCN(WIDTH, WIDTH, 3, WIDTH, norm=gn.resolve_norm(norm, WIDTH)).double()
    calls = watch(model)
    with_batch(model)
    check(calls, norm, BATCH, GRAPHS)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("name", "norm"), [("GCN", "graph"), ("GIN", "batch"), ("MLP", "pair")])
def test_compiled_without_a_break(name: str, norm: str) -> None:
    torch._dynamo.reset()
    make, call = MODELS[name]
    model = exchanged(make(load()), norm)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    y, expected = call(compiled), call(model)
    assert torch.allclose(y, expected)
    grad_y = torch.randn_like(y)
    for result in (y, expected):
        model.zero_grad()
        result.backward(grad_y)
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        if result is y:
            compiled_gradients = gradients
    for a, b in zip(compiled_gradients, gradients, strict=True):
        assert torch.allclose(a, b)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("norm", ["graph", "batch", "layer-graph"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_compiled(name: str, norm: str) -> None:
    """Some of PyG's own models are not one graph; what can be compiled is."""
    torch._dynamo.reset()
    make, call = MODELS[name]
    model = exchanged(make(load()), norm).eval()
    expected = call(model)
    assert torch.allclose(call(torch.compile(model, backend="eager")), expected)
