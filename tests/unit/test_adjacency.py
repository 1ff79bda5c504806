from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphnorms.adjacency import Adjacency


def edges_of(ptr: Tensor, index: Tensor) -> list[tuple[int, int]]:
    """The entries (row, column) of a CSR pair, row by row."""
    return [
        (row, int(column))
        for row in range(len(ptr) - 1)
        for column in index[ptr[row] : ptr[row + 1]]
    ]


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    nodes = draw(st.integers(1, 6))
    node = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=12))
    if draw(st.booleans()):
        edges += [(target, source) for source, target in edges]
    return nodes, edges


@settings(deadline=None)  # a busy machine is no defect
@given(edge_lists())
def test_from_edge_index_sorts_stably_and_finds_symmetry(
    case: tuple[int, list[tuple[int, int]]],
) -> None:
    nodes, edges = case
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
    adjacency = Adjacency.from_edge_index(edge_index, nodes)

    by_target = sorted(((t, s) for s, t in edges), key=lambda edge: edge[0])
    assert edges_of(adjacency.ptr, adjacency.index) == by_target
    assert adjacency.symmetric == (sorted(edges) == sorted((t, s) for s, t in edges))
    if adjacency.symmetric:
        assert adjacency.transpose_ptr is adjacency.ptr
        assert adjacency.transpose_index is adjacency.index
        assert sorted(edges_of(*adjacency.transpose)) == sorted(edges)
    else:
        by_source = sorted(edges, key=lambda edge: edge[0])
        assert edges_of(*adjacency.transpose) == by_source
    assert (adjacency.num_nodes, adjacency.num_edges) == (nodes, len(edges))
    assert adjacency.in_degree.tolist() == [
        sum(target == node for _, target in edges) for node in range(nodes)
    ]
    assert adjacency.in_degree is adjacency.in_degree
    # The numbers of the edges say where each stands, in the graph and in its transpose.
    numbers = range(len(edges)) if adjacency.order is None else adjacency.order.tolist()
    assert [edges[number][::-1] for number in numbers] == by_target
    assert sorted(adjacency.transpose_order.tolist()) == list(range(len(edges)))
    assert [edges[number] for number in adjacency.transpose_order] == edges_of(*adjacency.transpose)
    assert adjacency.transpose_order is adjacency.transpose_order
    # What it makes passes the checks for what others make.
    pair = () if adjacency.symmetric else adjacency.transpose
    orders = {"order": adjacency.order, "transpose_order": adjacency.transpose_order}
    Adjacency(adjacency.ptr, adjacency.index, *pair, **orders)
    # A transpose whose order nobody knew gets one as right.
    derived = Adjacency(adjacency.ptr, adjacency.index, *pair, order=adjacency.order)
    orders["transpose_order"] = derived.transpose_order
    Adjacency(adjacency.ptr, adjacency.index, *pair, **orders)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int64])
def test_integer_dtypes_are_taken(dtype: torch.dtype) -> None:
    adjacency = Adjacency.from_edge_index(torch.tensor([[2, 0], [1, 1]], dtype=dtype), 3)
    assert adjacency.ptr.tolist() == [0, 0, 2, 2]
    assert adjacency.index.tolist() == [2, 0]
    assert adjacency.index.dtype == adjacency.transpose_index.dtype == torch.int64


def test_no_nodes_and_no_edges() -> None:
    adjacency = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 0)
    assert adjacency.symmetric
    assert adjacency.ptr.tolist() == [0]
    assert adjacency.in_degree.shape == (0,)


def test_parallel_edges_make_a_graph_directed_unless_they_are_mirrored() -> None:
    twice = torch.tensor([[0, 0, 1], [1, 1, 0]])
    assert not Adjacency.from_edge_index(twice, 2).symmetric
    assert Adjacency.from_edge_index(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]), 2).symmetric


@pytest.mark.parametrize(
    ("edge_index", "num_nodes", "message"),
    [
        (torch.tensor([[0, 7], [1, 0]]), 3, r"edge_index holds node id 7, expected ids in 0 … 2"),
        (torch.tensor([[0, -2], [1, 0]]), 3, r"edge_index holds node id -2"),
        (torch.tensor([[0], [0]]), 0, r"node id 0, expected ids in none"),
        (torch.tensor([[0.0], [0.0]]), 1, r"edge_index is torch.float32, expected integers"),
        (torch.tensor([[True], [True]]), 2, r"edge_index is torch.bool, expected integers"),
        (torch.tensor([[0, 1, 2]]), 3, r"edge_index has shape \(1, 3\), expected \(2, edges\)"),
        (torch.tensor([0, 1]), 3, r"edge_index has shape \(2,\), expected \(2, edges\)"),
        (torch.empty(2, 0, dtype=torch.int64), -1, r"num_nodes is -1, expected 0 or more"),
    ],
)
def test_bad_edge_index(edge_index: Tensor, num_nodes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adjacency.from_edge_index(edge_index, num_nodes)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((ints(), ints()), "ptr is empty, expected nodes"),
        ((ints(0, 1).int(), ints(0)), r"ptr is torch.int32 of shape \(2,\), expected torch.int64"),
        ((ints(0, 1), ints(0)[None]), r"index is torch.int64 of shape \(1, 1\)"),
        ((ints(0, 2), ints(0)), "ptr ends with 2, expected the number of edges 1"),
        ((ints(1, 1), ints(0)), "ptr begins with 1, expected 0"),
        ((ints(0, 2, 1), ints(0)), "ptr does not ascend: 2 is followed by 1 at position 2"),
        ((ints(0, 1), ints(4)), "index holds node id 4, expected ids in 0 … 0"),
        ((ints(0, 1), ints(-1)), "index holds node id -1"),
        ((ints(0, 0, 1), ints(0)), "the graph is not symmetric; pass its transpose"),
        ((ints(0, 0, 1), ints(0), ints(0, 1, 1)), "given together"),
        ((ints(0, 0, 1), ints(0), ints(0, 1), ints(0)), "the transpose has 1 nodes and 1 edges"),
        ((ints(0, 0, 1), ints(0), ints(0, 0, 1), ints(0)), "have other edges"),
        ((ints(0, 0, 1), ints(0), ints(0, 1, 1), ints(2)), "transpose_index holds node id 2"),
    ],
)
def test_bad_tensors(tensors: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adjacency(*tensors)


def test_validation_can_be_left_out() -> None:
    assert Adjacency(ints(0, 0, 1), ints(0), validate=False).symmetric


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"order": ints(0, 1)}, "order has 2 numbers, expected one for each of the 3 edges"),
        ({"order": ints(0, 1, 2).int()}, r"order is torch.int32 of shape \(3,\), expected"),
        ({"order": ints(0, 1, 2).to("meta")}, "ptr is on cpu and order on meta"),
        ({"order": ints(0, 1, 1)}, "order does not hold each of the numbers 0 … 2 once"),
        ({"transpose_order": ints(0, 1, 3)}, "transpose_order does not hold each of the numbers"),
        ({"transpose_order": ints(0, 1, 2)}, "is not consistent with index"),
        (
            {"order": ints(1, 0, 2), "transpose_order": ints(1, 0, 2)},
            "consistent with order;",
        ),
    ],
)
def test_bad_orders(orders: dict[str, Tensor], message: str) -> None:
    good = {"order": ints(1, 0, 2), "transpose_order": ints(0, 1, 2)}
    Adjacency(ints(0, 1, 3, 3), ints(1, 0, 1), **good)
    with pytest.raises(ValueError, match=message):
        Adjacency(ints(0, 1, 3, 3), ints(1, 0, 1), **orders)


def test_edges_that_are_sorted_have_no_order() -> None:
    assert Adjacency.from_edge_index(torch.tensor([[1, 0, 1], [0, 1, 1]]), 3).order is None
    assert Adjacency.from_edge_index(torch.tensor([[1, 0], [1, 0]]), 2).order is not None


def test_tensors_on_two_devices() -> None:
    with pytest.raises(ValueError, match="ptr is on cpu and index on meta; expected one device"):
        Adjacency(ints(0, 1), ints(0).to("meta"))


@pytest.mark.parametrize("edges", [[[0, 1], [1, 0]], [[1, 0], [0, 1]], [[0, 1], [1, 2]]])
def test_moving_keeps_what_it_is(edges: list[list[int]]) -> None:
    adjacency = Adjacency.from_edge_index(torch.tensor(edges), 3)
    assert adjacency.to("cpu") is adjacency
    moved = adjacency.to("meta")
    assert moved.device.type == "meta"
    assert moved.symmetric == adjacency.symmetric
    assert (moved.transpose_index is moved.index) == adjacency.symmetric
    assert (moved.num_nodes, moved.num_edges) == (3, 2)
    assert (moved.order is None) == (adjacency.order is None)


def test_repr() -> None:
    adjacency = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 3)
    assert repr(adjacency) == "Adjacency(3 nodes, 2 edges, symmetric)"


def test_edge_index_comes_back_in_the_order_of_its_edges() -> None:
    edge_index = torch.tensor([[3, 0, 1, 2, 0, 3], [0, 2, 0, 2, 2, 1]])
    assert torch.equal(Adjacency.from_edge_index(edge_index, 5).to_edge_index(), edge_index)
    assert Adjacency.from_edge_index(edge_index[:, :0], 5).to_edge_index().shape == (2, 0)


def test_degrees_of_a_trace_or_a_transform_are_not_kept() -> None:
    """A compiled GCN was compiled again when it saw a batch for the second time."""
    adjacency = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
    x = torch.ones(3)

    def summed(x: Tensor) -> Tensor:
        return (x * adjacency.in_degree).sum()

    compiled = torch.compile(summed, backend="eager")
    for stance in ("default", "fail_on_recompile"):
        with torch.compiler.set_stance(stance):
            assert compiled(x) == 2
    torch.func.grad(summed)(x)
    with torch.inference_mode():
        summed(x)
    assert not adjacency.in_degree.is_inference()
    assert adjacency.in_degree.numpy().tolist() == [0, 1, 1]  # no wrapper of the transform's
