from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.cpu import aggregate as cpu
from graphnorms.kernels.cpu import extension
from tests.operands import run_aggregate, run_aggregate_backward
from tests.unit.kernels.edges import (
    DTYPES,
    KINDS,
    NODES,
    by_loop,
    check_one_gradient_alone,
    check_sum,
    draw,
    edges,
    quantities,
)


@pytest.mark.parametrize(
    ("graph", "self_weight"), [("symmetric", 2.5), ("directed", 0.0), ("directed", 2.5)]
)
@pytest.mark.parametrize("channels", [1, 7, 16, 64, 200])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_aggregate_is_the_sum_edge_by_edge(
    graph: str, channels: int, kind: str, self_weight: float, dtype: torch.dtype, backend: str
) -> None:
    check_sum(graph, channels, kind, self_weight, dtype, backend)


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["x", "edges"])
@pytest.mark.parametrize("kind", ["weighted", "weighted and scaled", "features"])
def test_one_gradient_alone(kind: str, needs: tuple[bool, bool], backend: str) -> None:
    check_one_gradient_alone(kind, needs, backend)


@pytest.mark.parametrize("graph", ["symmetric", "directed"])
@pytest.mark.parametrize("kind", KINDS)
def test_aggregate_is_twice_differentiable(kind: str, graph: str, backend: str) -> None:
    edge_index = torch.tensor([[0, 4, 1, 1, 2, 2, 3, 5], [1, 0, 2, 2, 2, 0, 1, 5]])
    if graph == "symmetric":
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
    adjacency = Adjacency.from_edge_index(edge_index, 7)
    x = draw(7, 3, dtype=torch.float64).requires_grad_()
    given = quantities(kind, edge_index.shape[1], 3, torch.float64)
    scale = given.pop("node_scale", None)
    names = list(given)

    def call(x: Tensor, *edge: Tensor) -> Tensor:
        arguments: dict[str, Any] = dict(zip(names, edge, strict=True))
        if scale is not None:
            arguments["node_scale"] = scale[:7]
        return gn.aggregate(x, adjacency, self_weight=1.5, backend=backend, **arguments)

    inputs = (x, *(tensor.requires_grad_() for tensor in given.values()))
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("graph", ["symmetric", "directed"])
@pytest.mark.parametrize("kind", ["weighted", "features"])
def test_an_adjacency_of_csr_takes_edges_in_its_order(kind: str, graph: str, backend: str) -> None:
    sorted_edges = Adjacency.from_edge_index(edges(graph), NODES)
    pair = () if sorted_edges.symmetric else sorted_edges.transpose
    adjacency = Adjacency(sorted_edges.ptr, sorted_edges.index, *pair)
    targets = torch.repeat_interleave(torch.arange(NODES), adjacency.in_degree)
    given = quantities(kind, adjacency.num_edges, 5, torch.float64)
    inputs = [draw(NODES, 5, dtype=torch.float64).requires_grad_()]
    inputs += [tensor.requires_grad_() for tensor in given.values()]
    y = gn.aggregate(inputs[0], adjacency, backend=backend, **given)
    expected = by_loop(inputs[0], torch.stack([adjacency.index, targets]), 0.0, **given)
    torch.testing.assert_close(y, expected)
    grad_y = draw(NODES, 5, dtype=torch.float64, seed=5)
    mine = torch.autograd.grad(y, inputs, grad_y)
    torch.testing.assert_close(mine, torch.autograd.grad(expected, inputs, grad_y))


@pytest.mark.parametrize("kind", KINDS)
def test_strided_features_and_gradients(kind: str, backend: str) -> None:
    adjacency = Adjacency.from_edge_index(edges("directed"), NODES)
    given = quantities(kind, adjacency.num_edges, 9, torch.float32)

    def results(stride: bool) -> list[Tensor]:
        def lay(tensor: Tensor) -> Tensor:
            if not stride:
                return tensor.clone()
            if tensor.dim() == 1:
                return tensor.repeat_interleave(3)[::3]
            return torch.cat([tensor, tensor], 1)[:, : tensor.shape[1]]

        arguments = {name: lay(tensor).detach() for name, tensor in given.items()}
        x = lay(draw(NODES, 9)).requires_grad_()
        learned = [t.requires_grad_() for name, t in arguments.items() if name != "node_scale"]
        y = gn.aggregate(x, adjacency, self_weight=1.5, backend=backend, **arguments)
        grad_y = draw(9, NODES, seed=5).t() if stride else draw(9, NODES, seed=5).t().contiguous()
        return [y.detach(), *torch.autograd.grad(y, [x, *learned], grad_y)]

    for strided, plain in zip(results(True), results(False), strict=True):
        assert torch.equal(strided, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_no_edges_and_no_nodes(kind: str, backend: str) -> None:
    for nodes in (3, 0):
        adjacency = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), nodes)
        given = quantities(kind, 0, 2, torch.float32)
        if "node_scale" in given:
            given["node_scale"] = torch.ones(nodes)
        x = torch.ones(nodes, 2, requires_grad=True)
        learned = [t.requires_grad_() for name, t in given.items() if name != "node_scale"]
        y = gn.aggregate(x, adjacency, self_weight=2.0, backend=backend, **given)
        assert y.tolist() == [[2.0, 2.0]] * nodes
        grads = torch.autograd.grad(y, [x, *learned], torch.full_like(y, 3.0))
        assert grads[0].tolist() == [[6.0, 6.0]] * nodes
        assert [grad.shape for grad in grads[1:]] == [tensor.shape for tensor in learned]


def test_nan_stays_with_its_neighbours(backend: str) -> None:
    adjacency = Adjacency.from_edge_index(torch.tensor([[0, 1, 3], [1, 2, 3]]), 4)
    x = torch.zeros(4, 3)
    x[0, 1] = torch.nan
    z = torch.full((3, 3), -1.0)
    z[2, 2] = torch.nan
    y = gn.aggregate(x, adjacency, edge_features=z, backend=backend)
    assert y.isnan().nonzero().tolist() == [[1, 1], [3, 2]]


@pytest.mark.skipif(extension.unavailable() is not None, reason="of the kernels")
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_for_every_number_of_threads(kind: str, threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(0, 3000, (2, 20_000), generator=generator)
    edge_index[1, :4000] = 7  # a hub
    adjacency = Adjacency.from_edge_index(edge_index, 3000)
    given = {
        name: tensor.requires_grad_(name != "node_scale")
        for name, tensor in quantities(kind, 20_000, 24, torch.float32).items()
    }
    if "node_scale" in given:
        given["node_scale"] = draw(3000, seed=2)
    x = draw(3000, 24).requires_grad_()
    grad_y = draw(3000, 24, seed=5)
    learned = [tensor for tensor in given.values() if tensor.requires_grad]
    seen = []
    for number in (1, 2, 3, 8):
        torch.set_num_threads(number)
        y = gn.aggregate(x, adjacency, self_weight=1.0, backend="cpu", **given)
        seen.append([y, *torch.autograd.grad(y, [x, *learned], grad_y)])
    for results in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results, seen[0], strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(3, 2)}, "x has 3 rows, but the adjacency 4 nodes"),
        ({"x": torch.zeros(4, 2).to("meta")}, "x is on meta, but the adjacency is on cpu"),
        (
            {"node_scale": torch.ones(3)},
            r"node_scale is \(3,\) of torch.float32, expected one floating number per node, \(4,\)",
        ),
        ({"node_scale": torch.ones(4).to("meta")}, "node_scale is on meta, but x is on cpu"),
        ({"edge_weight": torch.ones(4)}, r"edge_weight is \(4,\) .* per edge, \(2,\)"),
        ({"edge_weight": torch.ones(2, 1)}, r"edge_weight is \(2, 1\)"),
        ({"edge_weight": torch.ones(2).long()}, r"edge_weight is \(2,\) of torch.int64, expected"),
        ({"edge_weight": torch.ones(2).to("meta")}, "edge_weight is on meta, but x is on cpu"),
        (
            {"edge_features": torch.ones(2, 3)},
            r"edge_features is \(2, 3\), expected one row per edge and as many channels as x, "
            r"\(2, 2\)",
        ),
        ({"edge_features": torch.ones(3, 2)}, r"edge_features is \(3, 2\)"),
        (
            {"edge_features": torch.ones(2, 2).double()},
            "edge_features is torch.float64, but x is torch.float32",
        ),
        ({"edge_features": torch.ones(2, 2).to("meta")}, "edge_features is on meta, but x is on"),
        (
            {"edge_features": torch.ones(2, 2), "node_scale": torch.ones(4)},
            "edge_features is given with node_scale; expected one of the two",
        ),
        (
            {"edge_features": torch.ones(2, 2), "edge_weight": torch.ones(2)},
            "edge_features is given with edge_weight; expected one of the two",
        ),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    adjacency = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 4)
    with pytest.raises(ValueError, match=message):
        gn.aggregate(**({"x": torch.zeros(4, 2), "adjacency": adjacency} | arguments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4, 2).to(torch.float8_e5m2)}, "x is torch.float8_e5m2"),
        ({"ptr": torch.arange(4)}, "ptr is"),
        ({"ptr": torch.zeros(5)}, "ptr is"),
        ({"ptr": torch.tensor([0, 2, 1, 2, 2])}, "ptr does not ascend"),
        ({"ptr": torch.tensor([0, 0, 1, 2, 3])}, "ptr ends behind"),
        ({"index": torch.tensor([0, 4])}, "index has an id outside"),
        ({"index": torch.tensor([0, -1])}, "index has an id outside"),
        ({"order": torch.tensor([0, 2])}, "order has an id outside"),
        ({"index": torch.zeros(2, dtype=torch.int32)}, "index is"),
        ({"index": torch.zeros(4, dtype=torch.int64)[::2]}, "index is"),
        ({"order": torch.zeros(3, dtype=torch.int64)}, "order is"),
        ({"node_scale": torch.ones(3)}, "node_scale is"),
        ({"edge_weight": torch.ones(3)}, "edge_weight is"),
        ({"edge_features": torch.ones(2, 3)}, r"edge_features is \(2, 3\)"),
        ({"edge_features": torch.ones(2, 2).double()}, "edge_features is .* of torch.float64"),
        (
            {"edge_features": torch.ones(2, 2), "node_scale": torch.ones(4)},
            "edge_features is given with",
        ),
    ],
)
def test_wrong_tensors_never_reach_the_kernels(change: dict[str, Any], message: str) -> None:
    good = {
        "x": torch.zeros(4, 2),
        "ptr": torch.tensor([0, 0, 1, 2, 2]),
        "index": torch.tensor([0, 1]),
        "order": None,
        "node_scale": None,
        "edge_weight": None,
        "edge_features": None,
        "self_weight": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        run_aggregate(cpu, **(good | change))
    edge = {} if "edge_features" in change else {"edge_weight": torch.ones(2)}
    backward = {"grad_y": good["x"], "needs": [True, True]} | edge
    if "x" in change:
        backward["grad_y"] = change["x"]
    with pytest.raises(ValueError, match=message):
        run_aggregate_backward(cpu, **(good | backward | change))


def test_a_gradient_that_does_not_fit_never_reaches_the_kernels() -> None:
    x, edges = torch.zeros(4, 2), Edges(torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1]))
    for grad_y in (torch.zeros(3, 2), torch.zeros(4, 2).double()):
        with pytest.raises(ValueError, match="grad_y is"):
            cpu.aggregate_backward(
                grad_y, x, edges, Weights(edge_weight=torch.ones(2)), [True, True]
            )
    with pytest.raises(ValueError, match="either edge_weight or edge_features"):
        cpu.aggregate_backward(x, x, edges, Weights(), [True, True])
