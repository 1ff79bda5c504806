"""The verdict on records made by hand, whose outcome is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from graphnorms.lab import wording
from graphnorms.lab.pairs import MINIMUM_FOLDS
from graphnorms.lab.verdict import Verdict, expected_detectable, judge
from graphnorms.training.record import Record

EPOCHS, STEPS_PER_EPOCH, SECONDS_PER_EPOCH = 20, 2, 0.5
EASE = (0.0, 0.04, -0.05, 0.02, -0.01, 0.05, -0.03, 0.01, -0.04, 0.03)
"""How much easier each fold is than the average: the same for all norms, so pairing pays."""


def trial(
    norm: str,
    fold: int,
    *,
    validation: Sequence[float] = (0.8,),
    reaches: int = EPOCHS,
    folds: int = 10,
    failed: str = "",
    key: str = "",
) -> Record:
    """Make a record.

    The last validation accuracies are `validation`, training accuracy grows evenly and is 0.9
    after epoch `reaches`.
    """
    grown = [0.5 + 0.4 * epoch / reaches for epoch in range(1, EPOCHS + 1)]
    accuracies = [0.5] * (EPOCHS - len(validation)) + list(validation)
    history = {
        "train_loss": [1.0 - 0.01 * epoch for epoch in range(EPOCHS)],
        "train_accuracy": [min(1.0, value) for value in grown],
        "validation_loss": [1.0] * EPOCHS,
        "validation_accuracy": accuracies,
        "learning_rate": [0.01] * EPOCHS,
    }
    return Record(
        key=key or f"{norm}-{fold}",
        config={
            "norm": norm,
            "fold": fold,
            "folds": folds,
            "split_seed": 9,
            "seed": 0,
            "epochs": EPOCHS,
        },
        status="failed" if failed else "done",
        reason=failed,
        history={} if failed else history,
        counts={
            "parameters": 1000,
            "train_graphs": 90,
            "validation_graphs": 10,
            "steps_per_epoch": STEPS_PER_EPOCH,
        },
        timing={} if failed else {"train": [SECONDS_PER_EPOCH] * EPOCHS, "total": 20.0},
    )


def trials(
    norm: str, accuracy: float, *, reaches: int = EPOCHS, folds: int = 10, noise: float = 0.01
) -> list[Record]:
    """Make the trials of one norm; `noise` is not shared with other norms."""
    own = np.random.default_rng(sum(map(ord, norm))).normal(0, noise, 10)
    return [
        trial(norm, fold, validation=[accuracy + EASE[fold] + own[fold]], reaches=reaches)
        for fold in range(folds)
    ]


def row_order(verdict: Verdict) -> list[str]:
    return [row.norm for row in verdict.rows]


def test_a_clear_winner_is_named_and_the_others_are_worse() -> None:
    verdict = judge(
        [*trials("none", 0.7), *trials("batch", 0.8, reaches=10), *trials("graph", 0.9, reaches=5)]
    )
    assert (verdict.best, verdict.tied) == ("graph", ("graph",))
    assert row_order(verdict) == ["graph", "batch", "none"]
    assert "graph is best" in verdict.accuracy_sentence
    assert "cannot be told apart" not in verdict.accuracy_sentence
    difference = verdict.row("none").difference
    assert difference is not None
    assert (difference.first, difference.second) == ("none", "graph")
    assert difference.estimate.low < -0.2 < difference.estimate.high < 0
    assert difference.told_apart
    assert verdict.row("graph").difference is None


def test_a_tie_is_said() -> None:
    verdict = judge([*trials("none", 0.8), *trials("batch", 0.801), *trials("graph", 0.803)])
    assert set(verdict.tied) == {"none", "batch", "graph"}
    assert "cannot be told apart on these 10 folds" in verdict.accuracy_sentence
    assert "can go unseen" in verdict.accuracy_sentence
    assert verdict.conclusive


def test_a_partial_tie_names_both_groups() -> None:
    verdict = judge([*trials("none", 0.6), *trials("batch", 0.8), *trials("graph", 0.803)])
    assert set(verdict.tied) == {"batch", "graph"}
    assert "cannot be told apart from" in verdict.accuracy_sentence
    assert "'none' (by 20" in verdict.accuracy_sentence
    assert "is worse" in verdict.accuracy_sentence


def test_the_interval_of_one_norm_is_corrected_for_overlap() -> None:
    verdict = judge(trials("graph", 0.8))
    accuracy = verdict.row("graph").validation_accuracy
    scores = [record.history["validation_accuracy"][-1] for record in trials("graph", 0.8)]
    assert accuracy is not None
    assert accuracy.mean == pytest.approx(np.mean(scores))
    error = np.std(scores, ddof=1) * math.sqrt(1 / 10 + 10 / 90)
    assert accuracy.half_width == pytest.approx(2.262157 * error, rel=1e-5)


def test_the_optimistic_rule_selects_one_epoch_for_all_folds() -> None:
    # Each fold alone is best at another epoch; the mean is highest at epoch 19.
    records = [
        trial("graph", 0, validation=[0.6, 0.9, 0.7]),
        trial("graph", 1, validation=[0.9, 0.8, 0.7]),
    ]
    row = judge(records).row("graph")
    assert row.selected_epoch == 19
    assert row.selected_accuracy == pytest.approx(0.85)
    assert row.selected_std == pytest.approx(0.05)
    assert row.validation_accuracy is not None
    assert row.validation_accuracy.mean == pytest.approx(0.7)


def test_the_target_comes_from_the_baseline_and_time_is_measured_to_it() -> None:
    verdict = judge([*trials("none", 0.8), *trials("graph", 0.8, reaches=5)])
    assert verdict.target is not None
    assert (verdict.target.accuracy, verdict.target.source) == (0.9, "none")
    none, graph = verdict.row("none"), verdict.row("graph")
    assert (none.steps_to_target, none.seconds_to_target, none.reached) == (40, 10.0, 10)
    assert (graph.steps_to_target, graph.seconds_to_target) == (10, 2.5)
    assert verdict.speed_order == ("graph", "none")
    assert verdict.speed_tied == ("graph",)
    assert "4.0 × sooner than 'none'" in verdict.speed_sentence
    [ratio] = verdict.speed_differences
    assert ratio.estimate.mean == pytest.approx(0.25)
    # All ten ratios are equal: what is known is that ten signs agree.
    assert ratio.p_value == 2.0**-9


def test_without_the_baseline_the_target_is_what_every_norm_reaches() -> None:
    verdict = judge([*trials("batch", 0.8, reaches=25), *trials("graph", 0.8, reaches=5)])
    assert verdict.target is not None
    assert (verdict.target.accuracy, verdict.target.source) == (0.82, None)
    assert all(row.reached == 10 for row in verdict.rows)


def test_the_target_is_what_three_quarters_of_the_baseline_reach() -> None:
    slow, fast = trials("none", 0.8, reaches=40), trials("none", 0.8, reaches=20)
    verdict = judge([*slow[:2], *fast[2:]])
    assert verdict.target is not None
    assert verdict.target.accuracy == 0.9
    none = verdict.row("none")
    assert (none.reached, none.steps_to_target) == (8, 40)


def test_a_norm_that_misses_in_half_of_the_folds_has_no_median() -> None:
    graph = trials("graph", 0.8, reaches=40)
    graph[:5] = trials("graph", 0.8, reaches=5)[:5]
    verdict = judge([*trials("none", 0.8), *graph])
    row = verdict.row("graph")
    assert (row.reached, row.steps_to_target, row.seconds_to_target) == (5, None, None)
    test = verdict.speed_differences[0]
    assert test.censored == 5


def test_misses_are_bounds_and_the_factor_says_at_least() -> None:
    verdict = judge(
        [
            *trials("none", 0.8)[:8],
            *trials("none", 0.8, reaches=100)[8:],
            *trials("graph", 0.8, reaches=5),
        ]
    )
    # A miss enters as one epoch beyond the budget, 42 steps; those that reach need 40 and 10.
    factor = ((40 / 10) ** 8 * (42 / 10) ** 2) ** 0.1
    assert verdict.speed_differences[0].estimate.mean == pytest.approx(1 / factor)
    assert "at least 4.0 × sooner than 'none'" in verdict.speed_sentence


def test_failed_trials_are_counted_named_and_left_out_of_accuracies() -> None:
    none = trials("none", 0.8)
    none[2] = trial("none", 2, failed="loss is not finite in epoch 3")
    none[5] = trial("none", 5, failed="loss is not finite in epoch 3")
    none[7] = trial("none", 7, failed="out of memory")
    verdict = judge([*none, *trials("graph", 0.9, reaches=5)])
    row = verdict.row("none")
    assert (row.done, row.failed, row.trials, row.planned) == (7, 3, 10, 10)
    assert row.reasons == (("loss is not finite in epoch 3", 2), ("out of memory", 1))
    assert row.difference is not None
    assert row.difference.pairs == 7
    assert row.reached == 7
    assert "'none' failed in 3 of 10 trials" in verdict.failure_sentence
    assert "loss is not finite in epoch 3" in verdict.closing
    assert "1 other reason" in verdict.closing


def test_a_diverged_norm_does_not_take_the_others_with_it() -> None:
    diverged = [trial("batch", fold, failed="loss is not finite") for fold in range(10)]
    verdict = judge([*diverged, *trials("none", 0.7), *trials("graph", 0.9, reaches=5)])
    assert row_order(verdict) == ["graph", "none", "batch"]
    row = verdict.row("batch")
    assert row.validation_accuracy is None
    assert row.steps_to_target is None
    assert verdict.tied == ("graph",)
    assert "batch failed in all 10 trials (loss is not finite)" in verdict.closing
    assert verdict.speed_order[-1] == "batch"
    assert verdict.speed_order[0] == "graph"


def test_everything_failed() -> None:
    verdict = judge(
        [trial(norm, fold, failed="boom") for norm in ("none", "graph") for fold in range(10)]
    )
    assert verdict.best is None
    assert verdict.target is None
    assert (verdict.tied, verdict.differences, verdict.speed_order) == ((), (), ())
    assert "no trial was completed" in verdict.closing
    assert "graph and 'none' failed in all 10 trials each (boom)" in verdict.closing


def test_failing_on_the_hard_folds_does_not_make_a_leader() -> None:
    """`batch` has the higher mean over its own folds, and is worse on every fold it shares."""
    hard = [fold for fold in range(10) if EASE[fold] < 0]
    batch = [
        trial("batch", fold, failed="boom")
        if fold in hard
        else trial("batch", fold, validation=[0.79 + 5 * EASE[fold]])
        for fold in range(10)
    ]
    graph = [trial("graph", fold, validation=[0.8 + 5 * EASE[fold]]) for fold in range(10)]
    verdict = judge([*batch, *graph])
    means = {row.norm: row.validation_accuracy for row in verdict.rows}
    assert means["batch"] is not None
    assert means["graph"] is not None
    assert means["batch"].mean > means["graph"].mean
    assert verdict.best == "graph"


def test_one_norm_is_described_and_compared_with_nothing() -> None:
    verdict = judge(trials("graph", 0.8))
    assert (verdict.best, verdict.tied, verdict.conclusive) == ("graph", (), False)
    assert "no other norm to compare" in verdict.accuracy_sentence
    assert verdict.detectable_before is None
    assert "graph reaches" in verdict.speed_sentence


@pytest.mark.parametrize("folds", range(1, MINIMUM_FOLDS))
def test_too_few_folds_are_inconclusive_whatever_the_difference(folds: int) -> None:
    verdict = judge([*trials("none", 0.5, folds=folds), *trials("graph", 0.9, folds=folds)])
    assert not verdict.conclusive
    assert verdict.tied == ()
    assert "inconclusive" in verdict.accuracy_sentence
    assert f"{MINIMUM_FOLDS} at least" in verdict.accuracy_sentence
    assert "too few folds" in verdict.speed_sentence
    difference = verdict.row("none").difference
    assert difference is not None
    assert difference.adjusted_p is None


def test_an_interrupted_run_judges_what_is_there() -> None:
    records = [*trials("none", 0.7), *trials("batch", 0.8), *trials("graph", 0.9, folds=2)]
    verdict = judge(records, norms=("none", "batch", "graph", "instance"))
    assert verdict.best == "batch"  # two lucky folds do not lead
    assert verdict.tied == ("batch",)
    assert row_order(verdict) == ["batch", "none", "graph", "instance"]
    assert verdict.row("instance").trials == 0
    assert "Not run: 18 of 40 trials" in verdict.closing
    assert "graph has 2 and instance has 0 of 10: too few to judge" in verdict.closing
    assert verdict.speed_order[-1] == "graph"


def test_the_order_of_records_does_not_matter() -> None:
    records = [*trials("none", 0.7), *trials("batch", 0.8), *trials("graph", 0.9, reaches=5)]
    shuffled = [records[index] for index in np.random.default_rng(0).permutation(len(records))]
    assert judge(shuffled) == judge(records)


def test_records_read_back_with_null_for_nan_are_judged() -> None:
    record = trial("graph", 0)
    record.history["validation_loss"][3] = math.nan
    again = Record.from_json(record.to_json())
    assert judge([again]).best == "graph"


def test_a_trial_that_was_run_again_counts_once() -> None:
    failed = trial("graph", 0, failed="out of memory")
    verdict = judge([failed, *trials("graph", 0.8)])
    assert (verdict.row("graph").done, verdict.row("graph").failed) == (10, 0)


def test_mixed_settings_are_refused() -> None:
    records = [*trials("graph", 0.8), trial("graph", 3, key="other settings")]
    with pytest.raises(ValueError, match="different settings"):
        judge(records)


def test_no_records_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="nothing to judge") as caught:
        judge([])
    assert "\n" not in str(caught.value)


def test_detectable_differences_are_said_before_and_after() -> None:
    records = [*trials("none", 0.8, noise=0.02), *trials("graph", 0.8, noise=0.02)]
    verdict = judge(records)
    assert verdict.detectable_before == pytest.approx(
        expected_detectable(norms=2, folds=10, graphs=100)
    )
    # Two independent noises of 2 points: 2.8 points a pair, times 1.447 for ten folds.
    assert verdict.detectable_after == pytest.approx(0.04, rel=0.6)
    assert f"{100 * verdict.detectable_after:.1f} points" in verdict.accuracy_sentence


def test_what_a_design_can_show_falls_with_folds_and_graphs_and_rises_with_norms() -> None:
    mutag = expected_detectable(norms=5, folds=10, graphs=188)
    assert 0.05 < mutag < 0.25
    assert expected_detectable(norms=5, folds=10, graphs=4110) < mutag / 4
    assert expected_detectable(norms=2, folds=10, graphs=188) < mutag
    assert math.isnan(expected_detectable(norms=1, folds=10, graphs=188))
    assert "80% power" in wording.design(norms=5, folds=10, detectable=mutag)
    assert "too few" in wording.design(norms=5, folds=3, detectable=0.5)
    assert "two norms" in wording.design(norms=1, folds=10, detectable=math.nan)


def test_a_verdict_is_json_without_nan() -> None:
    for records in ([trial("graph", 0)], [*trials("none", 0.7), *trials("graph", 0.9)]):
        verdict = judge(records)
        data = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert data["best"] == "graph"
        assert data["closing"] == verdict.closing
        assert len(data["rows"]) == len(verdict.rows)
    assert data["rows"][0]["validation_accuracy"]["mean"] == pytest.approx(0.9, abs=0.02)


def test_norms_are_called_what_the_caller_calls_them() -> None:
    verdict = judge([*trials("none", 0.7), *trials("graph", 0.9, reaches=5)])
    sentences = wording.describe(verdict, {"none": "none", "graph": "GraphNorm"}.__getitem__)
    assert "GraphNorm is best" in sentences.accuracy
    assert "sooner than 'none'" in sentences.speed
