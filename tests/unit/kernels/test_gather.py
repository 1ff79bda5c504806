from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphBatch, GraphSet, Task
from graphnorms.data.onehot import OneHot
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.cpu.gather import gather

pytestmark = pytest.mark.skipif(extension.unavailable() is not None, reason="of the extension")

GRAPHS = 200
TASK = Task(kind="classification", targets=("a", "b", "c"))


def packed(x: Tensor | OneHot, directed: bool) -> GraphSet:
    """Graphs of 0 to 40 nodes, loops and parallel edges among their edges."""
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 41, (GRAPHS,), generator=draw)
    ptr = torch.cat([torch.zeros(1).long(), counts.cumsum(0)])
    first = torch.repeat_interleave(ptr[:-1], counts)  # (nodes,)
    source = torch.randint(0, int(ptr[-1]), (9000,), generator=draw)
    width = torch.repeat_interleave(counts, counts)[source]
    target = first[source] + (torch.rand(9000, generator=draw) * width).long()
    edge_index = torch.stack([source, target])
    if not directed:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
    adjacency = Adjacency.from_edge_index(edge_index, int(ptr[-1]))
    transpose = {}
    if directed:
        transpose = {
            "transpose_ptr": adjacency.transpose_ptr,
            "transpose_index": adjacency.transpose_index - first[adjacency.transpose_index],
        }
    return GraphSet(
        name="packed",
        x=x.index_select(0, torch.arange(int(ptr[-1]))),
        ptr=ptr,
        edge_ptr=adjacency.ptr,
        edge_index=adjacency.index - first[adjacency.index],
        y=torch.arange(GRAPHS) % 3,
        task=TASK,
        features="any",
        **transpose,
    )


def parts(batch: GraphBatch) -> list[Tensor]:
    segments, adjacency = batch.segments, batch.adjacency
    return [
        batch.x,
        batch.y,
        segments.ptr,
        segments.index,
        torch.tensor(segments.longest),
        torch.tensor(segments.num_rows),
        adjacency.ptr,
        adjacency.index,
        *adjacency.transpose,
    ]


def features(width: int) -> Tensor | OneHot:
    generator = torch.Generator().manual_seed(1)
    if not width:
        return torch.randn(GRAPHS * 40, 5, generator=generator)
    column = torch.randint(0, width - 3, (GRAPHS * 40,), generator=generator)
    return OneHot.from_blocks([(column, width - 3), (column % 3, 3)])


@pytest.mark.parametrize("directed", [False, True], ids=["symmetric", "directed"])
@pytest.mark.parametrize("width", [0, 7, 300, 40_000], ids=lambda width: f"{width} columns")
def test_a_batch_is_that_of_the_tensor_operations(
    width: int, directed: bool, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = packed(features(width), directed)
    assert graphs.symmetric != directed
    number = 8 if width > 1000 else 150
    draw = torch.Generator().manual_seed(2)
    for ids in (torch.randint(0, GRAPHS, (number,), generator=draw), torch.zeros(0).long()):
        with monkeypatch.context() as patch:
            patch.setattr(extension, "unavailable", lambda: "not here")
            expected = parts(graphs.batch(ids))
        for count in (1, 3):
            torch.set_num_threads(count)
            batch = graphs.batch(ids)
            assert batch.adjacency.symmetric != directed
            for mine, theirs in zip(parts(batch), expected, strict=True):
                assert mine.dtype == theirs.dtype
                assert torch.equal(mine, theirs)


def test_a_set_of_strided_tensors() -> None:
    x = torch.randn(3, 8)[:, ::2]
    graphs = GraphSet(
        name="strided",
        x=x,
        ptr=torch.tensor([0, 2, 3]),
        edge_ptr=torch.tensor([0, 1, 2, 2]),
        edge_index=torch.tensor([1, 5, 0, 5])[::2],
        y=torch.tensor([0, 0]),
        task=TASK,
        features="any",
    )
    assert torch.equal(graphs.batch(torch.tensor([1, 0])).x, x[[2, 0, 1]])


PTR, INDEX = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0])
GOOD: dict[str, Any] = {
    "table": torch.tensor([[0, 2], [0, 2], [2, 1], [2, 0]]),
    "x": torch.zeros(3, 4),
    "width": 4,
    "edges": (PTR, INDEX),
    "transpose": None,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 5)}, r"x is \(3, 5\) of torch.float32"),
        ({"x": torch.zeros(3, 4).double()}, "x is .* of torch.float64"),
        ({"x": torch.zeros(3)}, r"x is \(3,\)"),
        ({"x": torch.zeros(4, 3).t()}, "expected contiguous"),
        ({"table": torch.zeros(3, 2).long()}, r"table is \(3, 2\), expected \(4, graphs\)"),
        ({"table": torch.zeros(4, 2)}, "table is .* of torch.float32"),
        ({"table": torch.tensor([[2], [0], [2], [2]])}, "a graph of the table lies outside"),
        ({"table": torch.tensor([[0], [1], [2], [2]])}, "a graph of the table lies outside"),
        ({"table": torch.tensor([[-1], [0], [1], [0]])}, "a graph of the table lies outside"),
        ({"edges": (PTR[:-1], INDEX)}, "edge_ptr is"),
        ({"edges": (PTR, INDEX.int())}, "edge_index is"),
        ({"transpose": (PTR, INDEX[:1])}, "transpose_index is"),
    ],
)
def test_wrong_tensors_never_reach_the_kernels(change: dict[str, Any], message: str) -> None:
    assert gather(**GOOD).edges[1].tolist() == [1, 0]
    with pytest.raises(ValueError, match=message):
        gather(**(GOOD | change))
