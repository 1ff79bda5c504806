"""The dask engine, with a real scheduler and two worker processes that can be killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.faults import alive, dask_cluster, make_config, wait_until

import graphnorms
from graphnorms.errors import GraphnormsError
from graphnorms.lab.compare import compare
from graphnorms.lab.engines import dask as dask_module
from graphnorms.lab.engines import is_settled, make_engine
from graphnorms.lab.engines.packing import pack
from graphnorms.training.record import Record

distributed = pytest.importorskip("distributed")


SMALL = {
    "norms": "graph",
    "folds": 2,
    "epochs": 2,
    "learning_rate": (0.003, 0.01),
    "hidden": 8,
    "layers": 2,
}


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a scheduler with two workers, which are restarted when they die."""
    with dask_cluster(tmp_path_factory.mktemp("dask")) as (address, _):
        yield address


class Data:
    """Notes in a folder which process unpacks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        def unpack(folder):
            import os
            import uuid

            folder.joinpath(f"unpacked-{os.getpid()}-{uuid.uuid4()}").touch()
            return folder

        return unpack, (self.folder,)


def make_trial(faults: dict[int, str]):
    """A trial of `config.epochs` epochs that notes which process began it, and its epochs."""

    def trial(config, folder, on_epoch):
        import os
        import signal
        import time

        import torch

        begun = folder / f"begun-{config.run}-{os.getpid()}"
        begun.touch()
        fault = faults.get(config.run)
        for epoch in range(config.epochs):
            time.sleep(0.02)
            if epoch == 1 and fault == "hang":
                time.sleep(600)
            if epoch == 1 and fault == "raise":
                raise RuntimeError("the loss\nis not finite")
            first_try = len(list(folder.glob(f"begun-{config.run}-*"))) == 1
            if epoch == 1 and (fault == "kill" or (fault == "kill once" and first_try)):
                os.kill(os.getpid(), signal.SIGKILL)
            with begun.open("a") as file:
                file.write(".")
            on_epoch()
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            environment={"process": os.getpid(), "threads": torch.get_num_threads()},
        )

    return trial


def engine(scheduler: str, folder: Path, faults=(), **options):
    return make_engine(
        "dask", make_trial(dict(faults)), Data(folder), workers=1, scheduler=scheduler, **options
    )


def test_trials_run_on_both_workers_and_data_is_sent_to_each_once(scheduler, tmp_path):
    def then(record):
        return [make_config(10, "graph", "final")] if record.config["run"] < 2 else []

    seen = Counter()
    with engine(scheduler, tmp_path) as dask:
        wait_until(lambda: dask.workers == 2)
        first = list(dask.run([make_config(run, epochs=20) for run in range(6)], seen.update, then))
        second = list(dask.run([make_config(run) for run in range(20, 22)]))
    records = {record.config["run"]: record for record in first + second}
    assert sorted(records) == [0, 1, 2, 3, 4, 5, 10, 20, 21]
    assert {record.status for record in records.values()} == {"done"}
    assert records[0].config == make_config(0, epochs=20).to_dict()
    processes = {str(record.environment["process"]) for record in records.values()}
    assert len(processes) == 2
    assert {record.environment["threads"] for record in records.values()} == {1}
    assert Counter(path.name.split("-")[1] for path in tmp_path.glob("unpacked-*")) == Counter(
        processes
    )
    assert max(seen.values()) > 5, "epochs were told while trials ran"


def test_faults_stop_nobody_else(scheduler, tmp_path):
    faults = {1: "raise", 2: "kill once", 3: "kill"}
    with engine(scheduler, tmp_path, faults) as dask:
        records = {
            record.config["run"]: record
            for record in dask.run([make_config(run) for run in range(6)])
        }
    statuses = [records[run].status for run in range(6)]
    assert statuses == ["done", "failed", "done", "failed", "done", "done"]
    assert records[1].reason == "RuntimeError: the loss is not finite"
    assert records[3].reason.startswith("its worker process died twice (SIGKILL(-9), ")
    assert ", on dask worker tcp://" in records[3].reason
    assert not is_settled(records[3]), "a later call tries it again"
    begun = Counter(path.name.split("-")[1] for path in tmp_path.glob("begun-*"))
    assert begun == {"0": 1, "1": 1, "2": 2, "3": 2, "4": 1, "5": 1}


def test_with_a_time_limit_every_trial_has_a_process_of_its_own(scheduler, tmp_path):
    faults = {1: "raise", 2: "kill once", 3: "kill", 4: "hang"}
    with engine(scheduler, tmp_path, faults, timeout=4.0, fresh=True) as dask:
        records = {
            record.config["run"]: record
            for record in dask.run([make_config(run) for run in range(6)])
        }
    reasons = [records[run].reason for run in range(6)]
    assert reasons[:3] == ["", "RuntimeError: the loss is not finite", ""]
    assert reasons[3].startswith("its worker process died twice (SIGKILL(-9), out of memory?, on ")
    assert reasons[4:] == ["over the time limit of 4 s", ""]
    processes = [records[run].environment["process"] for run in (0, 2, 5)]
    assert len(set(processes)) == 3
    assert records[0].environment["threads"] == 1
    for path in tmp_path.glob("begun-*"):
        assert not alive(int(path.name.split("-")[2]))


def test_a_record_that_is_lost_on_its_way_is_fetched_again(scheduler, tmp_path, monkeypatch):
    result, lost = distributed.Future.result, []

    def losing(future, timeout=None):
        found = result(future, timeout)
        if len(lost) < 2:
            lost.append(found)
            raise OSError("the connection was reset")
        return found

    monkeypatch.setattr(distributed.Future, "result", losing)
    with engine(scheduler, tmp_path) as dask:
        records = list(dask.run([make_config(0)]))
    assert [record.status for record in records] == ["done"]
    assert len(lost) == 2


def test_a_worker_killed_from_outside_costs_one_more_try(scheduler, tmp_path):
    with engine(scheduler, tmp_path) as dask:
        configs = [make_config(run, epochs=60) for run in range(4)]
        with closing(dask.run(configs)) as running:
            killer = threading.Thread(target=_kill_the_first, args=(tmp_path,))
            killer.start()
            records = list(running)
            killer.join()
    assert [record.status for record in records] == ["done"] * 4
    tries = Counter(path.name.split("-")[1] for path in tmp_path.glob("begun-*"))
    assert sorted(tries.values()) == [1, 1, 1, 2]


def _kill_the_first(folder: Path) -> None:
    wait_until(lambda: any(path.stat().st_size for path in folder.glob("begun-*")))
    victim = next(folder.glob("begun-*"))
    os.kill(int(victim.name.split("-")[2]), signal.SIGKILL)


def test_closing_the_iterator_cancels_what_is_running(scheduler, tmp_path):
    with engine(scheduler, tmp_path) as dask:
        with closing(dask.run([make_config(0, epochs=3), make_config(1, epochs=5000)])) as records:
            next(records)
            wait_until(lambda: len(list(tmp_path.glob("begun-1-*"))) == 1)
        begun = next(tmp_path.glob("begun-1-*"))
        wait_until(lambda: _stands_still(begun))
        assert [record.status for record in dask.run([make_config(2)])] == ["done"]
    assert not list(tmp_path.glob("begun-1-*-*"))


def _stands_still(path: Path) -> bool:
    size = path.stat().st_size
    time.sleep(0.3)
    return path.stat().st_size == size


def test_a_worker_with_another_version_is_one_error(scheduler, tmp_path, monkeypatch):
    get_versions = distributed.Client.get_versions

    def other_version_here(client, **options):
        found = get_versions(client, **options)
        found["client"]["packages"]["graphnorms"] = "99.0"
        return found

    monkeypatch.setattr(distributed.Client, "get_versions", other_version_here)
    with (
        engine(scheduler, tmp_path) as dask,
        pytest.raises(GraphnormsError) as caught,
    ):
        list(dask.run([make_config()]))
    message = str(caught.value)
    assert "\n" not in message
    assert f"has graphnorms {graphnorms.__version__}, here is 99.0; install" in message
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_unpacked_is_one_error(scheduler):
    class Refuses:
        def __reduce__(self):
            def refuse():
                raise RuntimeError("no such data here")

            return refuse, ()

    with (
        make_engine("dask", make_trial({}), Refuses(), workers=1, scheduler=scheduler) as dask,
        pytest.raises(GraphnormsError, match=r"dask worker tcp://\S+ cannot start: .*no such data"),
    ):
        list(dask.run([make_config()]))


def test_a_scheduler_that_does_not_answer_is_one_error(monkeypatch):
    monkeypatch.setattr(dask_module, "_CONNECT", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense://x", "127.0.0.1"):
        with (
            make_engine("dask", make_trial({}), None, workers=1, scheduler=address) as dask,
            pytest.raises(GraphnormsError, match="no dask scheduler answers at"),
        ):
            list(dask.run([make_config()]))


def test_nothing_to_run_needs_no_scheduler():
    with make_engine("dask", make_trial({}), None, workers=1, scheduler="tcp://nowhere:1") as dask:
        assert list(dask.run([])) == []


def test_a_comparison_on_dask_is_that_of_this_machine(
    scheduler, tmp_path, in_this_process, stub_page, monkeypatch
):
    here = compare("MUTAG", **SMALL, out=tmp_path / "here")
    monkeypatch.undo()
    monkeypatch.setattr("graphnorms.lab.comparison.Comparison.report", lambda self: None)
    there = compare("MUTAG", **SMALL, out=tmp_path / "there", engine="dask", scheduler=scheduler)
    assert len(there.records) == there.planned == 12
    assert [r.without_timing() for r in there.records] == [r.without_timing() for r in here.records]


def test_a_process_that_stays_idle_ends_and_the_next_trial_starts_another(monkeypatch):
    """As when the engine was killed, which then never says that it has gone."""

    def trial(config, dataset, on_epoch):
        return Record(key=config.key, config=config.to_dict(), status="done")

    monkeypatch.setattr(dask_module, "_IDLE", 0.2)
    worker = SimpleNamespace(log_event=lambda *_: None)
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    dask_module.keep("token", pack(trial, None), None, False)
    process = dask_module._processes["token"]
    try:
        for run in (0, 1):
            config = make_config(run, epochs=1)
            assert dask_module.run(config, "token", f"try {run}").key == config.key
            wait_until(lambda: process._child is None)
    finally:
        dask_module.forget("token")
