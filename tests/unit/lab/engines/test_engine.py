"""The loop of all engines, on workers that do as they are told; no process is started."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from tests.faults import make_config, wait_until

from graphnorms.errors import GraphnormsError
from graphnorms.lab.engines import Engine, is_settled
from graphnorms.lab.engines.attempt import DiedError, StartError
from graphnorms.training.record import Record

DIED, NOT_BEGUN = DiedError("SIGKILL(-9)", begun=True), DiedError("EXIT(1)", begun=False)
LOST = OSError("the pipe is broken")


class Scripted:
    """A worker whose trials raise what stands in `script` for their run, and then are done."""

    def __init__(self, name, script):
        self.name = name
        self.script = script
        self.ran = []
        self.hangs = set()
        self.killed = threading.Event()

    def run_trial(self, config, tell):
        self.ran.append(config.run)
        tell(1)
        if config.run in self.hangs:
            self.killed.wait(30)
            raise DIED
        if self.script.get(config.run):
            raise self.script[config.run].pop(0)
        return Record(key=config.key, config=config.to_dict(), status="done")

    def kill(self):
        self.killed.set()


class ScriptedEngine(Engine):
    def __init__(self, script=(), workers=1):
        super().__init__(None, None)
        self.script = dict(script)
        self.all = [Scripted(f"worker {number}", self.script) for number in range(workers)]

    @property
    def workers(self):
        return len(self.all)

    def _present(self):
        return self.all

    @property
    def ran(self):
        return [run for worker in self.all for run in worker.ran]


def outcomes(engine, runs):
    with engine:
        records = list(engine.run([make_config(run) for run in range(runs)]))
    return {record.config["run"]: record for record in records}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_death_concerns_one_trial_alone(workers):
    engine = ScriptedEngine({1: [DIED], 2: [DIED, DIED]}, workers)
    records = outcomes(engine, 5)
    assert [records[run].status for run in range(5)] == ["done", "done", "failed", "done", "done"]
    assert records[2].reason == "its worker process died twice (SIGKILL(-9))"
    assert not is_settled(records[2])
    assert sorted(engine.ran) == [0, 1, 1, 2, 2, 3, 4]


def test_deaths_before_a_trial_has_begun_are_not_its_own():
    assert outcomes(ScriptedEngine({0: [NOT_BEGUN] * 3, 1: [NOT_BEGUN] * 3}), 2)[1].status == "done"
    with pytest.raises(GraphnormsError, match=r"die while they start \(EXIT\(1\)\)"):
        outcomes(ScriptedEngine({0: [NOT_BEGUN] * 4}), 1)


def test_a_record_that_is_lost_on_its_way_is_no_failure_of_its_trial():
    engine = ScriptedEngine({0: [LOST, LOST]})
    assert outcomes(engine, 1)[0].status == "done"
    assert engine.ran == [0, 0, 0]
    with pytest.raises(GraphnormsError, match=r"fetched 3 times \(OSError: the pipe.*run the same"):
        outcomes(ScriptedEngine({0: [LOST] * 3}), 1)


def test_a_worker_that_cannot_start_ends_the_run():
    with pytest.raises(GraphnormsError, match=r"worker 0 cannot start: no data"):
        outcomes(ScriptedEngine({0: [StartError("no data")]}), 2)


def test_follow_up_trials_run_before_the_others():
    def then(record):
        return [make_config(run) for run in (7, 8, 1)] if record.config["run"] == 0 else []

    engine = ScriptedEngine()
    with engine:
        records = list(engine.run([make_config(run) for run in (0, 1, 2, 0)], then=then))
    # Trial 1 has begun while the record of trial 0 was dealt with.
    assert [record.config["run"] for record in records] == engine.ran == [0, 1, 7, 8, 2]


def test_closing_the_iterator_kills_what_is_running_and_nothing_else():
    engine = ScriptedEngine(workers=3)
    for worker in engine.all:
        worker.hangs = {1, 2}
    with engine:
        with closing(engine.run([make_config(run) for run in range(3)])) as records:
            assert next(records).config["run"] == 0
            wait_until(lambda: len(engine.ran) == 3)
        assert [worker.killed.is_set() for worker in engine.all] == [False, True, True]
        engine.all = engine.all[:1]
        assert [record.status for record in engine.run([make_config(5)])] == ["done"]


def test_workers_may_come_and_go():
    engine = ScriptedEngine({0: [DIED]}, workers=2)
    come = engine.all
    looks = []

    def present():
        looks.append(len(looks))
        return [] if len(looks) < 3 else come[:1] if len(looks) < 5 else come[1:]

    engine._present = present
    records = outcomes(engine, 4)
    assert {record.status for record in records.values()} == {"done"}
    assert come[0].ran
    assert come[1].ran
    assert sorted(engine.ran) == [0, 0, 1, 2, 3]


def test_progress_names_what_is_running():
    engine = ScriptedEngine()
    engine.all[0].hangs = {0}
    config, seen = make_config(0), []

    def show(epochs):
        seen.append(dict(epochs))
        if len(seen) == 3:
            raise SystemExit

    with engine, pytest.raises(SystemExit):
        list(engine.run([config, make_config(1)], show))
    assert seen[-1] == {config.key: 1}
