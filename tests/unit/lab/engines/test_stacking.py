"""Stacks of trials between the lab and its engines."""

from __future__ import annotations

import functools

import pytest
from tests.faults import make_config

from graphnorms import training
from graphnorms.comparison import compare
from graphnorms.lab.engines import Stacking, ThisProcess, WorkerProcesses, run_stacked, stack_size
from graphnorms.training import Record, load_model, stacked

SMALL = {
    "norms": "none,batch,granola", "folds": 2, "epochs": 2, "learning_rate": 0.01,
    "hidden": 8, "layers": 2, "workers": 1,
}  # fmt: skip


def test_how_many_trials_are_stacked() -> None:
    assert [stack_size(choice, "cpu") for choice in (None, "auto", "off", "4", 4)] == [
        1,
        1,
        1,
        4,
        4,
    ]
    assert stack_size("auto", "cuda:0") > 1
    assert stack_size("off", "cuda") == 1
    for wrong in ("none", "0", -1, "2.5", "²"):
        with pytest.raises(ValueError, match="expected auto, off or a number of trials"):
            stack_size(wrong, "cpu")


@pytest.mark.usefixtures("stub_page")
def test_a_comparison_in_stacks_has_the_same_records(in_this_process, tmp_path) -> None:
    alone = compare("MUTAG", **SMALL, out=tmp_path / "alone")
    count = len(in_this_process)
    comparison = compare("MUTAG", **SMALL, out=tmp_path / "stacked", stack=3)
    assert len(in_this_process) == count + 2, "the norm that draws random numbers is alone"
    assert len(comparison.records) == len(alone.records) == comparison.planned
    for one, other in zip(comparison.records, alone.records, strict=True):
        assert one.key == other.key
        assert (one.counts, one.environment) == (other.counts, other.environment)
        norm = one.config["norm"]
        if norm == "granola":
            assert one.without_timing() == other.without_timing()
        # A bias in front of BatchNorm has a gradient of rounding noise alone, of which Adam makes
        # steps; training does not see them, validation does before the running mean has followed.
        for name in ("train_loss", "validation_loss") if norm == "none" else ("train_loss",):
            assert one.history[name] == pytest.approx(other.history[name], rel=1e-4)
    sizes = [len(record.timing.get("stack", ())) for record in comparison.records]
    assert sorted(sizes) == [0, 0, 2, 2, 2, 2]
    again = compare("MUTAG", **SMALL, out=tmp_path / "stacked", stack="off")
    assert again.records == comparison.records
    path = comparison.export(tmp_path / "batch.safetensors", norm="batch")
    assert load_model(path).config.norm == "batch"


def test_stacks_are_as_few_as_need_be_and_about_as_large() -> None:
    rates = [0.01 * (place + 1) for place in range(9)]
    configs = [
        make_config(1, norm, learning_rate=rate)
        for rate in rates
        for norm in ("batch", "graph")[::-1]
    ]
    stacks = list(Stacking(ThisProcess(lone, None), 8)._stacked([*configs, make_config(2)], set()))
    assert [len(stack.configs) for stack in stacks] == [6, 6, 6, 1]
    norms = [config.norm for stack in stacks[:3] for config in stack.configs]
    assert norms == ["batch"] * 9 + ["graph"] * 9


def test_a_stack_that_raises_is_run_one_by_one(monkeypatch) -> None:
    def no_memory(*args):
        raise MemoryError

    monkeypatch.setattr(stacked, "run_stack", no_memory)
    records = run(ThisProcess(stacking(lone), None))
    assert [(record.status, record.environment) for record in records] == [
        ("done", {"lone": 1})
    ] * 3


def test_a_stack_whose_process_dies_is_taken_apart() -> None:
    def trial(stack, dataset, on_epoch):
        import os
        import signal

        from graphnorms.lab.engines.stacking import Outcome
        from graphnorms.training import Record

        if len(stack.configs) > 1 or stack.configs[0].run == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        config = stack.configs[0]
        return Outcome(stack.key, (Record(key=config.key, config=config.to_dict(), status="done"),))

    records = run(WorkerProcesses(trial, None, 1), runs=(1, 1, 2), rates=(0.1, 0.2, 0.3))
    status = {(r.config["run"], r.config["learning_rate"]): r.status for r in records}
    assert status == {(1, 0.1): "done", (1, 0.2): "done", (2, 0.3): "failed"}
    lost = next(record for record in records if record.status == "failed")
    assert "worker process died twice" in lost.reason
    assert lost.key == make_config(2, learning_rate=0.3).key


def test_progress_and_what_follows_are_told_of_trials(monkeypatch) -> None:
    told: list[dict[str, int]] = []

    def by_epochs(configs, dataset, on_epoch):
        import time

        for _ in range(3):
            time.sleep(0.25)
            on_epoch()
        return [lone(config, dataset, on_epoch) for config in configs]

    monkeypatch.setattr(stacked, "run_stack", by_epochs)
    first, second, third = (make_config(1, learning_rate=rate) for rate in (0.1, 0.2, 0.3))

    def then(record: Record):
        return [second, third] if record.key == third.key else [third]

    with Stacking(ThisProcess(stacking(lone), None), 2) as engine:
        records = [r.key for r in engine.run([first, second, first], told.append, then)]
    assert records == [first.key, second.key, third.key]
    assert told
    assert all(set(each) == {first.key, second.key} for each in told)
    assert max(each[first.key] for each in told) <= 3


def lone(config, dataset, on_epoch) -> Record:
    return training.Record(
        key=config.key, config=config.to_dict(), status="done", environment={"lone": 1}
    )


def stacking(trial):
    return functools.partial(run_stacked, trial)


def run(engine, runs=(1, 1, 1), rates=(0.1, 0.2, 0.3)) -> list[Record]:
    configs = [
        make_config(number, learning_rate=rate) for number, rate in zip(runs, rates, strict=True)
    ]
    with Stacking(engine, 3) as stacks:
        return list(stacks.run(configs))
