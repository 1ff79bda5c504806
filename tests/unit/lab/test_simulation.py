"""False alarms of the judgement on learners that are really trained, and its power."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

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


@pytest.mark.parametrize(("protocol", "learners"), [("nested", 2), ("nested", 5), ("split", 2)])
def test_false_alarms_are_rare(simulation: ModuleType, protocol: str, learners: int) -> None:
    """The short form: so many alarms have a chance of one in a thousand at a level of 5%."""
    rounds = 60
    alarms, _ = simulation.count_false_alarms(
        protocol, items=150 if protocol == "nested" else 300, learners=learners, rounds=rounds
    )
    assert alarms <= stats.binom.ppf(0.999, rounds, LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["nested", "split"])
@pytest.mark.parametrize("learners", [2, 5])
def test_no_more_than_64_false_alarms_in_1000(
    simulation: ModuleType, protocol: str, learners: int
) -> None:
    """5% within two standard errors."""
    alarms, _ = simulation.count_false_alarms(
        protocol, items=150 if protocol == "nested" else 600, learners=learners, rounds=1000
    )
    assert alarms <= 64


def test_learners_are_exchangeable(simulation: ModuleType) -> None:
    """None of five is better than the others, over samples or over seeds of one split."""
    for draw in (
        lambda rng: simulation.over_folds(rng, 150, 5),
        lambda rng: simulation.on_one_split(rng, 300, 5, 10),
    ):
        scores = np.stack([draw(np.random.default_rng(seed)).mean(axis=(1, 2)) for seed in
                           range(40)])  # fmt: skip
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
    assert found[0, 0] <= 3
    assert found[0, 1] >= 8
