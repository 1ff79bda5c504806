"""Which trials a comparison has, how they are paired, and when each of them can run."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

from graphnorms.data import SplitConfig, load_dataset, split_items
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.engines import ThisProcess
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan, require_possible
from graphnorms.lab.plan_sentences import plan_lines
from graphnorms.lab.resolve import resolve
from graphnorms.lab.run import Run
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.training import Record

NORMS = ("none", "batch", "graph")
RATES = (0.001, 0.01)


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture(scope="module")
def make(mutag):
    """Make the schedule of a comparison of three norms at two rates."""

    def make(**changes) -> Schedule:
        choices = {"norms": NORMS, "learning_rate": RATES, "runs": 2, "epochs": 3, **changes}
        settings = resolve(Options(**choices), mutag, "MUTAG")
        return Schedule(settings=settings, fingerprint=mutag.fingerprint, versions=code_versions())

    return make


def outcome(config, score: float = 0.5, **changes) -> Record:
    fields = {"status": "done", "outcome": {"validation_score": score, "validation_loss": 1.0}}
    return Record(key=config.key, config=config.to_dict(), **(fields | changes))


def prefer(best: dict[tuple[str, int], float]):
    """Make outcomes in which the rate `best[norm, fold]` does best."""

    def trial(config, dataset=None, on_epoch=None):
        wanted = best.get((config.norm, config.split["fold"]), RATES[0])
        return outcome(config, 0.9 if config.learning_rate == wanted else 0.5)

    return trial


def run_through(schedule: Schedule, trial) -> list[Record]:
    """Run a schedule as the facade does, one trial after the other; in the order of arrival."""
    agenda = Agenda(schedule)
    return list(ThisProcess(trial, None).run(agenda.known(), then=agenda.send))


def facts(record: Record) -> tuple[str, str, int, int, float]:
    config = record.config
    return (
        config["norm"],
        config["stage"],
        config["split"]["fold"],
        config["run"],
        config["learning_rate"],
    )


PROTOCOLS = {
    "nested": ({"folds": 3}, 3 * 3 * 2, 3 * 3 * 2),
    "split": ({"protocol": "split", "budget": "standard"}, 3 * 2 * 2, 3 * 2),
    "paper": ({"protocol": "paper", "folds": 3}, 0, 3 * 3 * 2 * 2),
    "repeats": ({"folds": 3, "repeats": 2}, 3 * 2 * 3 * 2, 3 * 2 * 3 * 2),
    "paper, repeats": ({"protocol": "paper", "folds": 3, "repeats": 2}, 0, 3 * 2 * 3 * 2 * 2),
    "one rate": ({"folds": 3, "learning_rate": 0.01}, 0, 3 * 3 * 2),
    "one rate on a split": ({"protocol": "split", "learning_rate": 0.01}, 0, 3 * 2),
}


@pytest.mark.parametrize(("choices", "selecting", "reported"), PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_schedule_has_as_many_trials_as_its_settings_say(make, choices, selecting, reported):
    schedule = make(**choices)
    records = run_through(schedule, prefer({}))
    assert len(records) == len({record.key for record in records}) == schedule.settings.planned
    stages = Counter(record.config["stage"] for record in records)
    assert stages["select"] == selecting == 3 * schedule.settings.selection_trials
    assert stages["final"] + stages["paper"] == reported == 3 * schedule.settings.reported_trials
    assert ("paper" in stages) == (schedule.settings.protocol == "paper")


@pytest.mark.parametrize("choices", [case[0] for case in PROTOCOLS.values()], ids=PROTOCOLS)
def test_only_the_norm_and_its_chosen_rate_tell_paired_trials_apart(make, choices):
    records = run_through(make(**choices), prefer({("graph", 1): RATES[1]}))
    groups: dict[tuple, list[dict]] = {}
    for record in records:
        config = dict(record.config)
        final = config["stage"] == "final"
        split = config["split"]
        of = (config["stage"], split["seed"], split["fold"], config["run"])
        rate = config.pop("learning_rate")
        groups.setdefault((*of, None if final else rate), []).append(config)
    for alike in groups.values():
        assert sorted(config.pop("norm") for config in alike) == sorted(NORMS)
        assert alike[0] == alike[1] == alike[2]


def test_every_norm_and_rate_of_a_fold_has_the_same_seed_and_no_two_folds_runs_or_stages(make):
    """Over several seeds of the comparison, too."""
    seeds: dict[int, set[tuple]] = {}
    for seed in range(3):
        for choices in ({"folds": 10, "runs": 5}, {"protocol": "split", "runs": 30}):
            schedule = make(**choices, seed=seed)
            for record in run_through(schedule, prefer({})):
                _, stage, fold, run, _ = facts(record)
                # Fold 0 of a cross-validation and a given split are never in one comparison.
                seeds.setdefault(record.config["seed"], set()).add((seed, stage, fold, run))
    assert all(len(users) == 1 for users in seeds.values())
    # On a split 30 seeds choose and 30 are reported; the first of those are fold 0's.
    assert len(seeds) == 3 * (10 * (1 + 5) + (30 - 1) + (30 - 5))


def test_final_seeds_are_never_those_that_chose_the_rate(make):
    records = run_through(make(folds=10, runs=5), prefer({}))
    seeds = {
        stage: {record.config["seed"] for record in records if record.config["stage"] == stage}
        for stage in ("select", "final")
    }
    assert len(seeds["select"]) == 10
    assert len(seeds["final"]) == 50
    assert not seeds["select"] & seeds["final"]


def test_repeats_cut_other_folds_and_leave_the_first_as_it_was(make, mutag):
    """Classes as frequent in every fold; no fold, and no seed of a trial, in two repeats."""
    once, thrice = make(folds=4), make(folds=4, repeats=3)
    records = run_through(thrice, prefer({}))
    assert {record.key for record in run_through(once, prefer({}))} == {
        record.key for record in records if record.config["split"]["seed"] == 0
    }
    tested = [split.test for split in thrice.splits(mutag, 3)]
    for repeat in range(3):
        parts = tested[4 * repeat : 4 * (repeat + 1)]
        assert sorted(torch.cat(parts).tolist()) == list(range(188))
        assert {int(mutag.y[part].sum()) for part in parts} <= {31, 32}, "of 125"
    assert len({tuple(part.tolist()) for part in tested}) == 12
    places: dict[int, set[tuple]] = {}
    for record in records:
        split, stage, run = (record.config[name] for name in ("split", "stage", "run"))
        place = (split["seed"], split["fold"], stage, run)
        places.setdefault(record.config["seed"], set()).add(place)
    assert len(places) == 3 * 4 * (1 + 2)
    assert all(len(users) == 1 for users in places.values())


def test_what_norms_that_join_do_not_have_yet_hides_no_outcome(make):
    """They choose their rates first; until then nothing that was done is out of sight."""
    small, large = make(folds=2, norms="none,graph"), make(folds=2)
    done = run_through(small, prefer({}))
    agenda, keys = Agenda(large, done), {record.key for record in done}
    assert {record.key for record in agenda.records()} == keys
    waiting = [config for config in agenda.known() if config.key not in keys]
    assert {(config.norm, config.stage) for config in waiting} == {("batch", "select")}


def test_other_norms_and_rates_leave_a_trial_what_it_is(make):
    """For comparisons of other sizes to agree on what they share."""
    small = {record.key for record in run_through(make(folds=2, norms="none,graph"), prefer({}))}
    large = {record.key for record in run_through(make(folds=2), prefer({}))}
    assert small < large


def test_each_fold_is_tested_once_and_with_the_same_items_for_every_norm(make, mutag):
    schedule = make(folds=4)
    tested: list[int] = []
    for fold in range(4):
        split = split_items(mutag, schedule.split(fold))
        tested += split.test.tolist()
    assert sorted(tested) == list(range(188))
    for record in run_through(schedule, prefer({})):
        assert SplitConfig(**record.config["split"]) == schedule.split(facts(record)[2])


def test_splits_are_of_the_kind_that_the_protocol_says(make):
    assert make().split(3).to_dict() == {
        "kind": "fold",
        "folds": 10,
        "fold": 3,
        "seed": 0,
        "holdout": 0.1,
    }
    assert make(protocol="paper", preset="graphnorm-paper").split(3).to_dict() == {
        "kind": "paper",
        "folds": 10,
        "fold": 3,
        "seed": 9,
        "holdout": 0.1,
    }
    assert make(protocol="split").split(0).kind == "random"


def test_each_norm_gets_in_each_fold_the_rate_that_was_best_there(make):
    best = dict(zip(itertools.product(NORMS, range(4)), itertools.cycle(RATES), strict=False))
    best["none", 1] = RATES[1]
    records = run_through(make(folds=4), prefer(best))
    rates = {
        (norm, fold): {facts(r)[4] for r in records if facts(r)[:3] == (norm, "final", fold)}
        for norm, fold in best
    }
    assert rates == {place: {rate} for place, rate in best.items()}


def test_on_a_split_the_rate_is_chosen_anew_for_every_norm_and_seed(make):
    schedule = make(protocol="split", runs=6)
    best = {
        (norm, run): RATES[(place + run) % 2]
        for run in range(6)
        for place, norm in enumerate(NORMS)
    }

    def trial(config, dataset=None, on_epoch=None):
        return outcome(config, float(config.learning_rate == best[config.norm, config.run]))

    records = run_through(schedule, trial)
    finals = [facts(record) for record in records if record.config["stage"] == "final"]
    assert {(norm, run): rate for norm, _, _, run, rate in finals} == best
    seeds = {
        stage: [record.config["seed"] for record in records if record.config["stage"] == stage]
        for stage in ("select", "final")
    }
    assert not set(seeds["select"]) & set(seeds["final"])
    # Six seeds of each kind: shared by the norms, and by the rates that are tried.
    assert Counter(seeds["select"]) == dict.fromkeys(set(seeds["select"]), 3 * len(RATES))
    assert (len(set(seeds["select"])), len(set(seeds["final"]))) == (6, 6)


def test_on_a_split_a_seed_is_complete_before_the_next_begins(make):
    records = run_through(make(protocol="split", runs=4), prefer({}))
    runs = [facts(record)[3] for record in records]
    assert runs == sorted(runs)
    assert [facts(record)[1] for record in records[:9]] == ["select"] * 6 + ["final"] * 3


def test_the_dry_run_says_what_the_choice_costs(make, mutag, tmp_path):
    plan = Plan(
        schedule=make(protocol="split", runs=6),
        dataset=mutag,
        options=Options(workers=1),
        folder=tmp_path,
        command="",
    )
    text = "\n".join(plan_lines(plan))
    assert "learning rate chosen there, for each norm and seed; tested with 6 seeds" in text
    assert "3 norms (none, batch, graph) × (12 to choose the rate + 6 tested) = 54 trials" in text


def test_a_run_with_one_rate_for_all_seeds_is_not_read(make):
    settings = make(protocol="split").settings.to_dict()
    assert make().settings.from_dict(settings).to_dict() == settings
    with pytest.raises(ValueError, match="one learning rate for all seeds"):
        make().settings.from_dict(settings | {"selection_runs": 1})
    one_rate = settings | {"selection_runs": 1, "learning_rates": [0.01]}
    assert make().settings.from_dict(one_rate).learning_rates == (0.01,)


def test_reported_trials_are_known_once_all_rates_of_their_fold_are_and_not_before(make):
    schedule = make(folds=2)
    agenda, trial = Agenda(schedule), prefer({("graph", 0): RATES[1]})
    both = [*schedule.selection(0), *schedule.selection(1)]
    assert agenda.known() == both
    selection = schedule.selection(0)
    for config in selection[:-1]:
        assert agenda.send(trial(config)) == []
        assert agenda.known() == both
    finals = agenda.send(trial(selection[-1]))
    assert [(config.norm, config.run, config.learning_rate) for config in finals] == [
        ("none", 0, RATES[0]),
        ("batch", 0, RATES[0]),
        ("graph", 0, RATES[1]),
        ("none", 1, RATES[0]),
        ("batch", 1, RATES[0]),
        ("graph", 1, RATES[1]),
    ]
    assert agenda.known() == [*selection, *finals, *schedule.selection(1)]
    assert agenda.send(trial(finals[0])) == []
    assert agenda.send(trial(selection[0])) == finals, "a record may be sent again"
    assert [record.key for record in agenda.records()] == [
        config.key for config in (*selection, finals[0])
    ]
    stray = outcome(make(folds=3).selection(0)[0])
    assert agenda.send(stray) == []
    assert stray not in agenda.records()


def test_a_failed_selection_is_an_outcome_too(make):
    def trial(config, dataset=None, on_epoch=None):
        if config.norm == "graph" or config.learning_rate == RATES[0]:
            return outcome(config, status="failed", reason="ValueError: no", outcome={})
        return outcome(config)

    records = run_through(make(folds=2), trial)
    assert len(records) == 2 * 3 * (2 + 2)
    finals = {facts(r)[0]: facts(r)[4] for r in records if r.config["stage"] == "final"}
    assert finals["none"] == finals["batch"] == RATES[1]


@pytest.mark.parametrize("choices", [case[0] for case in PROTOCOLS.values()], ids=PROTOCOLS)
def test_wherever_a_comparison_is_interrupted_the_norms_are_balanced(make, choices):
    schedule = make(**choices, runs=5)
    records = run_through(schedule, prefer({("graph", 1): RATES[1]}))
    for done in range(len(records) + 1):
        for stage in ("select", "final", "paper"):
            counts = Counter(facts(r)[0] for r in records[:done] if r.config["stage"] == stage)
            numbers = [counts[norm] for norm in NORMS]
            assert max(numbers) - min(numbers) <= 1
    splits = [record.config["split"] for record in records]
    folds = [(split["seed"], split["fold"]) for split in splits]
    assert folds == sorted(folds), "a fold is complete before the next one begins"


@pytest.mark.parametrize("stopped_after", [0, 1, 6, 7, 11, 12, 23, 24])
def test_a_run_that_is_continued_makes_the_trials_that_are_left(make, tmp_path, stopped_after):
    schedule = make(folds=2)
    trial = prefer({("graph", 0): RATES[1], ("none", 1): RATES[1]})
    whole = run_through(schedule, trial)

    def go_on(stop_after=None) -> list[Record]:
        with Run(tmp_path, {"about": "nothing"}) as run:
            agenda = Agenda(schedule, run.journal)
            found = run.complete(ThisProcess(trial, None), agenda.known(), then=agenda.send)
            records = list(itertools.islice(found, stop_after))
            found.close()
        return records

    assert [*go_on(stopped_after), *go_on()] == whole


def test_a_schedule_of_other_data_code_or_settings_shares_no_trial(make):
    one = make()
    known = {config.key for config in Agenda(one).known()}
    others = [
        Schedule(settings=one.settings, fingerprint="0" * 16, versions=one.versions),
        Schedule(
            settings=one.settings,
            fingerprint=one.fingerprint,
            versions={"graphnorms_version": "0", "torch_version": "0"},
        ),
        make(seed=1),
        make(epochs=4),
        make(metric="accuracy", batch_size=8),
        make(hidden=8),
        make(weight_decay=0.1),
        make(folds=9),
        make(protocol="paper"),
    ]
    for other in others:
        assert known.isdisjoint(config.key for config in Agenda(other).known())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"folds": 64}, "64 folds need 64 or more members of every class"),
        ({"model": "gine"}, "the graphs have no edge features, .* use 'gin'"),
        ({"norms": "graph,group:num_groups=7"}, "7"),
    ],
)
def test_what_no_trial_could_do_is_refused_beforehand(make, mutag, tmp_path, choices, message):
    plan = Plan(
        schedule=make(**choices),
        dataset=mutag,
        options=Options(workers=1),
        folder=tmp_path,
        command="",
    )
    with pytest.raises(ValueError, match=message):
        require_possible(plan)


def test_inputs_that_are_all_the_same_are_refused(mutag, make, tmp_path):
    """As of SYNTHETIC, of whose graphs only the attributes differ, by its labels alone."""
    same = mutag.subset([0] * 188)._with(y=mutag.y)
    plan = Plan(schedule=make(), dataset=same, options=Options(), folder=tmp_path, command="")
    with pytest.raises(ValueError, match="all 188 graphs of MUTAG have the same input"):
        require_possible(plan)


@pytest.mark.parametrize(("value", "named"), [(1, "(1|-1)"), (-1, "missing")])
def test_targets_that_are_all_the_same_are_refused(value, named, mutag, make, tmp_path):
    same = mutag._with(y=torch.full_like(mutag.y, value))
    plan = Plan(schedule=make(), dataset=same, options=Options(), folder=tmp_path, command="")
    with pytest.raises(ValueError, match=rf"every target of MUTAG is {named}, so there is nothing"):
        require_possible(plan)


def test_several_given_splits_are_replicates(mutag):
    """Ten splits, as the heterophilous sets have them: each one a fold of its own."""
    part = torch.stack([torch.arange(188).roll(shift).remainder(3) for shift in range(10)], 1).to(
        torch.int8
    )
    graphs = mutag._with(split=part)
    choices = Options(norms=NORMS, protocol="split", learning_rate=RATES, epochs=3)
    settings = resolve(choices, graphs, "MUTAG")
    assert (settings.split, settings.folds, settings.runs) == ("given", 10, 1)
    with pytest.raises(ValueError, match="10 splits of MUTAG are given"):
        resolve(replace(choices, repeats=2), graphs, "MUTAG")
    # A rate is chosen in each split: three norms, two rates, then one reported trial.
    assert settings.planned == 3 * 10 * 2 + 3 * 10
    schedule = Schedule(settings=settings, fingerprint=graphs.fingerprint, versions=code_versions())
    records = run_through(schedule, prefer({("graph", 7): RATES[1]}))
    assert len(records) == settings.planned
    chosen = {
        (norm, fold): rate for norm, stage, fold, _, rate in map(facts, records) if stage == "final"
    }
    assert chosen == {
        (norm, fold): RATES[(norm, fold) == ("graph", 7)] for norm in NORMS for fold in range(10)
    }
    for fold in range(10):
        split = split_items(graphs, schedule.split(fold))
        assert split.test.tolist() == (part[:, fold] == 2).nonzero()[:, 0].tolist()
    assert settings == resolve(Options.of(settings, {}), graphs, "MUTAG")
    # At random there is one split, and so there is where one is given.
    assert resolve(replace(choices, split="random"), graphs, "MUTAG").folds == 1
    one = resolve(choices, mutag._with(split=part[:, 0]), "MUTAG")
    assert (one.folds, one.runs) == (1, 10)
