"""False alarms and power of judged tables whose truth is known, for every design."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import graphnorms

SCRIPT = Path(__file__).parents[3] / "scripts" / "simulate_judgement.py"
LEVEL = 0.05
Draw = Callable[[np.random.Generator], NDArray[np.float64]]


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_judgement", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(scores: NDArray[np.float64], column: str, **options: Any) -> graphnorms.JudgedTable:
    """Judge scores `(methods, repeats)` as somebody's table."""
    table = [
        {"method": f"m{method}", column: repeat, "accuracy": float(score)}
        for (method, repeat), score in np.ndenumerate(scores)
    ]
    return graphnorms.judge(table, **options)


def draws(simulation: ModuleType, methods: int) -> dict[str, tuple[str, Draw, dict[str, Any]]]:
    """For each design the column of its repeats, equal methods, and its options."""

    def seeds(rng: np.random.Generator) -> NDArray[np.float64]:
        return 0.8 + rng.normal(0, 0.02, 10) + rng.normal(0, 0.02, (methods, 10))

    return {
        "folds": ("fold", lambda rng: simulation.over_folds(rng, 150, methods).mean(axis=2), {}),
        "resampled": (
            "split",
            lambda rng: simulation.over_splits(rng, 150, methods, 10, 0.2).mean(axis=2),
            {"test_share": 0.2},
        ),
        "seeds": ("seed", seeds, {}),
        "datasets": ("dataset", seeds, {}),
    }


def alarm(found: graphnorms.JudgedTable) -> bool:
    """Whether two methods are told apart."""
    if found.ranked_only:
        assert found.across is not None
        return any(test.told_apart for test in found.across.tests)
    return any(test.told_apart for test in found.verdict.differences)


def alarms(simulation: ModuleType, design: str, methods: int, rounds: int) -> int:
    column, draw, options = draws(simulation, methods)[design]
    count = 0
    for seed in range(rounds):
        found = judged(draw(np.random.default_rng([seed, methods])), column, **options)
        assert found.assumed.name == design
        count += alarm(found)
    return count


@pytest.mark.parametrize("design", ["folds", "resampled", "seeds", "datasets"])
def test_false_alarms_are_rare(simulation: ModuleType, design: str) -> None:
    """The short form: so many alarms have a chance of one in a thousand at a level of 5%."""
    rounds = 40
    assert alarms(simulation, design, 2, rounds) <= stats.binom.ppf(0.999, rounds, LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("methods", [2, 4])
@pytest.mark.parametrize("design", ["folds", "resampled", "seeds", "datasets"])
def test_false_alarms_in_500_tables(simulation: ModuleType, design: str, methods: int) -> None:
    rounds = 500
    count = alarms(simulation, design, methods, rounds)
    assert count <= stats.binom.ppf(0.999, rounds, LEVEL)


def test_overlapping_splits_taken_for_seeds_raise_alarms(simulation: ModuleType) -> None:
    """What the judgement warns of: far more than 5% of 30 splits, and none with the correction."""
    rounds = 60
    wrong = right = 0
    for seed in range(rounds):
        scores = simulation.over_splits(np.random.default_rng(seed), 150, 2, 30, 0.2).mean(axis=2)
        wrong += alarm(judged(scores, "seed"))
        right += alarm(judged(scores, "split", test_share=0.2))
    assert right <= stats.binom.ppf(0.999, rounds, LEVEL) < wrong


@pytest.mark.parametrize("design", ["folds", "resampled", "seeds", "datasets"])
def test_a_large_difference_is_seen(simulation: ModuleType, design: str) -> None:
    """15 points of 10 repeats; seen in nearly every table."""
    column, draw, options = draws(simulation, 2)[design]
    seen = 0
    for seed in range(10):
        scores = draw(np.random.default_rng([seed, 9]))
        scores[0] -= 0.15 if design in ("seeds", "datasets") else 0.4
        seen += alarm(judged(scores, column, **options))
    assert seen >= 9


def test_equality_is_shown_where_it_is_there_and_seldom_else() -> None:
    """Seeds whose differences have a deviation of one margin; half of them just outside."""
    shown = wrong = 0
    rounds = 40
    for seed in range(rounds):
        rng = np.random.default_rng([seed, 4])
        scores = 0.8 + rng.normal(0, 0.01, (2, 14)) / np.sqrt(2)
        equal = judged(scores, "seed", margin=0.01).verdict.differences[0]
        shown += equal.practically_equal
        scores[0] += 0.01
        wrong += judged(scores, "seed", margin=0.01).verdict.differences[0].practically_equal
    assert shown >= 0.75 * rounds  # 14 such differences: 92% by `equivalence_power`
    assert wrong <= stats.binom.ppf(0.999, rounds, LEVEL)


def test_the_seeds_needed_are_enough() -> None:
    """A pilot of 10 seeds says how many; with so many the pair is told apart in four of five."""
    rng = np.random.default_rng(11)
    scores = 0.8 + rng.normal(0, 0.02, (2, 10))
    scores[0] += 0.02 - (scores[0] - scores[1]).mean()  # the difference seen is 2 points
    pilot = judged(scores, "seed").verdict.differences[0]
    assert pilot.needed is not None
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 12])
        more = rng.normal(0, pilot.deviation, pilot.needed) + 0.02
        seen += alarm(judged(np.stack([0.8 + more, np.full(pilot.needed, 0.8)]), "seed"))
    assert seen == pytest.approx(48, abs=10)
