"""The sum over neighbours × every kind of edges × every mode of PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import graphnorms as gn
from graphnorms.adjacency import Adjacency
from tests.conformance.graphs import Graphs, agree, ops

pytestmark = [
    # torch's own: Dynamo makes an instance of a Function, and forward-mode AD compiles a script.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning"),
]

KINDS = ["plain", "scaled", "weighted", "weighted and scaled", "features"]
CHANNELS = 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def edges(nodes: int, number: int, seed: int = 0) -> Tensor:
    return torch.randint(0, nodes, (2, number), generator=torch.Generator().manual_seed(seed))


def edge_of(kind: str, number: int, seed: int = 1) -> Tensor:
    """What is learned of the edges; an empty tensor that no call reads if that is nothing."""
    if kind == "features":
        return draw(number, CHANNELS, seed=seed)
    return draw(number, seed=seed) if "weighted" in kind else torch.zeros(0)


def call(kind: str, x: Tensor, edge: Tensor, adjacency: Adjacency, backend: str = "auto") -> Tensor:
    scale = 0.5 + torch.arange(x.shape[0]) / x.shape[0] if "scaled" in kind else None
    return gn.aggregate(
        x,
        adjacency,
        self_weight=1.5,
        node_scale=scale,
        backend=backend,
        edge_weight=edge if "weighted" in kind else None,
        edge_features=edge if kind == "features" else None,
    )


def run(function: Callable[..., Tensor], x: Tensor, edge: Tensor, *rest: Any) -> list[Tensor]:
    """The result and the gradients at a random cotangent."""
    inputs = [x.detach().requires_grad_(), edge.detach().requires_grad_(edge.numel() > 0)]
    y = function(*inputs, *rest)
    asked = [tensor for tensor in inputs if tensor.requires_grad]
    return [y.detach(), *torch.autograd.grad(y, asked, draw(*y.shape, seed=2))]


@pytest.mark.parametrize("undirected", [False, True], ids=["directed", "symmetric"])
@pytest.mark.parametrize("kind", KINDS)
def test_compile(kind: str, undirected: bool) -> None:
    torch._dynamo.reset()
    edge_index = edges(20, 50)
    if undirected:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
    x, edge = draw(20, CHANNELS), edge_of(kind, edge_index.shape[1])
    graphs = Graphs()

    def function(x: Tensor, edge: Tensor, adjacency: Adjacency) -> Tensor:
        return call(kind, x, edge, adjacency)

    compiled = torch.compile(function, fullgraph=True, backend=graphs.compile)
    # Each has an adjacency of its own: what is worked out at first use is so in the graph.
    agree(
        run(compiled, x, edge, Adjacency.from_edge_index(edge_index, 20)),
        run(function, x, edge, Adjacency.from_edge_index(edge_index, 20)),
    )
    assert ops(graphs.forward) == ["graphnorms.aggregate.default"]
    with_edges = kind == "features" or "weighted" in kind
    backward = "graphnorms.aggregate_backward" if with_edges else "graphnorms.aggregate"
    assert ops(graphs.backward) == [f"{backward}.default"]


@pytest.mark.parametrize("kind", KINDS)
def test_compile_with_dynamic_shapes(kind: str) -> None:
    torch._dynamo.reset()
    graphs = Graphs()

    def function(x: Tensor, edge: Tensor, adjacency: Adjacency) -> Tensor:
        return call(kind, x, edge, adjacency)

    compiled = torch.compile(function, fullgraph=True, backend=graphs.compile)
    counts = []
    for i, (nodes, number) in enumerate([(20, 50), (33, 71), (12, 30), (20, 50), (50, 90)]):
        adjacency = Adjacency.from_edge_index(edges(nodes, number, i), nodes)
        x, edge = draw(nodes, CHANNELS, seed=i), edge_of(kind, number, i)
        agree(run(compiled, x, edge, adjacency), run(function, x, edge, adjacency))
        counts.append(len(graphs.forward))
    assert counts[2] <= 3
    assert counts[2:] == [counts[2]] * 3, f"compiled {counts} times"


class Convolution(nn.Module):
    """With its graph as buffers, as a model that is exported holds or is given it."""

    def __init__(self, kind: str, edge_index: Tensor, nodes: int) -> None:
        super().__init__()
        self.kind = kind
        adjacency = Adjacency.from_edge_index(edge_index, nodes)
        for name in ("ptr", "index", "order", "transpose_ptr", "transpose_index"):
            self.register_buffer(name, getattr(adjacency, name))

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        adjacency = Adjacency(
            self.ptr,
            self.index,
            self.transpose_ptr,
            self.transpose_index,
            order=self.order,
            validate=False,
        )
        return call(self.kind, x, edge, adjacency)


@pytest.mark.parametrize("kind", KINDS)
def test_export(kind: str) -> None:
    layer = Convolution(kind, edges(20, 50), 20)
    x, edge = draw(20, CHANNELS), edge_of(kind, 50)
    exported = torch.export.export(layer, (x, edge)).module()
    assert ops([exported]) == ["graphnorms.aggregate.default"]
    agree([exported(x, edge)], [layer(x, edge)])


@pytest.mark.parametrize("kind", KINDS)
def test_onnx(kind: str) -> None:
    """Through the reference's operations, run by onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = Convolution(kind, edges(20, 50), 20)
    x, edge = draw(20, CHANNELS), edge_of(kind, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(layer, (x, edge), dynamo=True, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    given = {"x": x.numpy(), "edge": edge.numpy()}
    names = [value.name for value in session.get_inputs()]
    (got,) = session.run(None, {name: given[name] for name in names})
    agree([torch.from_numpy(got)], [layer(x, edge)])


@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(kind: str) -> None:
    """The operators themselves, with their formulas."""
    adjacency = Adjacency.from_edge_index(edges(20, 50), 20)
    x, edge = draw(20, CHANNELS), edge_of(kind, 50)
    given = (
        draw(20, seed=3) if "scaled" in kind else None,
        edge if "weighted" in kind else None,
        edge if kind == "features" else None,
        1.5,
    )
    operators = torch.ops.graphnorms
    edges_ = (
        adjacency.ptr,
        adjacency.index,
        adjacency.order,
        *adjacency.transpose,
        adjacency.transpose_order,
    )
    x.requires_grad_()
    torch.library.opcheck(operators.aggregate.default, (x, *edges_, *given))
    if edge.numel():
        edge.requires_grad_()
        for needs in ([True, True], [True, False], [False, True]):
            torch.library.opcheck(
                operators.aggregate_backward.default,
                (draw(20, CHANNELS, seed=4).requires_grad_(), x, *edges_, *given, needs),
            )


@pytest.mark.parametrize("kind", KINDS)
def test_torch_func_and_forward_mode(kind: str) -> None:
    adjacency = Adjacency.from_edge_index(edges(20, 50), 20)
    x, edge = draw(20, CHANNELS), edge_of(kind, 50)
    grad_y = draw(20, CHANNELS, seed=2)

    def function(x: Tensor, edge: Tensor) -> Tensor:
        return call(kind, x, edge, adjacency)

    y, *grads = run(function, x, edge)
    pulled = torch.func.vjp(function, x, edge)[1](grad_y)
    agree(list(pulled)[: len(grads)], grads)
    agree([torch.func.vmap(function)(x[None], edge[None])[0]], [y])
    _, tangent = torch.func.jvp(function, (x, edge), (draw(*x.shape, seed=5), edge))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, draw(*x.shape, seed=5))
        also = function(dual, forward_ad.make_dual(edge, edge.clone()))
        agree([forward_ad.unpack_dual(also).tangent], [tangent])
    with pytest.raises(gn.BackendRefusedError, match="which needs plain torch"):
        torch.func.vmap(lambda x: call(kind, x, edge, adjacency, "cpu"))(x[None])


@pytest.mark.parametrize("kind", KINDS)
def test_batched_gradients(kind: str) -> None:
    """The vmap behind `is_grads_batched` goes through the operators."""
    adjacency = Adjacency.from_edge_index(edges(20, 50), 20)
    x, edge = draw(20, CHANNELS).requires_grad_(), edge_of(kind, 50)
    inputs = [x, edge.requires_grad_()] if edge.numel() else [x]
    y = call(kind, x, edge, adjacency)
    many = draw(3, 20, CHANNELS, seed=2)
    got = torch.autograd.grad(y, inputs, many, retain_graph=True, is_grads_batched=True)
    for at in range(3):
        one = torch.autograd.grad(y, inputs, many[at], retain_graph=True)
        agree([grad[at] for grad in got], list(one))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_inductor(kind: str) -> None:
    torch._dynamo.reset()
    adjacency = Adjacency.from_edge_index(edges(20, 50), 20)
    x, edge = draw(20, CHANNELS), edge_of(kind, 50)

    def function(x: Tensor, edge: Tensor) -> Tensor:
        return call(kind, x, edge, adjacency)

    agree(run(torch.compile(function, fullgraph=True), x, edge), run(function, x, edge))
