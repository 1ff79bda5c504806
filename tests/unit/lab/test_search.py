"""The search of options: what is proposed, when, and what is chosen of it."""

from __future__ import annotations

import json
import math
import random
import sys
from collections import defaultdict

import numpy as np
import optuna
import pytest

from graphnorms.cli.option_parameters import takes_options
from graphnorms.data import load_dataset
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.fit import _cut
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan
from graphnorms.lab.repeat import command_of
from graphnorms.lab.resolve import resolve
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.lab.search import Search
from graphnorms.lab.search_space import Range, fixed_of, ranges_of
from graphnorms.lab.settings import Settings
from graphnorms.training import Record

NORMS = ("none", "batch", "graph")


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture(scope="module")
def make(mutag):
    """Make the schedule of a search for three norms in three folds."""

    def make(**changes) -> Schedule:
        choices = {"search": "dropout,weight_decay,layers", "proposals": 6} | changes
        choices = {"norms": NORMS, "folds": 3} | choices
        settings = resolve(Options(**choices), mutag, "MUTAG")
        return Schedule(settings=settings, fingerprint=mutag.fingerprint, versions=code_versions())

    return make


def outcome(config, best_rate: float = 0.004) -> Record:
    """Score a trial by its values: best at one learning rate, with little dropout."""
    loss = math.log10(config.learning_rate / best_rate) ** 2 + config.model["dropout"]
    found = {"validation_score": 1 - round(loss, 1), "validation_loss": loss}
    return Record(key=config.key, config=config.to_dict(), status="done", outcome=found)


def run(schedule: Schedule, kept=(), *, workers: int = 1, seed: int = 0) -> list[Record]:
    """Run so many trials at a time, which end in an order of chance; return all records."""
    agenda, rng = Agenda(schedule, kept), random.Random(seed)
    done = {record.key for record in agenda.records()}
    waiting = [config for config in agenda.known() if config.key not in done]
    running = []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(waiting.pop(0))
        config = running.pop(rng.randrange(len(running)))
        done.add(config.key)
        queued = {each.key for each in (*waiting, *running)} | done
        waiting = [c for c in agenda.send(outcome(config)) if c.key not in queued] + waiting
    return agenda.records()


def keys(records) -> list[str]:
    return [record.key for record in records]


def test_proposals_depend_neither_on_workers_nor_on_the_order_of_arrival(make):
    schedule = make()
    alone = run(schedule)
    assert len(alone) == schedule.settings.planned == 3 * (3 * 6 + 3)
    for workers, seed in ((3, 1), (40, 2)):
        assert keys(run(schedule, workers=workers, seed=seed)) == keys(alone)


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_run_that_lost_records_goes_on_with_the_same_proposals(make, share):
    schedule, rng = make(), random.Random(5)
    whole = run(schedule)
    kept = [record for record in whole if rng.random() < share]
    rng.shuffle(kept)
    assert keys(run(schedule, kept, workers=4)) == keys(whole)


def test_an_outcome_that_is_replaced_changes_what_was_proposed_after_it(make):
    """As where a trial that ran out of time is run again when the run goes on."""
    schedule = make(norms=("none", "batch"))
    whole = run(schedule)
    first = max(whole[:4], key=lambda record: record.outcome["validation_score"])
    other = Record(key=first.key, config=first.config, status="failed", reason="no time")
    agenda = Agenda(schedule, whole)
    agenda.send(other)
    fresh = Agenda(schedule, [other if r is first else r for r in whole])
    assert [c.key for c in agenda.known()] == [c.key for c in fresh.known()]
    assert {c.key for c in agenda.known()} != set(keys(whole))


def test_norms_get_the_same_number_and_share_the_proposals_that_need_no_outcome(make):
    schedule = make(proposals=7)
    of_norm = defaultdict(list)
    for record in run(schedule):
        if record.config["stage"] == "select":
            place = record.config["norm"], record.config["split"]["fold"]
            of_norm[place].append(record.config["searched"])
    assert {len(values) for values in of_norm.values()} == {7}
    fixed = fixed_of(schedule.settings.space, 7)
    assert fixed == 4
    for fold in range(3):
        first, *others = (of_norm[norm, fold][:fixed] for norm in NORMS)
        assert all(values == first for values in others)
    assert of_norm["none", 0][1] != of_norm["none", 1][1]
    # Without a search: the preset's dropout and layers, the lightest decay, the middle rate.
    usual = {"learning_rate": 0.00447, "dropout": 0.5, "weight_decay": 1e-6, "layers": 4}
    assert of_norm["graph", 2][0] == usual
    every = [values for of_place in of_norm.values() for values in of_place]
    for name, one in schedule.settings.space.items():
        low, high = one.ends
        assert all(low <= values[name] <= high for values in every)
        assert len({values[name] for values in every}) > 4


def test_a_norm_that_joins_later_changes_no_proposal_of_the_others(make):
    few = keys(run(make(norms=NORMS[:2])))
    assert set(few) < set(keys(run(make(), workers=3)))


def test_trials_have_the_values_that_were_proposed(make):
    records = run(make(search="dropout,weight_decay,layers,hidden,batch_size", folds=3))
    for record in records:
        config, values = record.config, record.config["searched"]
        model = config["model"]
        assert [model[name] for name in ("dropout", "layers", "hidden")] == [
            values[name] for name in ("dropout", "layers", "hidden")
        ]
        for name in ("learning_rate", "weight_decay", "batch_size"):
            assert config[name] == values[name]
        assert json.loads(json.dumps(values)) == values


def test_the_best_of_each_fold_and_norm_is_reported(make):
    """The highest score, of equal ones the lowest loss; computed here over the records."""
    by_place = defaultdict(list)
    reported = {}
    for record in run(make()):
        place = record.config["norm"], record.config["split"]["fold"]
        if record.config["stage"] == "final":
            reported[place] = record.config["searched"]
        else:
            by_place[place].append(record)
    assert len(reported) == len(by_place) == 9
    for place, tried in by_place.items():
        best = max(r.outcome["validation_score"] for r in tried)
        equal = [r for r in tried if r.outcome["validation_score"] == best]
        assert (
            reported[place]
            == min(
                (r.outcome["validation_loss"], number, r.config["searched"])
                for number, r in enumerate(equal)
            )[2]
        )


def test_a_small_space_is_tried_whole(make):
    schedule = make(search="dropout=0.1|0.4,layers=2|3", learning_rate=0.01, folds=3)
    records = run(schedule)
    tried = [r.config["searched"] for r in records if r.config["stage"] == "select"]
    assert len(tried) == 3 * 3 * 4 == 3 * schedule.settings.selection_trials
    assert tried[0] == {"dropout": 0.1, "layers": 2}
    assert len({tuple(values.items()) for values in tried}) == 4
    chosen = [r.config["searched"]["dropout"] for r in records if r.config["stage"] == "final"]
    assert chosen == [0.1] * 9


def test_proposals_come_nearer_to_what_is_good():
    """Over 20 searches, the adapted half scores better on average than the fixed one."""
    space = ranges_of("dropout,layers") | {"learning_rate": Range.of("learning_rate", "1e-4:0.1")}

    def loss(values) -> float:
        return math.log10(values["learning_rate"] / 0.003) ** 2 + (values["dropout"] - 0.2) ** 2

    fixed, adapted = [], []
    for seed in range(20):
        search = Search(space=space, proposals=16, seed=seed, usual={})
        tried = search.fixed()
        while len(tried) < search.count:
            tried.append(search.next(tried, [loss(values) for values in tried]))
        assert len({tuple(values.items()) for values in tried}) == 16
        fixed += map(loss, tried[1:8])
        adapted += map(loss, tried[8:])
    assert np.mean(adapted) < 0.7 * np.mean(fixed)


def test_the_fixed_proposals_are_a_latin_hypercube():
    space = {"dropout": Range.of("dropout", "0:0.6")}
    values = [v["dropout"] for v in Search(space=space, proposals=13, seed=3, usual={}).fixed()]
    assert values[0] == 0.3
    assert sorted(int(value / 0.1) for value in values[1:]) == [0, 1, 2, 3, 4, 5]


def test_optuna_says_nothing_and_is_left_as_it_was(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    search = Search(space=ranges_of("dropout"), proposals=4, seed=0, usual={})
    search.next(search.fixed(), [0, 1])
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


RANGES = {
    "dropout": ("dropout", "0:0.6", [0, 0.3]),
    "log": ("weight_decay=1e-6:1e-2", "1e-06:0.01", [1e-6, 1e-4]),
    "values": ("weight_decay=0|0.001", "0|0.001", [0, 0.001]),
    "whole": ("layers=2:5", "2:5", [2, 4]),
    "doublings": ("hidden=16:100", "16|32|64", [16, 32]),
    "dashes": ("batch-size=8|16", "8|16", [8, 16]),
}


@pytest.mark.parametrize(("given", "text", "values"), RANGES.values(), ids=RANGES)
def test_ranges_are_read_and_written(given, text, values):
    (name, one), *_ = ranges_of(given).items()
    assert str(one) == text
    assert [one.at(0), one.at(0.5)] == values
    assert ranges_of({name: text}) == ranges_of([given]) == {name: one}


REFUSED = {
    "no option": ({"search": "norms"}, "unknown option to search 'norms'"),
    "the rate": ({"search": "lr,dropout"}, "--lr"),
    "twice": ({"search": "dropout,dropout"}, "more than once"),
    "nothing": ({"search": " , "}, "search is empty"),
    "no range": ({"search": "dropout=0.2"}, "expected low:high"),
    "descending": ({"search": "layers=4:2"}, "expected low:high"),
    "not whole": ({"search": "layers=1.5:3"}, "whole numbers"),
    "one doubling": ({"search": "hidden=20:30"}, "leave one value"),
    "log of 0": ({"search": "weight_decay=0:0.1"}, "logarithmic"),
    "impossible": ({"search": "dropout=0:1.5"}, "below 1"),
    "given": ({"search": "dropout", "dropout": 0.2}, "dropout is given, and searched"),
    "varied": ({"search": "layers", "vary": {"layers": [2, 4]}}, "layers is varied, and searched"),
    "paper": ({"search": "dropout", "protocol": "paper"}, "protocol nested or split"),
    "too few": ({"search": "dropout", "proposals": 1}, "proposals is 1"),
    "alone": ({"proposals": 5}, "--search names no option"),
    "heads": ({"search": "hidden=30|64", "model": "gat"}, "search has hidden=30|64, but hidden"),
}


@pytest.mark.parametrize(("choices", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_searched_is_refused_in_one_line(mutag, choices, expected):
    with pytest.raises(ValueError, match=r".") as caught:
        resolve(Options(**{"norms": NORMS, **choices}), mutag, "MUTAG")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_optuna_is_named_before_anything_is_trained(mutag, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"graphnorms\[search\]"):
        resolve(Options(norms=NORMS, search="dropout"), mutag, "MUTAG")


def test_settings_are_read_back_and_repeat_the_search(make, mutag):
    settings = make(search="layers=2|4,dropout", proposals=6, learning_rate=(0.1, 0.01)).settings
    assert settings.search == {"dropout": "0:0.6", "layers": "2|4"}
    assert settings.learning_rates == (0.01, 0.1)
    stored = Settings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert stored == settings
    assert resolve(Options.of(stored, {}), mutag, "MUTAG") == settings
    command = command_of(settings, {})
    assert "--search 'dropout=0:0.6,layers=2|4'" in command
    assert "--dropout" not in command

    @takes_options("search")
    def parsed(*, options: Options) -> Options:
        return options

    assert parsed(search="dropout=0:0.6,layers=2|4").search == "dropout=0:0.6,layers=2|4"


def test_the_decay_of_adamw_has_a_range_of_its_own(make):
    assert make(search="weight_decay", optimizer="adamw").settings.search == {
        "weight_decay": "0.0001:0.1"
    }


def test_a_time_cuts_proposals_but_not_the_ends_of_the_rates(make, mutag, tmp_path):
    schedule = make(proposals=None, budget="standard")
    plan = Plan(
        schedule=schedule, dataset=mutag, options=Options(search="dropout"), folder=tmp_path,
        command="",
    )  # fmt: skip
    half = _cut(plan, set(), 1.0, lambda settings: settings.tries > 10)
    assert (half.runs, half.proposals, half.epochs) == (1, 10, schedule.settings.epochs)
    least = _cut(plan, set(), 1.0, lambda settings: 2.0)
    assert (least.proposals, least.learning_rates) == (3, schedule.settings.learning_rates)


def test_what_is_in_the_records_is_found_again_without_optuna(make, monkeypatch):
    """To show a run needs no Optuna, and another version would propose otherwise."""
    schedule = make()
    whole = run(schedule)
    monkeypatch.setitem(sys.modules, "optuna", None)
    shuffled = random.Random(1).sample(whole, len(whole))
    assert keys(Agenda(schedule, shuffled).records()) == keys(whole)
    numbers = [r.config["proposal"] for r in whole if r.config["stage"] == "select"]
    assert numbers[: 3 * 6] == [number for number in range(6) for _ in NORMS]
    part = Agenda(schedule, [r for r in shuffled if r.config.get("proposal") != 4])
    assert {r.config["proposal"] for r in part.records()} == {0, 1, 2, 3}
    with pytest.raises(ImportError):
        part.known()


def test_treatments_are_searched_each_by_itself(make):
    """The first proposal is what each would be without a search."""
    schedule = make(norms=("batch",), vary={"hidden": [16, 32]}, search="layers,dropout")
    records = run(schedule, workers=2)
    assert len(records) == schedule.settings.planned == 2 * 3 * (6 + 1)
    for record in records:
        assert record.config["model"]["hidden"] == record.config["varied"]["hidden"]
        assert record.config["model"]["layers"] == record.config["searched"]["layers"]
    shown = schedule.settings.shown()
    assert "layers" not in shown["architecture"]
    assert shown["search"] == {"dropout": "0:0.6", "layers": "2:8"}
