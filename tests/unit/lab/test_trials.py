"""What the trials of a comparison say as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.records import synthetic_records

from graphnorms.lab.trials import group_trials

CHOICE = {"folds": 3, "runs": 2, "epochs": 2, "rates": (0.01, 0.1)}


@pytest.mark.parametrize(("protocol", "stages"), [("nested", 3), ("paper", 2)])
def test_every_trial_is_counted_once(protocol: str, stages: int) -> None:
    """Nested: both rates and the final trials; paper: both rates, which give the scores too."""
    records = synthetic_records(("none", "graph"), protocol=protocol, **CHOICE)
    trials = group_trials(records[::-1], protocol=protocol)
    assert len(trials.every) == len(records) == 2 * 6 * stages
    assert {record.key for record in trials.every} == {record.key for record in records}
    assert trials.total_seconds == pytest.approx(len(records))
    assert (trials.folds, trials.runs, trials.repeats) == (3, 2, 1)
    assert trials.learning_rates == {0.01, 0.1}
    assert trials.item_count == 188
    assert trials.failures == 0


def test_a_trial_that_could_not_be_run_is_not_one_that_was() -> None:
    """Where every rate failed on a fold, its final trial counts as failed and was never run."""
    records = [
        replace(record, status="failed", reason="nan", history={}, outcome={})
        if record.config["norm"] == "none" and record.config["split"]["fold"] == 0
        else record
        for record in synthetic_records(("none", "graph"), **CHOICE)
        if (record.config["norm"], record.config["split"]["fold"]) != ("none", 0)
        or record.config["stage"] == "select"
    ]
    trials = group_trials(records, protocol="nested")
    assert len(trials["none"].failed) == 2
    assert len(trials.every) == len(records)
    assert trials.failures == 4


def test_what_differs_between_trials_is_listed() -> None:
    first, second, *others = synthetic_records(("graph",), **CHOICE)
    second = replace(second, environment=second.environment | {"torch": "9.9"})
    trials = group_trials([first, second, *others], protocol="nested")
    assert trials.environment == {"python": "3.11.7", "torch": ["2.13.0", "9.9"], "threads": 1}
