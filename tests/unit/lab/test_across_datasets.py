"""Several data sets, against SciPy and scikit-posthocs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.records import synthetic_records
from tests.verdicts import judge

from graphnorms.lab.across_datasets import (
    AcrossDatasets,
    across_verdicts,
    compare_datasets,
    signed_ranks,
)
from graphnorms.training.metrics import METRICS

NORMS = ("none", "batch", "layer", "instance", "graph")


def table(datasets: int = 12, gain: float = 0.02, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.7 + gain * np.arange(5) + rng.normal(0, 0.03, (datasets, 5))


def compared(scores: np.ndarray, metric: str = "accuracy") -> AcrossDatasets:
    named = {
        f"set {row}": dict(zip(NORMS, map(float, of), strict=True)) for row, of in enumerate(scores)
    }
    return compare_datasets(named, dict.fromkeys(named, METRICS[metric]))


@pytest.mark.parametrize("decimals", [9, 2])
def test_friedman_is_scipys_with_ties_too(decimals: int) -> None:
    scores = table(gain=0.01).round(decimals)
    across = compared(scores)
    oracle = stats.friedmanchisquare(*scores.T)
    assert (across.friedman, across.friedman_p) == pytest.approx((oracle.statistic, oracle.pvalue))


def test_iman_davenport_is_the_f_of_scikit_posthocs() -> None:
    """Conover's post-hoc test rests on the same ranks; the F is checked by its definition."""
    across = compared(table())
    count, k = 12, 5
    chi = across.friedman
    f = (count - 1) * chi / (count * (k - 1) - chi)
    assert across.iman_davenport == pytest.approx(f)
    ranks = stats.rankdata(-table(), axis=1)
    oracle = stats.f_oneway(*(ranks - ranks.mean(axis=1, keepdims=True)).T)
    # The two-way analysis of variance of the ranks: data sets take no sum of squares.
    between, within = k - 1, (k - 1) * (count - 1)
    two_way = oracle.statistic * (k * (count - 1) / within) ** -1
    assert across.iman_davenport == pytest.approx(two_way)
    assert across.iman_davenport_p == pytest.approx(stats.f.sf(two_way, between, within))


@pytest.mark.parametrize("decimals", [9, 2])
def test_nemenyi_is_that_of_scikit_posthocs(decimals: int) -> None:
    import scikit_posthocs

    scores = table().round(decimals)
    oracle = scikit_posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    for test in compared(scores).tests:
        place = NORMS.index(test.first), NORMS.index(test.second)
        assert test.nemenyi_p == pytest.approx(oracle[place], abs=1e-6)


def test_the_critical_difference_is_demsars() -> None:
    # Demšar 2006, table 5: q at 5% for 4 classifiers is 2.569, and for his 14 data sets CD 1.25.
    scores = {
        f"set {row}": dict(zip("abcd", map(float, of), strict=True))
        for row, of in enumerate(table(14)[:, :4])
    }
    across = compare_datasets(scores, dict.fromkeys(scores, METRICS["accuracy"]))
    assert across.critical_difference == pytest.approx(2.569 * math.sqrt(20 / 84), rel=1e-3)
    assert round(across.critical_difference, 2) == 1.25


def test_wilcoxon_is_scipys_and_adjusted_by_holm() -> None:
    from statsmodels.stats.multitest import multipletests

    scores = table()
    tests = compared(scores).tests
    oracle = [
        stats.wilcoxon(
            scores[:, NORMS.index(test.first)], scores[:, NORMS.index(test.second)], method="exact"
        ).pvalue
        for test in tests
    ]
    assert [test.wilcoxon_p for test in tests] == pytest.approx(oracle)
    adjusted = multipletests(oracle, method="holm")[1]
    assert [test.adjusted_p for test in tests] == pytest.approx(list(adjusted))


def test_equal_sizes_are_ranked_alike_and_a_single_zero_is_left_out() -> None:
    # Ranks 1.5, 1.5, 3 with all signs equal: two of eight ways are as extreme.
    assert signed_ranks(np.array([0.1, 0.1, 0.3, 0.0])) == 2 / 8
    assert signed_ranks(np.zeros(4)) == 1.0
    assert signed_ranks(np.array([0.3 - 0.2, 0.2 - 0.1, 0.3])) == 2 / 8


def test_zeros_are_split_as_in_demsars_example() -> None:
    """His table 2: two zeros share rank 1.5, so that R+ is 93 and R− is 12."""
    thousandths = np.array([5, -8, 17, 33, 6, -5, 7, 0, 63, 0, 22, 47, 9, 21])
    ranks = np.array([3.5, 7, 9, 12, 5, 3.5, 6, 14, 11, 13, 8, 10])  # of those that are not 0
    sums = [abs(ranks @ signs) for signs in itertools.product((1, -1), repeat=12)]
    right = float(np.mean(np.array(sums) >= 93 - 12))
    assert signed_ranks(thousandths / 1000) == pytest.approx(right)
    # Without the zeros the ranks are lower, and the p-value is another.
    alone = signed_ranks(thousandths[thousandths != 0] / 1000)
    assert alone != pytest.approx(right)
    # Of three zeros one is left out.
    assert signed_ranks(np.append(thousandths, 0) / 1000) == pytest.approx(right)


def test_lower_is_better_turns_the_ranks_round() -> None:
    scores = table()
    assert list(compared(scores, "mae").ranks) == list(compared(-scores).ranks)
    upwards = compared(scores).ranks
    assert compared(scores, "mae").ranks == pytest.approx({n: 6 - r for n, r in upwards.items()})


def test_metrics_may_differ_between_data_sets() -> None:
    good = {f"a{row}": {"none": 0.7, "graph": 0.8} for row in range(4)}
    small = {f"b{row}": {"none": 3.0, "graph": 2.5} for row in range(4)}
    metrics = dict.fromkeys(good, METRICS["accuracy"]) | dict.fromkeys(small, METRICS["mae"])
    across = compare_datasets(good | small, metrics)
    [test] = across.tests
    assert (test.first, test.wins, test.losses) == ("graph", 8, 0)
    assert test.adjusted_p == 2 / 2**8
    assert across.tied == ("graph",)
    assert "graph ranks best (1.00 on average), better than 'none'" in across.sentence


def agreeing(datasets: int, norms: tuple[str, ...] = NORMS) -> AcrossDatasets:
    """Data sets that all put the norms in the same order, the last first."""
    scores = {
        f"set {row}": {norm: 0.7 + 0.01 * place for place, norm in enumerate(norms)}
        for row in range(datasets)
    }
    return compare_datasets(scores, dict.fromkeys(scores, METRICS["accuracy"]))


def test_too_few_data_sets_are_inconclusive() -> None:
    across = compared(table(5, gain=0.0))
    assert across.friedman_p > 0.05
    assert across.tied == ()
    assert all(test.adjusted_p is None for test in across.tests)
    assert "inconclusive: the ranks are not shown to differ (Friedman's test, p = ." in (
        across.sentence
    )
    assert f"Wilcoxon's test of all pairs takes {across.minimum} data sets" in across.sentence
    with pytest.raises(ValueError, match="two of each"):
        compared(table(1))


def test_where_friedmans_test_tells_it_is_not_inconclusive() -> None:
    """By hand: 6 equal orders of 5 norms give χ² = 6 · 4 = 24, p = 8e-5; CD is 2.728 √(30/36)."""
    across = agreeing(6)
    assert across.friedman == pytest.approx(24)
    assert across.friedman_p == pytest.approx(7.99e-5, rel=1e-3)
    assert across.sentence == (
        "Over 6 data sets the ranks differ (Friedman's test, p < .001): graph ranks best (1.00 on "
        "average), better than batch (4.00) and 'none' (5.00) by more than Nemenyi's critical "
        "difference of 2.49; instance and layer cannot be told apart from it; Wilcoxon's test of "
        "all pairs takes 9 data sets. Whichever set is dropped, graph stays best in rank."
    )


def test_ranks_that_differ_without_a_pair_to_name() -> None:
    """Three norms on three sets: χ² = 6, p = .0498, and the ranks span 2, more than CD 1.91."""
    across = agreeing(3, ("none", "batch", "graph"))
    assert across.friedman_p == pytest.approx(math.exp(-3))
    assert "better than 'none' (3.00) by more than Nemenyi's critical difference of 1.91" in (
        across.sentence
    )
    assert "batch cannot be told apart from it" in across.sentence
    far = replace(across, tests=tuple(replace(test, nemenyi_p=0.2) for test in across.tests))
    assert "the ranks differ" in far.sentence
    assert "but no other lies further off than Nemenyi's critical difference" in far.sentence


def test_of_two_norms_a_sign_test_by_approximation_is_not_believed() -> None:
    """Four of four: χ² says p = .0455, while one way in eight is as extreme."""
    across = agreeing(4, ("none", "graph"))
    assert across.friedman_p == pytest.approx(0.0455, abs=1e-4)
    assert "inconclusive: Wilcoxon's test takes 6 data sets" in across.sentence


def test_with_enough_data_sets_pairs_are_told_and_friedmans_test_beside_them() -> None:
    sentence = agreeing(9).sentence
    assert "graph ranks best (1.00 on average), better than" in sentence
    assert "'none' (better in 0, worse in 9)" in sentence
    assert "the ranks differ (Friedman's test, p < .001)" in sentence
    assert "Nemenyi" not in sentence
    close = compared(table(12, gain=0.0))
    assert "no norm can be told apart from" in close.sentence
    assert "the ranks are not shown to differ" in close.sentence
    assert close.friedman_p > 0.05


@pytest.mark.parametrize(
    ("missing", "protocol", "finished"),
    [
        (lambda norm, place: False, "nested", True),
        (lambda norm, place: False, "split", True),
        (lambda norm, place: False, "paper", True),
        (lambda norm, place: norm == "graph" and place == 9, "nested", False),
        (lambda norm, place: norm == "graph" and place == 9, "split", False),
    ],
)
def test_whether_a_comparison_is_finished(missing, protocol: str, finished: bool) -> None:
    records = synthetic_records(protocol=protocol, missing=missing, epochs=3)
    assert judge(records, protocol=protocol).finished == finished


def test_a_learning_rate_without_its_trials_is_unfinished() -> None:
    records = synthetic_records(protocol="paper", epochs=3)
    best = max(record.config["learning_rate"] for record in records)
    short = [
        r for r in records if (r.config["learning_rate"], r.config["split"]["fold"]) != (best, 9)
    ]
    assert not judge(short, protocol="paper").finished


def test_norms_that_lack_a_score_are_left_out() -> None:
    scores = {f"{row}": {"none": 0.1 * row, "graph": 0.5, "batch": 0.4} for row in range(6)}
    del scores["3"]["batch"]
    across = compare_datasets(scores, dict.fromkeys(scores, METRICS["accuracy"]))
    assert set(across.ranks) == {"none", "graph"}


def test_equal_everywhere() -> None:
    across = compared(np.full((12, 5), 0.7))
    assert (across.friedman, across.friedman_p) == (0, 1)
    assert len(across.tied) == 5
    assert "no norm can be told apart" in across.sentence


def test_groups_are_what_lies_within_the_critical_difference() -> None:
    across = compared(table())
    ranks, limit = across.ranks, across.critical_difference
    assert across.groups
    for group in across.groups:
        assert ranks[group[-1]] - ranks[group[0]] <= limit
        outside = [norm for norm in ranks if norm not in group]
        assert not any(
            abs(ranks[norm] - ranks[end]) <= limit
            for norm in outside
            for end in [max((group[0], group[-1]), key=lambda one: abs(ranks[norm] - ranks[one]))]
        )


def test_verdicts_are_compared() -> None:
    verdicts = {
        name: judge(synthetic_records(metric=metric), protocol="nested")
        for name, metric in (("first", "accuracy"), ("second", "mae"))
    }
    across = across_verdicts(verdicts)
    assert set(across.ranks) == set(NORMS)
    assert list(across.ranks)[-1] == "none"


def named(scores: list[list[float]]) -> AcrossDatasets:
    """Three methods on data sets A, B, …, given their scores."""
    table = {
        name: dict(zip("xyz", of, strict=True)) for name, of in zip("ABCDEFG", scores, strict=False)
    }
    return compare_datasets(table, dict.fromkeys(table, METRICS["accuracy"]))


def test_ranks_without_each_data_set_by_hand() -> None:
    """x: ranks 1 1 1 3 3, y: 2 2 2 1 1, z: the rest; without A, y has 1.5 and x 2."""
    across = named([[3, 2, 1]] * 3 + [[1, 3, 2]] * 2)
    assert across.ranks == pytest.approx({"y": 1.6, "x": 1.8, "z": 2.6})
    without = {one.dataset: one.ranks for one in across.without}
    assert list(without) == list("ABCDE")
    assert without["A"] == pytest.approx({"y": 1.5, "x": 2.0, "z": 2.5})
    assert without["D"] == pytest.approx({"x": 1.5, "y": 1.75, "z": 2.75})
    assert [one.dataset for one in across.decisive] == ["D", "E"]
    assert across.sentence.endswith(
        "Dropping one set changes the winner in 2 of 5 cases: without D or E x ranks best."
    )
    rest = named([[3, 2, 1]] * 2 + [[1, 3, 2]] * 2)
    assert across.without[0].friedman_p == pytest.approx(rest.friedman_p)


def test_a_winner_that_stays_and_two_that_share_it() -> None:
    assert named([[3, 2, 1]] * 4).decisive == ()
    shared = named([[3, 2, 1], [2, 3, 1], [3, 2, 1], [2, 3, 1]])
    assert shared.ranks == pytest.approx({"x": 1.5, "y": 1.5, "z": 3.0})
    assert shared.decisive == (), "one of the two that shared the first place has it alone"
    drawn = named([[3, 2, 1], [2, 3, 1], [3, 2, 1]])
    assert [sorted(one.best) for one in drawn.decisive] == [["x", "y"]] * 2
    assert named([[3, 2, 1]] * 2).without == ()


def test_across_as_data() -> None:
    data = named([[3, 2, 1]] * 4).to_dict()
    assert data["iman_davenport"] is None, "infinite"
    assert [one["dataset"] for one in data["without"]] == list("ABCD")
