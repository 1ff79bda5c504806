"""The recommended norm: the best choice among the leader and the norms shown to equal it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnorms.lab.paired_tests import not_told_apart
from graphnorms.lab.statistics import SIGNIFICANCE
from graphnorms.lab.trivial import beats

if TYPE_CHECKING:
    from graphnorms.lab.verdict import NormSummary, Verdict
    from graphnorms.training.metrics import Metric

MOST_FAILED = 0.1
"""Share of failed trials above which a norm is neither ranked with the others nor recommended."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The norm to use, and the reasons.

    Args:
        norm: Catalogue name.
        among: The candidates: the leader, and the norms shown to be practically equal to it.
        unproven: The contenders that the leader is shown neither to be better than nor to equal.
        soonest: The candidates not significantly slower to the target than the soonest.
        decided_by: `"score"` (it is the only candidate), `"speed"`, `"robustness"`,
            `"simplicity"`, `"mean"` (nothing else told the candidates apart, and the better mean
            was taken) or `"name"` (not even the mean did).
        failed, trials: Of its trials, how many failed.
        above_trivial: Whether it is shown to beat the trivial predictor; None if unknown.
        steps_to_target: Median; None if it has none.
        near, rates: Learning rates near the leader's best, and all that were tried, see
            `sensitivity.Sensitivity`.
        extra_parameters: Parameters beyond those of the baseline; None if unknown.
        needs: Inputs that it needs besides features and graphs.
    """

    norm: str
    among: tuple[str, ...]
    unproven: tuple[str, ...]
    soonest: tuple[str, ...]
    decided_by: str
    failed: int
    trials: int
    above_trivial: bool | None
    steps_to_target: float | None
    near: int
    rates: int
    extra_parameters: int | None
    needs: tuple[str, ...]


def recommend(verdict: Verdict) -> Recommendation | None:
    """Choose among the leader and the norms *shown* to be practically equal to it.

    Not told apart is not equal: where no norm is shown to equal the leader, it is the leader, and
    `unproven` names the norms that it is not shown to be better than. Among several candidates:
    first speed, those that cannot be told from the soonest of them. Of these, first those whose
    trials did not fail, then the least dependent on the learning rate: the most rates of the grid
    near the leader's best. Then the simplest: the fewest needs, then the fewest parameters. What
    is equal in all stays in the order of the mean score, then of the name.

    None where nothing was judged, where the leader does not beat the trivial predictor, and where
    more than `MOST_FAILED` of its trials failed, which is so only if that is so for all.

    Args:
        verdict: The numbers; its recommendation is not read.
    """
    leader, metric = verdict.best, verdict.scale.metric
    if leader is None or not verdict.tied:
        return None

    def deserves(row: NormSummary) -> bool:
        above = row.score is not None and beats(metric, row.score.mean, verdict.trivial)
        return above and not row.unreliable

    if not deserves(verdict.row(leader)):
        return None
    against = [test for test in verdict.differences if test.involves(leader)]
    equal = {test.other(leader) for test in against if test.practically_equal}
    worse = {test.other(leader) for test in against if test.told_apart}
    rivals = [norm for norm in verdict.contenders if norm != leader]
    among = (leader, *(norm for norm in rivals if norm in equal and deserves(verdict.row(norm))))
    candidates = [verdict.row(norm) for norm in among]
    running = [norm for norm in verdict.speed_order if norm in among]
    soonest = not_told_apart(
        running[0] if running else None,
        [test for test in verdict.speed_differences if {test.first, test.second} <= set(among)],
    )
    fast = [row for row in candidates if row.norm in soonest] or candidates
    keys: dict[str, Callable[[NormSummary], tuple[float, ...]]] = {
        "robustness": _fragility,
        "simplicity": _complexity,
        "mean": lambda row: _loss(row, metric),
    }
    decided_by, left = "score" if len(among) == 1 else "speed", fast
    for name, key in keys.items():
        if len(left) > 1:
            least = min(map(key, left))
            left, decided_by = [row for row in left if key(row) == least], name
    chosen = left[0]
    counted = {row.norm: row.parameters for row in verdict.rows}
    own, plain = chosen.parameters, counted.get(verdict.baseline)
    return Recommendation(
        norm=chosen.norm,
        among=among,
        unproven=tuple(norm for norm in rivals if norm not in equal | worse),
        soonest=tuple(row.norm for row in fast),
        decided_by="name" if len(left) > 1 else decided_by,
        failed=chosen.failed,
        trials=chosen.trials,
        above_trivial=None if chosen.trivial_p is None else chosen.trivial_p <= SIGNIFICANCE,
        steps_to_target=chosen.steps_to_target,
        near=_near(chosen),
        rates=len(chosen.sensitivity.rates) if chosen.sensitivity else 0,
        extra_parameters=None if own is None or plain is None else own - plain,
        needs=chosen.needs,
    )


def _fragility(row: NormSummary) -> tuple[int, int]:
    return int(bool(row.failed + row.tried_failed)), -_near(row)


def _loss(row: NormSummary, metric: Metric) -> tuple[float]:
    mean = row.score.mean if row.score is not None else math.nan
    return (float(f"{-mean if metric.higher_is_better else mean:.12g}"),)


def _complexity(row: NormSummary) -> tuple[int, int]:
    return len(row.needs), row.parameters or 0


def _near(row: NormSummary) -> int:
    return row.sensitivity.near if row.sensitivity is not None else 0
