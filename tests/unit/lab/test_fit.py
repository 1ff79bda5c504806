"""Fitting a comparison into a time: what is cut in which order, with norms whose pace is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphnorms import training
from graphnorms.data import load_dataset
from graphnorms.lab.fit import SPARE, fit
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan
from graphnorms.lab.prepare import prepare
from graphnorms.lab.resolve import resolve
from graphnorms.lab.run import Run
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.lab.values import is_duration, seconds_of
from graphnorms.training import Pace

EPOCH = 2.0  # seconds, of every norm; nothing else takes time


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture(autouse=True)
def measured(monkeypatch) -> list[str]:
    found: list[str] = []

    def measure(config, dataset, *, factory=None, norms=None):
        found.append(config.norm)
        return Pace(start=0.0, step=1.0, evaluation=0.0, steps=3, steps_per_epoch=int(EPOCH))

    monkeypatch.setattr(training, "measure_pace", measure)
    return found


@pytest.fixture
def make(mutag, tmp_path):
    def make(**choices) -> Plan:
        options = Options(norms="none,graph", workers=1, **choices)
        settings = resolve(options, mutag, "MUTAG")
        schedule = Schedule(
            settings=settings, fingerprint=mutag.fingerprint, versions=code_versions()
        )
        return Plan(
            schedule=schedule, dataset=mutag, options=options, folder=tmp_path / "r", command=""
        )

    return make


def epochs_of(settings) -> int:
    """Epochs of all trials: here the time they take."""
    return settings.planned * settings.epochs


def test_what_fits_is_left_alone(make):
    plan = make(budget="standard")
    found = fit(plan, epochs_of(plan.settings) * EPOCH / SPARE)
    assert found.settings == plan.settings
    assert (found.cuts, found.caveats) == ((), ())
    assert found.seconds == epochs_of(plan.settings) * EPOCH


def test_the_order_of_the_cuts(make):
    """Ever less time: each setting is cut as far as it goes before the next one is touched."""
    plan = make(budget="full")
    whole = plan.settings
    limits = [epochs_of(whole) * EPOCH / SPARE * 0.97**step for step in range(140)]
    found = []
    for limit in limits:
        try:
            found.append(fit(plan, limit).settings)
        except ValueError:
            break
    assert len(found) > 100
    names = ("runs", "learning_rates", "epochs", "folds")
    path = list(dict.fromkeys(tuple(getattr(each, n) for n in names) for each in found))
    least = path[-1]
    rates = whole.learning_rates
    grid, middle = (rates[0], rates[2], rates[4]), (rates[2],)
    for runs, learning_rates, epochs, folds in path:
        if learning_rates != rates:
            assert runs == 1
        if epochs < whole.epochs:
            assert learning_rates in (grid, middle)
        if folds < whole.folds:
            assert epochs <= whole.epochs / 2
        if epochs < whole.epochs / 2:
            assert folds == least[3]
        if learning_rates == middle:
            assert epochs == least[2]
    assert {runs for runs, *_ in path} == {5, 4, 3, 2, 1}
    assert {r for _, r, *_ in path} == {rates, grid, middle}
    assert least == (1, middle, whole.epochs // 8, 5)  # five folds are judged for a pair of norms


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.05])
def test_the_rest_fits_and_no_more_is_cut_than_needed(make, share):
    plan = make(budget="full")
    limit = share * epochs_of(plan.settings) * EPOCH
    found = fit(plan, limit)
    assert found.seconds <= SPARE * limit
    assert found.seconds == epochs_of(found.settings) * EPOCH
    if found.settings.epochs not in (plan.settings.epochs, plan.settings.epochs // 2):
        more = replace(found.settings, epochs=found.settings.epochs + 1)
        assert epochs_of(more) * EPOCH > SPARE * limit


def test_seeds_on_one_split_are_cut_after_the_epochs(make):
    plan = make(budget="full", protocol="split", split="random")
    found = fit(plan, 0.2 * epochs_of(plan.settings) * EPOCH)
    assert found.settings.epochs == plan.settings.epochs / 2
    assert 6 <= found.settings.runs < 30
    assert any(word.startswith("seeds 30 → ") for word in found.cuts)
    least = fit(plan, 0.006 * epochs_of(plan.settings) * EPOCH).settings
    assert least.runs == 6, "fewer seeds have no p-value below 5%"


def test_what_is_given_is_not_cut(make):
    plan = make(budget="full", epochs=100, learning_rate=(0.001, 0.01))
    found = fit(plan, 0.3 * epochs_of(plan.settings) * EPOCH).settings
    assert (found.epochs, found.learning_rates) == (100, (0.001, 0.01))
    assert (found.runs, found.folds) == (1, 5)


def test_too_little_time_names_the_option_that_takes_it(make):
    with pytest.raises(ValueError, match=r"^time 1 min is too short: with epochs 1000 as given"):
        fit(make(epochs=1000), 60)
    with pytest.raises(ValueError, match="name fewer norms"):
        fit(make(), 1)


def test_cuts_that_change_the_question_are_told(make):
    plan = make(budget="full")
    early = fit(plan, 0.05 * epochs_of(plan.settings) * EPOCH)
    assert len(early.caveats) == 1
    assert len(fit(plan, 0.009 * epochs_of(plan.settings) * EPOCH).caveats) == 2


def test_the_same_call_continues_the_run_as_it_was_cut(tmp_path, measured):
    """Another measurement would cut otherwise, and the run would be refused."""
    options = Options(norms="none,graph", budget="full", time="1h", out=tmp_path / "run", workers=1)
    plan, config = prepare("MUTAG", options)
    assert config["fitted"]["cuts"]
    with Run(tmp_path / "run", config):
        pass
    measured.clear()
    again, same = prepare("MUTAG", options)
    assert measured == []
    assert again.settings == plan.settings
    assert same == config
    other, _ = prepare("MUTAG", replace(options, time="2h"))
    assert measured
    assert epochs_of(other.settings) > epochs_of(plan.settings)
    resumed, kept = prepare(None, Options(resume=True, out=tmp_path / "run"))
    assert resumed.settings == plan.settings
    assert kept == config


def test_time_plans_a_new_run(tmp_path):
    with pytest.raises(ValueError, match="leave one out"):
        prepare("MUTAG", Options(resume=True, time="1h", out=tmp_path))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("1h", 3600), ("90m", 5400), ("2h30m", 9000), ("45s", 45), ("1.5h", 5400)),
        *(("1d", 86400), ("60", 60), (7.5, 7.5), ("1h 5m 3s", 3903), ("10min", 600)),
    ],
)
def test_times(text, seconds):
    assert is_duration(text)
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "0", "1x", "-1h", "nan", "inf", "1..2h", True, "1h2h"])
def test_no_times(text):
    assert not is_duration(text)
