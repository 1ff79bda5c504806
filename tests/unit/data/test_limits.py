"""Numbers and sizes at the edge of what a file can say, and files that were changed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms.data import GraphSet, SplitConfig, from_pyg, load_dataset, read_npz, save_npz
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.readers.number_text import read_numbers
from graphnorms.data.tasks import make_targets
from graphnorms.errors import DatasetError, printable

PAIR: dict[str, Any] = {  # two graphs of two nodes and an edge
    "node_ptr": np.array([0, 2, 4]),
    "edge_ptr": np.array([0, 2, 4]),
    "edge_index": np.array([[0, 1, 0, 1], [1, 0, 1, 0]]),
    "x": np.array([[0.5], [1.0], [2.0], [3.0]]),
    "y": np.array([0, 1]),
}


def npz(folder: Path, **changes: Any) -> Path:
    path = folder / "pair.npz"
    np.savez(path, **{k: v for k, v in (PAIR | changes).items() if v is not None})
    return path


def tu(folder: Path, **parts: str) -> Path:
    files = {
        "A": "1, 2\n2, 1\n3, 4\n4, 3\n",
        "graph_indicator": "1\n1\n2\n2\n",
        "graph_labels": "0\n1\n",
    } | parts
    folder = folder / "tu"
    folder.mkdir()
    for part, text in files.items():
        (folder / f"DS_{part}.txt").write_text(text, encoding="utf-8")
    return folder


def text(folder: Path, number: str) -> Path:
    path = folder / "pair.txt"
    path.write_text(f"2\n2 0\n0 1 1 {number}\n0 1 0 1\n2 1\n0 1 1 1\n0 1 0 1\n", encoding="utf-8")
    return path


def in_one_line(call: Callable[[], object]) -> str:
    with pytest.raises(DatasetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- numbers ------------------------------------------------------------------------------------


def test_numbers_beyond_float32_are_named(tmp_path: Path, pyg_data: ModuleType) -> None:
    largest = float(np.finfo(np.float32).max)
    data = pyg_data.Data(
        x=torch.tensor([[1.0], [-1e39]], dtype=torch.float64),
        edge_index=torch.tensor([[0, 1], [1, 0]]),
        y=torch.tensor([1]),
        edge_attr=torch.tensor([[1.0], [1e300]], dtype=torch.float64),
    )
    x = np.array([[0.5], [1.0], [1e39], [3.0]])
    cases: list[Callable[[], object]] = [
        lambda: read_npz(npz(tmp_path, x=x)),
        lambda: read_npz(npz(tmp_path, edge_attr=x)),
        lambda: read_npz(npz(tmp_path, y=np.array([0.5, -1e39]))),
        lambda: load_dataset(tu(tmp_path, node_attributes="1\n1\n1e39\n1\n")),
        lambda: load_dataset(text(tmp_path, "1e39")),
        lambda: from_pyg([data], edge_features="none"),
        lambda: from_pyg([data], features="degree"),
    ]
    for case in cases:
        assert "is beyond float32" in in_one_line(case)
    assert "node 0 (from 0) of graph 1 holds 1e+39" in in_one_line(cases[0])
    # The largest there is, is read.
    assert read_npz(npz(tmp_path, x=x * largest / 1e39)).x.max() == largest


def test_what_is_not_asked_for_may_be_anything(tmp_path: Path) -> None:
    folder = tu(tmp_path, node_labels="?", node_attributes="1e99\n", edge_labels="a\n")
    assert read_npz(npz(tmp_path, x=np.full((4, 1), 1e39)), features="degree").num_features == 1
    for features in ("degree", "constant"):
        graphs = load_dataset(folder, features=features, edge_features="none")
        assert graphs.x.tolist() == [[1]] * 4
    assert "DS_node_labels.txt, line 1" in in_one_line(lambda: load_dataset(folder))
    # Nor does an array that is not asked for.
    path = npz(tmp_path, other=np.array([{}], dtype=object))
    assert len(read_npz(path)) == 2


def test_yes_or_no_is_1_or_0(tmp_path: Path, pyg_data: ModuleType) -> None:
    bits = np.array([[True, True], [False, True], [False, False], [True, True]])
    edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    data = pyg_data.Data(
        x=torch.from_numpy(bits),
        edge_attr=torch.from_numpy(bits),
        edge_index=edges,
        y=torch.tensor([1]),
    )
    for graphs in (
        read_npz(npz(tmp_path, x=bits, edge_attr=bits)),
        from_pyg([data]),
        from_pyg([data], features="attributes", edge_features="attributes"),
    ):
        assert graphs.x.tolist() == bits.astype(float).tolist()
        assert graphs.edge_features is not None
        # Of 1→0, 0→1, 3→2 and 2→3.
        assert graphs.edge_features.tolist() == bits[[1, 0, 3, 2]].astype(float).tolist()
    labels = from_pyg([data], features="labels")
    assert labels.x.tolist() == [[0, 1, 0, 1], [1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int64])
def test_labels_of_any_integer_type(tmp_path: Path, dtype: type) -> None:
    x = np.array([[3], [0], [3], [100]], dtype=dtype)
    expected = [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert read_npz(npz(tmp_path, x=x)).x.tolist() == expected


def test_classes_are_exact(tmp_path: Path, pyg_data: ModuleType) -> None:
    large = np.array([2**64 - 1, 2**63], dtype=np.uint64)
    graphs = read_npz(npz(tmp_path, y=large))
    assert graphs.class_names == ("9223372036854775808", "18446744073709551615")
    assert graphs.y.tolist() == [1, 0]
    near = np.array([2**53 + 1, 2**53])  # one float64
    assert read_npz(npz(tmp_path, y=near)).class_names == (str(2**53), str(2**53 + 1))
    edges = torch.tensor([[0, 1], [1, 0]])
    items = [pyg_data.Data(edge_index=edges, num_nodes=2, y=torch.tensor([y])) for y in near]
    assert from_pyg(items).class_names == (str(2**53), str(2**53 + 1))
    y, task = make_targets("classification", y=np.array([1e18, 3.0]), level="graph")
    assert (task.targets, y.tolist()) == (("3", "1000000000000000000"), [1, 0])
    message = in_one_line(lambda: load_dataset(tu(tmp_path, graph_labels=f"0\n{2**53 + 1}\n")))
    assert "line 2: 9.0072e+15 is too large (2^53 or more)" in message
    ids = np.array([0, 2, 2**63 + 4], dtype=np.uint64)
    assert f"holds {2**63 + 4}" in in_one_line(lambda: read_npz(npz(tmp_path, node_ptr=ids)))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_ids_of_any_integer_type(mutag: GraphSet, dtype: torch.dtype) -> None:
    ids = torch.tensor([4, 0, 4])
    assert torch.equal(mutag.batch(ids.to(dtype)).x, mutag.batch(ids).x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 10.0}, "folds is 10.0, expected an integer"),
        ({"fold": True}, "fold is True, expected an integer"),
        ({"seed": "1"}, "seed is '1', expected an integer"),
        ({"holdout": "a"}, "holdout is a, expected a share"),
        ({"kind": "given", "folds": 2, "fold": 2}, "split 2 of 2: splits count from 0"),
    ],
)
def test_types_of_a_split(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitConfig(**{"kind": "fold", "folds": 10} | change)


# ---- sizes that a file states -------------------------------------------------------------------


def stating(shape: str, *, held: int = 8) -> bytes:
    """A `.npy` of 8 bytes a number, of which it holds few, that states another shape."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(held)


def with_member(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_ptr": np.array([0, 2, 10**12]), "x": None}, "node_ptr: states a size of 1000"),
        (
            {"x": None, "x_ptr": np.arange(5), "x_ind": np.zeros(4, int), "x_dim": 10**11},
            "x_dim: states a size of 400000000000",
        ),
        ({"x": np.zeros((4, 1), int), "x_width": np.array(2**62)}, "x_width: states a size"),
    ],
)
def test_stated_sizes(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in in_one_line(lambda: read_npz(npz(tmp_path, **changes)))


def test_stated_shapes(tmp_path: Path) -> None:
    for shape in ("(1000000000000,)", "(2,)", "(1073741824, 1073741824)"):
        path = with_member(npz(tmp_path, y=None), "y", stating(shape))
        message = in_one_line(lambda: read_npz(path))  # noqa: B023
        assert "array y: cannot be read (ValueError: it states " in message
    path = with_member(npz(tmp_path, y=None), "y", stating("(2,)", held=24))
    assert "more bytes than its shape takes" in in_one_line(lambda: read_npz(path))


def test_stated_numbers_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(f"{10**12}\n1 0\n0 0\n", encoding="utf-8")
    assert "expected 1000000000000 graphs" in in_one_line(lambda: load_dataset(path))
    folder = tu(tmp_path, graph_indicator=f"1\n1\n2\n{10**12}\n")
    assert "line 4: graph 1000000000000, but" in in_one_line(
        lambda: load_dataset(folder, drop_empty=True)
    )


# ---- files that are not what they should be -----------------------------------------------------


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = npz(tmp_path)
    content = bytearray(path.read_bytes())
    at = 0
    while (at := content.find(b"PK\x01\x02", at)) >= 0:  # each entry of the directory
        content[at + 8] |= 1
        at += 4
    path.write_bytes(content)
    message = in_one_line(lambda: load_dataset(path))
    assert "array x: cannot be read (ValueError: it is encrypted; store it without" in message


def test_names_obey_no_terminal(tmp_path: Path) -> None:
    evil = "a\x1b[2Jb\x07\n c"
    path = npz(tmp_path, name=np.array(evil), class_names=np.array([evil, "d\u202e"]))
    graphs = read_npz(path)
    harmless = r"a\x1b[2Jb\x07 c"
    assert (graphs.name, graphs.class_names) == (harmless, (harmless, r"d\u202e"))
    assert printable(graphs.describe()) == graphs.describe()
    assert len(graphs.describe().splitlines()) == 2
    texts = npz(tmp_path, y=np.array([evil, "d"]))
    assert read_npz(texts).class_names == (harmless, "d")
    path = npz(tmp_path, y=None, **{evil: np.zeros(1)})
    assert harmless in in_one_line(lambda: read_npz(path))


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "x/" * 3000])
def test_names_that_no_file_has(name: str) -> None:
    assert len(in_one_line(lambda: load_dataset(name))) < 400


def everything(folder: Path) -> list[Path]:
    """The same graphs in every format, with all that a format can hold."""
    edges = "1, 2\n2, 1\n3, 4\n4, 3\n"
    whole = tu(
        folder,
        node_labels="0\n1\n0\n2\n",
        node_attributes="0.5\n1\n2\n3e2\n",
        edge_labels="1\n1\n2\n2\n",
        edge_attributes=edges,
        graph_attributes="0.5\n1\n",
    )
    packed = npz(
        folder,
        x=np.array([[1], [0], [2], [0]]),
        edge_attr=np.ones((4, 1)),
        class_names=np.array(["no", "yes"]),
        split=np.array([0, 1]),
        name=np.array("pair"),
    )
    deflated = folder / "deflated.npz"
    save_npz(read_npz(packed), deflated)
    return [*sorted(whole.iterdir()), packed, deflated, text(folder, "0.5")]


def outcome(spec: Path, named: Path, **options: Any) -> str:
    """What reading a file ends in: a set that is right, or one line that names the file."""
    try:
        graphs = load_dataset(spec, **options)
    except DatasetError as error:
        message = str(error)
    else:
        check_graph_set(graphs)
        assert torch.isfinite(graphs.x).all()
        text = f"{graphs!r} {graphs.describe()}"
        assert printable(text) == text
        return "set"
    assert printable(message) == message
    assert "\n" not in message
    assert message.startswith(str(named))
    return "error"


def test_a_changed_file_is_a_set_or_one_line(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    outcomes = {"set": 0, "error": 0}
    for path in everything(tmp_path):
        spec = path.parent if path.parent.name == "tu" else path
        whole = path.read_bytes()
        for _ in range(60):
            path.write_bytes(mutated(whole, draw))
            outcomes[outcome(spec, tmp_path, task=draw.choice(["auto", "regression"]))] += 1
        path.write_bytes(whole)
    assert min(outcomes.values()) > 20, outcomes


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """A file with some bytes replaced, cut out, doubled or put in."""
    changed = bytearray(content)
    for _ in range(draw.integers(1, 4)):
        at, length = int(draw.integers(0, len(changed) + 1)), int(draw.integers(1, 9))
        what = draw.integers(0, 5)
        if what == 0:
            changed[at : at + length] = draw.bytes(length)
        elif what == 1:
            del changed[at : at + length]
        elif what == 2:
            changed[at:at] = changed[at : at + length]
        elif what == 3:
            changed[at : at + 1] = draw.choice([b"9", b"-", b"\n", b"e9", b"\0", b"\xff", b"nan"])
        else:
            del changed[at:]
    return bytes(changed)


def test_a_changed_array_is_a_set_or_one_line(tmp_path: Path) -> None:
    """The zip is whole, and what is in it says something else."""
    draw = np.random.default_rng(1)
    wrong: list[Any] = [
        np.array([]),
        np.array(3),
        np.array(-1),
        np.zeros((2, 2)),
        np.array([np.nan, np.inf]),
        np.array(["a", "b"]),
        np.array([2**63, 1], dtype=np.uint64),
        np.array([True, False]),
        np.array([1 + 2j, 0]),
        np.array([{}, 1], dtype=object),
        np.array([-(2**62), 2**62]),
        np.zeros((4, 0)),
        np.zeros(0, dtype=np.int64),
        np.array([("a", 1)], dtype="U1,i4"),
        np.array(["2020-01-01"] * 2, dtype="M8[D]"),
        np.zeros((2, 4), dtype=np.float16),
        np.array([b"a", b"b"]),
        np.array([[0, 1], [1, 0]], dtype=np.uint16),
        None,
    ]
    names = [
        *PAIR,
        "edge_attr",
        "edges",
        "x_ptr",
        "x_ind",
        "x_dim",
        "split",
        "class_names",
        "name",
        "task",
        "level",
        "unit",
        "features",
        "target_names",
        "x_width",
        "edge_attr_width",
        "notes",
        "train_mask",
        "val_mask",
        "test_mask",
        "node_labels",
        "adj_indptr",
        "adj_indices",
        "adj_shape",
        "adj_data",
        "attr_matrix",
        "labels",
    ]
    outcomes = {"set": 0, "error": 0}
    for _ in range(600):
        changes = {
            names[int(draw.integers(len(names)))]: wrong[int(draw.integers(len(wrong)))]
            for _ in range(draw.integers(1, 4))
        }
        buffer = io.BytesIO()
        np.savez(buffer, **{k: v for k, v in (PAIR | changes).items() if v is not None})
        path = tmp_path / "changed.npz"
        path.write_bytes(buffer.getvalue())
        outcomes[outcome(path, path)] += 1
    assert min(outcomes.values()) > 60, outcomes


@pytest.mark.parametrize("piece", [4, 1 << 18])
@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("1, 2\n\n -3\t07\r\n", [[1, 2], [-3, 7]]),
        ("1 2\n0.5 2\n", [[1, 2], [0.5, 2]]),
        ("9007199254740993 99999999999999999999\n", [[2.0**53, 1e20]]),
        ("-9223372036854775808 +3", [[-(2.0**63), 3]]),
        ("", []),
        ("1-2 3\n", "line 1: '1-2'"),
        ("4 5\n- 3\n", "line 2: '-'"),
        ("1 --3\n", "line 1: '--3'"),
        ("1 2\n\n3 4\n5 x\n", "line 4: 'x'"),
    ],
)
def test_integers_are_read_as_all_numbers_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, right: Any, piece: int
) -> None:
    """Also where the file is read a line at a time, some of integers and some not."""
    monkeypatch.setattr("graphnorms.data.readers.number_text._PIECE", piece)
    path = tmp_path / "numbers.txt"
    path.write_bytes(text.encode())
    if isinstance(right, str):
        with pytest.raises(DatasetError, match=right):
            read_numbers(path, separator=b",")
        return
    found = read_numbers(path, separator=b",")
    rows = [
        found.values[at : at + n].tolist() for at, n in zip(found.first, found.length, strict=True)
    ]
    assert rows == right
    numbered = [at for at, line in enumerate(text.split("\n"), 1) if line.strip()]
    assert found.line.tolist() == numbered
