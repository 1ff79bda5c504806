"""Norms compared on energies and forces: from an extended-XYZ file to predictions for another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphnorms.data import Frames, SplitConfig, load_dataset, random_graphs, split_items
from graphnorms.errors import GraphnormsError
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.options import Options
from graphnorms.lab.predict import predict
from graphnorms.lab.resolve import resolve
from graphnorms.report.page import render_page
from graphnorms.report.table_formats import formatted

SMALL = {"norms": "layer", "epochs": 1, "learning_rate": 0.01, "hidden": 4, "layers": 1}


def frames(number: int, *, labelled: bool) -> str:
    """Frames of two to four atoms, with energies of -1e5 and drawn forces."""
    draw, lines = np.random.default_rng(number), []
    for frame in range(number):
        atoms = 2 + frame % 3
        label = ":forces:R:3 energy=" + repr(-1e5 + draw.normal()) if labelled else ""
        lines += [f"{atoms}", f"Properties=species:S:1:pos:R:3{label}"]
        for atom in range(atoms):
            numbers = [1.5 * atom + 0.3 * draw.normal(), *draw.normal(size=2)]
            numbers += [*draw.normal(size=3)] if labelled else []
            lines.append(" ".join([("H", "C")[atom % 2], *map(repr, map(float, numbers))]))
    return "\n".join(lines) + "\n"


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_from_a_file_to_a_page_and_predictions(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "train.xyz").write_text(frames(24, labelled=True))
    source = tmp_path / "train.xyz"
    found = compare(str(source), **SMALL, folds=2, cutoff=4, reasons="none", out=tmp_path / "run")
    assert [record.reason for record in found.records if record.status != "done"] == []
    assert (found.settings.model, found.settings.metric) == ("painn", "force_mae")
    assert found.settings.architecture["cutoff"] == 4
    assert found.verdict.scale.unit == "eV/Å"
    assert all("energy_mae" in dict(row.others) for row in found.verdict.rows)
    assert "energy_mae" in formatted({"train": found.verdict}, "csv").splitlines()[0].split(",")
    assert max(map(len, found.table().splitlines())) <= 80
    page = render_page(found.trials, found.verdict, found.settings.shown(), found.command)
    assert "Energy MAE<small>eV/atom" in page
    again = open_comparison(found.folder)
    assert json.dumps(again.to_dict(), allow_nan=False) == json.dumps(found.to_dict())

    # The exported model predicts what its record says.
    model = found.export(tmp_path / "model.safetensors", norm="layer")
    graphs = load_dataset(source, cutoff=4)
    outcome = predict(model, str(source))
    record = next(r for r in found.records if r.key == outcome.predictor.config.key)
    items = split_items(graphs, SplitConfig(**record.config["split"])).test
    error = (outcome.forces - graphs.atoms.forces)[graphs.node_ids(items)].abs().mean()
    assert record.scores["test"]["force_mae"] == pytest.approx(float(error), rel=1e-5)
    sizes = graphs.ptr.diff().unsqueeze(1)
    error = ((outcome.outputs - graphs.y) / sizes)[items].abs().mean()
    assert record.scores["test"]["energy_mae"] == pytest.approx(float(error), rel=1e-5)

    # Frames without labels need none; other atoms are refused.
    (tmp_path / "new.xyz").write_text(frames(5, labelled=False))
    rows = list(predict(model, str(tmp_path / "new.xyz")).rows())
    assert [row[:2] for row in rows[:5]] == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert len(rows[0]) == len(outcome.columns) == 6
    (tmp_path / "other.xyz").write_text("1\n\nO 0 0 0\n")
    with pytest.raises(GraphnormsError, match="8"):
        predict(model, str(tmp_path / "other.xyz"))
    narrow = load_dataset(source, cutoff=3)
    with pytest.raises(GraphnormsError, match="cutoff"):
        predict(model, narrow)


PAIRS = Frames(
    z=np.ones(20, int),
    pos=np.arange(60.0).reshape(20, 3),
    ptr=np.arange(11) * 2,
    energy=np.arange(10.0),
    forces=np.ones((20, 3)),
).pack("pairs", cutoff=6.0)
GRAPHS = random_graphs(20, seed=0)


@pytest.mark.parametrize(
    ("graphs", "options"),
    [
        (PAIRS, {"model": "gin"}),
        (PAIRS, {"model": "painn", "dropout": 0.1}),
        (PAIRS, {"preset": "graphnorm-paper"}),
        (PAIRS, {"metric": "mae"}),
        (PAIRS, {"group_twins": True}),
        (GRAPHS, {"model": "painn"}),
        (GRAPHS, {"force_weight": 3.0}),
        (GRAPHS, {"metric": "force_mae"}),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(graphs, options) -> None:
    with pytest.raises(ValueError, match=next(reversed(options)).replace("_", ".")):
        resolve(Options(**options), graphs, graphs.name)
