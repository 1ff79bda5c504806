"""Packed folders: the set on disk is the set in memory."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms import cli
from graphnorms.data import (
    GraphBatch,
    GraphSet,
    Task,
    array_files,
    from_pyg,
    load_dataset,
    pack,
)
from graphnorms.data.readers import streamed
from graphnorms.errors import DatasetError
from graphnorms.kernels.cpu import extension


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every folder past its maps, and hold few graphs of a stream."""
    monkeypatch.setattr(array_files, "MOST_RESIDENT", 0)
    monkeypatch.setattr(streamed, "_NODES", 100)


@pytest.fixture(scope="module")
def atoms() -> GraphSet:
    return load_dataset("clusters").subset(range(40))


@pytest.fixture(scope="module")
def molecules() -> GraphSet:
    return load_dataset("nci5k").subset(range(100))


def directed() -> GraphSet:
    """Two graphs, of which the second is directed, and one without edges."""
    return GraphSet(
        name="directed",
        x=torch.arange(12, dtype=torch.float32).view(6, 2),
        ptr=torch.tensor([0, 2, 5, 6]),
        edge_ptr=torch.tensor([0, 1, 2, 3, 4, 4, 4]),
        edge_index=torch.tensor([1, 0, 2, 0]),
        transpose_ptr=torch.tensor([0, 1, 2, 3, 3, 4, 4]),
        transpose_index=torch.tensor([1, 0, 1, 0]),
        edge_features=torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
        y=torch.tensor([[0.5], [torch.nan], [2.0]]),
        task=Task(kind="regression", targets=("t",), unit="eV"),
        features="numbers",
        split=torch.tensor([0, 1, 2], dtype=torch.int8),
    )


def tensors(batch: GraphBatch) -> Iterator[torch.Tensor]:
    edges = batch.adjacency
    yield from (batch.x, batch.y, batch.segments.ptr, edges.ptr, edges.index, *edges.transpose)
    if batch.edge_features is not None:
        yield from (batch.edge_features, edges.transpose_order)
    if batch.atoms is not None:
        yield from batch.atoms.tensors().values()


def equal(one: GraphSet, other: GraphSet) -> None:
    order = torch.randperm(len(one), generator=torch.Generator().manual_seed(0))
    for ids in order.split(max(1, len(one) // 3)):
        pairs = zip(tensors(one.batch(ids)), tensors(other.batch(ids)), strict=True)
        for mine, its in pairs:
            assert mine.dtype == its.dtype
            assert torch.equal(mine.nan_to_num(), its.nan_to_num())


def resident_of(folder: Path) -> int:
    """Return how many KiB of a folder's files this process holds; 0 where the system is silent."""
    smaps = Path("/proc/self/smaps")
    resident, mine = 0, False
    for line in smaps.read_text().splitlines() if smaps.exists() else ():
        if not line.split()[0].endswith(":"):
            mine = f"{folder}{os.sep}" in line
        elif mine and line.startswith("Rss:"):
            resident += int(line.split()[1])
    return resident


@pytest.mark.parametrize("kind", ["mutag", "molecules", "atoms", "directed"])
def test_minibatches_are_the_same(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    graphs = directed() if kind == "directed" else request.getfixturevalue(kind)
    graphs.save(tmp_path / "new" / "set")
    packed = GraphSet.open(tmp_path / "new" / "set", verify=True)
    assert repr(packed) == repr(graphs)
    assert packed.describe() == graphs.describe()
    assert packed.fingerprint == graphs.fingerprint
    assert (packed.columns, packed.edge_columns) == (graphs.columns, graphs.edge_columns)
    equal(graphs, packed)
    packed.release()
    equal(graphs, packed)
    if extension.unavailable() is None:
        assert resident_of(tmp_path / "new" / "set") == 0
    other: dict[str, Any] = {"y": graphs.y + 1}
    if graphs.atoms is not None:
        other["forces"] = graphs.atoms.forces + 1
    equal(graphs.with_targets(**other), packed.with_targets(**other))
    others = graphs.x * 2
    equal(graphs.with_features(others, "twice"), packed.with_features(others, "twice"))
    equal(graphs.subset([1, 0]), packed.subset([1, 0]))
    text = pickle.dumps(packed)
    assert len(text) < 4000  # names of files in place of arrays
    equal(graphs, pickle.loads(text))
    loaded = GraphSet.open(tmp_path / "new" / "set", mapped=False)
    assert loaded.files is None
    equal(graphs, loaded)


def test_without_the_extension(
    tmp_path: Path, molecules: GraphSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    molecules.save(tmp_path / "set")
    monkeypatch.setattr("graphnorms.data.batch.extension.unavailable", lambda: "left out")
    packed = GraphSet.open(tmp_path / "set")
    equal(molecules, packed)
    assert resident_of(tmp_path / "set") == 0


def test_the_maps_of_a_small_folder_are_read(
    tmp_path: Path, molecules: GraphSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "MOST_RESIDENT", 1 << 28)
    molecules.save(tmp_path / "set")
    packed = GraphSet.open(tmp_path / "set")
    assert packed.files is not None
    monkeypatch.setattr(packed.files, "read", None)
    equal(molecules, packed)
    assert resident_of(tmp_path / "set") > 0 or sys.platform != "linux"


def test_one_graph_is_not_copied(tmp_path: Path) -> None:
    whole = directed().subset([1])
    batch = whole.batch(torch.tensor([0]))
    assert batch.x is whole.kept_x
    assert batch.adjacency.index is whole.edge_index
    assert batch.adjacency.transpose[1] is whole.transpose_index
    assert batch.segments.counts.tolist() == [3]
    with pytest.raises(ValueError, match="holds 1"):
        whole.batch(torch.tensor([1]))


def graph(k: int, kind: str, make: Any) -> Any:
    """A graph whose last ones have labels that the first do not have, loops and repeated edges."""
    draw = torch.Generator().manual_seed(k)
    nodes = 3 + k % 9
    edges = torch.randint(nodes, (2, 2 * nodes), generator=draw)
    if kind != "directed" or k < 30:
        edges = torch.cat((edges, edges.flip(0)), 1)
    number = edges.shape[1]
    x = {
        "labels": torch.randint(3 + k // 40, (nodes, 2), generator=draw),
        "one-hot": torch.eye(4)[torch.randint(4, (nodes,), generator=draw)],
        "constant": torch.zeros(nodes, 1, dtype=torch.int64),
    }.get(kind, torch.randn(nodes, 3, generator=draw))
    attributes = torch.randint(2 + k // 30, (number, 1), generator=draw)
    return make(
        x=None if kind == "degrees" else x,
        num_nodes=nodes,
        edge_index=edges,
        edge_attr=attributes if kind in ("labels", "directed") else None,
        y=torch.tensor([k % 3]) if kind != "nodes" else torch.arange(nodes) % 3,
        train_mask=torch.arange(nodes) < 1,
        val_mask=torch.arange(nodes) == 1,
        test_mask=torch.arange(nodes) > 1,
    )


@pytest.mark.parametrize(
    "kind", ["labels", "one-hot", "constant", "degrees", "numbers", "directed", "nodes"]
)
def test_a_stream_is_packed_as_the_list(kind: str, tmp_path: Path, pyg_data: Any) -> None:
    items = [graph(k, kind, pyg_data.Data) for k in range(50)]
    options: dict[str, Any] = {"keep_loops": False, "keep_repeats": False}
    if kind != "nodes":
        options["split"] = torch.arange(50) % 3
    expected = from_pyg(items, "set", **options)
    packed = pack(iter(items), tmp_path / "set", **options)
    assert packed.fingerprint == expected.fingerprint
    assert packed.describe() == expected.describe()
    assert (packed.columns, packed.edge_columns) == (expected.columns, expected.edge_columns)
    equal(expected, GraphSet.open(tmp_path / "set", verify=True))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_graphs_without_nodes_in_a_stream(tmp_path: Path, pyg_data: Any) -> None:
    items = [graph(k, "labels", pyg_data.Data) for k in range(30)]
    items[7].x, items[7].edge_index = items[7].x[:0], items[7].edge_index[:, :0]
    items[7].edge_attr, items[7].num_nodes = items[7].edge_attr[:0], 0
    items[9] = None
    split = torch.arange(29) % 3
    expected = from_pyg(items, "set", drop_empty=True, split=split)
    packed = pack(iter(items), tmp_path / "set", drop_empty=True, split=split)
    assert packed.fingerprint == expected.fingerprint
    assert packed.notes == expected.notes
    with pytest.raises(DatasetError, match=r"other, graph 7 has no nodes; drop_empty"):
        pack(iter(items), tmp_path / "other")
    with pytest.raises(DatasetError, match="no graphs"):
        pack(iter([]), tmp_path / "other")
    items = [graph(k, "numbers", pyg_data.Data) for k in range(30)]
    items[20].x = items[20].x[:, :1]
    with pytest.raises(DatasetError, match=r"graph 20: x of 1 columns?, and"):
        pack(iter(items), tmp_path / "other")
    for item in items[20:]:
        item.x = item.x[:, :1]
    with pytest.raises(DatasetError, match=r"x of 1 column"):
        pack(iter(items), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def cut(folder: Path) -> None:
    path = folder / "edge_index.npy"
    path.write_bytes(path.read_bytes()[:-8])


def lengthen(folder: Path) -> None:
    path = folder / "x.npy"
    path.write_bytes(path.read_bytes() + b"\0")


def exchange(folder: Path) -> None:
    np.save(folder / "edge_ptr.npy", np.load(folder / "edge_ptr.npy").astype(np.int32))


def forget(folder: Path) -> None:
    (folder / "x.npy").unlink()


def disorder(folder: Path) -> None:
    ptr = np.load(folder / "ptr.npy")
    ptr[[1, 2]] = ptr[[2, 1]]
    np.save(folder / "ptr.npy", ptr)


def spoil(folder: Path) -> None:
    (folder / "graphset.json").write_text("{}")


def shorten(folder: Path) -> None:
    index = json.loads((folder / "graphset.json").read_text())
    rows = np.load(folder / "x.npy")[:-1]
    np.save(folder / "x.npy", rows)
    index["arrays"]["x"]["shape"][0] -= 1
    (folder / "graphset.json").write_text(json.dumps(index))


def mistype(folder: Path) -> None:
    index = json.loads((folder / "graphset.json").read_text())
    index["arrays"]["x"]["shape"] = 3
    (folder / "graphset.json").write_text(json.dumps(index))


def unmake(folder: Path) -> None:
    index = json.loads((folder / "graphset.json").read_text())
    (folder / "graphset.json").write_text(json.dumps(index | {"cutoff": 5.0}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (mistype, r"graphset\.json is damaged"),
        (unmake, r"no array 'z'"),
        (cut, r"edge_index\.npy: cut off"),
        (lengthen, r"x\.npy: \d+ bytes, expected"),
        (exchange, r"edge_ptr\.npy: <i4 of shape \(3372,\), expected <i8"),
        (forget, r"x\.npy: cannot be read: No such file"),
        (disorder, r"ptr does not ascend"),
        (spoil, r"graphset\.json: not the index"),
        (shorten, r"ptr goes from 0 to 3371, expected offsets from 0 to 3370"),
    ],
)
def test_damaged_folders(
    damage: Callable[[Path], None], words: str, tmp_path: Path, mutag: GraphSet
) -> None:
    mutag.save(tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(DatasetError, match=words) as found:
        load_dataset(tmp_path / "set")
    assert "\n" not in str(found.value)
    assert "pack the set again" in str(found.value) or "pack it again" in str(found.value)


@pytest.mark.parametrize(("name", "at", "value"), [("x", 5, 1), ("x", 0, 99), ("ptr", 3, 53)])
def test_changed_content_is_found_when_asked_for(
    name: str, at: int, value: int, tmp_path: Path, mutag: GraphSet
) -> None:
    """`load_dataset`, and so every command, asks for it: results are kept with the fingerprint."""
    mutag.save(tmp_path / "set")
    rows = np.load(tmp_path / "set" / f"{name}.npy", mmap_mode="r+")
    assert np.all(rows[at] != value)
    rows[at] = value
    rows.flush()
    GraphSet.open(tmp_path / "set")
    with pytest.raises(DatasetError, match="fingerprint"):
        GraphSet.open(tmp_path / "set", verify=True)
    with pytest.raises(DatasetError, match="fingerprint"):
        load_dataset(tmp_path / "set")
    with pytest.raises(DatasetError, match="exists; remove it"):
        mutag.save(tmp_path / "set")


@pytest.mark.skipif(extension.unavailable() is not None, reason="checked in C++")
@pytest.mark.parametrize("name", ["edge_index", "edge_ptr", "x"])
def test_changed_content_is_found_by_minibatches(
    name: str, tmp_path: Path, mutag: GraphSet
) -> None:
    mutag.save(tmp_path / "packed")
    changed = np.load(tmp_path / "packed" / f"{name}.npy", mmap_mode="r+")
    changed[5] = 99
    changed.flush()
    graphs = GraphSet.open(tmp_path / "packed")
    graphs.batch(torch.tensor([3]))
    with pytest.raises(ValueError, match="the set is damaged"):
        graphs.batch(torch.tensor([3, 0]))


def test_read_like_other_data(tmp_path: Path, mutag: GraphSet) -> None:
    mutag.save(tmp_path / "set")
    lines = "\n".join(["train", "val", "test", "test"] * 47)
    (tmp_path / "split.txt").write_text(lines)
    graphs = load_dataset(tmp_path / "set", split_file=str(tmp_path / "split.txt"))
    assert graphs.split is not None
    assert graphs.split[:4].tolist() == [0, 1, 2, 2]
    with pytest.raises(DatasetError, match="features is 'degree', but the set is packed already"):
        load_dataset(tmp_path / "set", "degree")


def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from graphnorms.data import load_dataset, to_pyg\ndef few():\n"
    code += "    yield from to_pyg(load_dataset('MUTAG').subset(range(20)))\n"
    (tmp_path / "few_graphs.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    for source, graphs in (("MUTAG", 188), ("few_graphs:few", 20)):
        out = tmp_path / f"{graphs}"
        monkeypatch.setattr(sys, "argv", ["graphnorms", "data", source, "--pack", str(out)])
        assert cli.main() == 0
        assert f"{graphs} graphs" in capsys.readouterr().out
        assert len(GraphSet.open(out)) == graphs
    assert cli.main() == 2
    assert "exists; remove it" in capsys.readouterr().err
