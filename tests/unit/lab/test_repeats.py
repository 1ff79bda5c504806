"""Repeated cross-validation: what is tested, what could be seen, and what more repeats reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tests.verdicts import judge, judged

from graphnorms.lab.sentences import sentences
from graphnorms.lab.trivial import Trivial
from graphnorms.lab.verdict import Verdict
from graphnorms.report.page import render_page
from graphnorms.training.record import Record

SEED = 9
"""Of the first repeat's split."""


def parts(folds: int) -> tuple[int, int]:
    """Items of 200 that a fold trains on, a tenth of the rest being held out, and tests."""
    return 180 * (folds - 1) // folds, 200 // folds


RATIO = 20 / 162
"""Items tested and trained on in each of ten folds."""


def records_of(norm: str, scores: NDArray[np.float64], runs: int = 1) -> list[Record]:
    """Make the reported trials of one norm from scores `(repeats, folds)`; all runs are alike."""
    folds = scores.shape[1]
    return [
        Record(
            key=f"{norm}/{repeat}/{fold}/{run}",
            config={
                "dataset": "toy",
                "norm": norm,
                "split": {"kind": "fold", "folds": folds, "fold": fold, "seed": SEED + repeat},
                "stage": "final",
                "run": run,
                "metric": "accuracy",
                "learning_rate": 0.01,
                "epochs": 2,
            },
            status="done",
            history={"train_score": [0.7, 0.8]},
            outcome={"test_score": float(score), "validation_score": float(score)},
            counts=dict(zip(("train_items", "test_items"), parts(folds), strict=True)),
        )
        for (repeat, fold), score in np.ndenumerate(scores)
        for run in range(runs)
    ]


def drawn(repeats: int, folds: int = 10, shift: float = 0.0) -> tuple[NDArray[np.float64], ...]:
    """Draw scores of two norms, of which the second is better by `shift` on average."""
    first, second = np.random.default_rng(3).normal(0.8, 0.03, (2, repeats, folds))
    return first, second + shift + (first - second).mean()


def verdict_of(*scores: NDArray[np.float64], **more: object) -> Verdict:
    records = [
        record
        for norm, of_norm in zip(("none", "graph", "batch"), scores, strict=False)
        for record in records_of(norm, of_norm)
    ]
    return judge(records, protocol="nested", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("repeats", "folds"), [(1, 10), (3, 10), (5, 5)])
def test_the_test_is_that_of_bouckaert_and_frank(repeats: int, folds: int) -> None:
    """Over all R · k differences, with n_test / n_train of one fold and R · k − 1 degrees."""
    none, graph = drawn(repeats, folds, shift=0.02)
    verdict = verdict_of(none, graph)
    [test] = verdict.differences
    d = (graph - none).ravel()
    count, (trained, tested) = repeats * folds, parts(folds)
    error = d.std(ddof=1) * math.sqrt(1 / count + tested / trained)
    assert (test.first, test.pairs) == ("graph", count)
    assert test.estimate.mean == pytest.approx(d.mean())
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(d.mean()) / error, count - 1))
    reach = stats.t.ppf(0.975, count - 1) * error
    assert test.estimate.low == pytest.approx(d.mean() - reach)
    assert test.estimate.high == pytest.approx(d.mean() + reach)
    score = verdict.row("graph").score
    assert score is not None
    own = graph.std(ddof=1) * math.sqrt(1 / count + tested / trained)
    assert score.half_width == pytest.approx(stats.t.ppf(0.975, count - 1) * own)


def test_runs_of_a_fold_are_averaged_within_their_repeat() -> None:
    none, graph = drawn(3)
    many = [*records_of("none", none, runs=2), *records_of("graph", graph, runs=2)]
    one = verdict_of(none, graph)
    assert judge(many, protocol="nested").differences == one.differences
    assert (judge(many, protocol="nested").planned, one.planned) == (60, 30)


def test_each_repeat_is_held_against_its_own_trivial_scores() -> None:
    none, graph = drawn(2)
    levels = np.random.default_rng(1).uniform(0.6, 0.7, 20)
    trivial = Trivial(held_out=levels.tolist(), train=[0.5] * 20, folds=10, seed=SEED)
    verdict = verdict_of(none, graph, trivial=trivial)
    assert verdict.trivial == pytest.approx(levels.mean())
    above = graph.ravel() - levels
    error = above.std(ddof=1) * math.sqrt(1 / 20 + RATIO)
    p = 2 * stats.t.sf(above.mean() / error, 19)
    assert verdict.row("graph").trivial_p == pytest.approx(p)


def power_of(difference: float, deviation: float, count: int) -> float:
    """The power of the corrected test of one pair, by simulation of the model itself."""
    rng = np.random.default_rng(count)
    error = deviation * math.sqrt(1 / count + RATIO)
    mean = rng.normal(difference, error, 40_000)
    spread = np.sqrt(rng.chisquare(count - 1, 40_000) / (count - 1))
    return float((abs(mean) > stats.t.ppf(0.975, count - 1) * error * spread).mean())


def test_the_repeats_that_are_named_show_the_difference_and_one_fewer_does_not() -> None:
    none, graph = drawn(1, shift=0.059)
    verdict = verdict_of(none, graph)
    deviation = verdict.differences[0].deviation
    assert verdict.detectable_after is not None
    seen = abs(verdict.differences[0].estimate.mean)
    assert verdict.detectable_after > seen
    needed = verdict.differences[0].needed
    assert needed is not None
    repeats = math.ceil(needed / 10)
    assert repeats > 1
    assert f"5.9 points) would take about {repeats} repeats of the 10 folds" in (
        sentences(verdict).power
    )
    assert power_of(seen, deviation, 10 * repeats) == pytest.approx(0.8, abs=0.01)
    assert verdict.design.detectable(deviation, 10 * repeats, 1) <= seen
    assert verdict.design.detectable(deviation, 10 * (repeats - 1), 1) > seen


def test_what_no_number_of_repeats_shows_is_said() -> None:
    none, graph = drawn(3, shift=0.015)
    verdict = verdict_of(none, graph)
    deviation = verdict.differences[0].deviation
    floor = (1.959964 + 0.841621) * deviation * math.sqrt(RATIO)
    assert verdict.differences[0].needed is None
    assert verdict.needed_for_margin is None
    assert verdict.detectable_at_best == pytest.approx(floor, rel=1e-3)
    assert sentences(verdict).power.endswith(
        f"times as much data: more repeats show {100 * floor:.1f} points at best."
    )
    assert " repeats of the" not in sentences(verdict).power
    assert power_of(floor, deviation, 10_000) == pytest.approx(0.8, abs=0.01)
    assert power_of(0.9 * floor, deviation, 10_000) < 0.75


def test_too_few_folds_are_enough_when_they_are_repeated() -> None:
    """Five norms over 5 folds are not judged; the message says which ways there are."""
    scores = [np.random.default_rng(seed).normal(0.8, 0.02, (2, 5)) for seed in range(3)]
    few = verdict_of(*(each[:1] for each in scores))
    assert not few.conclusive
    assert sentences(few).score.endswith("takes one cross-validation of 6 folds or 2 repeats of 5.")
    assert verdict_of(*scores).conclusive


def test_an_unfinished_run_is_held_against_what_was_planned() -> None:
    none, graph = drawn(1)
    one, three = verdict_of(none, graph, repeats=1), verdict_of(none, graph, repeats=3)
    assert one.detectable_before is not None
    assert three.detectable_before is not None
    assert three.detectable_before < one.detectable_before
    assert three.detectable_after == one.detectable_after


def test_the_page_says_how_often_and_names_the_repeat() -> None:
    none, graph = drawn(3)
    records = [*records_of("none", none, runs=2), *records_of("graph", graph, runs=2)]
    page = render_page(*judged(records, protocol="nested"), {"dataset": "toy"}, "again")
    assert "10 folds × 3 repeats × 2 runs" in page
    assert "repeat 2, fold 9, run 1" in page
