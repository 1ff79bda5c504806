"""Tables of molecules: columns, atoms and bonds, rows that are none, repeats."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphnorms.data import load_dataset
from graphnorms.errors import DatasetError

pytest.importorskip("rdkit")

from graphnorms.data.readers.molecules import atom_labels, bond_labels


def table(path: Path, *lines: str) -> Path:
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def solubility(tmp_path: Path) -> Path:
    """Two rows that are no molecules, one repeat that agrees and one that contradicts."""
    return table(
        tmp_path / "molecules.csv",
        "name,SMILES,logS,comment",
        "ethanol,CCO,1.1,a",
        "broken,C(,9,b",
        "again,OCC,1.1,c",
        "benzene,c1ccccc1,-2,d",
        "empty,,0,e",
        "benzene,C1=CC=CC=C1,-3,f",
        "methane,C,,g",
    )


def test_labels_are_those_of_ogb() -> None:
    """The example in the code of OGB, and bonds by hand."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles("Cl[C@H](/C=C/C)Br")
    assert atom_labels(molecule.GetAtomWithIdx(1)) == (5, 2, 4, 5, 1, 0, 2, 0, 0)
    assert bond_labels(molecule.GetBondWithIdx(2)) == (1, 2, 0)
    salt = Chem.MolFromSmiles("[O-]c1ccccc1.[Na+]")
    assert atom_labels(salt.GetAtomWithIdx(0)) == (7, 0, 1, 4, 0, 0, 1, 0, 0)
    assert atom_labels(salt.GetAtomWithIdx(1)) == (5, 0, 3, 5, 0, 0, 1, 1, 1)
    assert atom_labels(salt.GetAtomWithIdx(7))[:4] == (10, 0, 0, 6)
    assert bond_labels(salt.GetBondWithIdx(1)) == (3, 0, 1)


def test_rows_become_graphs(solubility: Path) -> None:
    graphs = load_dataset(solubility)
    assert graphs.ptr.diff().tolist() == [3, 3, 6, 6, 1]
    assert graphs.edge_ptr[graphs.ptr].diff().tolist() == [4, 4, 12, 12, 0]
    assert graphs.symmetric
    assert graphs.task.kind == "regression"
    assert graphs.task.targets == ("logS",)
    torch.testing.assert_close(
        graphs.y[:, 0].float(), torch.tensor([1.1, 1.1, -2, -3, torch.nan]), equal_nan=True
    )
    assert graphs.source_rows is not None
    assert graphs.source_rows.tolist() == [0, 2, 3, 5, 6]
    notes = " | ".join(graphs.notes)
    assert "SMILES are in column 'SMILES' (guessed)" in notes
    assert "2 of 7 rows left out" in notes
    assert "lines 3, 6" in notes
    assert "4 molecules are repeats of 2 molecules" in notes
    assert "2 of them with different targets" in notes


@pytest.mark.parametrize("name", ["m.csv.gz", "m.tsv", "m.parquet"])
def test_every_kind_of_table_is_the_same_set(solubility: Path, tmp_path: Path, name: str) -> None:
    expected = load_dataset(solubility)
    path, lines = tmp_path / name, solubility.read_text().splitlines()
    if name.endswith(".parquet"):
        pandas = pytest.importorskip("pandas")
        pandas.read_csv(solubility).to_parquet(path)
    else:
        mark = "\t" if name.endswith(".tsv") else ","
        table(path, *(line.replace(",", mark) for line in lines))
    graphs = load_dataset(path, smiles="smiles", target="logs")  # any case
    assert graphs.fingerprint == expected.fingerprint


def test_targets_say_what_the_task_is(tmp_path: Path) -> None:
    molecules = ["C", "CC", "CCC", "CCCC"]

    def task(name: str, columns: list[str], target: str = "") -> tuple[str, tuple[str, ...]]:
        rows = [",".join(row) for row in zip(molecules, *map(str.split, columns), strict=True)]
        header = ",".join(["smiles", *(f"t{number}" for number in range(len(columns)))])
        path = table(tmp_path / f"{name}.csv", header, *rows)
        found = load_dataset(path, target=target).task
        return found.kind, found.targets

    assert task("yes", ["1 0 0 1"]) == ("binary", ("t0",))
    assert task("truth", ["True False False True"]) == ("binary", ("t0",))
    assert task("texts", ["a b a c"], "t0") == ("classification", ("a", "b", "c"))
    assert task("classes", ["0 1 2 0"]) == ("classification", ("0", "1", "2"))
    assert task("integers", ["0 1 7 0"]) == ("regression", ("t0",))
    assert task("both", ["0 1 1 0", "1 nan 0 1"]) == ("binary", ("t0", "t1"))
    assert task("two", ["0.5 1 1 0", "1 na 0 1"], "t1,t0") == ("regression", ("t1", "t0"))


def test_what_is_wrong_with_a_table_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", "smiles,y1,y2", "C,1.5,2", "CC,2.5,>3", "CCC,1,2")
    for options, message in (
        ({"target": "logS"}, r"no column 'logS' for the target \(columns: smiles, y1, y2\)"),
        ({"target": "y11"}, "did you mean y1"),
        ({"smiles": "SMI"}, "no column 'SMI' for the SMILES"),
        ({"smiles": "y1", "target": "y1"}, "RDKit parses none of the 3 rows of column 'y1'"),
        ({"target": "y2"}, r"column 'y2' holds 1 text among its numbers.*line 3: '>3'"),
        ({"target": "y1,y2"}, "'y2' holds 1 text .* expected numbers"),
    ):
        with pytest.raises(DatasetError, match=message):
            load_dataset(path, **options)
    path = table(tmp_path / "m.csv", "smiles,a,b", "C,1.5,2", "CC,2.5,3")
    with pytest.raises(DatasetError, match="2 columns of numbers could be it"):
        load_dataset(path)
    with pytest.raises(DatasetError, match=r"no column holds SMILES; name it .* give the table of"):
        load_dataset(table(tmp_path / "n.csv", "a,b", "hello you,1", "and you,2"))
    with pytest.raises(DatasetError, match=r"o\.csv, line 3: 3 fields, expected 2"):
        load_dataset(table(tmp_path / "o.csv", "smiles,y", "C,1", "CC,1,2"))


def test_without_rdkit(solubility: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DatasetError, match=r"pip install 'graphnorms\[chem\]'"):
        load_dataset(solubility, smiles="SMILES")


def test_a_split_file_counts_the_rows_of_the_table(solubility: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps([{"train": "0-2", "val": [3, 4], "test": "5,6"}]))
    graphs = load_dataset(solubility, split_file=str(splits))
    assert graphs.split is not None
    assert graphs.split.tolist() == [0, 0, 1, 2, 2]
    assert graphs.split_name == "splits.json"


def test_scaffolds_of_a_table(tmp_path: Path) -> None:
    smiles = ["C" * (length + 1) for length in range(8)] + ["c1ccccc1", "C1CC1"]
    rows = [f"{text},{number}.5" for number, text in enumerate(smiles)]
    graphs = load_dataset(
        table(tmp_path / "m.csv", "smiles,y", *rows), split_by="scaffold:deepchem"
    )
    assert graphs.split is not None
    # The eight without a ring train; of the two alone the last is validated, the first tested.
    assert graphs.split.tolist() == [0] * 8 + [2, 1]


def test_a_subset_keeps_its_rows(solubility: Path) -> None:
    few = load_dataset(solubility).subset(torch.tensor([3, 0]))
    assert few.source_rows is not None
    assert np.array_equal(few.source_rows, [5, 0])
