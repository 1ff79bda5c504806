"""Comparisons that search options, from the trials to the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from graphnorms.data import load_dataset
from graphnorms.errors import RunExistsError
from graphnorms.lab import duration
from graphnorms.lab.compare import compare, prepare
from graphnorms.lab.comparison import Comparison, open_comparison
from graphnorms.lab.model_export import chosen_trial, trial_words
from graphnorms.lab.options import Options
from graphnorms.lab.plan_sentences import plan_lines
from graphnorms.lab.sentences import sentences
from graphnorms.report.page import render_page
from graphnorms.training import Pace, load_model

SMALL: dict[str, Any] = {
    "norms": "none,graph",
    "search": "dropout,layers=1|2",
    "proposals": 5,
    "folds": 2,
    "epochs": 1,
    "hidden": 8,
    "workers": 1,
}
OPTIONS = ["learning_rate", "dropout", "layers"]


@pytest.fixture(scope="module")
def found(in_this_process_of_module, stub_page_of_module, tmp_path_factory) -> Comparison:
    return compare("MUTAG", out=tmp_path_factory.mktemp("search") / "run", **SMALL)


@pytest.fixture
def copy(found: Comparison, tmp_path: Path) -> Path:
    """The run's folder once more, to be changed."""
    return Path(shutil.copytree(found.folder, tmp_path / "copy"))


def test_records_verdict_and_frame_have_what_was_chosen(found):
    assert len(found.records) == found.planned == 2 * (2 * 5 + 2)
    assert not any(record.reason for record in found.records)
    for row in found.verdict.rows:
        final = [
            record.config["searched"]
            for record in found.records
            if (record.config["norm"], record.config["stage"]) == (row.norm, "final")
        ]
        assert [one.option for one in row.chosen] == OPTIONS
        for one in row.chosen:
            values = [values[one.option] for values in final]
            assert one.median == pytest.approx(np.mean(values))  # of two
            assert one.low == pytest.approx(0.75 * min(values) + 0.25 * max(values))
        assert row.finished
    frame = found.to_frame()
    assert (frame["searched_layers"] == frame["model_layers"]).all()
    assert (frame["searched_learning_rate"] == frame["learning_rate"]).all()
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["settings"]["search"] == {"dropout": "0:0.6", "layers": "1|2"}
    assert data["settings"]["proposals"] == 5
    assert data["verdict"]["rows"][0]["chosen"][0]["option"] == "learning_rate"
    assert "dropout" in data["sentences"]["chosen"]


def place_of(record) -> tuple[int, dict[str, float]]:
    return record.config["split"]["fold"], record.config["searched"]


def test_sensitivity_is_that_of_the_proposals_that_norms_share(found):
    """Three fixed ones in each of two folds, in thirds of their learning rates."""
    tried = {norm: [*found.trials[norm].tried.values()] for norm in ("none", "graph")}
    fixed = [
        record
        for norm, other in (("none", "graph"), ("graph", "none"))
        for record in tried[norm]
        if any(place_of(record) == place_of(another) for another in tried[other])
    ]
    assert len(fixed) == 2 * 2 * 3
    rates = np.array([record.config["learning_rate"] for record in fixed])
    edges = np.geomspace(rates.min(), rates.max(), 4)[1:3]
    for row in found.verdict.rows:
        one = row.sensitivity
        assert one is not None
        assert one.thirds
        mine = [r for r in fixed if r.config["norm"] == row.norm]
        thirds = np.searchsorted(edges, [r.config["learning_rate"] for r in mine], side="right")
        assert one.done == tuple(int((thirds == third).sum()) for third in range(3))
        for third, score in enumerate(one.scores):
            scores = [
                r.outcome["validation_score"]
                for r, of in zip(mine, thirds, strict=True)
                if of == third
            ]
            assert score == (pytest.approx(np.mean(scores)) if scores else None)
        assert not one.at_edge
    assert "thirds" in sentences(found.verdict).rates


def test_plan_and_page_show_space_number_and_choices(found, in_this_process_of_module):
    plan, _ = prepare("MUTAG", Options(**SMALL))
    text = " ".join(plan_lines(plan))
    for part in ("learning rate 0.001:0.02", "dropout 0:0.6", "layers 1|2", "GIN of 1|2 × 8"):
        assert part in text
    assert "5 proposals for each norm and fold, the first 3 the same for all norms" in text
    page = render_page(found.trials, found.verdict, found.settings.shown(), found.command)
    assert "What the search chose" in page
    assert "<small>0.001:0.02</small>" in page
    median = next(one.median for one in found.verdict.rows[0].chosen if one.option == "dropout")
    assert f"<td>{median:.3g}<small>" in page


def test_a_run_that_was_killed_goes_on_with_the_same_trials(
    found, copy, in_this_process, stub_page
):
    journal = copy / "records.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:9]) + lines[9][:40])
    again = compare(out=copy, resume=True)
    assert [record.key for record in again.records] == [record.key for record in found.records]
    assert len(in_this_process) == found.planned - 9
    wider = compare(out=copy, resume=True, norms="none,graph,batch")
    assert len(in_this_process) == found.planned - 9 + 12
    kept = [record.key for record in wider.records if record.config["norm"] != "batch"]
    assert sorted(kept) == sorted(record.key for record in found.records)
    with pytest.raises(RunExistsError, match="proposals: 5 there, 6 here"):
        compare(out=copy, resume=True, norms="none,graph,batch", proposals=6)
    with pytest.raises(RunExistsError, match=r"layers: 1\|2 there"):
        compare(out=copy, resume=True, norms="none,graph,batch", search="layers=1|3,dropout")


def test_the_model_that_is_exported_has_the_chosen_values(found, tmp_path):
    record = chosen_trial(found, "graph")
    values = record.config["searched"]
    assert f"layers {values['layers']}" in trial_words(record, "")
    model = load_model(found.export(tmp_path / "m.safetensors", "graph"))
    assert model.config.model["layers"] == values["layers"]
    assert len(model.model.convolutions) == values["layers"]
    assert open_comparison(found.folder).command == found.command


def test_the_expected_time_is_that_of_the_middle_of_the_space(monkeypatch):
    plan, _ = prepare("MUTAG", Options(**SMALL | {"search": "layers=2:8,batch_size=16:64"}))
    measured = []

    def pace(config, *_, **__) -> Pace:
        measured.append((config.model["layers"], config.batch_size))
        return Pace(start=0.0, step=1.0, evaluation=0.0, steps=5, steps_per_epoch=1)

    monkeypatch.setattr("graphnorms.training.measure_pace", pace)
    duration.estimate(plan)
    assert measured == [(5, 32)] * 2


def train(norm, split, seed, report, learning_rate, dropout=0.5, layers=3):
    """Best with 2 layers; at equal layers with little dropout."""
    nn.ModuleList(norm(7) for _ in range(layers))
    score = 1 - 0.1 * abs(layers - 2) - 0.01 * dropout
    return {"val": score, "test": score}


def test_values_are_searched_for_a_training_of_the_user(in_this_process, stub_page, tmp_path):
    graphs = load_dataset("MUTAG", edge_features="none")
    own = {"norms": "none,graph", "folds": 2, "workers": 1, "trial": train}
    wanted = {"search": "layers=1|2|3,dropout=0.1|0.4", "learning_rate": 0.01}
    comparison = compare(graphs, out=tmp_path / "run", **own, **wanted)
    assert [record.reason for record in comparison.records] == [""] * 2 * 2 * (6 + 1)
    for row in comparison.verdict.rows:
        assert {one.option: one.median for one in row.chosen} == {"dropout": 0.1, "layers": 2}
        assert row.score is not None
        assert row.score.mean == pytest.approx(0.999)
    with pytest.raises(ValueError, match=r"hidden.* takes no hidden"):
        compare(graphs, out=tmp_path / "other", **own, search="hidden")
