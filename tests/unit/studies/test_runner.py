"""Running a study: what is kept, what is measured again, and what a killed one leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from graphnorms.errors import GraphnormsError
from graphnorms.lab.journal import read_records
from graphnorms.studies import runner
from graphnorms.studies.runner import (
    Progress,
    StudyInterrupted,
    redraw_study,
    run_study,
    source_hash,
)
from graphnorms.studies.study import Settings
from graphnorms.studies.study_results import MEASUREMENTS, PNG, RESULT, SVG, StudyResult, load, save
from tests.faults import ROOT, wait_until
from tests.unit.studies.fake import CASES, make_study

DEFAULT = Settings()


@pytest.fixture
def notes(tmp_path) -> Path:
    return tmp_path / "notes"


def begun(notes: Path) -> Counter[str]:
    return Counter(notes.read_text().split()) if notes.exists() else Counter()


def run(study, folder, settings=DEFAULT, **how) -> StudyResult:
    return run_study(study, settings, folder, **{"workers": 0, "command": "fake"} | how)


def findings(result: StudyResult) -> tuple:
    return result.finding, result.measurements


def test_everything_is_written_beside_each_other(tmp_path):
    result = run(make_study(), tmp_path / "there")
    assert {path.name for path in (tmp_path / "there").iterdir()} == {
        MEASUREMENTS,
        RESULT,
        SVG,
        PNG,
    }
    assert load(tmp_path / "there") == result
    assert result.finding.verdict == "confirmed"
    assert result.finding.numbers == {"difference": pytest.approx(10 / 3), "unknown": None}
    assert result.measurements[0].values["curve"] == [1.0, None]
    assert result.cases == 2 * CASES
    assert result.command == "fake"
    data = json.loads((tmp_path / "there" / RESULT).read_text())
    assert data["settings"] == {"size": "default", "seed": 0, "data": None, "confidence": 0.95}
    assert data["machine"]["versions"]["torch"]


@pytest.mark.full("worker processes and Dask")
def test_worker_processes_find_the_same(tmp_path):
    here = run(make_study(), tmp_path / "here")
    there = run(make_study(), tmp_path / "there", workers=2)
    assert findings(there) == findings(here)
    assert (tmp_path / "here" / SVG).read_bytes() == (tmp_path / "there" / SVG).read_bytes()


def test_what_was_measured_is_not_measured_again(tmp_path, notes):
    study, told = make_study(notes), list[Progress]()
    first = run(study, tmp_path / "x")
    again = run(study, tmp_path / "x", on_progress=told.append)
    assert findings(again) == findings(first)
    assert again.measured == first.measured
    assert set(begun(notes).values()) == {1}
    assert [(each.done, each.kept, each.remaining) for each in told] == [(12, 12, None)]


def test_other_settings_and_changed_code_are_measured_anew(tmp_path, notes, monkeypatch):
    study = make_study(notes)
    first = run(study, tmp_path / "x")
    other = run(study, tmp_path / "x", Settings(seed=1))
    assert other.measurements != first.measurements
    assert set(begun(notes).values()) == {2}
    assert findings(run(study, tmp_path / "x")) == findings(first), "both are kept"
    assert set(begun(notes).values()) == {2}
    monkeypatch.setattr(runner, "source_hash", lambda study: "f" * 16)
    run(study, tmp_path / "x")
    assert set(begun(notes).values()) == {3}


def test_source_hash_is_that_of_the_studys_file():
    from graphnorms.studies.study_list import study_named

    assert source_hash(make_study()) == source_hash(make_study(seconds=1.0))
    assert source_hash(make_study()) != source_hash(study_named("gradient-flow"))


def test_progress(tmp_path):
    told = list[Progress]()
    run(make_study(), tmp_path / "x", on_progress=told.append)
    assert [each.done for each in told] == list(range(2 * CASES + 1))
    assert told[0].remaining is None
    assert told[3].case == {"norm": "none", "seed": 1}
    assert told[-1].remaining == 0


@pytest.mark.full("kills of whole runs")
@pytest.mark.skipif(os.name == "nt", reason="the signals of POSIX")
def test_a_killed_study_goes_on_where_it_stopped(tmp_path, notes):
    undisturbed = run(make_study(), tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.unit.studies.fake", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(lambda: begun(folder / "notes").total() >= 4, seconds=120)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # As a kill in the middle of a write would leave it.
    with (folder / MEASUREMENTS).open("a") as file:
        file.write('{"key":"torn')
    done = begun(folder / "notes")
    result = run(make_study(folder / "notes"), folder)
    assert findings(result) == findings(undisturbed)
    assert (folder / SVG).read_bytes() == (tmp_path / "undisturbed" / SVG).read_bytes()
    again = begun(folder / "notes") - done
    assert again.total() < 2 * CASES - 1, "what was measured before the kill was kept"
    assert set(begun(folder / "notes").values()) <= {1, 2}
    assert max(Counter(record.key for record in read_records(folder / MEASUREMENTS)).values()) == 1


def test_ctrl_c_says_how_to_go_on(tmp_path):
    def interrupt(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(StudyInterrupted, match="4 of 12 cases of gradient-flow are measured"):
        run(make_study(), tmp_path / "x", on_progress=interrupt)
    assert run(make_study(), tmp_path / "x").cases == 12


def test_a_case_that_fails_is_named_and_tried_again(tmp_path, notes):
    with pytest.raises(GraphnormsError) as caught:
        run(make_study(notes, broken=True), tmp_path / "x")
    assert str(caught.value) == (
        "study gradient-flow, norm none, seed 0: RuntimeError: the disk is made of cheese"
    )
    assert not (tmp_path / "x" / RESULT).exists()
    assert run(make_study(notes), tmp_path / "x").cases == 12


def test_redraw_measures_nothing(tmp_path, notes):
    first = run(make_study(notes), tmp_path / "x")
    stricter = make_study(
        notes,
        broken=True,
        rule="Never.",
        judge=lambda measurements, settings: replace(first.finding, verdict="not confirmed"),
    )
    (tmp_path / "x" / SVG).unlink()
    again = redraw_study(stricter, tmp_path / "x")
    assert (again.rule, again.finding.verdict) == ("Never.", "not confirmed")
    assert again.measurements == first.measurements
    assert load(tmp_path / "x") == again
    assert (tmp_path / "x" / SVG).exists()
    assert set(begun(notes).values()) == {1}


def test_redraw_needs_measurements(tmp_path):
    with pytest.raises(GraphnormsError, match=r"has no result\.json to draw again; measure it"):
        redraw_study(make_study(), tmp_path)
    result = run(make_study(), tmp_path / "x")
    save(replace(result, measurements=()), tmp_path / "short")
    assert load(tmp_path / "short").cases == result.cases
    with pytest.raises(GraphnormsError, match="left out of this copy; measure again"):
        redraw_study(make_study(), tmp_path / "short")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("finding"),
        lambda data: data["finding"].update(verdict="perhaps"),
        lambda data: data["settings"].update(size="huge"),
        lambda data: data.update(surplus=1),
        lambda data: data.update(measurements=[1]),
    ],
)
def test_a_damaged_result_is_named(tmp_path, damage):
    run(make_study(), tmp_path)
    data = json.loads((tmp_path / RESULT).read_text())
    damage(data)
    (tmp_path / RESULT).write_text(json.dumps(data))
    with pytest.raises(GraphnormsError, match=r"result\.json: not the result of a study"):
        load(tmp_path)


def test_data_folder_comes_back(tmp_path):
    settings = Settings(seed=3, data=tmp_path)
    assert run(make_study(), tmp_path / "x", settings).settings == settings
    assert load(tmp_path / "x").settings == settings
