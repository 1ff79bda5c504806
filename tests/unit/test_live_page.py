"""The page of a run that goes on."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from graphnorms.lab import live_page
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison

SMALL = {"norms": "graph", "folds": 4, "epochs": 1, "learning_rate": 0.01, "hidden": 4}
TRIALS = 8


@pytest.fixture
def pages(monkeypatch) -> list[tuple[int, str]]:
    """The records and the state of every page that is written."""
    found: list[tuple[int, str]] = []

    def write_page(path, trials, *_, live="", **more):
        found.append((len(trials.every), live))
        path.touch()

    page = SimpleNamespace(write_page=write_page)
    monkeypatch.setitem(sys.modules, "graphnorms.report.page", page)
    monkeypatch.setattr("graphnorms.report.pictures.write_pictures", lambda *_: [])
    return found


def test_pages_while_it_runs_and_a_last_one(monkeypatch, tmp_path, in_this_process, pages):
    monkeypatch.setattr(live_page, "_PAGE_AGE", 0.0)
    monkeypatch.setattr(live_page, "_TIMES_ITS_COST", 0.0)
    compare("MUTAG", **SMALL, out=tmp_path / "run")
    *live, last = pages
    assert [number for number, _ in live] == list(range(1, TRIALS))
    assert all(state.startswith(f"{number} of {TRIALS} trials") for number, state in live)
    assert last == (TRIALS, ""), "the last page does not load itself again"


def test_a_short_run_writes_one_page(tmp_path, in_this_process, pages):
    compare("MUTAG", **SMALL, out=tmp_path / "run")
    assert pages == [(TRIALS, "")]


def test_without_a_folder_for_temporary_files_it_trains(monkeypatch):
    monkeypatch.setattr(live_page, "start_bundling", Mock(side_effect=FileNotFoundError))
    live_page.LivePage(lambda: None)


def test_a_page_costs_a_fiftieth_of_the_time_at_most(monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(live_page.time, "monotonic", lambda: now[0])

    def report(**_):
        written.append(now[0])
        now[0] += 3.0

    comparison = SimpleNamespace(judgeable=True, planned=10**6, report=report)
    page = live_page.LivePage(lambda: comparison)
    while now[0] < 10_000:
        now[0] += 1.0
        page.write_if_due(1)
    assert 3.0 * len(written) <= 0.02 * now[0] + 3.0
    assert len(written) > 50


def test_a_page_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path, in_this_process, pages):
    def fails(path, records, *_, live="", **more):
        if live:
            pages.append((len(records), live))
            raise OSError("no space")
        path.touch()

    monkeypatch.setattr(live_page, "_PAGE_AGE", 0.0)
    monkeypatch.setattr(live_page, "_TIMES_ITS_COST", 0.0)
    monkeypatch.setattr(sys.modules["graphnorms.report.page"], "write_page", fails)
    found = compare("MUTAG", **SMALL, out=tmp_path / "run")
    assert len(found.records) == TRIALS
    assert len(pages) == 1, "tried once"


def test_what_such_a_page_has(tmp_path, in_this_process):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphnorms.lab.comparison.Comparison.report", lambda *_, **__: folder)
        compare("MUTAG", **SMALL, out=folder)
    comparison = open_comparison(folder)
    still = comparison.report(tmp_path / "still.html", figures=False).read_text()
    live = comparison.report(tmp_path / "live.html", figures=False, live=True).read_text()
    for words in ('http-equiv="refresh"', "location.reload()", "This run goes on"):
        assert words in live
        assert words not in still
    assert "default-src 'none'" in live, "it loads nothing else"
