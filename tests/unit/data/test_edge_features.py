"""Edge features: gathered in the order of a batch's edges, and found again by its transpose."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests import waiting
from torch import Tensor

from graphnorms import aggregate
from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphSet, random_graphs
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.onehot import OneHot
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.kernels.cpu import extension


@pytest.fixture(params=["extension", "torch"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to form a batch."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(extension, "unavailable", lambda: "not here")
        elif extension.unavailable() is not None:
            pytest.skip("no extension")
        yield


def source_and_target(graphs: GraphSet) -> tuple[Tensor, Tensor]:
    """The edges as node ids through the set, in the order of `edge_index`."""
    target = torch.repeat_interleave(graphs.edge_ptr.diff())
    first = torch.repeat_interleave(graphs.ptr[:-1], graphs.ptr.diff())
    return graphs.edge_index + first[target], target


def directed(graphs: GraphSet) -> GraphSet:
    """The same graphs without a third of their edges, and with some of them twice."""
    source, target = (ids.numpy() for ids in source_and_target(graphs))
    keep = np.random.default_rng(0).choice([0, 1, 1, 2], len(source))
    return RawGraphs(
        name="directed",
        ptr=graphs.ptr.numpy(),
        source=np.repeat(source, keep),
        target=np.repeat(target, keep),
        y=graphs.y.numpy(),
        attributes=graphs.x.numpy(),
    ).pack(Reading(features="attributes"))


@pytest.fixture(params=["symmetric", "directed"])
def bare(request: pytest.FixtureRequest) -> GraphSet:
    graphs = random_graphs(40, mean_nodes=12, num_features=5, seed=3)
    return graphs if request.param == "symmetric" else directed(graphs)


@pytest.fixture(params=["dense", "one-hot"])
def graphs(request: pytest.FixtureRequest, bare: GraphSet) -> GraphSet:
    draw = torch.Generator().manual_seed(1)
    if request.param == "dense":
        return bare._with(edge_features=torch.randn(bare.num_edges, 3, generator=draw))
    columns = [torch.randint(0, width, (bare.num_edges,), generator=draw) for width in (4, 2)]
    return bare._with(edge_features=OneHot.from_blocks([(columns[0], 4), (columns[1], 2)]))


def as_pyg(graphs: GraphSet, pyg_data: ModuleType) -> list[Any]:
    """Each graph as PyG has it."""
    source, target = source_and_target(graphs)
    features = graphs.edge_features
    assert features is not None
    items = []
    for graph in range(len(graphs)):
        begin, end = graphs.ptr[graph : graph + 2].tolist()
        here = slice(int(graphs.edge_ptr[begin]), int(graphs.edge_ptr[end]))
        items.append(
            pyg_data.Data(
                x=graphs.x[begin:end],
                edge_index=torch.stack([source[here], target[here]]) - begin,
                edge_attr=features[here],
                y=graphs.y[graph : graph + 1],
            )
        )
    return items


def test_batch_equals_pyg(graphs: GraphSet, pyg_data: ModuleType) -> None:
    ids = torch.tensor([7, 3, 3, 39, 0, 12])
    items = as_pyg(graphs, pyg_data)
    theirs = pyg_data.Batch.from_data_list([items[graph] for graph in ids.tolist()])
    ours = graphs.batch(ids)
    assert ours.num_graphs == 6
    assert torch.equal(ours.x, theirs.x)
    assert ours.edge_features is not None
    assert torch.equal(ours.edge_features, theirs.edge_attr)
    rows = torch.repeat_interleave(ours.adjacency.ptr.diff())
    assert torch.equal(torch.stack([ours.adjacency.index, rows]), theirs.edge_index)
    subset = graphs.subset(ids)
    check_graph_set(subset)
    assert subset.edge_features is not None
    assert torch.equal(subset.edge_features, theirs.edge_attr)


def test_the_transpose_finds_the_edges(graphs: GraphSet) -> None:
    for ids in ([5, 5, 2, 30], list(range(40)), []):
        adjacency = graphs.batch(torch.tensor(ids, dtype=torch.int64)).adjacency
        order = adjacency._transpose_order
        assert order is not None, "sorted anew for every batch"
        pair = () if adjacency.symmetric else adjacency.transpose
        Adjacency(adjacency.ptr, adjacency.index, *pair, transpose_order=order)  # checks it


def test_gradients_of_the_sum_of_gine(graphs: GraphSet) -> None:
    batch = graphs.batch(torch.tensor([8, 1, 1, 22]))
    assert batch.edge_features is not None
    draw = torch.Generator().manual_seed(2)
    channels = 6
    weight = torch.randn(graphs.num_edge_features, channels, generator=draw).double()
    x = torch.randn(batch.x.shape[0], channels, generator=draw).double()
    cotangent = torch.randn(x.shape, generator=draw).double()

    def gradients(ours: bool) -> tuple[Tensor, ...]:
        nodes = x.clone().requires_grad_()
        edges = (batch.edge_features.double() @ weight).requires_grad_()  # type: ignore[union-attr]
        if ours:
            y = aggregate(nodes, batch.adjacency, edge_features=edges)
        else:
            rows = torch.repeat_interleave(batch.adjacency.ptr.diff())
            messages = torch.relu(nodes[batch.adjacency.index] + edges)
            y = torch.zeros_like(nodes).index_add(0, rows, messages)
        return y.detach(), *torch.autograd.grad(y, (nodes, edges), cotangent)

    for mine, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def test_kept_once_and_compact(graphs: GraphSet) -> None:
    kept = graphs.kept_edge_features
    if isinstance(kept, OneHot):
        assert kept.columns.nbytes == 2 * graphs.num_edges
    assert graphs.edge_features is not None
    assert graphs.edge_features.shape == (graphs.num_edges, graphs.num_edge_features)
    moved = graphs.to("meta")
    assert moved.num_edge_features == graphs.num_edge_features
    graphs.batch(torch.tensor([0]))
    again = pickle.loads(pickle.dumps(graphs))
    assert again.fingerprint == graphs.fingerprint
    assert torch.equal(again.edge_features, graphs.edge_features)
    assert graphs.describe().splitlines()[1].count(
        "edge features: one-hot edge labels (6 colu"
    ) == (isinstance(kept, OneHot))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batch_on_a_gpu(graphs: GraphSet) -> None:
    there = graphs.to("cuda")
    assert there.fingerprint == graphs.fingerprint
    ids = torch.tensor([7, 3, 3, 39])
    here = graphs.batch(ids)
    there.batch(ids)  # the order of the transpose is made once, and that may read
    with waiting.refused():
        batch = there.batch(ids)
    assert batch.edge_features is not None
    assert here.edge_features is not None
    assert torch.equal(batch.edge_features.cpu(), here.edge_features)
    assert torch.equal(batch.adjacency.transpose_order.cpu(), here.adjacency.transpose_order)


def test_fingerprint_includes_them(bare: GraphSet) -> None:
    features = torch.zeros(bare.num_edges, 2)
    other = features.clone()
    other[3, 1] = 1
    sets = [bare, *(bare._with(edge_features=x) for x in (features, other, features[:, :1]))]
    assert len({graphs.fingerprint for graphs in sets}) == 4
    # However they are kept.
    columns = torch.zeros(bare.num_edges, 1, dtype=torch.uint8)
    dense = torch.zeros(bare.num_edges, 2)
    dense[:, 0] = 1
    one, two = (bare._with(edge_features=x) for x in (OneHot(columns, 2), dense))
    assert one.fingerprint == two.fingerprint


def test_a_set_without_any(bare: GraphSet) -> None:
    assert bare.edge_features is None
    assert bare.num_edge_features == 0
    batch = bare.batch(torch.tensor([1]))
    assert batch.edge_features is None
    assert batch.adjacency._transpose_order is None


@pytest.mark.parametrize(
    ("edge_features", "message"),
    [
        (torch.zeros(3), r"edge_features is torch.float32 of shape \(3,\), expected"),
        (torch.zeros(3, 2).double(), "edge_features is torch.float64"),
        (torch.zeros(3, 2), "edge_features has 3 rows, expected 2: one for each of the edges"),
        (torch.zeros(2, 2, device="meta"), "edge_features is on meta and x on cpu"),
        (OneHot(torch.tensor([[0], [3]], dtype=torch.uint8), 3), "columns holds 3, expected"),
    ],
)
def test_tensors_that_do_not_fit(edge_features: Any, message: str) -> None:
    pair = random_graphs(1, mean_nodes=3, num_features=1).subset([])
    assert pair.num_edges == 0
    arguments: dict[str, Any] = {
        "name": "bad",
        "x": torch.zeros(2, 1),
        "ptr": torch.tensor([0, 2]),
        "edge_ptr": torch.tensor([0, 1, 2]),
        "edge_index": torch.tensor([1, 0]),
        "y": torch.tensor([0]),
        "task": pair.task,
        "features": "zeros",
    }
    GraphSet(**arguments)
    with pytest.raises(ValueError, match=message):
        GraphSet(**arguments, edge_features=edge_features)
