"""The engines of this machine, with fake trials that fail in every way a real one can.

Trial functions are made inside functions: cloudpickle then sends them to the workers by value.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.faults import alive, make_config, wait_until

from graphnorms.errors import GraphnormsError
from graphnorms.lab.engines import (
    ThisProcess,
    WorkerProcesses,
    default_workers,
    is_settled,
    make_engine,
)
from graphnorms.lab.engines import engine as engine_module
from graphnorms.training.record import Record

ROOT = str(Path(__file__).parents[4])
DATASET = {"graphs": [1, 2, 3]}
BOTH_ENGINES = pytest.mark.parametrize("workers", [0, 2])


FAULTS = {1: "raise", 3: "exit", 5: "kill once", 6: "kill"}
"""Which run does what wrong in its second epoch; the other runs are well."""


def make_trial(folder: Path, faults: dict[int, str]):
    """A trial of three epochs that notes in `folder` which process began it."""

    def trial(config, dataset, on_epoch):
        import os
        import signal
        import sys

        import torch

        folder.joinpath(f"{config.run}-{os.getpid()}").touch()
        fault = faults.get(config.run)
        for epoch in range(config.epochs):
            if epoch == 1:
                if fault == "raise":
                    raise RuntimeError("the loss\nis not finite")
                if fault == "exit":
                    sys.exit(3)
                first_try = len(list(folder.glob(f"{config.run}-*"))) == 1
                if fault == "kill" or (fault == "kill once" and first_try):
                    os.kill(os.getpid(), signal.SIGKILL)
            on_epoch()
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            environment={"threads": torch.get_num_threads(), "graphs": len(dataset["graphs"])},
        )

    return trial


def run_all(trial, configs, workers, dataset=DATASET) -> dict[int, Record]:
    with make_engine("local", trial, dataset, workers=workers) as engine:
        records = list(engine.run(configs))
    assert len(records) == len(configs)
    return {record.config["run"]: record for record in records}


@pytest.fixture(scope="module")
def tries(tmp_path_factory) -> Path:
    """Where the trials of `faulty` note who ran them."""
    return tmp_path_factory.mktemp("tries")


@pytest.fixture(scope="module")
def faulty(tries) -> dict[int, Record]:
    """The records of eight trials, by run, half of which have a fault."""
    return run_all(make_trial(tries, FAULTS), [make_config(run) for run in range(8)], 2)


def test_faults_stop_nobody_else(faulty, tries):
    for run in set(range(8)) - set(FAULTS):
        assert faulty[run].status == "done"
        assert len(list(tries.glob(f"{run}-*"))) == 1, "not disturbed by the deaths either"


def test_a_trial_that_raises_is_recorded(faulty):
    assert faulty[1].status == "failed"
    assert faulty[1].reason == "RuntimeError: the loss is not finite"
    assert faulty[1].config == make_config(1).to_dict()
    assert is_settled(faulty[1]), "it would fail again"


def test_a_trial_that_exits_is_recorded(faulty):
    assert faulty[3].status == "failed"
    assert faulty[3].reason == "SystemExit: 3"


def test_a_killed_worker_costs_one_more_try(faulty, tries):
    assert faulty[5].status == "done"
    assert len(list(tries.glob("5-*"))) == 2


def test_a_trial_that_kills_its_worker_twice_is_recorded(faulty, tries):
    assert faulty[6].status == "failed"
    assert faulty[6].reason == "its worker process died twice (SIGKILL(-9), out of memory?)"
    assert len(list(tries.glob("6-*"))) == 2
    assert not is_settled(faulty[6]), "a later call tries it again"


def test_trials_run_in_worker_processes_with_one_thread(faulty, tries):
    assert faulty[0].environment == {"threads": 1, "graphs": 3}
    assert not list(tries.glob(f"*-{os.getpid()}"))


def test_no_worker_is_this_process_and_treats_trials_alike(tmp_path):
    import torch

    before = torch.get_num_threads()
    faults = {1: "raise", 2: "exit"}
    records = run_all(make_trial(tmp_path, faults), [make_config(run) for run in range(4)], 0)

    assert [records[run].status for run in range(4)] == ["done", "failed", "failed", "done"]
    assert records[1].reason == "RuntimeError: the loss is not finite"
    assert records[0].environment == {"threads": 1, "graphs": 3}
    assert torch.get_num_threads() == before
    assert len(list(tmp_path.glob(f"*-{os.getpid()}"))) == 4


def test_one_worker_survives_a_trial_that_is_killed(tmp_path):
    faults = {0: "kill once"}
    records = run_all(make_trial(tmp_path, faults), [make_config(run) for run in range(2)], 1)
    assert [records[run].status for run in range(2)] == ["done", "done"]
    assert len(list(tmp_path.iterdir())) == 3


def test_processes_and_their_data_are_kept_between_calls(tmp_path):
    class Data:
        """Notes every time it is unpacked."""

        def __reduce__(self):
            def unpack(folder):
                import os
                import uuid

                folder.joinpath(f"{os.getpid()}-{uuid.uuid4()}").touch()

            return unpack, (tmp_path,)

    def trial(config, dataset, on_epoch):
        import os

        return Record(
            key=config.key, config=config.to_dict(), status="done", environment={"id": os.getpid()}
        )

    with WorkerProcesses(trial, Data(), workers=1) as engine:
        assert not list(tmp_path.iterdir()), "nothing starts before it is needed"
        records = list(engine.run([make_config(0)])) + list(engine.run([make_config(1)]))
        process = records[0].environment["id"]
        assert records[1].environment["id"] == process
        assert alive(process)
    assert not alive(process)
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == [str(process)]


@BOTH_ENGINES
def test_trials_may_follow_from_records(workers):
    """Three selections; as soon as both of a norm are in, its final trial can begin."""

    def trial(config, dataset, on_epoch):
        return Record(key=config.key, config=config.to_dict(), status="done")

    taken: list[tuple[str, str]] = []

    def then(record):
        assert taken[-1] == named(record), "whoever iterates has dealt with the record"
        stage, norm = named(record)
        if stage == "select" and taken.count((stage, norm)) == 2:
            return [make_config(0, norm, "final"), make_config(0, norm, "final")]
        return []

    def named(record):
        return record.config["stage"], record.config["norm"]

    configs = [make_config(run, norm) for norm in ("none", "graph") for run in range(2)]
    with make_engine("local", trial, None, workers=workers) as engine:
        for record in engine.run([*configs, configs[0]], then=then):
            taken.append(named(record))  # noqa: PERF401 - `then` reads what is there

    assert sorted(taken) == sorted(
        [("select", "none"), ("select", "graph")] * 2 + [("final", "none"), ("final", "graph")]
    )


def test_a_process_that_a_trial_forked_does_not_hide_that_its_own_has_died(tmp_path):
    def trial(config, dataset, on_epoch):
        import os
        import signal
        import time

        if os.fork() == 0:
            tmp_path.joinpath(str(os.getpid())).touch()
            time.sleep(300)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    start = time.monotonic()
    record = run_all(trial, [make_config(0)], 1)[0]
    assert record.reason.startswith("its worker process died twice")
    assert time.monotonic() - start < 200
    for path in tmp_path.iterdir():
        os.kill(int(path.name), signal.SIGKILL)


def test_data_that_cannot_be_unpacked_in_a_worker_is_one_error():
    class Refuses:
        def __reduce__(self):
            def refuse():
                raise RuntimeError("no such data here")

            return refuse, ()

    with (
        WorkerProcesses(lambda *_: None, Refuses(), workers=1) as engine,
        pytest.raises(GraphnormsError, match=r"cannot start: .*no such data here"),
    ):
        list(engine.run([make_config(0), make_config(1)]))


def test_workers_that_die_while_they_start_are_one_error(monkeypatch):
    monkeypatch.setattr(engine_module, "FAILED_STARTS", 2)

    class Kills:
        def __reduce__(self):
            def kill():
                import os
                import signal

                os.kill(os.getpid(), signal.SIGKILL)

            return kill, ()

    with (
        WorkerProcesses(lambda *_: None, Kills(), workers=1) as engine,
        pytest.raises(GraphnormsError, match=r"die while they start .*SIGKILL"),
    ):
        list(engine.run([make_config(0), make_config(1)]))


@BOTH_ENGINES
def test_progress_tells_the_epochs_of_what_is_running(workers):
    def trial(config, dataset, on_epoch):
        import time

        for _ in range(config.epochs):
            time.sleep(0.3)
            on_epoch()
        return Record(key=config.key, config=config.to_dict(), status="done")

    seen: list[dict[str, int]] = []
    config = make_config(0)
    with make_engine("local", trial, None, workers=workers) as engine:
        records = list(engine.run([config], lambda epochs: seen.append(dict(epochs))))

    assert len(records) == 1
    assert {1, 2} <= {epochs[config.key] for epochs in seen if config.key in epochs}


@BOTH_ENGINES
def test_an_error_of_the_display_is_not_blamed_on_a_trial(workers):
    def trial(config, dataset, on_epoch):
        import time

        time.sleep(0.3)
        on_epoch()
        return Record(key=config.key, config=config.to_dict(), status="done")

    def display(epochs):
        raise SystemExit("nobody reads this")

    with (
        make_engine("local", trial, None, workers=workers) as engine,
        pytest.raises(SystemExit),
    ):
        list(engine.run([make_config(0)], display))


def test_closing_the_iterator_stops_the_workers():
    def trial(config, dataset, on_epoch):
        import os
        import time

        if config.run > 0:
            time.sleep(60)
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            environment={"process": os.getpid()},
        )

    with WorkerProcesses(trial, None, workers=2) as engine:
        with closing(engine.run([make_config(run) for run in range(3)])) as records:
            next(records)
            start = time.monotonic()
        assert time.monotonic() - start < 2
        again = list(engine.run([make_config(0)]))
        assert again[0].status == "done", "and the engine can be used further"
    assert not alive(again[0].environment["process"])


def test_the_workers_of_a_killed_parent_do_not_live_on(tmp_path):
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {ROOT!r})
        from tests.faults import make_config
        from graphnorms.lab.engines import WorkerProcesses

        def trial(config, dataset, on_epoch):
            import os, pathlib, time
            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
            time.sleep(60)

        list(WorkerProcesses(trial, None, 1).run([make_config(0)]))
    """)
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 1, seconds=120)  # two import torch
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not any(alive(int(path.name)) for path in tmp_path.iterdir()))


TOO_LITTLE_MEMORY = {
    0: "out of memory",
    1: "out of memory (tried to allocate 4398046511104 bytes)",
    2: "out of memory (tried to allocate 20.00 GiB)",
}


def test_too_little_memory_is_recorded_as_that():
    def trial(config, dataset, on_epoch):
        import torch

        if config.run == 0:
            raise MemoryError
        if config.run == 1:
            torch.empty(1 << 42, dtype=torch.uint8)  # what torch's own allocator says to it
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has")

    for run, record in run_all(trial, [make_config(run) for run in range(3)], 0).items():
        assert record.status == "failed"
        assert record.reason == TOO_LITTLE_MEMORY[run]
        assert not is_settled(record), "there may be more memory at another time"


def test_the_engine_is_chosen_by_name():
    def engine(name, **options):
        return make_engine(name, lambda *_: None, None, **{"workers": 1} | options)

    assert isinstance(engine("local", workers=0), ThisProcess)
    assert isinstance(engine("local"), WorkerProcesses)
    assert engine("local", workers=3).workers == 3
    with pytest.raises(ValueError, match=r"unknown engine 'loky'"):
        engine("loky")
    with pytest.raises(ValueError, match=r"needs the address of a scheduler, e\.g\. tcp://"):
        engine("dask")
    with pytest.raises(ValueError, match=r"is for the dask engine; the engine is local"):
        engine("local", scheduler="tcp://localhost:8786")
    assert default_workers("cpu") >= 1
    assert 1 <= default_workers("cuda") <= 4
    assert not is_settled(None)


def make_odd_trial():
    """A trial that ends in a way of its own, by its run."""

    def trial(config, dataset, on_epoch):
        import os
        import time

        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("not even this")

        on_epoch()
        environment = {"process": os.getpid()}
        if config.run == 0:
            raise KeyboardInterrupt
        if config.run == 1:
            raise GeneratorExit
        if config.run == 2:
            raise ValueError("long " * 30_000)
        if config.run == 3:
            raise ValueError("\udcff\x1b[31m")
        if config.run == 4:
            raise Mute
        if config.run == 5:
            environment["not data"] = lambda: None
        if config.run == 6:
            for _ in range(600):
                time.sleep(0.1)
                on_epoch()
        return Record(
            key=config.key, config=config.to_dict(), status="done", environment=environment
        )

    return trial


REASONS = {
    0: "KeyboardInterrupt",
    1: "GeneratorExit",
    2: f"ValueError: {('long ' * 30_000)[:2000]}… (cut; 149999 characters)",
    3: r"ValueError: \udcff\x1b[31m",
    4: "Mute: its text cannot be read",
    6: "over the time limit of 1.5 s",
    7: "",
}


@BOTH_ENGINES
def test_whatever_a_trial_does_is_its_own_failure_in_one_line(workers):
    with make_engine("local", make_odd_trial(), None, workers=workers, timeout=1.5) as engine:
        records = {
            record.config["run"]: record
            for record in engine.run([make_config(run) for run in range(8)])
        }
    assert {run: records[run].reason for run in REASONS} == REASONS
    assert records[5].status == "failed"
    assert "ickle" in records[5].reason
    assert is_settled(records[0])
    assert not is_settled(records[6]), "with more time it may be done"


def test_every_trial_has_a_process_of_its_own_where_that_is_asked_for():
    configs = [make_config(run) for run in (7, 8, 9)]
    with make_engine("local", make_odd_trial(), None, workers=1, fresh=True) as engine:
        processes = [record.environment["process"] for record in engine.run(configs)]
    assert len(set(processes)) == 3


def test_a_real_ctrl_c_stops_trials_in_this_process():
    def trial(config, dataset, on_epoch):
        with suppress(KeyboardInterrupt):  # as code may that catches everything
            signal.raise_signal(signal.SIGINT)
        return Record(key=config.key, config=config.to_dict(), status="done")

    with ThisProcess(trial, None) as engine, pytest.raises(KeyboardInterrupt):
        list(engine.run([make_config(0)]))


def test_what_a_trial_changes_of_its_process_is_undone():
    def trial(config, dataset, on_epoch):
        import gc
        import locale
        import os
        import random
        import signal
        import sys
        import warnings

        import numpy as np
        import torch

        found = {
            "dtype": str(torch.get_default_dtype()),
            "device": str(torch.get_default_device()),
            "grad": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "autocast": torch.is_autocast_enabled("cpu"),
            "threads": torch.get_num_threads(),
            "benchmark": torch.backends.cudnn.benchmark,
            "random": [
                random.random(),
                np.random.rand(),  # noqa: NPY002 - what models may use
                float(torch.rand(1, device="cpu")),
            ],
            "numpy": np.geterr(),
            "warnings": len(warnings.filters),
            "closed": [sys.stdout.closed, sys.stderr.closed],
            "environment": os.environ.get("POLLUTED"),
            "folder": os.getcwd(),
            "path": list(sys.path),
            "argv": list(sys.argv),
            "recursion": sys.getrecursionlimit(),
            "handler": str(signal.getsignal(signal.SIGTERM)),
            "locale": locale.setlocale(locale.LC_ALL),
            "gc": [gc.isenabled(), gc.get_threshold()],
        }
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_autocast_enabled("cpu", True)
        torch.set_num_threads(2)
        torch.backends.cudnn.benchmark = True
        np.seterr(all="raise")
        warnings.simplefilter("error")
        sys.stdout.close()
        sys.stderr.close()
        os.environ["POLLUTED"] = "yes"
        os.chdir("/")
        sys.path.append("/nowhere")
        sys.argv.append("--polluted")
        sys.setrecursionlimit(5000)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        locale.setlocale(locale.LC_ALL, "C")
        gc.disable()
        gc.set_threshold(1, 1, 1)
        return Record(key=config.key, config=config.to_dict(), status="done", environment=found)

    found = run_all(trial, [make_config(run) for run in range(3)], 1)
    assert [found[run].reason for run in range(3)] == [""] * 3
    assert found[0].environment["dtype"] == "torch.float32"
    assert found[1].environment == found[0].environment
    assert found[2].environment == found[0].environment
