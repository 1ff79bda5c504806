"""Predictions for every kind of file that a comparison reads."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

from graphnorms import cli
from graphnorms.data import load_dataset
from graphnorms.errors import DatasetError
from graphnorms.lab.compare import compare
from graphnorms.lab.predict import predict

SMALL: dict[str, Any] = {
    "norms": "none,graph",
    "epochs": 1,
    "learning_rate": 0.01,
    "hidden": 4,
    "layers": 1,
    "runs": 1,
    "protocol": "split",
}

pytestmark = pytest.mark.usefixtures("in_this_process", "stub_page")


def trained(dataset: Any, folder: Path, **options: Any) -> Path:
    comparison = compare(dataset, out=folder / "run", **SMALL, **options)
    path = folder / "model.safetensors"
    comparison.export(path, norm="graph")
    return path


def test_molecules_without_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rdkit")
    smiles = ["C" * (1 + number % 9) + "O" * (number % 2) for number in range(60)]
    rows = [f"{text},{number % 7}.5" for number, text in enumerate(smiles)]
    (tmp_path / "train.csv").write_text("\n".join(["SMILES,y", *rows]) + "\n")
    model = trained(str(tmp_path / "train.csv"), tmp_path, smiles="SMILES", target="y")
    expected = predict(model, str(tmp_path / "train.csv")).outputs
    (tmp_path / "new.csv").write_text("\n".join(["SMILES", smiles[5], "C(", smiles[8]]) + "\n")
    found = predict(model, str(tmp_path / "new.csv"))
    assert [row[0] for row in found.rows()] == [0, 2]
    torch.testing.assert_close(found.outputs, expected[[5, 8]])
    (tmp_path / "other.csv").write_text("\n".join(["mol,y", f"{smiles[5]},3"]) + "\n")
    with pytest.raises(DatasetError, match="no column 'SMILES'"):
        predict(model, str(tmp_path / "other.csv"))
    again = predict(model, str(tmp_path / "other.csv"), smiles="mol")
    torch.testing.assert_close(again.outputs, expected[[5]])
    arguments = ["predict", str(model), str(tmp_path / "other.csv"), "--smiles", "mol"]
    monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
    assert cli.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "graph,y"
    assert float(lines[1].split(",")[1]) == pytest.approx(float(expected[5]))
    with pytest.raises(ValueError, match="task is no option of predict"):
        predict(model, str(tmp_path / "other.csv"), task="binary")


def write_ogb(home: Path, *, targets: bool) -> Path:
    files = {
        "num-node-list": ["3", "2"] * 20,
        "num-edge-list": ["2", "1"] * 20,
        "edge": ["0,1", "1,2", "0,1"] * 20,
        "node-feat": ["1", "2", "1", "2", "2"] * 20,
    }
    if targets:
        files["graph-label"] = ["0", "1"] * 20
    for name, lines in files.items():
        path = home / "raw" / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return home


def test_ogb_parquet_and_networkx(tmp_path: Path) -> None:
    home = write_ogb(tmp_path / "ogbg_molhiv", targets=True)
    model = trained(str(home), tmp_path, split="random")
    expected = predict(model, str(home)).outputs
    assert len(expected) == 40
    bare = write_ogb(tmp_path / "bare", targets=False)
    torch.testing.assert_close(predict(model, str(bare)).outputs, expected)
    pytest.importorskip("pyarrow")
    load_dataset(home).to_parquet(tmp_path / "g.parquet")
    torch.testing.assert_close(predict(model, str(tmp_path / "g.parquet")).outputs, expected)
    path = nx.path_graph(3)
    nx.set_node_attributes(path, {0: 1, 1: 2, 2: 1}, "label of the node")
    torch.testing.assert_close(predict(model, [path]).outputs, expected[:1])
    nx.write_graphml(path, tmp_path / "p.graphml")
    torch.testing.assert_close(predict(model, str(tmp_path / "p.graphml")).outputs, expected[:1])


def test_nodes_of_tables(tmp_path: Path) -> None:
    nodes = [f"n{number},{'ab'[number % 2]},{number / 7:.3f}" for number in range(40)]
    colours = [f"{row},{'rgb'[number % 3]}" for number, row in enumerate(nodes)]
    edges = ["source,target", *(f"n{number},n{number + 1}" for number in range(39))]
    for folder, rows, header in (
        (tmp_path / "train", colours, "id,kind,x,label"),
        (tmp_path / "new", nodes, "id,kind,x"),
    ):
        folder.mkdir()
        (folder / "nodes.csv").write_text("\n".join([header, *rows]) + "\n")
        (folder / "edges.csv").write_text("\n".join(edges) + "\n")
    table = str(tmp_path / "train" / "nodes.csv")
    model = trained(table, tmp_path, edges=str(tmp_path / "train" / "edges.csv"), split="random")
    expected = predict(model, str(tmp_path / "train"))
    assert expected.columns[:3] == ["graph", "node", "prediction"]
    torch.testing.assert_close(predict(model, str(tmp_path / "new")).outputs, expected.outputs)
    new = predict(
        model,
        str(tmp_path / "new" / "nodes.csv"),
        edges=str(tmp_path / "new" / "edges.csv"),
    )
    torch.testing.assert_close(new.outputs, expected.outputs)
