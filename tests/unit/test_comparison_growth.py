"""A run that grows in its folder is, in the end, the run that was larger from the start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from graphnorms.errors import RunExistsError
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import Comparison, open_comparison
from graphnorms.lab.comparison_errors import ComparisonInterrupted
from graphnorms.lab.plan_sentences import kept_lines
from graphnorms.lab.verdict import Verdict

SMALL = {
    "norms": ("none", "graph"),
    "folds": 2,
    "epochs": 1,
    "learning_rate": (0.003, 0.01),
    "hidden": 8,
    "layers": 2,
    "workers": 1,
}
SPLIT = {"protocol": "split", "folds": None, "runs": 2}
PAPER = {"protocol": "paper"}

GROWTH = {
    "repeats": ({}, {"repeats": 2}),
    "seeds of a fold": ({}, {"runs": 2}),
    "norms": ({}, {"norms": ("none", "batch", "graph", "pair")}),
    "all at once": ({}, {"norms": ("none", "graph", "layer"), "runs": 2, "repeats": 2}),
    "seeds of a split": (SPLIT, {"runs": 4}),
    "norms on a split": (SPLIT, {"norms": ("none", "graph", "layer")}),
    "paper": (PAPER, {"repeats": 2, "runs": 2, "norms": ("none", "graph", "layer")}),
}


def untimed(comparison: Comparison) -> tuple[list[dict], Verdict]:
    """Records and verdict, but for measured times."""
    records = tuple(replace(record, timing={}) for record in comparison.records)
    return [r.without_timing() for r in records], replace(comparison, records=records).verdict


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "records.jsonl").read_bytes().splitlines()


@pytest.mark.parametrize(("start", "growth"), GROWTH.values(), ids=GROWTH)
def test_a_grown_run_is_the_run_made_at_once(in_this_process, stub_page, tmp_path, start, growth):
    small = SMALL | start
    first = compare("MUTAG", **small, out=tmp_path / "grown")
    before = lines_of(first.folder)
    assert len(in_this_process) == first.planned == len(before)
    statuses = []
    grown = compare("MUTAG", **small | growth, out=first.folder, progress=statuses.append)
    assert len(in_this_process) == len(set(in_this_process)) == grown.planned > first.planned
    assert lines_of(grown.folder)[: len(before)] == before, "byte for byte"
    assert len(lines_of(grown.folder)) == grown.planned
    assert statuses[0].ended == first.planned, "all that was there counts from the start"
    assert statuses[-1].ended == grown.planned
    assert statuses[0].changes

    in_this_process.clear()
    once = compare("MUTAG", **small | growth, out=tmp_path / "once")
    assert len(in_this_process) == once.planned
    assert untimed(grown) == untimed(once)
    grown_config, config = (
        json.loads((found.folder / "config.json").read_text()) for found in (grown, once)
    )
    assert grown_config == config
    assert untimed(open_comparison(grown.folder)) == untimed(once)
    assert grown.command == once.command


def test_a_run_grows_step_by_step_and_by_resume(in_this_process, stub_page, tmp_path):
    """What is not said comes from the run."""
    compare("MUTAG", **SMALL, out=tmp_path / "run")
    again = {"out": tmp_path / "run", "resume": True, "workers": 1}
    compare(**again, repeats=2)
    compare(**again, norms="none,graph,pair")
    grown = compare(**again, runs=2)
    assert len(in_this_process) == len(set(in_this_process)) == grown.planned
    sizes = {"repeats": 2, "runs": 2, "norms": ("none", "graph", "pair")}
    once = compare("MUTAG", **SMALL | sizes, out=tmp_path / "once")
    assert untimed(grown) == untimed(once)


def test_another_margin_judges_anew_and_trains_nothing(in_this_process, stub_page, tmp_path):
    """Eight folds of two norms are enough to judge."""
    small = SMALL | {"folds": 8, "learning_rate": 0.01}
    first = compare("MUTAG", **small, out=tmp_path / "run")
    trained = list(in_this_process)
    statuses = []
    wider = compare("MUTAG", **small, margin=0.2, out=first.folder, progress=statuses.append)
    assert in_this_process == trained
    assert wider.records == first.records
    assert (first.verdict.margin, wider.verdict.margin) == (0.01, 0.2)
    assert "within 1 point" in repr(first)
    assert "within 20 points" in repr(wider)
    assert statuses[0].changes == ("margin not set → 0.2",)
    assert open_comparison(first.folder).verdict == wider.verdict, "kept by the folder"

    looked = open_comparison(first.folder, margin=0.03)
    assert looked.verdict.margin == 0.03
    assert "--margin 0.03" in looked.command
    assert "within 3 points" in repr(looked)
    assert looked.to_dict()["verdict"]["margin"] == 0.03
    assert open_comparison(first.folder).verdict == wider.verdict, "to look keeps nothing"
    with pytest.raises(ValueError, match="margin is -1, expected a number > 0"):
        open_comparison(first.folder, margin=-1)


def test_an_interrupted_growth_loses_nothing_and_hides_nothing(
    in_this_process, stub_page, tmp_path
):
    """A norm that joins chooses its rates first; the others' outcomes stay where they are."""
    first = compare("MUTAG", **SMALL, out=tmp_path / "run")
    larger = SMALL | {"norms": ("none", "graph", "pair"), "repeats": 2}
    for stop in (first.planned, first.planned + 1, first.planned + 6):

        def interrupt(status, stop=stop):
            if status.ended == stop:
                raise KeyboardInterrupt

        with pytest.raises(ComparisonInterrupted) as caught:
            compare("MUTAG", **larger, out=first.folder, progress=interrupt)
        early = caught.value.comparison
        assert set(map(repr, first.records)) <= set(map(repr, early.records))
        assert len(early.records) == stop == len(open_comparison(first.folder).records)
        assert early.verdict.row("graph").done >= first.verdict.row("graph").done
    whole = compare("MUTAG", **larger, out=first.folder)
    assert len(in_this_process) == len(set(in_this_process)) == whole.planned
    assert untimed(whole) == untimed(compare("MUTAG", **larger, out=tmp_path / "once"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norms": ("none", "batch")}, r"ask for --norms none,graph,batch, or choose another fol"),
        ({"repeats": 1}, r"more \(repeats: 2 there, 1 here\), .* ask for --repeats 2 or more, or"),
        ({"epochs": 2, "repeats": 3}, r"other settings \(epochs: 1 there, 2 here\); choose anot"),
        ({"batch_size": 16}, r"\(batch size: 32 there, 16 here\)"),
        ({"hidden": 16}, r"\(hidden: 8 there, 16 here\)"),
        ({"model": "gcn"}, r"\(model: gin there, gcn here\)"),
        ({"learning_rate": (0.003, 0.01, 0.03)}, r"rates: 0.003,0.01 there, 0.003,0.01,0.03 here"),
        ({"features": "degree"}, r"fingerprint: "),
        ({"folds": 3}, r"\(folds: 2 there, 3 here\)"),
    ],
)
def test_what_is_no_growth_is_refused(in_this_process, stub_page, tmp_path, change, message):
    small = SMALL | {"repeats": 2}

    def stop(status):
        if status.ended == 14:  # 12 trials of the first repeat, and 2 more
            raise KeyboardInterrupt

    with pytest.raises(ComparisonInterrupted):
        compare("MUTAG", **small, out=tmp_path / "run", progress=stop)
    trained = list(in_this_process)
    config = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunExistsError, match=message) as caught:
        compare("MUTAG", **small | change, out=tmp_path / "run")
    assert f"--out {tmp_path / 'run-2'}" in str(caught.value)
    assert in_this_process == trained
    assert (tmp_path / "run" / "config.json").read_bytes() == config


def test_what_is_there_is_said():
    said = kept_lines(Path("runs/x"), ("runs 1 → 2", "norms + pair"), 40, 60)
    assert said == [
        "The run in runs/x changes: runs 1 → 2; norms + pair.",
        "40 of 60 trials are there already.",
    ]
    assert kept_lines(Path("runs/x"), (), 60, 60) == ["All 60 trials are there already."]
    assert kept_lines(Path("runs/x"), (), 0, 60) == []
