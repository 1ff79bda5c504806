from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import waiting
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphBatch, GraphSet, Task, random_graphs
from graphnorms.data.batch import send
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.kernels.cpu import extension


@pytest.fixture(scope="module", params=["extension", "torch"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to form a batch: the extension's, and the one where it is missing."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(extension, "unavailable", lambda: "not here")
        elif extension.unavailable() is not None:
            pytest.skip("no extension")
        yield


# A graph by hand: number of nodes, and its edges (source, target).
Hand = tuple[int, list[tuple[int, int]]]


def pack_by_hand(graphs: list[Hand], features: int = 2) -> tuple[GraphSet, list[Tensor]]:
    """A set of such graphs with recognizable features, and those features graph by graph."""
    sizes = [nodes for nodes, _ in graphs]
    ptr = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    x = torch.arange(float(ptr[-1] * features)).view(-1, features)
    edges = [
        (source + start, target + start)
        for start, (_, pairs) in zip(ptr, graphs, strict=False)
        for source, target in pairs
    ]
    packed = np.array(edges, dtype=np.int64).reshape(-1, 2)
    raw = RawGraphs(
        name="hand",
        ptr=ptr,
        source=packed[:, 0],
        target=packed[:, 1],
        y=np.arange(len(graphs)) % 3,
        attributes=x.numpy(),
    )
    return raw._packed(Reading(features="attributes")), list(x.split(sizes))


def batch_by_hand(graphs: list[Hand], rows: list[Tensor], ids: list[int]) -> dict[str, Any]:
    """What a minibatch of some graphs has to hold, one graph after the other."""
    offset, ptr, edges = 0, [0], []
    for graph in ids:
        nodes, pairs = graphs[graph]
        edges += [(source + offset, target + offset) for source, target in pairs]
        offset += nodes
        ptr.append(offset)
    return {
        "x": torch.cat([rows[graph] for graph in ids]) if ids else torch.empty(0, 2),
        "ptr": ptr,
        "by target": sorted((target, source) for source, target in edges),
        "by source": sorted(edges),
        "longest": max([graphs[graph][0] for graph in ids], default=0),
    }


def entries(ptr: Tensor, index: Tensor) -> list[tuple[int, int]]:
    row = torch.repeat_interleave(ptr.diff())
    return list(zip(row.tolist(), index.tolist(), strict=True))


def check_batch(batch: GraphBatch, expected: dict[str, Any], y: list[int]) -> None:
    assert torch.equal(batch.x, expected["x"])
    assert batch.y.tolist() == y
    assert batch.num_graphs == len(y)
    assert batch.segments.ptr.tolist() == expected["ptr"]
    assert batch.segments.num_rows == expected["ptr"][-1]
    assert batch.segments.longest == expected["longest"]
    assert batch.segments.order is None
    assert batch.segments.index.tolist() == [
        graph
        for graph in range(len(y))
        for _ in range(expected["ptr"][graph], expected["ptr"][graph + 1])
    ]
    adjacency = batch.adjacency
    assert entries(adjacency.ptr, adjacency.index) == expected["by target"]
    assert entries(*adjacency.transpose) == expected["by source"]
    pair = () if adjacency.symmetric else adjacency.transpose
    Adjacency(adjacency.ptr, adjacency.index, *pair, validate=True)


@st.composite
def hand_graphs(draw: st.DrawFn) -> tuple[list[Hand], list[int]]:
    """Graphs with few nodes, or none; no edges, loops and parallel edges among them; and ids."""
    undirected = draw(st.booleans())
    graphs: list[Hand] = []
    for nodes in draw(st.lists(st.integers(0, 4), min_size=1, max_size=6)):
        node = st.integers(0, max(nodes - 1, 0))
        pairs = draw(st.lists(st.tuples(node, node), max_size=5)) if nodes else []
        if undirected:
            pairs = pairs + [(target, source) for source, target in pairs]
        graphs.append((nodes, pairs))
    return graphs, draw(st.lists(st.integers(0, len(graphs) - 1), max_size=8))


@settings(deadline=None)  # a busy machine is no defect
@given(hand_graphs())
def test_batch_and_subset_equal_the_slow_construction(case: tuple[list[Hand], list[int]]) -> None:
    graphs, ids = case
    packed, rows = pack_by_hand(graphs)
    every_edge_mirrored = all(
        sorted(pairs) == sorted((target, source) for source, target in pairs) for _, pairs in graphs
    )
    assert packed.symmetric == every_edge_mirrored
    check_graph_set(packed)

    expected = batch_by_hand(graphs, rows, ids)
    y = packed.y[ids].tolist()
    chosen = torch.tensor(ids, dtype=torch.int64)
    check_batch(packed.batch(chosen), expected, y)

    subset = packed.subset(chosen)
    check_graph_set(subset)
    assert subset.symmetric == packed.symmetric
    assert subset.class_names == packed.class_names
    check_batch(subset.batch(torch.arange(len(ids))), expected, y)


def test_batch_equals_pyg(
    mutag: GraphSet, take_apart: Callable[..., Any], pyg_data: ModuleType
) -> None:
    apart = take_apart(mutag)
    data = [
        pyg_data.Data(x=x, edge_index=torch.tensor(edges).t(), y=torch.tensor([y]))
        for _, edges, x, y in apart
    ]
    ids = torch.randperm(len(mutag), generator=torch.Generator().manual_seed(0))[:128]
    theirs = pyg_data.Batch.from_data_list([data[graph] for graph in ids.tolist()])
    ours = mutag.batch(ids)
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.y, theirs.y)
    assert torch.equal(ours.segments.ptr, theirs.ptr)
    assert torch.equal(ours.segments.index, theirs.batch)
    order = (theirs.edge_index[1] * theirs.num_nodes + theirs.edge_index[0]).argsort()
    expected = Adjacency.from_edge_index(theirs.edge_index[:, order], theirs.num_nodes)
    assert torch.equal(ours.adjacency.ptr, expected.ptr)
    assert torch.equal(ours.adjacency.index, expected.index)
    assert ours.adjacency.symmetric
    assert expected.symmetric


def test_batch_does_not_share_memory_with_the_set(mutag: GraphSet) -> None:
    before = mutag.subset(range(len(mutag)))
    batch = mutag.batch(torch.arange(len(mutag)))
    for tensor in (
        batch.x,
        batch.y,
        batch.adjacency.ptr,
        batch.adjacency.index,
        batch.segments.ptr,
    ):
        tensor.zero_()
    for name in ("x", "y", "ptr", "edge_ptr", "edge_index"):
        assert torch.equal(getattr(mutag, name), getattr(before, name))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_ids_of_other_integer_types(mutag: GraphSet, dtype: torch.dtype) -> None:
    batch = mutag.batch(torch.tensor([4, 2], dtype=dtype))
    assert torch.equal(batch.x, mutag.batch(torch.tensor([4, 2])).x)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3, 188], "graph_ids holds 188, expected ids in 0 … 187"),
        ([-1], "graph_ids holds -1, expected ids in 0 … 187"),
        ([[0]], r"graph_ids is \(1, 1\) of torch.int64, expected a vector of integers"),
        ([0.5], r"graph_ids is \(1,\) of torch.float32"),
        ([True], r"graph_ids is \(1,\) of torch.bool"),
    ],
)
def test_bad_ids(mutag: GraphSet, ids: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mutag.batch(torch.tensor(ids))
    with pytest.raises(ValueError, match=message):
        mutag.subset(ids)


def test_a_set_without_graphs(mutag: GraphSet) -> None:
    empty = mutag.subset([])
    assert len(empty) == empty.num_nodes == empty.num_edges == 0
    assert empty.num_features == 7
    assert empty.class_counts == (0, 0)
    assert len(empty.fingerprint) == 16
    assert empty.batch(torch.tensor([], dtype=torch.int64)).num_graphs == 0
    with pytest.raises(ValueError, match="graph_ids holds 0, expected none: the set is empty"):
        empty.batch(torch.tensor([0]))


@pytest.mark.parametrize("move", [copy.deepcopy, lambda graphs: pickle.loads(pickle.dumps(graphs))])
def test_copies_stay_symmetric(mutag: GraphSet, move: Callable[[GraphSet], GraphSet]) -> None:
    moved = move(mutag)
    assert moved.symmetric
    assert moved.fingerprint == mutag.fingerprint
    assert torch.equal(moved.batch(torch.tensor([5])).x, mutag.batch(torch.tensor([5])).x)


def test_fingerprint_follows_the_content() -> None:
    graphs = random_graphs(5, seed=1)
    again = random_graphs(5, seed=1)
    assert graphs.fingerprint == again.fingerprint
    assert len(graphs.fingerprint) == 16
    int(graphs.fingerprint, 16)

    def changed(**tensors: Any) -> str:
        fields = {
            name: getattr(graphs, name)
            for name in ("x", "ptr", "edge_ptr", "edge_index", "y", "task")
        }
        return GraphSet(name="other name", features="?", **(fields | tensors)).fingerprint

    assert changed() == graphs.fingerprint
    x = graphs.x.clone()
    x[3, 0] += 1
    fingerprints = {
        graphs.fingerprint,
        changed(x=x),
        changed(y=1 - graphs.y),
        changed(task=classes("a", "b", "c")),
        graphs.subset([0, 1, 2, 3]).fingerprint,
        graphs.subset([4, 3, 2, 1, 0]).fingerprint,
        random_graphs(5, seed=2).fingerprint,
    }
    assert len(fingerprints) == 7


def test_fingerprint_tells_an_edge_from_its_reverse() -> None:
    forward, _ = pack_by_hand([(2, [(0, 1)])])
    backward, _ = pack_by_hand([(2, [(1, 0)])])
    both, _ = pack_by_hand([(2, [(0, 1), (1, 0)])])
    assert len({forward.fingerprint, backward.fingerprint, both.fingerprint}) == 3


def test_repr(mutag: GraphSet) -> None:
    assert repr(mutag) == (
        "GraphSet('MUTAG': 188 graphs, 3371 nodes, 7442 edges (symmetric), "
        "7 features (one-hot node labels), 2 classes)"
    )


def classes(*names: str) -> Task:
    return Task(kind="classification", targets=names)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# Two graphs: an edge 0-1 in the first, a single node in the second.
GOOD: dict[str, Any] = {
    "name": "good",
    "x": torch.zeros(3, 2),
    "ptr": ints(0, 2, 3),
    "edge_ptr": ints(0, 1, 2, 2),
    "edge_index": ints(1, 0),
    "y": ints(0, 1),
    "task": classes("no", "yes"),
    "features": "zeros",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3)}, r"x is torch.float32 of shape \(3,\), expected torch.float32 with"),
        ({"x": torch.zeros(3, 2, dtype=torch.float64)}, "x is torch.float64"),
        ({"y": torch.zeros(2)}, "y is torch.float32 .* expected torch.int64 with 1 dimension$"),
        ({"y": ints(0, 2)}, "y holds class 2, expected 0 … 1, for there are 2 classes, or -1"),
        ({"y": ints(0, -2)}, "y holds class -2"),
        ({"y": ints(0)}, "y has 1 row, expected 2: one for each of the graphs"),
        ({"ptr": ints(0, 2, 2)}, "ptr goes from 0 to 2, expected offsets from 0 to 3"),
        ({"ptr": ints(0, 4, 3)}, "ptr does not ascend: 4 is followed by 3 at position 2"),
        ({"edge_ptr": ints(0, 1, 2)}, "edge_ptr has 3 entries, expected 4"),
        ({"edge_ptr": ints(0, 2, 1, 2)}, "edge_ptr does not ascend"),
        ({"edge_index": ints(1, 2)}, "edge_index holds 2 at 1, but that edge's graph has 2 nodes"),
        ({"edge_index": ints(-1, 0)}, "edge_index holds -1 at 0"),
        ({"edge_index": ints(1, 1)}, "the graph is not symmetric"),
        ({"transpose_ptr": ints(0, 1, 2, 2)}, "given together"),
        (
            {"transpose_ptr": ints(0, 1, 2, 2), "transpose_index": ints(1, 1)},
            "transpose_ptr and transpose_index have other edges",
        ),
        ({"y": ints(0, 1).to("meta")}, "y is on meta and x on cpu"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    GraphSet(**GOOD)
    with pytest.raises(ValueError, match=message):
        GraphSet(**(GOOD | change))


@pytest.mark.parametrize("block", [1, 1000, 1 << 18])
def test_a_late_fault_is_found_where_it_is(
    block: int, mutag: GraphSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphnorms.data.graphset_checks._BLOCK", block)
    given = mutag._arguments()
    GraphSet(**given)
    last = mutag.num_edges - 1
    index, ptr = mutag.edge_index.clone(), mutag.edge_ptr.clone()
    index[last] = 99
    with pytest.raises(ValueError, match=rf"edge_index holds 99 at {last}, but .* 16 nodes"):
        GraphSet(**(given | {"edge_index": index}))
    index[last] = index[last - 1] ^ 1
    with pytest.raises(ValueError, match="the graph is not symmetric"):
        GraphSet(**(given | {"edge_index": index}))
    ptr[-2] = last + 2
    with pytest.raises(ValueError, match=rf"by {last + 1} at position {mutag.num_nodes}"):
        GraphSet(**(given | {"edge_ptr": ptr}))


def test_send_keeps_values_and_shapes() -> None:
    tensors = (torch.arange(3), torch.arange(8).view(2, 4).t(), torch.empty(2, 0).long())
    sent = send(tensors, torch.device("cpu"))
    for before, after in zip(tensors, sent, strict=True):
        assert torch.equal(before, after)


def test_moving_a_set_where_it_is(mutag: GraphSet) -> None:
    assert mutag.to("cpu") is mutag
    moved = mutag.to("meta")
    assert moved.device.type == "meta"
    assert moved.symmetric
    assert (len(moved), moved.num_features) == (188, 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("directed", [False, True])
def test_batch_on_a_gpu(mutag: GraphSet, directed: bool) -> None:
    graphs = pack_by_hand([(3, [(0, 1), (2, 1)]), (1, [])])[0] if directed else mutag
    there = graphs.to("cuda")
    assert there.fingerprint == graphs.fingerprint
    ids = torch.tensor([1, 0, 1])
    here = graphs.batch(ids)
    there.batch(ids)  # the table of the gather is made once, and that may read
    with waiting.refused():
        from_host = there.batch(ids)
    for batch in (from_host, there.batch(ids.cuda())):
        assert torch.equal(batch.x.cpu(), here.x)
        assert torch.equal(batch.y.cpu(), here.y)
        assert torch.equal(batch.segments.ptr.cpu(), here.segments.ptr)
        assert torch.equal(batch.adjacency.index.cpu(), here.adjacency.index)
        assert torch.equal(batch.adjacency.transpose_ptr.cpu(), here.adjacency.transpose_ptr)
        assert batch.segments.longest == here.segments.longest
