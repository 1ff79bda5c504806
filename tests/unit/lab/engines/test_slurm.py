"""The Slurm engine, with submitit's local executor in the place of Slurm."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.faults import alive, make_config, wait_until

from graphnorms.lab.engines import check_engine, make_engine, options_of
from graphnorms.training.record import Record

pytest.importorskip("submitit")

ON_THIS_MACHINE = {"cluster": "local"}


def make_trial(notes: Path):
    """A trial of three epochs that notes its process; run 1 raises, run 2 kills its job once."""

    def trial(config, dataset, on_epoch):
        import os
        import signal
        import time

        begun = notes / f"{config.run}-{os.getpid()}"
        begun.touch()
        for _ in range(config.epochs):
            if config.run == 1:
                raise RuntimeError("no good")
            if config.run == 2 and len(list(notes.glob("2-*"))) == 1:
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(30)
            if config.run == 3:
                time.sleep(60)
            on_epoch()
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            counts={"data": len(dataset)},
        )

    return trial


@pytest.fixture
def notes(tmp_path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def make(notes: Path, folder: Path, **options):
    data = list(range(1000))
    return make_engine(
        "slurm", make_trial(notes), data, workers=2, asked=ON_THIS_MACHINE, folder=folder, **options
    )


def test_trials_that_end_well_raise_or_lose_their_job(notes, tmp_path):
    epochs = []
    with make(notes, tmp_path / "run") as engine:
        configs = [make_config(run) for run in range(3)]
        found = {record.config["run"]: record for record in engine.run(configs, epochs.append)}
        data = list((tmp_path / "run").glob("jobs/*/data.pickle"))
        assert len(data) == 1, "sent once, to all jobs"
    assert (found[0].status, found[0].counts) == ("done", {"data": 1000})
    assert (found[1].status, found[1].reason) == ("failed", "RuntimeError: no good")
    assert found[2].status == "done"
    assert len(list(notes.glob("2-*"))) == 2, "a lost job costs one more try"
    assert any(epochs)
    assert not list((tmp_path / "run").glob("jobs/*/data.pickle"))
    logs = list((tmp_path / "run").glob("jobs/*/*"))
    assert len(logs) == 1, "of the job that died, and of no other"


def test_a_trial_over_its_time_fails_and_the_end_cancels_jobs(notes, tmp_path):
    with make(notes, tmp_path / "run", timeout=1.0) as engine:
        (record,) = engine.run([make_config(3)])
    assert (record.status, record.reason) == ("failed", "over the time limit of 1 s")
    with make(notes, tmp_path / "run") as engine:
        records = engine.run([make_config(3, "none")], lambda epochs: None)
        before = set(notes.glob("3-*"))
        with closing(records), pytest.raises(TimeoutError):
            _next_within(records, notes, before)
    process = int((set(notes.glob("3-*")) - before).pop().name.partition("-")[2])
    wait_until(lambda: not alive(process), 60)
    assert not (tmp_path / "run" / "jobs").exists() or not list(
        (tmp_path / "run").glob("jobs/*/data.pickle")
    )


def _next_within(records, notes: Path, before: set[Path]) -> None:
    """Wait for a record; raise as Ctrl-C would when the trial has begun."""

    def interrupt(number, frame):
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, interrupt)

    def watch():
        wait_until(lambda: set(notes.glob("3-*")) - before, 60)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGALRM)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        next(records)
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, old)


def test_options_of_jobs():
    assert options_of("partition=gpu, time=60,mem=8G") == {
        "partition": "gpu",
        "time": "60",
        "mem": "8G",
    }
    check_engine("slurm", None, "cluster=local,partition=gpu,gpus_per_node=1")
    for asked, message in (
        ("cluster=local,partion=gpu", "did you mean partition"),
        ("cluster=lsf", "unknown cluster 'lsf'"),
        ("partition", "expected name=value"),
        ("cluster=local,nodes=4", "unknown option of the slurm engine 'nodes'"),
    ):
        with pytest.raises(ValueError, match=message):
            check_engine("slurm", None, asked)
    with pytest.raises(ValueError, match="for the slurm engine"):
        check_engine(None, None, "partition=gpu")


def test_without_slurm_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="finds no srun"):
        check_engine("slurm", None, None)
