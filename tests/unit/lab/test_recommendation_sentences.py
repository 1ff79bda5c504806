"""Learning rates and the recommendation, on records whose outcome is known."""

from __future__ import annotations

import pytest
from tests.unit.lab.made import trial, trials
from tests.verdicts import judge

from graphnorms.lab.number_format import Scale
from graphnorms.lab.sensitivity import Sensitivity
from graphnorms.lab.sentences import sentences
from graphnorms.lab.verdict import Verdict
from graphnorms.training.metrics import METRICS
from graphnorms.training.record import Record

GRID = (0.001, 0.003, 0.01, 0.03, 0.1)


def select(
    norm: str, means: tuple[float | None, ...], *, metric: str = "accuracy", grid=GRID
) -> list[Record]:
    """Make the trials that choose the rate; None is a rate at which every trial fails."""
    return [
        trial(
            norm,
            fold,
            stage="select",
            rate=rate,
            metric=metric,
            score=mean or 0.0,
            failed="" if mean is not None else "boom",
        )
        for rate, mean in zip(grid, means, strict=True)
        for fold in range(10)
    ]


def sensitivity(verdict: Verdict, norm: str) -> Sensitivity:
    found = verdict.row(norm).sensitivity
    assert found is not None
    return found


def test_sensitivity_by_hand() -> None:
    records = [*trials("graph", 0.8, rate=0.01), *select("graph", (0.7, 0.79, 0.8, 0.78, None))]
    one = sensitivity(judge(records, protocol="nested"), "graph")
    assert one.rates == GRID
    assert one.scores == pytest.approx((0.7, 0.79, 0.8, 0.78, None))
    assert (one.best, one.near, one.share) == (0.01, 3, 0.6)
    assert one.neighbour_loss == pytest.approx((0.01 + 0.02) / 2)
    assert one.grid_loss == pytest.approx((0.1 + 0.01 + 0.02) / 3)
    assert (one.done, one.failed) == ((10, 10, 10, 10, 0), (0, 0, 0, 0, 10))
    assert one.chosen == ((0.01, 10),)
    assert not one.at_edge


def test_errors_are_sensitive_the_other_way_round() -> None:
    means = (0.9, 0.52, 0.5, 0.505, 0.6)
    records = [*trials("graph", 0.5, metric="mae"), *select("graph", means, metric="mae")]
    one = sensitivity(judge(records, protocol="nested", margin=0.01), "graph")
    assert (one.best, one.near) == (0.01, 3)
    assert one.neighbour_loss == pytest.approx((0.02 + 0.005) / 2)


def test_a_rate_that_fails_on_a_fold_is_neither_best_nor_near() -> None:
    records = select("graph", (0.7, 0.8, 0.81, 0.9, 0.6))
    records = [
        trial("graph", 0, stage="select", rate=0.03, failed="boom")
        if record.config["learning_rate"] == 0.03 and record.config["split"]["fold"] == 0
        else record
        for record in records
    ]
    one = sensitivity(judge([*records, *trials("graph", 0.8)], protocol="nested"), "graph")
    assert (one.best, one.near) == (0.01, 2)


def test_a_best_at_the_edge_is_a_warning() -> None:
    verdict = judge(
        [
            *trials("graph", 0.8),
            *select("graph", (0.7, 0.7, 0.7, 0.7, 0.8)),
            *trials("none", 0.8),
            *select("none", (0.7, 0.7, 0.8, 0.7, 0.7)),
        ],
        protocol="nested",
    )
    assert sensitivity(verdict, "graph").at_edge
    assert not sensitivity(verdict, "none").at_edge
    assert "the highest tried for graph (0.1);" in sentences(verdict).rates


def test_one_rate_says_nothing_and_that_is_said() -> None:
    records = [
        record
        for norm in ("none", "graph")
        for record in (*trials(norm, 0.8), *select(norm, (0.8,), grid=(0.01,)))
    ]
    verdict = judge(records, protocol="nested")
    assert not sensitivity(verdict, "graph").judged
    assert "only 0.01 was tried" in sentences(verdict).rates


def chosen(records: list[Record]) -> tuple[str, str]:
    verdict = judge(records, protocol="nested")
    assert verdict.recommendation is not None
    return verdict.recommendation.norm, verdict.recommendation.decided_by


def test_the_only_best_is_recommended_however_slow() -> None:
    records = [*trials("none", 0.7, reaches=2), *trials("graph", 0.9)]
    assert chosen(records) == ("graph", "score")


def test_of_those_practically_equal_the_soonest_is_recommended() -> None:
    records = [
        *trials("none", 0.803, noise=0.001),
        *trials("batch", 0.802, noise=0.001, reaches=10),
    ]
    records += trials("graph", 0.8, noise=0.001, reaches=5)
    assert chosen(records) == ("graph", "speed")
    verdict = judge(records, protocol="nested")
    assert (
        "Recommended: graph; of the 3 shown to be practically equal in score"
        in sentences(verdict).text
    )
    assert "10 steps, sooner than the others" in sentences(verdict).advice


def test_of_those_equally_soon_the_most_robust_is_recommended() -> None:
    records = [
        *trials("batch", 0.803, noise=0.001, reaches=5),
        *select("batch", (0.5, 0.6, 0.8, 0.6, 0.5)),
        *trials("graph", 0.8, noise=0.001, reaches=5),
        *select("graph", (0.79, 0.8, 0.8, 0.79, 0.7)),
        *trials("none", 0.8, noise=0.001),
    ]
    assert chosen(records) == ("graph", "robustness")
    assert (
        "4 of 5 learning rates come within 2 points of the best of batch"
        in sentences(judge(records, protocol="nested")).advice
    )


def test_one_rate_comes_and_several_come() -> None:
    records = [
        *trials("graph", 0.8, noise=0.001),
        *select("graph", (0.5, 0.6, 0.8, 0.6, 0.5)),
        *trials("none", 0.5),
    ]
    sentence = sentences(judge(records, protocol="nested")).advice
    assert "1 of 5 learning rates comes within" in sentence


def test_failures_weigh_more_than_flat_curves() -> None:
    records = [
        *trials("batch", 0.803, noise=0.001, reaches=5),
        *select("batch", (0.5, 0.6, 0.8, 0.6, 0.5)),
        *trials("graph", 0.8, noise=0.001, reaches=5),
        *select("graph", (0.79, 0.8, 0.8, 0.79, None)),
    ]
    assert chosen(records) == ("batch", "robustness")


def test_then_the_simplest_is_recommended() -> None:
    big = trials("batch", 0.803, noise=0.001, reaches=5)
    for record in big:
        record.counts["parameters"] = 5000
    records = [
        *big,
        *trials("graph", 0.8, noise=0.001, reaches=5),
        *trials("none", 0.8, noise=0.001),
    ]
    assert chosen(records) == ("graph", "simplicity")
    # A norm that needs the edges as well is less simple than one with more parameters.
    records = [
        *big,
        *trials("adja", 0.8, noise=0.001, reaches=5),
        *trials("none", 0.8, noise=0.001),
    ]
    assert chosen(records) == ("batch", "simplicity")
    assert "it adds 4000 parameters" in sentences(judge(records, protocol="nested")).advice


def test_what_nothing_decides_goes_by_the_mean() -> None:
    records = [
        *trials("batch", 0.803, noise=0.001, reaches=5),
        *trials("graph", 0.8, noise=0.001, reaches=5),
    ]
    best = judge(records, protocol="nested").best
    assert chosen(records) == (best, "mean")


@pytest.mark.parametrize(
    ("reference", "value", "written"),
    [
        (0.5, 0.03124, "0.031 eV"),
        (45.3, 1.26, "1.3 eV"),
        (None, 0.5, "0.500 eV"),
        (1234.0, 12.3, "12 eV"),
        (0.00123, 0.00001, "0.00001 eV"),
    ],
)
def test_numbers_have_the_digits_of_a_typical_score(
    reference: float | None, value: float, written: str
) -> None:
    assert Scale.fitting(METRICS["mae"], reference, "eV").difference(value) == written


def test_fractions_are_percent_and_points() -> None:
    scale = Scale.fitting(METRICS["accuracy"], 0.9, "ignored")
    assert (scale.score(0.9123), scale.difference(0.063)) == ("91.2%", "6.3 points")
    assert (scale.difference(0.01), scale.difference(0.02)) == ("1 point", "2 points")
    assert scale.number(-0.0001, signed=True) == "0.0"
    assert scale.number(-0.02, signed=True) == "−2.0"
    assert scale.number(0.02, signed=True) == "+2.0"
