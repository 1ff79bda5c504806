"""Successive halving: which trials choose a rate, in which order, and what is chosen."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from graphnorms.data import load_dataset
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.engines import ThisProcess
from graphnorms.lab.halving import lengths, sizes
from graphnorms.lab.options import Options
from graphnorms.lab.repeat import command_of
from graphnorms.lab.resolve import resolve
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.lab.sensitivity import sensitivities
from graphnorms.lab.settings import Settings
from graphnorms.lab.trials import group_trials
from graphnorms.training import Record

NORMS = ("none", "graph")
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
BEST = {"none": 0.003, "graph": 0.01}


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture(scope="module")
def make(mutag):
    """Make the schedule of a comparison of two norms at five rates."""

    def make(**changes) -> Schedule:
        choices = {"norms": NORMS, "learning_rate": RATES, "epochs": 40, "folds": 2}
        settings = resolve(Options(**{**choices, "search": "halving", **changes}), mutag, "MUTAG")
        return Schedule(settings=settings, fingerprint=mutag.fingerprint, versions=code_versions())

    return make


def outcome(config, dataset=None, on_epoch=None) -> Record:
    """The nearer to the best rate the better; in the shortest trials the lowest rate is second."""
    score = 0.9 - abs(RATES.index(config.learning_rate) - RATES.index(BEST[config.norm])) / 10
    if config.epochs == 5 and config.learning_rate == RATES[0]:
        score = 0.85
    return Record(
        key=config.key,
        config=config.to_dict(),
        status="done",
        outcome={"validation_score": score, "validation_loss": 1.0, "test_score": score},
    )


def run(schedule: Schedule, kept=(), order: random.Random | None = None) -> list[Record]:
    """Run a schedule; with `order` the trials that wait are taken by chance."""
    agenda = Agenda(schedule, kept)
    if order is None:
        return list(ThisProcess(outcome, None).run(agenda.known(), then=agenda.send))
    there = {record.key for record in kept}
    waiting, found = [c for c in agenda.known() if c.key not in there], list(kept)
    while waiting:
        record = outcome(waiting.pop(order.randrange(len(waiting))))
        found.append(record)
        known = {each.key for each in found} | {config.key for config in waiting}
        waiting += [config for config in agenda.send(record) if config.key not in known]
    return found


def test_rounds_halve_the_rates_and_double_the_epochs():
    assert sizes(5) == [5, 3, 2]
    assert sizes(3) == [3, 2]
    assert sizes(2) == [2]
    assert sizes(1) == []
    assert lengths(40, 5) == [5, 10, 20]
    assert lengths(4, 5, least=3) == [3, 3, 3]


def test_the_better_half_goes_on_and_the_best_is_reported(make):
    schedule = make()
    records = run(schedule)
    assert len(records) == len({r.key for r in records}) == schedule.settings.planned
    tried = Counter(
        (r.config["epochs"], r.config["learning_rate"])
        for r in records
        if (r.config["stage"], r.config["norm"]) == ("select", "graph")
    )
    first, second, third = ({rate for e, rate in tried if e == epochs} for epochs in (5, 10, 20))
    assert first == set(RATES)
    assert second == {0.0003, 0.003, 0.01}  # 0.03 is as good as 0.003, and higher
    assert third == {0.003, 0.01}
    assert set(tried.values()) == {2}, "in either fold"
    for record in records:
        if record.config["stage"] == "final":
            assert record.config["learning_rate"] == BEST[record.config["norm"]]
            assert record.config["epochs"] == 40
    seeds = {(r.config["stage"], r.config["split"]["fold"], r.config["seed"]) for r in records}
    assert len(seeds) == 4, "all trials of a choice have one seed, the reported one another"


def test_neither_order_nor_interruption_changes_the_trials(make):
    schedule = make()
    wanted = sorted(record.key for record in run(schedule))
    for seed in range(3):
        some = run(schedule, order=random.Random(seed))
        assert sorted(record.key for record in some) == wanted
        again = run(schedule, some[: 7 * (seed + 1)], random.Random(seed))
        assert sorted(record.key for record in again) == wanted
        assert len(Agenda(schedule, some).records()) == len(wanted)


def test_sensitivity_compares_rates_in_trials_of_one_length(make):
    records = run(make())
    trials = group_trials(records, list(NORMS), protocol="nested")
    assert all(len(of_norm.tried) == 2 * 10 for of_norm in trials.values())
    for one in sensitivities(trials, 0.02).values():
        assert one.rates == RATES
        assert one.done == (2,) * 5


def test_settings_are_read_back(make):
    settings = make().settings
    assert settings.tries == 10
    assert settings.selection_epochs == pytest.approx((5 * 5 + 3 * 10 + 2 * 20) / 10)
    assert Settings.from_dict(settings.to_dict()) == settings
    assert Options.of(settings, {}).search == "halving"
    assert "--search halving" in command_of(settings, {}, in_memory=False, model_in_memory=False)
    assert "halving" not in make(search=None).settings.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.01}, r"there is one, 0\.01; name several with --lr"),
        ({"protocol": "paper"}, "reports the score that chooses"),
        ({"proposals": 3}, "proposals is 3"),
    ],
)
def test_refusals(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
