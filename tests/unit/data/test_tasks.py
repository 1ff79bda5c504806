"""Graph sets of every task: targets of graphs and of nodes, known and unknown, and their split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphnorms.data import GraphSet, Task, random_graphs, read_npz, save_npz
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.tasks import make_targets
from graphnorms.errors import DatasetError
from graphnorms.kernels.cpu import extension

NAN = float("nan")


@pytest.fixture(params=["extension", "torch"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to form a batch."""
    if request.param == "torch":
        monkeypatch.setattr(extension, "unavailable", lambda: "not here")
    elif extension.unavailable() is not None:
        pytest.skip("no extension")


def made(kind: str, level: str = "graph", outputs: int = 3, **changes: Any) -> GraphSet:
    """Twelve graphs with targets of some kind, some of them not known."""
    graphs = random_graphs(12, mean_nodes=6, num_features=4, seed=5)
    items = graphs.num_nodes if level == "node" else len(graphs)
    draw = torch.Generator().manual_seed(6)
    if kind == "classification":
        y = torch.randint(-1, outputs, (items,), generator=draw)
    else:
        y = torch.randn(items, outputs, generator=draw)
        y = (y > 0).float() if kind == "binary" else y
        y[1::4] = NAN
        y[0, 0] = NAN
    task = Task(kind=kind, level=level, targets=tuple(map(str, range(outputs))))
    split = torch.randint(-1, 3, (items,), generator=draw).to(torch.int8)
    base = graphs._with(y=y, task=task, split=split)
    return base._with(**changes)


def same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("level", ["graph", "node"])
@pytest.mark.parametrize("kind", ["classification", "binary", "regression"])
def test_batches_and_subsets_carry_the_targets(kind: str, level: str) -> None:
    graphs = made(kind, level)
    GraphSet(
        **{  # validates
            name: getattr(graphs, name)
            for name in (
                "name",
                "x",
                "ptr",
                "edge_ptr",
                "edge_index",
                "y",
                "task",
                "features",
                "split",
            )
        }
    )
    ids = [4, 0, 4, 11]
    begins = graphs.ptr.tolist()
    nodes = [node for graph in ids for node in range(begins[graph], begins[graph + 1])]
    assert graphs.node_ids(ids).tolist() == nodes
    items = nodes if level == "node" else ids
    assert graphs.num_items == (graphs.num_nodes if level == "node" else 12)
    batch = graphs.batch(torch.tensor(ids))
    assert batch.num_graphs == 4
    assert batch.y.dtype == graphs.y.dtype
    assert same(batch.y, graphs.y[items])
    assert same(batch.x, graphs.x[nodes])
    subset = graphs.subset(ids)
    assert (len(subset), subset.task, subset.split_name) == (4, graphs.task, "given")
    assert same(subset.y, graphs.y[items])
    assert subset.split is not None
    assert graphs.split is not None
    assert subset.split.tolist() == graphs.split[items].tolist()
    assert subset.num_outputs == 3
    assert graphs.to("meta").task == graphs.task


def test_what_is_known() -> None:
    classes = made("classification")
    assert classes.known.tolist() == [number >= 0 for number in classes.y.tolist()]
    counts = [classes.y.tolist().count(number) for number in range(3)]
    assert list(classes.class_counts) == counts
    assert sum(counts) < 12
    numbers = made("regression")
    # The first has two of its three numbers; every fourth from the second on has none.
    assert numbers.known.tolist() == [number % 4 != 1 for number in range(12)]
    assert (numbers.class_names, numbers.num_classes, numbers.class_counts) == ((), 0, ())


def test_fingerprint_follows_task_and_split() -> None:
    graphs = made("binary")
    node = Task(kind="classification", level="node", targets=("a", "b", "c"))
    y = graphs.y.clone()
    y[3, 1] = 1 - y[3, 1]
    sets = [
        graphs,
        graphs._with(task=Task(kind="regression", targets=("0", "1", "2"))),
        graphs._with(split=None),
        graphs._with(split=torch.zeros(12, dtype=torch.int8)),
        graphs._with(y=y),
        graphs._with(task=node),
        graphs._with(task=Task(kind="classification", targets=("a", "b", "c"))),
    ]
    assert len({each.fingerprint for each in sets}) == len(sets)
    renamed = graphs._with(
        name="other", split_name="other", task=Task(kind="binary", targets=("x", "y", "z"))
    )
    assert renamed.fingerprint == graphs.fingerprint


def test_words() -> None:
    graphs = made("classification", "node", name="mine", split_name="scaffold")
    lines = graphs.describe().splitlines()
    counts = ", ".join(f"{number}: {count}" for number, count in enumerate(graphs.class_counts))
    unknown = int((graphs.y < 0).sum())
    most = max(range(3), key=graphs.class_counts.__getitem__)
    counts += f"; most frequent: {most}, {max(graphs.class_counts) / sum(graphs.class_counts):.1%}"
    assert lines[0] == (
        f"task: node classification, 3 classes ({counts}); {unknown} nodes without a target"
    )
    assert graphs.split is not None
    parts = [int((graphs.split == part).sum()) for part in range(3)]
    assert lines[1] == (
        "node features: node attributes (4 columns); edge features: none; "
        f"split: scaffold ({parts[0]} training, {parts[1]} validation, {parts[2]} test)"
    )
    assert len(lines) == 2
    assert repr(graphs).endswith(
        "4 features (node attributes), node classification, 3 classes, scaffold split)"
    )
    y = torch.tensor([[1.0], [0.0], [0.0], [NAN]] * 3)
    one = made("binary", outputs=1, y=y, split=None)
    assert one.describe().splitlines()[0] == (
        "task: graph classification, yes or no (33.3% yes, 25.0% of the answers missing); "
        "3 graphs without a target"
    )
    numbers = made("regression", outputs=1, y=torch.tensor([[1.0], [3.0]] * 6), split=None)
    assert numbers.describe() == (
        "task: graph regression, a number (0: mean 2, standard deviation 1)\n"
        "node features: node attributes (4 columns); edge features: none; split: none given"
    )


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("classification", {"y": torch.zeros(12)}, "y is torch.float32 .* expected torch.int64"),
        (
            "classification",
            {"y": torch.full((12,), 3)},
            "y holds class 3, expected 0 … 2, for",
        ),
        ("binary", {"y": torch.full((12, 3), 0.5)}, "y holds 0.5, expected 0, 1 or NaN"),
        ("binary", {"y": torch.zeros(12)}, r"y is torch.float32 of shape \(12,\), expected .* 2 d"),
        ("binary", {"y": torch.zeros(12, 2)}, "y has 2 columns, expected 3: one for each target"),
        ("regression", {"y": torch.zeros(12, 3).long()}, "y is torch.int64 .* torch.float32"),
        ("regression", {"y": torch.full((12, 3), -torch.inf)}, "y holds -inf, expected finite"),
        ("regression", {"y": torch.zeros(11, 3)}, "y has 11 rows, expected 12: .* of the graphs"),
        ("regression", {"split": torch.zeros(12)}, "split is torch.float32 .* torch.int8"),
        (
            "regression",
            {"split": torch.zeros(11, dtype=torch.int8)},
            "split has 11 rows, expected 12: one for each of the items",
        ),
        ("regression", {"split": torch.full((12,), 3).to(torch.int8)}, "split holds 3, expected 0"),
        (
            "regression",
            {"task": Task(kind="regression", level="node", targets=("a", "b", "c"))},
            "y has 12 rows, expected [0-9]+: one for each of the nodes",
        ),
    ],
)
def test_tensors_that_do_not_fit(kind: str, change: dict[str, Any], message: str) -> None:
    from graphnorms.data.graphset_checks import check_graph_set

    check_graph_set(made(kind))
    with pytest.raises(ValueError, match=message):
        check_graph_set(made(kind, **change))


@pytest.mark.parametrize("y", [[16777216.0, 16777217.0], [1e8 + 1, 1e8 + 2], [0.1, 1e30]])
def test_numbers_keep_what_float32_does_not_hold(y: list[float], tmp_path: Path) -> None:
    """Through a reader, a file and every operation on the set."""
    values, task = make_targets("regression", y=np.array(y), level="graph")
    assert values.tolist() == [[number] for number in y]
    graphs = random_graphs(2, 3).with_targets(values, task)
    check_graph_set(graphs)
    save_npz(graphs, tmp_path / "set.npz")
    again = read_npz(tmp_path / "set.npz")
    assert torch.equal(again.y, values)
    assert again.fingerprint == graphs.fingerprint
    assert graphs.batch(torch.tensor([1])).y.tolist() == [[y[1]]]
    assert graphs.subset([1, 0]).y.tolist() == [[y[1]], [y[0]]]


def test_numbers_that_float32_holds_are_as_before() -> None:
    y = np.array([[0.5, np.nan], [16777216.0, -3.0]])
    values, _ = make_targets("regression", y=y, level="graph")
    assert values.dtype == torch.float32
    np.testing.assert_array_equal(values.numpy(), y)
    for number in (np.inf, 1e300):
        with pytest.raises(DatasetError, match=r"not finite|beyond float32"):
            make_targets("regression", y=np.array([1.0, number]), level="graph")
