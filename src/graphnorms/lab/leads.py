"""Differences between norms that are to be explained, as leads: positive, whatever the metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from graphnorms.lab.paired_tests import PairedTest, compare_all
from graphnorms.lab.statistics import SIGNIFICANCE, Estimate

if TYPE_CHECKING:
    from graphnorms.lab.design import Design, Pair
    from graphnorms.lab.trials import NormTrials, Trials
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.metrics import Metric
    from graphnorms.training.record import Record

Scores = Mapping["Pair", float]

_PLAIN: Final = "as compared"
_CHANGED: Final = "with an intervention"


@dataclass(frozen=True, kw_only=True)
class Lead:
    """A norm that is told apart from one with a lower score, or from one that does not train.

    Args:
        leader, trailer: The two.
        estimate: How much better the leader scores, above 0; paired.
        failing: Trials of the trailer that failed, where these are too many for it to be ranked; a
            failed trial then scores as the answer that looks at no graph.
    """

    leader: str
    trailer: str
    estimate: Estimate
    failing: int = 0


def leads_of(trials: Trials, verdict: Verdict) -> list[Lead]:
    """List the differences that a verdict tells apart, the largest first."""
    found = []
    for test in verdict.differences:
        if test.told_apart and {test.first, test.second} <= {*verdict.contenders}:
            higher = trials.metric.higher_is_better
            better = test if (test.estimate.mean > 0) == higher else test.reversed()
            found.append(
                Lead(
                    leader=better.first,
                    trailer=better.second,
                    estimate=better.estimate if higher else better.reversed().estimate,
                )
            )
    for row in verdict.rows:
        if row.unreliable and row.norm not in verdict.contenders and verdict.trivial is not None:
            found += _over_failing(trials, verdict, row.norm, row.failed)
    return sorted(found, key=lambda lead: -lead.estimate.mean)


def _over_failing(trials: Trials, verdict: Verdict, norm: str, failed: int) -> list[Lead]:
    best = verdict.contenders[0] if verdict.contenders else None
    if best is None:
        return []
    lead = Lead(leader=best, trailer=norm, estimate=Estimate(0.0, 0.0, 0.0), failing=failed)
    test = lead_with(lead, trials[best], trials[norm], verdict)
    if test is None or test.estimate.mean <= 0 or not (test.p_value or 1.0) <= SIGNIFICANCE:
        return []
    return [replace(lead, estimate=test.estimate)]


def lead_with(
    lead: Lead, leader: NormTrials, trailer: NormTrials, verdict: Verdict
) -> PairedTest | None:
    """Test the lead in some trials of its norms; None where they share none."""
    own, other = scores_of(lead, leader, trailer, verdict)
    metric = leader.metric
    tests = compare_all(
        {lead.leader: own, lead.trailer: other},
        (lead.leader, lead.trailer),
        design=verdict.design,
        most=metric.most - metric.least,
    )
    return tests[0] if tests else None


def change_of(plain: Scores, changed: Scores, design: Design, metric: Metric) -> PairedTest | None:
    """Test by how much an intervention shortens a lead, pair by pair; None without a common pair.

    Args:
        plain: The lead of each pair in the comparison.
        changed: The same with the intervention.
        design: Of the verdict, which has the tests.
        metric: Of the scores.
    """
    tests = compare_all(
        {_PLAIN: plain, _CHANGED: changed},
        (_PLAIN, _CHANGED),
        design=design,
        most=2 * (metric.most - metric.least),
    )
    return tests[0] if tests else None


def scores_of(
    lead: Lead, leader: NormTrials, trailer: NormTrials, verdict: Verdict
) -> tuple[dict[Pair, float], dict[Pair, float]]:
    """Return the scores of both, higher ones better, those of failed trials if the lead has any."""
    own, other = leader.scores(), trailer.scores()
    if lead.failing and verdict.trivial is not None:
        other |= dict.fromkeys(trailer.failed, verdict.trivial)
    if leader.metric.higher_is_better:
        return own, other
    return {pair: -score for pair, score in own.items()}, {p: -s for p, s in other.items()}


def differences(own: Scores, other: Scores) -> dict[Pair, float]:
    """Return the lead of each pair that both have."""
    return {pair: own[pair] - other[pair] for pair in own.keys() & other.keys()}


def outcomes(of_norm: NormTrials) -> dict[Pair, Record]:
    """Return the records of a norm by pair, failed ones too."""
    return {**of_norm.failed, **of_norm.done}
