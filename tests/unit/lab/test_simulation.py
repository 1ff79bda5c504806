"""False alarms of the judgement on learners that are really trained, and its power."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats
from tests.verdicts import judge

from graphnorms.lab.resampling import joint_sign_flips

SCRIPT = Path(__file__).parents[3] / "scripts" / "simulate_judgement.py"
LEVEL = 0.05


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_judgement", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("learners", [2, 5])
def test_false_alarms_are_rare(simulation: ModuleType, learners: int) -> None:
    """The short form: so many alarms have a chance of one in a thousand at a level of 5%."""
    rounds = 60
    alarms, _ = simulation.count_false_alarms("nested", items=150, learners=learners, rounds=rounds)
    assert alarms <= stats.binom.ppf(0.999, rounds, LEVEL)


@pytest.mark.parametrize("learners", [2, 5])
def test_false_alarms_are_rare_where_every_seed_chooses_its_rate(
    simulation: ModuleType, learners: int
) -> None:
    """Of score and of time, the short form; with one rate for all seeds they are not rare."""
    rounds = 100
    alarms = simulation.count_alarms_by_seeds("quick", learners=learners, rounds=rounds)
    assert max(alarms) <= stats.binom.ppf(0.999, rounds, LEVEL)
    once = simulation.count_alarms_by_seeds("quick", learners=learners, rounds=rounds, anew=False)
    assert max(once) > stats.binom.ppf(0.999, rounds, LEVEL)


def test_the_alarms_that_are_counted_are_those_of_the_verdict(simulation: ModuleType) -> None:
    """The simulation leaves out what `judge` computes besides; the p-values are its own."""
    correct, curves = simulation.on_one_split(np.random.default_rng(5), 240, 3, 10)
    records = simulation.records_of(correct, "split", 80, curves)
    verdict = judge(records, protocol="split")
    for values, tests in (
        (correct.mean(axis=2), verdict.differences),
        (simulation.log_steps(curves, correct), verdict.speed_differences),
    ):
        ours = joint_sign_flips(simulation.paired(values))
        assert sorted(ours) == pytest.approx(sorted(test.adjusted_p for test in tests))


def test_false_alarms_are_rare_over_repeats(simulation: ModuleType) -> None:
    """The ordinary paired t-test takes 30 folds for 30 samples, which shows in 40 comparisons."""
    rounds = 40
    alarms, naive = simulation.count_false_alarms(
        "nested", items=150, learners=2, repeats=3, rounds=rounds
    )
    assert alarms <= stats.binom.ppf(0.999, rounds, LEVEL) < naive


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("learners", [2, 5])
def test_no_more_than_64_false_alarms_in_1000(
    simulation: ModuleType, learners: int, repeats: int
) -> None:
    """5% within two standard errors."""
    alarms, _ = simulation.count_false_alarms(
        "nested", items=150, learners=learners, repeats=repeats, rounds=1000
    )
    assert alarms <= 64


@pytest.mark.slow
@pytest.mark.parametrize("learners", [2, 5])
@pytest.mark.parametrize("budget", ["quick", "standard", "full"])
def test_false_alarms_in_1000_comparisons_over_seeds(
    simulation: ModuleType, budget: str, learners: int
) -> None:
    """Of score and of time to target; the test has its level exactly, and these are twelve lots."""
    alarms = simulation.count_alarms_by_seeds(budget, learners=learners, rounds=1000)
    assert max(alarms) <= stats.binom.ppf(0.999, 1000, LEVEL)


def test_what_is_recommended_is_seldom_far_from_the_best(simulation: ModuleType) -> None:
    """Handicaps of 0, 0.3, 1, 2 and 5 points; a choice at random is within 1 point in 60%."""
    losses = simulation.recommended_losses("split", items=1500, seeds=10, rounds=15)
    assert np.isfinite(losses).all()
    assert np.mean(np.array(losses) <= 0.01 + 1e-9) >= 0.9


def test_learners_are_exchangeable(simulation: ModuleType) -> None:
    """None of five is better than the others, over samples or over seeds of one split."""
    for draw in (
        lambda rng: simulation.over_folds(rng, 150, 5),
        lambda rng: simulation.on_one_split(rng, 300, 5, 10)[0],
    ):
        scores = np.stack(
            [draw(np.random.default_rng(seed)).mean(axis=(1, 2)) for seed in range(40)]
        )
        assert scores.mean() > 0.7, "they have learned"
        assert stats.friedmanchisquare(*scores.T).pvalue > 0.001


def test_a_difference_costs_what_it_says_and_is_seen(simulation: ModuleType) -> None:
    correct = simulation.over_folds(np.random.default_rng(0), 4000, 2)
    worse = simulation.worsen(np.random.default_rng(1), correct, 0.1)
    assert correct[0].mean() - worse[0].mean() == pytest.approx(0.1, abs=0.03)
    assert (worse[1] == correct[1]).all()
    found = simulation.count_detections(
        "nested", items=1000, learners=(2,), differences=(0.0, 0.15), rounds=10
    )
    assert found[0, 0, 0] <= 3
    assert found[0, 0, 1] >= 8
