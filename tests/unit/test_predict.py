"""Exported models: what they are given, and that they say what training has recorded."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from graphnorms import cli
from graphnorms.data import GraphSet, SplitConfig, from_pyg, load_dataset, save_npz, split_items
from graphnorms.data.feature_columns import Columns
from graphnorms.errors import DatasetError, GraphnormsError
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import Comparison
from graphnorms.lab.predict import predict
from graphnorms.training import Record, load_model

SMALL: dict[str, Any] = {
    "norms": "none,graph",
    "epochs": 3,
    "learning_rate": 0.01,
    "hidden": 8,
    "layers": 1,
}


class Export(NamedTuple):
    """A model on a file, the record of its trial, and where it comes from."""

    path: Path
    record: Record
    comparison: Comparison


def exported(comparison: Comparison, path: Path) -> Export:
    comparison.export(path, norm="graph")
    key = load_model(path).config.key
    record = next(record for record in comparison.records if record.key == key)
    return Export(path, record, comparison)


@pytest.fixture(scope="module")
def mutag(in_this_process_of_module, stub_page_of_module, tmp_path_factory) -> Export:
    folder = tmp_path_factory.mktemp("mutag")
    comparison = compare("MUTAG", folds=2, out=folder / "run", **SMALL)
    return exported(comparison, folder / "model.safetensors")


@pytest.fixture(scope="module")
def nci5k(in_this_process_of_module, stub_page_of_module, tmp_path_factory) -> Export:
    """A regression with bonds, on the given split."""
    folder = tmp_path_factory.mktemp("nci5k")
    options = SMALL | {"epochs": 1, "batch_size": 512}
    comparison = compare("nci5k", protocol="split", runs=1, out=folder / "run", **options)
    return exported(comparison, folder / "model.safetensors")


def ids_of_test(record: Record, graphs: GraphSet) -> list[int]:
    return split_items(graphs, SplitConfig(**record.config["split"])).test.tolist()


def data_of(graphs: GraphSet, ids: list[int], *, dense: bool = True) -> list[Any]:
    """Graphs as objects of the form of PyG's `Data`, without targets."""
    found = []
    for each in ids:
        batch = graphs.batch(torch.tensor([each]))
        x, edges = batch.x, batch.edge_features
        if not dense:
            x = labels_of(x, graphs.columns)
            edges = None if edges is None else labels_of(edges, graphs.edge_columns)
        index = batch.adjacency.to_edge_index()
        found.append(SimpleNamespace(x=x, edge_index=index, edge_attr=edges, num_nodes=len(x)))
    return found


def labels_of(x: torch.Tensor, columns: Columns | None) -> torch.Tensor:
    """The labels that one-hot features stand for, as integers."""
    assert columns is not None
    parts = x.split([len(block) for block in columns.blocks], 1)
    named = zip(parts, columns.blocks, strict=True)
    return torch.stack([torch.tensor(block)[part.argmax(1)] for part, block in named], 1)


def test_predictions_have_the_score_that_training_has_recorded(mutag: Export) -> None:
    graphs = load_dataset("MUTAG")
    rows = list(predict(mutag.path, "MUTAG").rows())
    assert [row[0] for row in rows] == list(range(188))
    ids = ids_of_test(mutag.record, graphs)
    right = [rows[i][1] == graphs.class_names[int(graphs.y[i])] for i in ids]
    assert sum(right) / len(right) == pytest.approx(mutag.record.outcome["test_score"])
    assert {row[1] for row in rows} <= {"-1", "1"}
    for row in rows:
        assert sum(row[2:]) == pytest.approx(1)
        assert row[1] == ("-1" if row[2] > row[3] else "1")


def test_numbers_are_in_the_unit_of_the_data(nci5k: Export) -> None:
    graphs = load_dataset("nci5k")
    found = predict(nci5k.path, "nci5k")
    assert found.columns == ["graph", *graphs.task.targets]
    values = torch.tensor([row[1] for row in found.rows()], dtype=torch.float64)
    ids = ids_of_test(nci5k.record, graphs)
    error = (values - graphs.y[:, 0].double())[ids].abs().mean()
    assert float(error) == pytest.approx(nci5k.record.outcome["test_score"], rel=1e-4)


@pytest.mark.parametrize("source", ["mutag", "nci5k"])
@pytest.mark.parametrize("dense", [False, True], ids=["labels", "one-hot"])
def test_a_few_graphs_get_the_columns_of_training(
    source: str, dense: bool, request: pytest.FixtureRequest
) -> None:
    """Fewer labels occur in them, and would get other columns of their own."""
    export = request.getfixturevalue(source)
    graphs = load_dataset(export.comparison.settings.dataset)
    few = [3, 0, 1, 40]
    whole = predict(export.path, graphs).outputs[few]
    some = predict(export.path, data_of(graphs, few, dense=dense)).outputs
    torch.testing.assert_close(some, whole, rtol=1e-5, atol=1e-6)


def test_batches_of_pyg_and_tensors_are_taken_as_they_are(nci5k: Export) -> None:
    graphs, few = load_dataset("nci5k"), [7, 2, 9]
    model = load_model(nci5k.path)
    with torch.no_grad():
        whole = model(graphs.batch(torch.tensor(few)))
        parts = data_of(graphs, few)
        for part, expected in zip(parts, whole, strict=True):
            torch.testing.assert_close(model(part)[0], expected, rtol=1e-5, atol=1e-6)
            given = model(part.x, part.edge_index, edge_attr=part.edge_attr)
            torch.testing.assert_close(given[0], expected, rtol=1e-5, atol=1e-6)
        labels = data_of(graphs, few, dense=False)
        torch.testing.assert_close(model(labels[0])[0], whole[0], rtol=1e-5, atol=1e-6)
        pytest.importorskip("torch_geometric")
        from torch_geometric.data import Batch, Data

        batch = Batch.from_data_list([Data(**vars(part)) for part in parts])
        torch.testing.assert_close(model(batch), whole, rtol=1e-5, atol=1e-6)
        given = model(batch.x, batch.edge_index, batch.batch, batch.edge_attr)
        torch.testing.assert_close(given, whole, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="data is a list, expected a GraphBatch, PyG's Data"):
        model(parts)
    with pytest.raises(ValueError, match="edge_index is missing"):
        model(batch.x)


def test_what_the_model_does_not_know_is_refused_by_name(mutag: Export, tmp_path: Path) -> None:
    graphs = load_dataset("MUTAG")
    other = data_of(graphs, [0, 1], dense=False)
    other[1].x[2:4] = 12
    with pytest.raises(DatasetError, match="2 nodes with the label 12, but the model was trained "):
        predict(mutag.path, other)
    other[1].x = torch.rand(len(other[1].x), 3)
    other[0].x = torch.rand(len(other[0].x), 3)
    with pytest.raises(DatasetError, match="no node labels, but the model was trained on 1 label"):
        predict(mutag.path, other)
    degrees = load_dataset("MUTAG", features="degree")
    with pytest.raises(
        GraphnormsError, match="node features of MUTAG are of 4: 4 of one-hot node d"
    ):
        predict(mutag.path, degrees)


def test_files_of_every_format_are_read_without_targets(mutag: Export, tmp_path: Path) -> None:
    graphs = load_dataset("MUTAG")
    few = graphs.subset([5, 6])
    expected = predict(mutag.path, few).outputs
    labels = few.x.argmax(1)
    source, target = torch.cat(
        [few.batch(torch.tensor([i])).adjacency.to_edge_index() + few.ptr[i] for i in (0, 1)], 1
    ).numpy()
    first = few.ptr[:-1].repeat_interleave(few.ptr.diff()).numpy()
    np.savez(
        tmp_path / "few.npz",
        node_ptr=few.ptr.numpy(),
        x=labels.numpy(),
        edge_index=np.stack((source - first[source], target - first[target])),
        edge_ptr=few.edge_ptr[few.ptr].numpy(),
    )
    tu = tmp_path / "FEW"
    tu.mkdir()
    graph = torch.arange(2).repeat_interleave(few.ptr.diff()) + 1
    lines = {
        "A": [f"{s + 1}, {t + 1}" for s, t in zip(source, target, strict=True)],
        "graph_indicator": graph.tolist(),
        "node_labels": labels.tolist(),
    }
    for name, rows in lines.items():
        (tu / f"FEW_{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    for path in (tmp_path / "few.npz", tu):
        torch.testing.assert_close(predict(mutag.path, path).outputs, expected)


def test_nodes_get_a_row_each(in_this_process, stub_page, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 3, generator=generator)
    edges = torch.randint(60, (2, 200), generator=generator)
    data = SimpleNamespace(x=x, edge_index=edges, y=(x[:, 0] > 0.5).long())
    options = SMALL | {"epochs": 2, "protocol": "split", "runs": 1}
    comparison = compare([data], out=tmp_path / "run", **options)
    comparison.export(tmp_path / "model.safetensors", norm="graph")
    found = predict(tmp_path / "model.safetensors", [SimpleNamespace(x=x, edge_index=edges)])
    rows = list(found.rows())
    assert found.columns == ["graph", "node", "prediction", "p(0)", "p(1)"]
    assert [row[:2] for row in rows] == [[0, node] for node in range(60)]
    record = comparison.to_export("graph")
    graphs = from_pyg([data])
    ids = ids_of_test(record, graphs)
    right = [rows[i][2] == graphs.class_names[int(graphs.y[i])] for i in ids]
    assert sum(right) / len(right) == pytest.approx(record.outcome["test_score"])


def test_a_file_keeps_its_trial_and_the_columns(mutag: Export) -> None:
    model = load_model(mutag.path)
    assert model.outcome == mutag.record.outcome
    assert model.config.to_dict() == mutag.record.config
    graphs = load_dataset("MUTAG")
    assert (model.encoding.nodes, model.encoding.edges) == (graphs.columns, None)
    assert graphs.columns is not None
    assert graphs.columns.blocks == ((0, 1, 2, 3, 4, 5, 6),)


def test_columns_survive_a_file(tmp_path: Path, mutag: Export) -> None:
    """An `.npz` of ours has the columns, not the labels: as many are taken for the same."""
    save_npz(load_dataset("MUTAG"), tmp_path / "copy.npz")
    expected = predict(mutag.path, "MUTAG").outputs
    torch.testing.assert_close(predict(mutag.path, tmp_path / "copy.npz").outputs, expected)


def run(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
    code = cli.main()
    return code, *capsys.readouterr()


def test_the_command_writes_a_table_or_json(mutag: Export, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "predict", str(mutag.path), "MUTAG")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(out.splitlines()))
    found = list(predict(mutag.path, "MUTAG").rows())
    assert [[int(row["graph"]), row["prediction"]] for row in rows] == [row[:2] for row in found]
    assert [float(row["p(1)"]) for row in rows] == [row[3] for row in found]
    code, out, _ = run(monkeypatch, capsys, "predict", str(mutag.path), "MUTAG", "-o", "p.csv")
    assert (code, out) == (0, "predictions: p.csv\n")
    assert list(csv.DictReader(Path("p.csv").read_text().splitlines())) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    code, out, _ = run(monkeypatch, capsys, "predict", str(mutag.path), "MUTAG", "--json")
    told = json.loads(out)
    assert told["outcome"] == mutag.record.outcome
    assert told["predictions"][3]["prediction"] == rows[3]["prediction"]
    for arguments, message in (
        (["nowhere", "MUTAG"], "nowhere: No such file"),
        ([str(mutag.path), "nci5k"], "but the model was trained on"),
        (["p.csv", "MUTAG"], "p.csv: not a model that graphnorms wrote"),
    ):
        code, out, err = run(monkeypatch, capsys, "predict", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_export_says_what_it_wrote_and_asks_where_nothing_is_recommended(
    mutag: Export, monkeypatch, capsys, tmp_path
) -> None:
    """Two folds are too few for a recommendation."""
    monkeypatch.chdir(tmp_path)
    folder = str(mutag.comparison.folder)
    assert mutag.comparison.verdict.recommendation is None
    code, _, err = run(monkeypatch, capsys, "show", folder, "--export", "model.safetensors")
    assert (code, err.count("\n")) == (2, 1)
    assert "say whose model to write: --norm NAME" in err
    assert list(tmp_path.iterdir()) == []
    options = ["--norm", "graph", "--export", "model.safetensors"]
    code, out, _ = run(monkeypatch, capsys, "show", folder, *options)
    assert code == 0
    config, outcome = mutag.record.config, mutag.record.outcome
    assert (
        f"norm graph, learning rate 0.01, fold {config['split']['fold']}, run 0 (seed "
        f"{config['seed']}), epoch {outcome['epoch']} of 3; accuracy: validation "
        f"{outcome['validation_score']:.1%}, test {outcome['test_score']:.1%}"
    ) in out
    assert Path("model.safetensors").read_bytes() == mutag.path.read_bytes()


def test_a_file_of_before_is_still_read(mutag: Export, tmp_path: Path) -> None:
    """Without columns and outcome in it, the number of features is all that is checked."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(mutag.path, framework="pt") as file:
        about = json.loads(file.metadata()["graphnorms"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in ("encoding", "outcome", "reading"):
        del about[name]
    save_file(state, tmp_path / "old", {"graphnorms": json.dumps(about)})
    expected = predict(mutag.path, "MUTAG").outputs
    torch.testing.assert_close(predict(tmp_path / "old", "MUTAG").outputs, expected)
    few = replace_features(load_dataset("MUTAG").subset([0]))
    with pytest.raises(GraphnormsError, match="of 2 columns, but the model was trained on 7"):
        predict(tmp_path / "old", few)


def replace_features(graphs: GraphSet) -> GraphSet:
    return graphs._with(x=graphs.x[:, :2].contiguous(), columns=None)
