"""The engines, with fake trials that fail in every way a real one can.

Trial functions are made inside functions: cloudpickle then sends them to the workers by value.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest

from graphnorms.errors import GraphnormsError
from graphnorms.lab.executors import (
    ThisProcess,
    WorkerProcesses,
    default_workers,
    is_settled,
    local_engine,
)
from graphnorms.training.config import TrialConfig
from graphnorms.training.record import Record

DATASET = {"graphs": [1, 2, 3]}
BOTH_ENGINES = pytest.mark.parametrize("workers", [1, 2])


def make_config(fold: int = 0, norm: str = "graph") -> TrialConfig:
    return TrialConfig(
        dataset="toy",
        fingerprint="0" * 16,
        model={},
        norm=norm,
        fold=fold,
        folds=10,
        split_seed=0,
        epochs=3,
        batch_size=8,
        learning_rate=0.01,
        schedule="linear",
        weight_decay=0.0,
        seed=fold,
        device="cpu",
        dtype="float32",
        graphnorms_version="0",
        torch_version="0",
    )


FAULTS = {1: "raise", 3: "exit", 5: "kill once", 6: "kill"}
"""Which fold does what wrong in its second epoch; the other folds are well."""


def make_trial(folder: Path, faults: dict[int, str]):
    """A trial of three epochs that notes in `folder` which process began it."""

    def trial(config, dataset, on_epoch):
        import os
        import signal
        import sys

        import torch

        folder.joinpath(f"{config.fold}-{os.getpid()}").touch()
        fault = faults.get(config.fold)
        for epoch in range(config.epochs):
            if epoch == 1:
                if fault == "raise":
                    raise RuntimeError("the loss\nis not finite")
                if fault == "exit":
                    sys.exit(3)
                first_try = len(list(folder.glob(f"{config.fold}-*"))) == 1
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


def run(trial, configs, workers, dataset=DATASET) -> dict[int, Record]:
    records = list(local_engine(trial, dataset, workers).run(configs))
    assert len(records) == len(configs)
    return {record.config["fold"]: record for record in records}


@pytest.fixture(scope="module")
def tries(tmp_path_factory) -> Path:
    """Where the trials of `faulty` note who ran them."""
    return tmp_path_factory.mktemp("tries")


@pytest.fixture(scope="module")
def faulty(tries) -> dict[int, Record]:
    """The records of eight trials, by fold, half of which have a fault."""
    return run(make_trial(tries, FAULTS), [make_config(fold) for fold in range(8)], 2)


def test_faults_stop_nobody_else(faulty, tries):
    for fold in set(range(8)) - set(FAULTS):
        assert faulty[fold].status == "done"
        assert len(list(tries.glob(f"{fold}-*"))) == 1, "not disturbed by the deaths either"


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


def test_one_worker_is_this_process_and_treats_trials_alike(tmp_path):
    import torch

    before = torch.get_num_threads()
    faults = {1: "raise", 2: "exit"}
    records = run(make_trial(tmp_path, faults), [make_config(fold) for fold in range(4)], 1)

    assert [records[fold].status for fold in range(4)] == ["done", "failed", "failed", "done"]
    assert records[1].reason == "RuntimeError: the loss is not finite"
    assert records[0].environment == {"threads": 1, "graphs": 3}
    assert torch.get_num_threads() == before
    assert len(list(tmp_path.glob(f"*-{os.getpid()}"))) == 4


def test_a_process_that_was_exchanged_gets_the_data_again():
    """loky exchanges a process whose memory has grown; the new one has unpacked nothing."""

    def trial(config, dataset, on_epoch):
        from graphnorms.lab import workers

        workers._work = None
        return Record(key=config.key, config=config.to_dict(), status="done")

    records = run(trial, [make_config(fold) for fold in range(3)], 2)
    assert {record.status for record in records.values()} == {"done"}


def test_data_that_cannot_be_unpacked_in_a_worker_is_one_error():
    class Refuses:
        def __reduce__(self):
            def refuse():
                raise RuntimeError("no such data here")

            return refuse, ()

    engine = WorkerProcesses(lambda *_: None, Refuses(), workers=2)
    with pytest.raises(GraphnormsError, match=r"workers cannot start: .*no such data here"):
        list(engine.run([make_config(0), make_config(1)]))


def test_workers_that_die_while_they_start_are_one_error():
    class Kills:
        def __reduce__(self):
            def kill():
                import os
                import signal

                os.kill(os.getpid(), signal.SIGKILL)

            return kill, ()

    engine = WorkerProcesses(lambda *_: None, Kills(), workers=2)
    with pytest.raises(GraphnormsError, match=r"die while they start .*SIGKILL"):
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
    records = list(local_engine(trial, None, workers).run([config], lambda e: seen.append(dict(e))))

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

    with pytest.raises(SystemExit):
        list(local_engine(trial, None, workers).run([make_config(0)], display))


def test_closing_the_iterator_stops_the_workers():
    def trial(config, dataset, on_epoch):
        import os
        import time

        if config.fold > 0:
            time.sleep(60)
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            environment={"process": os.getpid()},
        )

    engine = WorkerProcesses(trial, None, workers=2)
    with closing(engine.run([make_config(fold) for fold in range(3)])) as records:
        first = next(records)
        start = time.monotonic()

    assert time.monotonic() - start < 2
    assert not _alive(first.environment["process"])


def test_the_workers_of_a_killed_parent_do_not_live_on(tmp_path):
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_executors import make_config
        from graphnorms.lab.executors import WorkerProcesses

        def trial(config, dataset, on_epoch):
            import os, pathlib, time
            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
            time.sleep(60)

        list(WorkerProcesses(trial, None, 2).run([make_config(0), make_config(1)]))
    """)
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        _wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _wait_until(lambda: not any(_alive(int(path.name)) for path in tmp_path.iterdir()))


def test_the_engine_follows_the_number_of_workers():
    assert isinstance(local_engine(lambda *_: None, None, 1), ThisProcess)
    assert isinstance(local_engine(lambda *_: None, None, 2), WorkerProcesses)
    assert default_workers("cpu") >= 1
    assert 1 <= default_workers("cuda") <= 4
    assert not is_settled(None)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
