"""Reasons of a whole comparison, on complete graphs whose label is their size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graphnorms.data import GraphSet, Task
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import Comparison, open_comparison
from graphnorms.lab.journal import read_records

SMALL: dict[str, Any] = {
    "norms": "instance",
    "folds": 8,
    "epochs": 10,
    "learning_rate": 0.02,
    "hidden": 8,
    "layers": 2,
    "workers": 1,
}


def complete_graphs(number: int = 96) -> GraphSet:
    """Complete graphs of 4 or 7 nodes without features: all that is known of one is its size."""
    sizes = torch.tensor([4, 7]).repeat(number // 2)
    others = [[j for j in range(size) if j != i] for size in sizes.tolist() for i in range(size)]
    degrees = torch.tensor([0, *map(len, others)])
    return GraphSet(
        name="complete",
        x=torch.ones(int(sizes.sum()), 1),
        ptr=torch.cat((torch.zeros(1, dtype=torch.int64), sizes.cumsum(0))),
        edge_ptr=degrees.cumsum(0),
        edge_index=torch.tensor([j for row in others for j in row]),
        y=(sizes > 5).long(),
        task=Task(kind="classification", targets=("small", "large")),
        features="constant",
    )


def interventions(folder: Path) -> list[str | None]:
    return [r.config.get("intervention") for r in read_records(folder / "records.jsonl")]


def untimed(comparison: Comparison) -> Any:
    records = tuple(replace(record, timing={}) for record in comparison.records)
    return replace(comparison, records=records).verdict


def test_a_resumed_run_adds_the_trials_that_test_and_nothing_else(
    in_this_process: list[str], stub_page: None, tmp_path: Path
) -> None:
    graphs = complete_graphs()
    measured = compare(graphs, **SMALL, out=tmp_path / "run")
    folder = measured.folder
    assert interventions(folder) == [None] * measured.planned
    assert measured.why is not None
    wanted = measured.why.to_run()
    assert {config.norm for config in wanted} == {"none", "instance"}
    assert {reason.status for reason in measured.reasons} == {"consistent"}
    in_this_process.clear()

    tested = compare(graphs, **SMALL, reasons="tested", out=folder)
    assert sorted(in_this_process) == sorted(config.key for config in wanted)
    added = interventions(folder)[measured.planned :]
    assert sorted(map(str, added)) == sorted(str(config.intervention) for config in wanted)
    assert untimed(tested) == untimed(measured)
    assert [record.key for record in tested.records] == [r.key for r in measured.records]
    assert (tested.reasons[0].cause, tested.reasons[0].status) == ("lost-mean", "supported")
    assert tested.why is not None
    assert tested.why.to_run() == wanted

    in_this_process.clear()
    again = compare(graphs, **SMALL, reasons="tested", out=folder)
    assert in_this_process == []
    opened = open_comparison(folder)
    assert again.reasons == tested.reasons == opened.reasons
    assert json.loads(json.dumps(opened.to_dict()))["reasons"][0]["text"] in " ".join(
        tested.table().split()
    )
    assert "--reasons tested" in opened.command or "reasons='tested'" in opened.command


def test_reasons_can_be_left_out(
    in_this_process: list[str], stub_page: None, tmp_path: Path
) -> None:
    found = compare(
        complete_graphs(),
        **{**SMALL, "folds": 2, "epochs": 1},
        reasons="none",
        out=tmp_path / "run",
    )
    assert found.reasons == ()
    assert not any(record.measures for record in found.records)
    assert "Why" not in found.table()


@pytest.mark.parametrize("reasons", ["measured", "tested"])
def test_a_setting_that_is_the_default_is_not_written(reasons: str, tmp_path: Path) -> None:
    from graphnorms.lab.options import Options
    from graphnorms.lab.resolve import resolve

    settings = resolve(Options(reasons=reasons), complete_graphs(), "complete")
    assert ("reasons" in settings.to_dict()) == (reasons == "tested")
    again = Options.of(settings, {})
    assert again.reasons == (None if reasons == "measured" else "tested")
