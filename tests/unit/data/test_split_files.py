"""Split files: their formats, and files that belong to other data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphnorms.data import SplitConfig, load_dataset, read_split_file, split_items
from graphnorms.errors import DatasetError

PARTS = [0, 0, 2, 1, -1, 0]


def test_formats_agree(tmp_path: Path) -> None:
    names = {0: "train", 1: "valid", 2: "test", -1: ""}
    texts = {
        "a.json": json.dumps([{"train": [0, 5, 1], "val": [3], "test": [2]}]),
        "b.json": json.dumps({"train": "0-1,5", "validation": "3", "test": "2"}),
        "c.txt": "\n".join(names[part] for part in PARTS[:4]) + "\n\ntrain\n",
        "d.csv": "split\n" + "\n".join(str(part) for part in PARTS),
        "e.csv": "index,part\n5,train\n0,train\n1,Train\n3,val\n2,TEST\n",
        "f.csv": "0\ttrain\n5\ttrain\n1\ttrain\n3\tdev\n2\ttest\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    np.savez(tmp_path / "g.npz", train=[0, 1, 5], val=[3], test=[2])
    masks = {f"{n}_mask": np.array(PARTS) == p for p, n in enumerate(("train", "val", "test"))}
    np.savez(tmp_path / "h.npz", **masks)
    np.savez(tmp_path / "i.npz", idx_train=[0, 1, 5], idx_val=[3], idx_test=[2])
    for path in sorted(tmp_path.iterdir()):
        assert read_split_file(path, 6).tolist() == PARTS, path.name


def test_entries_and_columns_are_splits(tmp_path: Path) -> None:
    entries = [
        {"train": [0, 1], "val": [2], "test": [3]},
        {"train": [2, 3], "val": [1], "test": [0]},
    ]
    (tmp_path / "s.json").write_text(json.dumps(entries))
    (tmp_path / "s.csv").write_text("a,b\ntrain,test\ntrain,val\nval,train\ntest,train\n")
    expected = [[0, 2], [0, 1], [1, 0], [2, 0]]
    for name in ("s.json", "s.csv"):
        assert read_split_file(tmp_path / name, 4).tolist() == expected


def test_splits_of_a_file_are_given(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).permutation(188).tolist()
    entries = [
        {"train": ids[:100], "val": ids[100:140], "test": ids[140:]},
        {"train": ids[88:], "val": ids[:40], "test": ids[40:88]},
    ]
    (tmp_path / "s.json").write_text(json.dumps(entries))
    graphs = load_dataset("MUTAG", split_file=str(tmp_path / "s.json"))
    assert graphs.num_splits == 2
    for fold, entry in enumerate(entries):
        found = split_items(graphs, SplitConfig(kind="given", folds=2, fold=fold))
        assert found.train.tolist() == sorted(entry["train"])
        assert found.validation.tolist() == sorted(entry["val"])
        assert found.test.tolist() == sorted(entry["test"])
    entries[0]["train"] = ids[:90]
    (tmp_path / "s.json").write_text(json.dumps(entries[:1]))
    few = load_dataset("MUTAG", split_file=str(tmp_path / "s.json"))
    assert "10 of 188 graphs in no part of s.json" in few.notes


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.json",
            '[{"train": [0], "val": [1], "test": [6, 7]}]',
            r"2 indices in the test part \(6",
        ),
        ("a.json", '[{"train": [0, 1], "val": [1], "test": [2]}]', "1 is in the training part and"),
        ("a.json", '[{"train": [0, 1], "test": [2]}]', "one key .val. .*are train, test"),
        (
            "a.json",
            '[{"train": [0], "val": [1], "test": "x-2"}]',
            "'test' is 'x-2', expected a list",
        ),
        ("a.json", '[{"train": [0], "val": [1], "test": [0.5]}]', "expected a list of indices"),
        ("a.json", "[1, 2]", "expected a list of"),
        ("a.json", "[", "no JSON"),
        (
            "a.txt",
            "train\nval\ntest\n",
            "3 lines, but the data have 6 items; is it the file of other",
        ),
        ("a.txt", "\n".join("012345"), "line 4: '3' is no part"),
        ("a.csv", "index,part\n9,train\n", "line 2: index 9, but the data have 6 items"),
        ("a.csv", "index,part\n1,train\n1,val\n", "listed twice"),
        ("a.csv", "train,val\ntest\n", "line 2: 1 column, expected 2"),
        ("a.txt", "", "the file is empty"),
    ],
)
def test_files_of_other_data(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        read_split_file(tmp_path / name, 6)
    assert "\n" not in str(caught.value)


def test_other_faults(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_split_file(tmp_path / "none.json", 6)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DatasetError, match=r"no readable \.npz file"):
        read_split_file(tmp_path / "a.npz", 6)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="no text"):
        read_split_file(tmp_path / "a.txt", 6)
    np.savez(
        tmp_path / "m.npz", train=np.ones(5, bool), val=np.ones(5, bool), test=np.ones(5, bool)
    )
    with pytest.raises(DatasetError, match="is a mask of shape"):
        read_split_file(tmp_path / "m.npz", 6)
    with pytest.raises(ValueError, match="expected one of them"):
        load_dataset("MUTAG", split_file="a", split_by="scaffold:hashed")
