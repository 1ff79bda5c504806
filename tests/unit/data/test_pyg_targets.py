"""PyG's graphs of every task, against PyG's own batches and masks."""

from __future__ import annotations

import importlib
import random
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.data import SplitConfig, from_pyg, split_items
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.errors import DatasetError

NAN = float("nan")


@pytest.fixture(scope="module")
def pyg_datasets() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.datasets")


def item(pyg_data: ModuleType, y: Any, nodes: int = 3, **fields: Any) -> Any:
    edges = torch.tensor([[0, 1], [1, 2]])
    return pyg_data.Data(edge_index=edges, num_nodes=nodes, y=y, **fields)


@pytest.mark.parametrize("undirected", [False, True])
def test_a_dataset_with_edge_features(
    pyg_data: ModuleType, pyg_datasets: ModuleType, undirected: bool
) -> None:
    random.seed(0)
    torch.manual_seed(0)
    dataset = pyg_datasets.FakeDataset(
        num_graphs=12, avg_num_nodes=9, edge_dim=3, num_classes=2, is_undirected=undirected
    )
    graphs = from_pyg(dataset)
    check_graph_set(graphs)
    assert graphs.symmetric == undirected
    assert str(graphs.task) == "graph classification, 2 classes"
    ids = [3, 11, 3]
    theirs = pyg_data.Batch.from_data_list([dataset[graph] for graph in ids])
    ours = graphs.batch(torch.tensor(ids))
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.y, theirs.y)
    # PyG lists the edges by source, we by target and then by source.
    order = (theirs.edge_index[1] * theirs.num_nodes + theirs.edge_index[0]).argsort(stable=True)
    assert ours.edge_features is not None
    assert torch.equal(ours.adjacency.index, theirs.edge_index[0, order])
    assert torch.equal(ours.edge_features, theirs.edge_attr[order])


def test_the_nodes_of_one_graph(pyg_datasets: ModuleType) -> None:
    random.seed(1)
    torch.manual_seed(1)
    dataset = pyg_datasets.FakeDataset(num_graphs=1, avg_num_nodes=60, task="node")
    data = dataset[0]
    # FakeDataset's masks overlap; those of real sets do not.
    part = torch.randint(-1, 3, (data.num_nodes,))
    data.train_mask, data.val_mask, data.test_mask = (part == number for number in range(3))
    for given in (data, [data]):
        graphs = from_pyg(given, "one")
        check_graph_set(graphs)
        assert (len(graphs), graphs.task.level) == (1, "node")
        assert torch.equal(graphs.y, data.y)
        split = split_items(graphs, SplitConfig(kind="given"))
        for mine, mask in (
            (split.train, data.train_mask),
            (split.validation, data.val_mask),
            (split.test, data.test_mask),
        ):
            assert torch.equal(mine, mask.nonzero()[:, 0])
    data.val_mask = None
    assert from_pyg(data).split is None


def test_a_dataset_of_one_graph_is_iterated(pyg_datasets: ModuleType) -> None:
    # Such a Dataset has an edge_index too, and says in a warning that it should not be used.
    random.seed(1)
    dataset = pyg_datasets.FakeDataset(num_graphs=1, avg_num_nodes=20, num_channels=4)
    graphs = from_pyg(dataset)
    assert (len(graphs), graphs.num_features) == (1, 4)


@pytest.mark.parametrize(
    ("targets", "kind", "level", "y"),
    [
        (
            [torch.tensor([[0.5, NAN]]), torch.tensor([[1.0, 2.0]])],
            "regression",
            "graph",
            [[0.5, NAN], [1, 2]],
        ),
        (
            [torch.tensor([[1.0, NAN]]), torch.tensor([[0.0, 1.0]])],
            "binary",
            "graph",
            [[1, NAN], [0, 1]],
        ),
        ([torch.tensor([[1, 0]]), torch.tensor([[0, 0]])], "binary", "graph", [[1, 0], [0, 0]]),
        ([torch.tensor(0.5), torch.tensor([2.0])], "regression", "graph", [[0.5], [2]]),
        ([0.5, 2.0], "regression", "graph", [[0.5], [2]]),
        ([-1, 1], "classification", "graph", [0, 1]),
        ([torch.tensor([[4]]), torch.tensor([[3]])], "classification", "graph", [1, 0]),
        (
            [torch.tensor([2, -1, 5]), torch.tensor([5, 5, 2])],
            "classification",
            "node",
            [0, -1, 1, 1, 1, 0],
        ),
        (
            [torch.tensor([0.5, 1, NAN]), torch.tensor([1.0, 2, 3])],
            "regression",
            "node",
            [[0.5], [1], [NAN], [1], [2], [3]],
        ),
        (
            [torch.eye(3), torch.ones(3, 3)],
            "binary",
            "node",
            [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]],
        ),
    ],
)
def test_what_is_inferred(
    pyg_data: ModuleType, targets: list[Any], kind: str, level: str, y: list[Any]
) -> None:
    graphs = from_pyg([item(pyg_data, target) for target in targets])
    check_graph_set(graphs)
    assert (graphs.task.kind, graphs.task.level) == (kind, level)
    expected = torch.tensor(y, dtype=graphs.y.dtype)
    assert torch.allclose(graphs.y.double(), expected.double(), rtol=0, equal_nan=True)


def test_integers_are_labels_and_floats_attributes(pyg_data: ModuleType) -> None:
    edge_attr = torch.tensor([5, 2])
    integers = [
        item(pyg_data, 0, x=torch.tensor([[6, 0], [7, 0], [6, 1]]), edge_attr=edge_attr),
        item(pyg_data, 1, x=torch.tensor([[8, 0], [8, 0], [8, 0]]), edge_attr=edge_attr),
    ]
    graphs = from_pyg(integers)
    assert (graphs.features, graphs.num_features) == ("one-hot node labels", 5)
    assert graphs.edge_features is not None
    assert graphs.edge_features.tolist() == [[0, 1], [1, 0]] * 2
    numbers = from_pyg(integers, features="attributes", edge_features="attributes")
    assert numbers.x.tolist() == [[6, 0], [7, 0], [6, 1], [8, 0], [8, 0], [8, 0]]
    assert numbers.edge_features is not None
    assert numbers.edge_features.tolist() == [[5], [2]] * 2
    assert from_pyg(integers, edge_features="none").edge_features is None
    floats = [item(pyg_data, 0, edge_attr=torch.ones(2, 1))]
    with pytest.raises(DatasetError, match="no edge labels: ask for edge features attributes, no"):
        from_pyg(floats, edge_features="labels")


def test_a_split_and_a_task_can_be_given(pyg_data: ModuleType) -> None:
    items = [item(pyg_data, y) for y in (3, 4, 5)]
    graphs = from_pyg(items, task="regression", split=[0, 2, 1], split_name="time")
    assert graphs.y.tolist() == [[3], [4], [5]]
    assert graphs.split is not None
    assert (graphs.split.tolist(), graphs.split.dtype) == ([0, 2, 1], torch.int8)
    assert graphs.split_name == "time"
    for split, message in (
        ([0, 1], "split has 2 rows, expected 3"),
        ([0, 1, 3], r"split holds 3, expected 0 \(training\)"),
        (torch.zeros(3, 0), r"split is of shape \(3, 0\), expected \(3,\)"),
    ):
        with pytest.raises(DatasetError, match=message):
            from_pyg(items, split=split)


def masks(*columns: Tensor) -> dict[str, Tensor]:
    return dict(zip(("train_mask", "val_mask", "test_mask"), columns, strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            masks(*torch.ones(3, 3).bool()),
            "graph 0: item 0 is in two of the masks for training, val",
        ),
        (
            masks(*torch.zeros(3, 2).bool()),
            r"graph 0: train_mask has shape \(2,\), expected \(3,\) or \(3, splits\)",
        ),
        ({"edge_attr": torch.full((2,), NAN)}, "the edge from node . to . .* of graph 0 holds nan"),
        ({"edge_attr": [1, 2]}, r"graph 0: edge_attr is a list, expected a tensor \(edges, feat"),
    ],
)
def test_malformed(pyg_data: ModuleType, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        from_pyg([item(pyg_data, torch.tensor([0, 1, 1]), **fields)])
