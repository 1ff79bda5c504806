"""Whole runs, in processes of their own, that are killed, interrupted and starved."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from tests.faults import (
    FINALS,
    RATES,
    ROOT,
    SELECTIONS,
    SETTINGS,
    command,
    complete,
    dask_cluster,
    disturb,
    make_trial,
    wait_until,
    without_timing,
)

from graphnorms.lab.engines import WORKER_DIED, ThisProcess
from graphnorms.lab.journal import read_records
from graphnorms.lab.run import RECORDS

PLANNED = len(SETTINGS["norms"]) * (len(RATES) * SELECTIONS + FINALS)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the signals of POSIX")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[dict]:
    """What a run finds that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with ThisProcess(make_trial(folder / "notes", seconds=0), None) as engine:
        records = complete(folder / "run", engine)
    assert len(records) == PLANNED
    assert {record.status for record in records} == {"done", "failed"}
    assert executions(folder / "notes") == dict.fromkeys((record.key for record in records), 1)
    return without_timing(records)


def executions(notes: Path) -> dict[str, int]:
    """How often each trial was begun."""
    return Counter(notes.read_text().split()) if notes.exists() else Counter()


class Watch:
    """Looks, each time a run was stopped, whether something was lost or done twice."""

    def __init__(self, folder: Path, notes: Path) -> None:
        self.journal, self.notes = folder / RECORDS, notes
        self.done: dict[str, tuple[dict, int]] = {}

    def __call__(self) -> None:
        records = read_records(self.journal) if self.journal.exists() else []
        begun = executions(self.notes)
        now = {
            record.key: (record.without_timing(), begun[record.key])
            for record in records
            if not record.reason.startswith(WORKER_DIED)
        }
        for key, before in self.done.items():
            assert now[key] == before, "what was recorded stays, and is not begun again"
        self.done = now


def finish(folder: Path, notes: Path) -> list[dict]:
    """Let a run come to its end, in this process; what it has found."""
    with ThisProcess(make_trial(notes, seconds=0), None) as engine:
        return without_timing(complete(folder, engine))


def kill_and_finish(tmp_path, undisturbed, kills: int, seed: int) -> Counter[str]:
    folder, notes = tmp_path / f"run-{seed}", tmp_path / f"notes-{seed}"
    watch = Watch(folder, notes)
    killed = disturb(command(folder, notes, "--seconds", "0.06"), kills, Random(seed), watch)
    found = finish(folder, notes)
    watch()
    if (folder / RECORDS).read_text().count(WORKER_DIED):
        # Two kills in a row have hit one trial; what followed from its failure was tried as well.
        keys = {record["key"] for record in undisturbed}
        found = [record for record in found if record["key"] in keys]
    assert found == undisturbed
    return killed


def test_kills_at_random_moments_change_nothing(tmp_path, undisturbed):
    killed = kill_and_finish(tmp_path, undisturbed, kills=4, seed=0)
    assert killed.total() >= 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_200_kills_at_random_moments_change_nothing(tmp_path, undisturbed):
    killed: Counter[str] = Counter()
    seed = 1
    while killed.total() < 200:
        killed += kill_and_finish(tmp_path, undisturbed, kills=8, seed=seed)
        seed += 1
    print(f"{dict(killed)} in {seed - 1} runs")
    assert min(killed["parent"], killed["worker"]) > 40


@pytest.mark.parametrize(
    "kills", [1, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_kills_of_the_dask_scheduler_lose_and_fail_no_trial(tmp_path, undisturbed, kills):
    pytest.importorskip("distributed")
    random, number, killed, rounds = Random(kills), 0, 0, 0
    watch = Watch(tmp_path / "run-0", tmp_path / "notes-0")
    while killed < kills:
        rounds += 1
        with dask_cluster(tmp_path / f"dask-{rounds}") as (address, scheduler):
            folder = watch.journal.parent
            parent = subprocess.Popen(
                command(folder, watch.notes, "--scheduler", address, "--seconds", "0.3"),
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                wait_for_a_trial(parent, watch.notes)
                time.sleep(random.uniform(0, 4))
                if parent.poll() is None:
                    scheduler.kill()
                    killed += 1
                _, errors = parent.communicate(timeout=60)
            finally:
                parent.kill()
        watch()
        assert WORKER_DIED not in watch.journal.read_text()
        if parent.returncode == 0:
            assert finish(folder, watch.notes) == undisturbed
            number += 1
            watch = Watch(tmp_path / f"run-{number}", tmp_path / f"notes-{number}")
        else:
            assert "lost the dask scheduler" in errors.splitlines()[-1], errors
    assert finish(watch.journal.parent, watch.notes) == undisturbed
    print(f"{killed} kills in {rounds} rounds, {number} runs came to their end")


def wait_for_a_trial(parent: subprocess.Popen, notes: Path) -> None:
    """Wait until a process has begun a trial, or has ended."""
    before = executions(notes).total()
    wait_until(lambda: executions(notes).total() > before or parent.poll() is not None, 60)


@pytest.mark.parametrize("space", [100, 3000])
def test_a_full_disk_stops_a_run_and_changes_nothing(tmp_path, undisturbed, space):
    folder, notes = tmp_path / "run", tmp_path / "notes"
    notes.touch()
    full = subprocess.run(
        command(folder, notes, "--workers", "0", "--seconds", "0", "--disk", str(space)),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert full.returncode == 1
    assert "File too large" in full.stderr.splitlines()[-1]
    if space == 3000:
        content = (folder / RECORDS).read_bytes()
        assert len(content) == space
        assert 0 < len(read_records(folder / RECORDS)) == content.count(b"\n")
    watch = Watch(folder, notes)
    watch()
    assert finish(folder, notes) == undisturbed
    watch()


def test_a_last_line_torn_at_any_byte_changes_nothing(tmp_path, undisturbed):
    with ThisProcess(make_trial(tmp_path / "notes", seconds=0), None) as engine:
        complete(tmp_path / "run", engine)
        journal = tmp_path / "run" / RECORDS
        whole = journal.read_bytes()
        last = whole.rfind(b"\n", 0, -1) + 1
        for cut in {*range(last, len(whole), 7), len(whole) - 1}:
            journal.write_bytes(whole[:cut])
            (tmp_path / "notes").unlink()
            assert without_timing(complete(tmp_path / "run", engine)) == undisturbed
            assert len((tmp_path / "notes").read_text().split()) == 1


def test_of_two_processes_on_one_run_one_is_refused(tmp_path, undisturbed):
    folder, notes = tmp_path / "run", tmp_path / "notes"
    both = [
        subprocess.Popen(
            command(folder, notes, "--workers", "0", "--seconds", "0.02"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = {
        process.returncode: errors for process in both for errors in process.communicate()[1:]
    }
    assert set(errors) == {0, 1}
    assert errors[0] == ""
    assert errors[1].splitlines()[-1].endswith("another process is writing records.jsonl")
    assert finish(folder, notes) == undisturbed
    assert set(executions(notes).values()) == {1}


def test_a_run_ended_by_ctrl_c_can_be_read_and_continued(tmp_path, undisturbed):
    folder, notes = tmp_path / "run", tmp_path / "notes"
    watch = Watch(folder, notes)
    parent = subprocess.Popen(
        command(folder, notes, "--seconds", "0.1"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: (folder / RECORDS).exists() and (folder / RECORDS).stat().st_size > 1000)
    start = time.monotonic()
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert time.monotonic() - start < 20
    watch()
    assert 0 < len(watch.done) < PLANNED
    assert finish(folder, notes) == undisturbed
    watch()
