"""Rows read past the maps of a large folder: those of the set in memory, or an error."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphBatch, GraphSet, Task, array_files
from graphnorms.data.onehot import OneHot
from graphnorms.errors import DatasetError
from graphnorms.kernels.cpu import extension

pytestmark = pytest.mark.skipif(extension.unavailable() is not None, reason="of the extension")

GRAPHS = 300


@pytest.fixture(autouse=True)
def no_small_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "MOST_RESIDENT", 0)


def some_graphs(x: Tensor | OneHot, edge_features: Tensor | OneHot | None) -> GraphSet:
    """Graphs of 0 to 30 nodes, most of them directed, in which some nodes have no edges."""
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 31, (GRAPHS,), generator=draw)
    ptr = torch.cat([torch.zeros(1).long(), counts.cumsum(0)])
    first = torch.repeat_interleave(ptr[:-1], counts)  # (nodes,)
    source = torch.randint(0, int(ptr[-1]), (7000,), generator=draw)
    width = torch.repeat_interleave(counts, counts)[source]
    target = first[source] + (torch.rand(7000, generator=draw) * width).long()
    adjacency = Adjacency.from_edge_index(torch.stack([source, target]), int(ptr[-1]))
    return GraphSet(
        name="some",
        x=x.index_select(0, torch.arange(int(ptr[-1]))),
        ptr=ptr,
        edge_ptr=adjacency.ptr,
        edge_index=adjacency.index - first[adjacency.index],
        transpose_ptr=adjacency.transpose_ptr,
        transpose_index=adjacency.transpose_index - first[adjacency.transpose_index],
        edge_features=edge_features,
        y=torch.arange(GRAPHS) % 3,
        task=Task(kind="classification", targets=("a", "b", "c")),
        features="any",
    )


def features(rows: int, width: int) -> Tensor | OneHot:
    draw = torch.Generator().manual_seed(rows)
    if not width:
        return torch.randn(rows, 700, generator=draw)  # more than a page to a node
    column = torch.randint(0, width - 3, (rows,), generator=draw)
    return OneHot.from_blocks([(column, width - 3), (column % 3, 3)])


def parts(batch: GraphBatch) -> Iterator[Tensor | None]:
    edges = batch.adjacency
    yield from (batch.x, batch.segments.ptr, edges.ptr, edges.index, *edges.transpose)
    yield batch.edge_features
    yield None if batch.edge_features is None else edges.transpose_order


def same(one: GraphBatch, other: GraphBatch) -> bool:
    pairs = zip(parts(one), parts(other), strict=True)
    return all(
        a is b is None or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs
    )


def choices() -> list[Tensor]:
    """In order, in reverse, with gaps near and far, shuffled, some of them twice, and none."""
    draw = torch.Generator().manual_seed(1)
    every = torch.arange(GRAPHS)
    shuffled = torch.randperm(GRAPHS, generator=draw)
    twice = torch.randint(0, GRAPHS, (2 * GRAPHS,), generator=draw)
    return [every, every.flip(0), every[::2], every[::37], shuffled[:50], twice, every[:0]]


def forget(folder: Path) -> None:
    """Have the system drop the files from its cache, where it can."""
    for path in folder.iterdir() if hasattr(os, "posix_fadvise") else ():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("edge_width", [None, 0, 7], ids=lambda width: f"edges {width}")
@pytest.mark.parametrize("width", [0, 7, 300, 40_000], ids=lambda width: f"{width} columns")
def test_rows_are_those_in_memory(
    width: int, edge_width: int | None, tmp_path: Path, threads: None
) -> None:
    of_edges = None if edge_width is None else features(7000, edge_width)
    graphs = some_graphs(features(GRAPHS * 30, width), of_edges)
    graphs.save(tmp_path / "set")
    packed = GraphSet.open(tmp_path / "set")
    for count in (1, 3):
        torch.set_num_threads(count)
        for ids in choices():
            ids = ids[:40] if width > 1000 else ids
            forget(tmp_path / "set")
            assert same(packed.batch(ids), graphs.batch(ids))


def test_a_file_that_is_cut_off_while_it_is_open(tmp_path: Path) -> None:
    some_graphs(features(GRAPHS * 30, 0), None).save(tmp_path / "set")
    packed = GraphSet.open(tmp_path / "set")
    path = tmp_path / "set" / "x.npy"
    before = path.stat().st_size
    os.truncate(path, before - 5)
    packed.batch(torch.arange(100))
    with pytest.raises(DatasetError) as found:
        packed.batch(torch.arange(GRAPHS))
    words = f"x.npy: {before - 5} bytes, expected {before} as when it was opened"
    assert words in str(found.value)
    assert "pack the set again" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    some_graphs(features(GRAPHS * 30, 7), None).save(tmp_path / "set")
    packed = GraphSet.open(tmp_path / "set")
    assert packed.files is not None
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, packed.files._descriptors["edge_index"])
    os.close(folder)
    with pytest.raises(DatasetError, match=r"edge_index\.npy: cannot be read at byte \d+: Is a"):
        packed.batch(torch.arange(9))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_processes_read_beside_one_another(tmp_path: Path) -> None:
    graphs = some_graphs(features(GRAPHS * 30, 0), features(7000, 7))
    graphs.save(tmp_path / "set")
    packed = GraphSet.open(tmp_path / "set")
    batches = choices()[4].split(10) * 20
    children = []
    for turn in range(2):
        child = os.fork()
        if not child:
            mine = packed if turn else GraphSet.open(tmp_path / "set")
            right = all(same(mine.batch(ids), graphs.batch(ids)) for ids in batches)
            os._exit(0 if right else 1)
        children.append(child)
    assert all(same(packed.batch(ids), graphs.batch(ids)) for ids in batches)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux tells")
def test_files_are_closed(tmp_path: Path) -> None:
    some_graphs(features(GRAPHS * 30, 7), None).save(tmp_path / "set")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    packed = GraphSet.open(tmp_path / "set")
    assert len(os.listdir("/proc/self/fd")) > before
    del packed
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


TABLE = torch.tensor([[0, 2], [0, 2], [2, 1], [2, 0]])
OUT = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("table", "source"),
    [
        (TABLE[:3], (0, OUT)),
        (TABLE.int(), (0, OUT)),
        (TABLE, (-1, OUT)),
        (TABLE, (2**63 - 8, OUT)),
        (TABLE, (0, OUT[:2])),
        (TABLE, (0, torch.zeros(2, 3).t())),
        (TABLE, (0, torch.zeros(()))),
        (TABLE, (0, OUT.bool())),
        (TABLE, (0, None)),
    ],
)
def test_what_does_not_fit_is_not_read(table: Tensor, source: tuple[int, Any]) -> None:
    offset, out = source
    assert extension.kernels().read_rows(table, 3, 2, [(-1, offset, out, False)], 1) is None


@pytest.mark.parametrize(
    "table",
    [
        TABLE + torch.tensor([[1], [0], [0], [0]]),
        TABLE + torch.tensor([[0], [0], [0], [1]]),
        TABLE - torch.tensor([[0], [1], [0], [0]]),
        torch.tensor([[0, 0], [0, 0], [2**62, 2**62], [0, 0]]),
    ],
)
def test_graphs_outside_the_files_are_not_read(table: Tensor) -> None:
    with pytest.raises(ValueError, match="a graph of the table lies outside the set"):
        extension.kernels().read_rows(table, 3, 2, [(-1, 0, OUT, False)], 1)
    assert extension.kernels().read_rows(TABLE, 3, 2, [(-1, 0, OUT, False)], 1)[0] == 0
