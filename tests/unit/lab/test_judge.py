"""The verdict on records made by hand, whose outcome is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.unit.lab.made import (
    EASE,
    EPOCHS,
    SECONDS_PER_EPOCH,
    STEPS_PER_EPOCH,
    trial,
    trials,
)
from tests.verdicts import judge

from graphnorms.lab.design import Design
from graphnorms.lab.detectable import Expected, expected_detectable, selection_deviation
from graphnorms.lab.number_format import Scale
from graphnorms.lab.plan_sentences import what_it_can_show
from graphnorms.lab.sentences import sentences
from graphnorms.lab.statistics import holm, paired_difference
from graphnorms.lab.trials import group_trials
from graphnorms.lab.verdict import Verdict
from graphnorms.training.metrics import metric_named
from graphnorms.training.record import Record


def nested(records: list[Record], **more: object) -> Verdict:
    return judge(records, protocol="nested", **more)  # type: ignore[arg-type]


def row_order(verdict: Verdict) -> list[str]:
    return [row.norm for row in verdict.rows]


def test_a_clear_winner_is_named_and_the_others_are_worse() -> None:
    verdict = nested(
        [*trials("none", 0.7), *trials("batch", 0.8, reaches=10), *trials("graph", 0.9, reaches=5)]
    )
    assert (verdict.best, verdict.tied) == ("graph", ("graph",))
    assert row_order(verdict) == ["graph", "batch", "none"]
    assert "Test accuracy: graph is best with" in sentences(verdict).score
    assert "cannot be told apart" not in sentences(verdict).score
    difference = verdict.row("none").difference
    assert difference is not None
    assert (difference.first, difference.second) == ("none", "graph")
    assert difference.estimate.low < -0.2 < difference.estimate.high < 0
    assert difference.told_apart
    assert difference.probabilities is not None
    assert difference.probabilities.second > 0.999
    assert verdict.row("graph").difference is None


def test_a_tie_is_said() -> None:
    verdict = nested([*trials("none", 0.8), *trials("batch", 0.801), *trials("graph", 0.803)])
    assert set(verdict.tied) == {"none", "batch", "graph"}
    assert "cannot be told apart on these 10 folds" in sentences(verdict).score
    assert "can go unseen" in sentences(verdict).power
    assert verdict.conclusive


def test_a_partial_tie_names_both_groups() -> None:
    verdict = nested([*trials("none", 0.6), *trials("batch", 0.8), *trials("graph", 0.803)])
    assert set(verdict.tied) == {"batch", "graph"}
    assert "cannot be told apart from" in sentences(verdict).score
    assert "'none' (by 20" in sentences(verdict).score
    assert "is worse" in sentences(verdict).score


def test_the_score_is_the_test_score_and_validation_stands_beside_it() -> None:
    records = [
        trial("graph", fold, score=0.7 + EASE[fold], curve=(0.9, 0.95, 0.9)) for fold in range(10)
    ]
    row = nested(records).row("graph")
    assert row.score is not None
    assert row.score.mean == pytest.approx(0.7 + sum(EASE) / 10)
    assert row.validation is not None
    assert row.validation.mean == pytest.approx(0.95)
    assert row.last is None


def test_the_interval_of_one_norm_is_corrected_for_overlap() -> None:
    score = nested(trials("graph", 0.8)).row("graph").score
    scores = [record.outcome["test_score"] for record in trials("graph", 0.8)]
    assert score is not None
    assert score.mean == pytest.approx(np.mean(scores))
    error = np.std(scores, ddof=1) * math.sqrt(1 / 10 + 10 / 81)
    assert score.half_width == pytest.approx(2.262157 * error, rel=1e-5)


def test_differences_are_tested_with_the_correction() -> None:
    records = [*trials("none", 0.8), *trials("graph", 0.81)]
    [test] = nested(records).differences
    scores = [[r.outcome["test_score"] for r in records[i : i + 10]] for i in (0, 10)]
    oracle = paired_difference(scores[1], scores[0], test_ratio=10 / 81)
    assert (test.first, test.second) == ("graph", "none")
    assert test.p_value == pytest.approx(oracle.p_value)
    assert test.p_value != pytest.approx(paired_difference(*scores).p_value)
    assert test.estimate.low == pytest.approx(oracle.estimate.low)
    [ratio] = nested(
        [*trials("none", 0.8)[:9], trial("none", 9, reaches=15), *trials("graph", 0.8, reaches=18)]
    ).speed_differences
    logs = np.log([18 / 20] * 9 + [18 / 15])
    assert ratio.p_value == pytest.approx(
        paired_difference(logs, np.zeros(10), test_ratio=10 / 81).p_value
    )


def test_p_values_are_adjusted_over_all_pairs() -> None:
    norms = ("none", "batch", "layer", "graph")
    verdict = nested([record for norm in norms for record in trials(norm, 0.8, noise=0.03)])
    raw = [test.p_value or 0.0 for test in verdict.differences]
    assert len(raw) == 6
    assert [test.adjusted_p for test in verdict.differences] == pytest.approx(holm(raw))
    assert max(raw) < 1
    assert any(a != p for a, p in zip(raw, holm(raw), strict=True))


def test_runs_of_a_fold_are_averaged_before_folds_are_compared() -> None:
    first, second = trials("graph", 0.9), trials("graph", 0.7, run=1)
    once = nested([*trials("none", 0.7), *trials("none", 0.7, run=1), *first, *second])
    [test] = once.differences
    assert test.pairs == 10
    assert test.estimate.mean == pytest.approx(
        sum(
            (a.outcome["test_score"] + b.outcome["test_score"]) / 2
            for a, b in zip(first, second, strict=True)
        )
        / 10
        - sum(record.outcome["test_score"] for record in trials("none", 0.7)) / 10
    )
    assert (once.planned, once.row("graph").done, once.row("graph").pairs) == (20, 20, 10)


def test_only_runs_that_both_norms_have_are_compared() -> None:
    """The second run of `graph` is lucky, and `none` has none."""
    records = [*trials("none", 0.8), *trials("graph", 0.8), *trials("graph", 0.99, run=1)]
    [test] = nested(records).differences
    assert abs(test.estimate.mean) < 0.02


def test_lower_is_better_where_the_metric_says_so() -> None:
    verdict = nested(
        [
            *trials("none", 0.7, metric="mae"),
            *trials("batch", 0.6, metric="mae"),
            *trials("graph", 0.4, metric="mae", reaches=5),
        ],
        unit="eV",
    )
    assert row_order(verdict) == ["graph", "batch", "none"]
    assert verdict.tied == ("graph",)
    test = verdict.row("none").difference
    assert test is not None
    assert test.estimate.mean > 0.25
    assert test.probabilities is not None
    assert test.probabilities.second > 0.999, "graph is better"
    assert "Test MAE (lower is better): graph is best with 0.399 eV" in sentences(verdict).score
    assert " eV" in sentences(verdict).score
    assert "%" not in sentences(verdict).score
    assert "points" not in sentences(verdict).text
    assert verdict.target is not None
    # The training error of `none` ends at 0.1, which is already round.
    assert (verdict.target.score, verdict.target.source) == (0.1, "none")
    assert verdict.row("graph").steps_to_target == 10
    assert "graph reaches a training MAE of 0.1 eV in 10 steps" in sentences(verdict).speed
    none = verdict.row("none").score
    assert none is not None
    assert verdict.margin == pytest.approx(0.01 * none.mean)
    assert "1% of the MAE of 'none'" in verdict.margin_source


@pytest.mark.parametrize(("error", "target"), [(0.1234, 0.13), (0.99, 0.99), (12.31, 13), (0, 0)])
def test_targets_of_errors_are_rounded_to_the_easy_side(error: float, target: float) -> None:
    records = trials("none", 0.5, metric="mae")
    for record in records:
        record.history["train_score"][-1] = error
        record.history["train_score"][:-1] = [100.0] * (EPOCHS - 1)
    verdict = nested(records)
    assert verdict.target is not None
    assert verdict.target.score == target
    assert verdict.row("none").reached == 10


def test_seeds_on_one_split_are_judged_by_flips_and_say_so() -> None:
    records = [
        *trials("none", 0.7, protocol="split"),
        *trials("graph", 0.8, protocol="split", reaches=5),
    ]
    verdict = judge(records, protocol="split")
    [test] = verdict.differences
    assert test.p_value == 2 / 2**10
    assert verdict.design == Design(protocol="split")
    assert verdict.minimum == 6
    assert "this one split only" in sentences(verdict).protocol
    assert "this one split only" in sentences(verdict).text
    assert verdict.tied == ("graph",)


def test_six_seeds_judge_any_number_of_norms() -> None:
    norms = ("none", "batch", "layer", "instance", "graph")

    def verdict(places: int) -> Verdict:
        records = [
            record
            for place, norm in enumerate(norms)
            for record in trials(norm, 0.5 + 0.1 * place, protocol="split", places=places)
        ]
        return judge(records, protocol="split")

    few = verdict(5)
    assert not few.conclusive
    assert few.minimum == 6
    assert "To judge 5 norms takes at least 6: 1 more seed of each" in sentences(few).score
    assert few.recommendation is None
    enough = verdict(6)
    assert enough.conclusive
    # Every pair agrees in all six signs, and no flip but the opposite one does as well.
    assert [test.adjusted_p for test in enough.differences] == [2 / 2**6] * 10
    assert enough.tied == ("graph",)


def test_six_seeds_show_any_number_of_norms_to_be_practically_equal() -> None:
    norms = ("none", "batch", "layer", "instance", "graph")
    records = [
        record
        for norm in norms
        for record in trials(norm, 0.8, noise=0.001, protocol="split", places=6)
    ]
    tests = judge(records, protocol="split").differences
    # Every difference is inside both ends, and no flip but the one seen leaves as much room.
    assert [test.adjusted_equivalence_p for test in tests] == [2.0**-6] * 10
    assert all(test.practically_equal for test in tests)


def test_several_given_splits_are_judged_by_the_corrected_test() -> None:
    """Ten splits of one set share their nodes: ten tests of a norm are not independent."""
    more = np.array([0.02, 0.05, 0.01, -0.01, 0.04, 0.03, 0.0, 0.06, 0.02, 0.03])
    records = [*trials("none", 0.7, noise=0), *trials("graph", 0.7, noise=0)]
    for record in records:
        record.config["split"]["kind"] = "given"
        if record.config["norm"] == "graph":
            record.outcome["test_score"] += more[record.config["split"]["fold"]]
    verdict = judge(records, protocol="split")
    [test] = verdict.differences
    # Nadeau & Bengio, with the 10 tested and 81 trained on of each split.
    error = more.std(ddof=1) * math.sqrt(1 / 10 + 10 / 81)
    assert test.p_value == pytest.approx(2 * stats.t.sf(more.mean() / error, 9), rel=1e-9)
    assert verdict.design.folds == 0  # no other number of them can be asked for
    assert verdict.design.count(10) == "10 splits"
    assert sentences(verdict).text.count("splits such as the given ones") == 1
    assert "one split only" not in sentences(verdict).text


def test_several_splits_are_no_split() -> None:
    other = trials("none", 0.8, protocol="split")
    for record in other:
        record.config["split"]["seed"] = 1
    records = [*trials("graph", 0.8, protocol="split"), *other]
    with pytest.raises(ValueError, match="have 2 splits"):
        judge(records, protocol="split")


def test_the_paper_protocol_selects_one_epoch_for_all_folds_and_is_optimistic() -> None:
    # Each fold alone is best at another epoch; the mean is highest at epoch 19.
    records = [
        trial("graph", 0, curve=(0.6, 0.9, 0.7), protocol="paper"),
        trial("graph", 1, curve=(0.9, 0.8, 0.7), protocol="paper"),
    ]
    verdict = judge(records, protocol="paper")
    row = verdict.row("graph")
    assert row.selected_epoch == 19
    assert row.score is not None
    assert row.score.mean == pytest.approx(0.85)
    assert row.score_std == pytest.approx(0.05)
    assert row.last is not None
    assert row.last.mean == pytest.approx(0.7)
    assert verdict.optimistic
    assert sentences(verdict).score.startswith("Optimistic validation accuracy")
    assert sentences(verdict).text.startswith("Optimistic: ")
    assert "graph 70.0%" in sentences(verdict).last
    assert verdict.to_dict()["optimistic"] is True


def test_the_paper_protocol_selects_the_lowest_error() -> None:
    records = [
        trial("graph", fold, curve=(0.4, low, 0.45), protocol="paper", metric="mae", rate=rate)
        for fold in range(10)
        for rate, low in ((0.001, 0.35), (0.01, 0.3), (0.1, 0.38))
    ]
    row = judge(records, protocol="paper").row("graph")
    assert (row.selected_epoch, row.learning_rates) == (19, ((0.01, 10),))
    assert row.score is not None
    assert row.score.mean == pytest.approx(0.3)


def test_the_paper_protocol_selects_the_rate_too() -> None:
    records = [
        trial("graph", fold, curve=(0.5, top), protocol="paper", rate=rate)
        for fold in range(10)
        for rate, top in ((0.001, 0.7), (0.01, 0.9), (0.1, 0.8))
    ]
    # A rate that fails on a fold does not win by what it is elsewhere.
    records += [trial("graph", fold, curve=(1.0,), protocol="paper", rate=1.0) for fold in range(9)]
    records += [trial("graph", 9, protocol="paper", rate=1.0, failed="boom")]
    row = judge(records, protocol="paper").row("graph")
    assert row.learning_rates == ((0.01, 10),)
    assert row.score is not None
    assert row.score.mean == pytest.approx(0.9)
    assert (row.done, row.tried, row.tried_failed) == (10, 40, 1)


def test_the_target_comes_from_the_baseline_and_time_is_measured_to_it() -> None:
    verdict = nested([*trials("none", 0.8), *trials("graph", 0.8, reaches=5)])
    assert verdict.target is not None
    assert (verdict.target.score, verdict.target.source) == (0.9, "none")
    none, graph = verdict.row("none"), verdict.row("graph")
    assert (none.steps_to_target, none.seconds_to_target, none.reached) == (40, 10.0, 10)
    assert (graph.steps_to_target, graph.seconds_to_target) == (10, 2.5)
    assert graph.step_seconds == SECONDS_PER_EPOCH / STEPS_PER_EPOCH
    assert verdict.speed_order == ("graph", "none")
    assert verdict.speed_tied == ("graph",)
    assert "4.0 × sooner than 'none'" in sentences(verdict).speed
    [ratio] = verdict.speed_differences
    assert ratio.estimate.mean == pytest.approx(0.25)
    # All ten ratios are equal: what is known is that ten signs agree.
    assert ratio.p_value == 2.0**-9


def test_without_the_baseline_the_target_is_what_every_norm_reaches() -> None:
    verdict = nested([*trials("batch", 0.8, reaches=25), *trials("graph", 0.8, reaches=5)])
    assert verdict.target is not None
    assert (verdict.target.score, verdict.target.source) == (0.82, None)
    assert all(row.reached == 10 for row in verdict.rows)


def test_the_target_is_what_three_quarters_of_the_baseline_reach() -> None:
    slow, fast = trials("none", 0.8, reaches=40), trials("none", 0.8, reaches=20)
    verdict = nested([*slow[:2], *fast[2:]])
    assert verdict.target is not None
    assert verdict.target.score == 0.9
    none = verdict.row("none")
    assert (none.reached, none.steps_to_target) == (8, 40)


def test_a_norm_that_misses_in_half_of_the_folds_has_no_median() -> None:
    graph = trials("graph", 0.8, reaches=40)
    graph[:5] = trials("graph", 0.8, reaches=5)[:5]
    verdict = nested([*trials("none", 0.8), *graph])
    row = verdict.row("graph")
    assert (row.reached, row.steps_to_target, row.seconds_to_target) == (5, None, None)
    assert verdict.speed_differences[0].censored == 5


def test_misses_are_bounds_and_the_factor_says_at_least() -> None:
    verdict = nested(
        [
            *trials("none", 0.8)[:8],
            *trials("none", 0.8, reaches=100)[8:],
            *trials("graph", 0.8, reaches=5),
        ]
    )
    # A miss enters as one epoch beyond the budget, 42 steps; those that reach need 40 and 10.
    factor = ((40 / 10) ** 8 * (42 / 10) ** 2) ** 0.1
    assert verdict.speed_differences[0].estimate.mean == pytest.approx(1 / factor)
    assert "at least 4.0 × sooner than 'none'" in sentences(verdict).speed


def test_failed_trials_are_counted_named_and_left_out_of_scores() -> None:
    none = trials("none", 0.8)
    none[2] = trial("none", 2, failed="loss is not finite in epoch 3")
    none[5] = trial("none", 5, failed="loss is not finite in epoch 3")
    none[7] = trial("none", 7, failed="out of memory")
    verdict = nested([*none, *trials("graph", 0.9, reaches=5)])
    row = verdict.row("none")
    assert (row.done, row.failed, row.trials, row.planned) == (7, 3, 10, 10)
    assert row.reasons == (("loss is not finite in epoch 3", 2), ("out of memory", 1))
    assert row.difference is not None
    assert row.difference.pairs == 7
    assert row.reached == 7
    assert "'none' failed in 3 of 10 trials" in sentences(verdict).failures
    assert "loss is not finite in epoch 3" in sentences(verdict).text
    assert "1 other reason" in sentences(verdict).text


def test_failed_trials_of_the_learning_rate_are_counted_too() -> None:
    select = [
        trial("graph", fold, stage="select", rate=rate, failed="boom" if rate > 0.05 else "")
        for fold in range(10)
        for rate in (0.01, 0.1)
    ]
    verdict = nested([*trials("none", 0.8), *trials("graph", 0.8), *select])
    row = verdict.row("graph")
    assert (row.failed, row.tried, row.tried_failed) == (0, 20, 10)
    assert row.tried_reasons == (("boom", 10),)
    assert (
        "graph failed in 10 of 20 trials that choose the learning rate (boom)"
        in sentences(verdict).text
    )


def test_where_no_learning_rate_worked_the_trial_counts_as_failed() -> None:
    select = [
        trial(norm, fold, stage="select", rate=rate, failed="boom" if norm == "graph" else "")
        for fold in range(2)
        for rate in (0.01, 0.1)
        for norm in ("none", "graph")
    ]
    verdict = nested([*trials("none", 0.7), *trials("graph", 0.9)[2:], *select])
    row = verdict.row("graph")
    assert (row.done, row.failed) == (8, 2)
    assert row.reasons == (("no learning rate worked: boom", 2),)
    # While one of the rates has not been tried, nothing is known to have failed.
    pending = [r for r in select if r.config["norm"] == "none" or r.config["learning_rate"] < 0.05]
    verdict = nested([*trials("none", 0.7), *trials("graph", 0.9)[2:], *pending])
    assert (verdict.row("graph").done, verdict.row("graph").failed) == (8, 0)


def test_on_a_split_a_seed_fails_where_none_of_its_own_rates_worked() -> None:
    select = [
        trial(
            norm,
            seed,
            stage="select",
            rate=rate,
            protocol="split",
            failed="boom" if (norm, seed) == ("graph", 3) else "",
        )
        for seed in range(10)
        for rate in (0.01, 0.1)
        for norm in ("none", "graph")
    ]
    graph = trials("graph", 0.9, protocol="split")
    del graph[3]
    none = trials("none", 0.7, protocol="split")
    row = judge([*none, *graph, *select], protocol="split").row("graph")
    assert (row.done, row.failed) == (9, 1)
    assert row.reasons == (("no learning rate worked: boom", 1),)


def test_a_diverged_norm_does_not_take_the_others_with_it() -> None:
    diverged = [trial("batch", fold, failed="loss is not finite") for fold in range(10)]
    verdict = nested([*diverged, *trials("none", 0.7), *trials("graph", 0.9, reaches=5)])
    assert row_order(verdict) == ["graph", "none", "batch"]
    row = verdict.row("batch")
    assert row.score is None
    assert row.steps_to_target is None
    assert verdict.tied == ("graph",)
    assert "batch failed in all 10 trials (loss is not finite)" in sentences(verdict).text
    assert verdict.speed_order[-1] == "batch"
    assert verdict.speed_order[0] == "graph"


def test_everything_failed() -> None:
    verdict = nested(
        [trial(norm, fold, failed="boom") for norm in ("none", "graph") for fold in range(10)]
    )
    assert verdict.best is None
    assert verdict.target is None
    assert verdict.recommendation is None
    assert (verdict.tied, verdict.differences, verdict.speed_order) == ((), (), ())
    assert "no trial was completed" in sentences(verdict).text
    assert "graph and 'none' failed in all 10 trials each (boom)" in sentences(verdict).text


def test_failing_on_the_hard_folds_does_not_make_a_leader() -> None:
    """`batch` has the higher mean over its own folds, and is worse on every fold it shares."""
    hard = [fold for fold in range(10) if EASE[fold] < 0]
    batch = [
        trial("batch", fold, failed="boom")
        if fold in hard
        else trial("batch", fold, score=0.79 + 5 * EASE[fold])
        for fold in range(10)
    ]
    graph = [trial("graph", fold, score=0.8 + 5 * EASE[fold]) for fold in range(10)]
    verdict = nested([*batch, *graph])
    means = {row.norm: row.score for row in verdict.rows}
    assert means["batch"] is not None
    assert means["graph"] is not None
    assert means["batch"].mean > means["graph"].mean
    assert verdict.best == "graph"


def test_one_norm_is_described_and_compared_with_nothing() -> None:
    verdict = nested(trials("graph", 0.8))
    assert (verdict.best, verdict.tied, verdict.conclusive) == ("graph", (), False)
    assert "no other norm to compare" in sentences(verdict).score
    assert verdict.detectable_before is None
    assert "graph reaches" in sentences(verdict).speed


@pytest.mark.parametrize("folds", range(1, 4))
def test_too_few_folds_are_inconclusive_whatever_the_difference(folds: int) -> None:
    verdict = nested([*trials("none", 0.5, places=folds), *trials("graph", 0.9, places=folds)])
    assert not verdict.conclusive
    assert verdict.tied == ()
    assert verdict.recommendation is None
    assert "inconclusive" in sentences(verdict).score
    assert (
        f"at least {verdict.minimum}: {verdict.minimum - folds} more fold"
        in sentences(verdict).score
    )
    assert "too few folds" in sentences(verdict).speed
    difference = verdict.row("none").difference
    assert difference is not None
    assert difference.adjusted_p is None


def test_an_interrupted_run_judges_what_is_there() -> None:
    records = [*trials("none", 0.7), *trials("batch", 0.8), *trials("graph", 0.9, places=2)]
    verdict = nested(records, norms=("none", "batch", "graph", "instance"))
    assert verdict.best == "batch"  # two lucky folds do not lead
    assert verdict.tied == ("batch",)
    assert row_order(verdict) == ["batch", "none", "graph", "instance"]
    assert verdict.row("instance").trials == 0
    assert "Not run: 18 of 40 trials" in sentences(verdict).text
    assert "graph has 2 and instance has 0 of 10: too few to judge" in sentences(verdict).text
    assert verdict.speed_order[-1] == "graph"


def test_trials_that_were_not_run_are_counted_as_the_run_counts_them() -> None:
    """Those that choose rates too: of 2 × (3 + 10) trials 2 × 3 and 10 + 4 have ended."""
    tried = [trial(norm, place, stage="select") for norm in ("none", "graph") for place in range(3)]
    records = [*tried, *trials("none", 0.7), *trials("graph", 0.9, places=4)]
    verdict = nested(records, planned=10, selection=3)
    assert "Not run: 6 of 26 trials" in sentences(verdict).failures
    complete = nested([*tried, *trials("none", 0.7), *trials("graph", 0.9)], selection=3)
    assert sentences(complete).failures == ""


def test_a_run_that_has_only_chosen_rates_says_that_nothing_is_done() -> None:
    records = [trial("graph", 0, stage="select"), trial("none", 0, stage="select")]
    verdict = nested(records, planned=10)
    assert verdict.best is None
    assert "no trial was completed" in sentences(verdict).score
    assert "Not run: 20 of 20 trials" in sentences(verdict).text


def test_the_order_of_records_does_not_matter() -> None:
    records = [*trials("none", 0.7), *trials("batch", 0.8), *trials("graph", 0.9, reaches=5)]
    shuffled = [records[index] for index in np.random.default_rng(0).permutation(len(records))]
    assert nested(shuffled) == nested(records)


def test_records_read_back_with_null_for_nan_are_judged() -> None:
    record = trial("graph", 0)
    record.history["validation_score"][3] = math.nan
    record.history["train_score"][0] = math.nan
    again = Record.from_json(record.to_json())
    assert nested([again]).best == "graph"
    lost = replace(record, outcome={**record.outcome, "test_score": math.nan})
    assert nested([Record.from_json(lost.to_json())]).best is None


def test_a_trial_that_was_run_again_counts_once() -> None:
    failed = trial("graph", 0, failed="out of memory")
    verdict = nested([failed, *trials("graph", 0.8)])
    assert (verdict.row("graph").done, verdict.row("graph").failed) == (10, 0)


def test_mixed_settings_are_refused() -> None:
    records = [*trials("graph", 0.8), trial("graph", 3, key="other settings")]
    with pytest.raises(ValueError, match="different settings"):
        nested(records)
    with pytest.raises(ValueError, match="scored by accuracy, mae"):
        nested([*trials("graph", 0.8), trial("none", 0, metric="mae")])
    with pytest.raises(ValueError, match="stage 'paper'"):
        nested(trials("graph", 0.8, protocol="paper"))


def test_what_cannot_be_judged_is_refused_in_one_line() -> None:
    for records, more, match in (
        ([], {"protocol": "nested"}, "nothing to judge"),
        (trials("graph", 0.8), {"protocol": "nestde"}, "did you mean nested"),
        (trials("graph", 0.8), {"protocol": "nested", "margin": 0.0}, "margin is 0"),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            judge(records, **more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def ten_folds(protocol: str, tested: float) -> Expected:
    return Expected(Design(protocol=protocol, test_ratio=1 / 8.1), 10, tested)


def test_detectable_differences_are_said_before_and_after() -> None:
    records = [*trials("none", 0.8, noise=0.02), *trials("graph", 0.8, noise=0.02)]
    verdict = nested(records)
    assert verdict.detectable_before == pytest.approx(
        expected_detectable(ten_folds("nested", 10), "accuracy", 2)
    )
    # Two independent noises of 2 points: 2.8 points a pair, times 1.5 for ten folds.
    assert verdict.detectable_after == pytest.approx(0.042, rel=0.6)
    assert verdict.scale.difference(verdict.detectable_after) in sentences(verdict).power


def test_what_cannot_be_known_before_is_taken_from_the_trials_that_choose_the_rate() -> None:
    for protocol, metric in (("nested", "mae"), ("split", "accuracy")):
        select = [
            record
            for norm in ("none", "graph")
            for record in trials(norm, 0.5, stage="select", protocol=protocol, metric=metric)
        ]
        ratio = 10 / 81 if protocol == "nested" else 0.0
        expected = Expected(Design(protocol=protocol, test_ratio=ratio), 10, 10)
        assert math.isnan(expected_detectable(expected, metric, 2))
        grouped = group_trials(select, protocol=protocol)
        deviation = selection_deviation(grouped, Design(protocol=protocol))
        scores = [
            np.array([r.outcome["validation_score"] for r in select[:10]]),
            np.array([r.outcome["validation_score"] for r in select[10:]]),
        ]
        assert deviation == pytest.approx(np.std(scores[0] - scores[1], ddof=1))
        final = [
            record
            for norm in ("none", "graph")
            for record in trials(norm, 0.5, protocol=protocol, metric=metric)
        ]
        verdict = judge([*select, *final], protocol=protocol)
        assert verdict.detectable_before == pytest.approx(
            verdict.design.detectable(deviation or 0, 10, 1)
        )


def test_what_a_design_can_show_falls_with_items_and_rises_with_norms() -> None:
    def detectable(norms: int, items: int) -> float:
        return expected_detectable(ten_folds("nested", items / 10), "accuracy", norms)

    mutag = detectable(5, 188)
    assert 0.05 < mutag < 0.25
    assert detectable(5, 4110) < mutag / 4
    assert detectable(2, 188) < mutag
    assert math.isnan(detectable(1, 188))


def test_the_design_is_put_into_words() -> None:
    accuracy = Scale.fitting(metric_named("accuracy"), None)
    nested, split = Design(protocol="nested"), Design(protocol="split")
    text = what_it_can_show(nested, accuracy, 5, 10, 0.123)
    assert "accuracy of about 12.3 points" in text
    assert "80% power at 5% over 10 pairs" in text
    three = Design(protocol="nested", test_ratio=0.5, folds=3)
    few = what_it_can_show(three, accuracy, 5, 3, 0.5)
    assert (
        "3 folds are too few to judge over 10 pairs of norms: it takes one cross-validation of 8 "
        "folds or 7 repeats of 3."
    ) in few
    assert "inconclusive" in few
    assert "it takes 6 seeds." in what_it_can_show(split, accuracy, 5, 5)
    unknown = what_it_can_show(split, accuracy, 5, 10)
    assert "not known before" in unknown
    assert "one split only" in unknown
    paper = Design(protocol="paper")
    assert "Optimistic" in what_it_can_show(paper, accuracy, 5, 10, 0.1)
    mae = Scale.fitting(metric_named("mae"), 0.0312, "eV")
    assert "nothing can be compared" in what_it_can_show(nested, mae, 1, 10)
    error = what_it_can_show(nested, mae, 2, 10, 0.0312)
    assert "MAE of about 0.0312 eV" in error


def test_practically_equal_is_shown_and_not_assumed() -> None:
    near = [*trials("none", 0.8, noise=0.002), *trials("graph", 0.801, noise=0.002)]
    [test] = nested(near).differences
    assert not test.told_apart
    assert test.practically_equal
    assert test.probabilities is not None
    assert test.probabilities.equal > 0.95
    assert "graph with 'none', within 1 point" in sentences(nested(near)).equal
    # The same difference, but ten folds that scatter more: neither told apart nor equal.
    far = [*trials("none", 0.8, noise=0.05), *trials("graph", 0.801, noise=0.05)]
    [test] = nested(far).differences
    assert not test.told_apart
    assert not test.practically_equal
    assert "no pair is shown to be within 1 point" in sentences(nested(far)).equal
    assert nested(near, margin=0.0001).differences[0].practically_equal is False


def test_intervals_stay_within_the_scores_that_there_are() -> None:
    """Scores of 40 and 100% in turns: the mean is 70, the t-interval reaches from 36 to 104%."""
    half = [trial("graph", fold, score=0.4 + 0.6 * (fold % 2)) for fold in range(10)]
    score = nested(half).row("graph").score
    error = 0.3 * math.sqrt(10 / 9) * math.sqrt(1 / 10 + 10 / 81)
    assert score is not None
    assert 0.7 + 2.262157 * error > 1
    assert (score.low, score.high) == (pytest.approx(0.7 - 2.262157 * error, rel=1e-5), 1.0)
    assert score.half_width == pytest.approx(2.262157 * error, rel=1e-5)
    errors = [trial("graph", fold, score=3.0 * (fold % 2), metric="mae") for fold in range(10)]
    score = nested(errors).row("graph").score
    assert score is not None
    assert score.low == 0.0
    assert score.high > 3.0


@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_intervals_of_differences_stay_within_those_that_there_are(metric: str) -> None:
    """Differences of 1 in eight folds and −1 in two: the mean is 0.6, the interval ends at 1.5."""
    worse = [trial("none", fold, score=float(fold < 2), metric=metric) for fold in range(10)]
    better = [trial("graph", fold, score=float(fold >= 2), metric=metric) for fold in range(10)]
    error = math.sqrt((8 * 0.4**2 + 2 * 1.6**2) / 9) * math.sqrt(1 / 10 + 10 / 81)
    low, high = 0.6 - 2.262157 * error, 0.6 + 2.262157 * error
    assert low > -1 < 1.4 < high
    verdict = nested([*worse, *better])
    (test,) = verdict.differences
    sign = 1 if test.first == "graph" else -1
    assert sign * test.estimate.mean == pytest.approx(0.6)
    ends = sorted((sign * test.estimate.low, sign * test.estimate.high))
    most = 1.0 if metric == "accuracy" else high
    assert ends == pytest.approx([low, most], rel=1e-5)
    (other,) = [row.difference for row in verdict.rows if row.difference is not None]
    assert abs(other.estimate.mean) == pytest.approx(0.6)
    assert max(abs(other.estimate.low), abs(other.estimate.high)) == pytest.approx(most, rel=1e-5)


def test_a_margin_of_one_percent_of_nothing_is_not_claimed() -> None:
    records = [trial("none", fold, score=0.0, metric="mae") for fold in range(10)]
    records += trials("graph", 0.5, metric="mae")
    verdict = nested(records)
    assert (verdict.margin, verdict.margin_source) == (0.01, "the MAE of 'none' is 0")


@pytest.mark.parametrize("protocol", ["nested", "split"])
def test_scores_that_differ_by_rounding_are_equal(protocol: str) -> None:
    """0.1 + 0.2 against 0.3, in every fold with the same sign: nothing is told apart."""
    records = [
        trial(norm, place, score=score, protocol=protocol)
        for place in range(10)
        for norm, score in (("layer", 0.1 + 0.2), ("batch", 0.3))
    ]
    verdict = judge(records, protocol=protocol)
    [test] = verdict.differences
    assert (test.estimate.mean, test.p_value, test.adjusted_p) == (0.0, 1.0, 1.0)
    assert row_order(verdict) == ["batch", "layer"]
    assert verdict.recommendation is not None
    assert verdict.recommendation.decided_by == "name"
    assert "the alphabet decided" in sentences(verdict).advice


def test_the_trials_needed_are_said() -> None:
    records = [*trials("none", 0.8, noise=0.03), *trials("graph", 0.802, noise=0.03)]
    verdict = nested(records)
    assert verdict.needed_for_margin is None
    deviation = verdict.differences[0].deviation
    # The normal quantiles of 5%, two-sided, and of 80% power; of 10 folds 81% train, 10% test.
    floor = (1.959964 + 0.841621) * deviation * math.sqrt(10 / 81)
    assert verdict.detectable_at_best == pytest.approx(floor, rel=1e-3)
    assert (f"times as much data: more repeats show {100 * floor:.1f} points at best") in sentences(
        verdict
    ).power
    seeds = [
        record
        for norm, score in (("none", 0.8), ("graph", 0.802))
        for record in trials(norm, score, noise=0.03, protocol="split")
    ]
    verdict = judge(seeds, protocol="split")
    assert verdict.needed_for_margin is not None
    deviation = verdict.differences[0].deviation
    assert verdict.design.detectable(deviation, verdict.needed_for_margin, 1) <= 0.01
    assert verdict.design.detectable(deviation, verdict.needed_for_margin - 1, 1) > 0.01
    assert f"about {verdict.needed_for_margin} seeds" in sentences(verdict).power


def test_a_verdict_is_json_without_nan() -> None:
    for records in ([trial("graph", 0)], [*trials("none", 0.7), *trials("graph", 0.9)]):
        verdict = nested(records)
        data = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert data["best"] == "graph"
        assert len(data["rows"]) == len(verdict.rows)
        assert data["scale"]["metric"]["name"] == "accuracy"
    assert data["rows"][0]["score"]["mean"] == pytest.approx(0.9, abs=0.02)


def test_norms_are_called_what_the_caller_calls_them() -> None:
    verdict = nested([*trials("none", 0.7), *trials("graph", 0.9, reaches=5)])
    said = sentences(verdict, {"none": "none", "graph": "GraphNorm"}.__getitem__)
    assert "GraphNorm is best" in said.score
    assert "sooner than 'none'" in said.speed
    assert "Recommended: GraphNorm" in said.advice
