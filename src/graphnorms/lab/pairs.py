"""Every pair of norms compared on the same folds, and the set that cannot be told apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphnorms.lab import statistics
from graphnorms.lab.outcomes import Fold
from graphnorms.lab.statistics import Estimate

MINIMUM_FOLDS = 5
"""With fewer pairs nothing is judged: at 4 folds the corrected test of a single comparison misses
a true difference of 3 standard deviations more often than one time in five."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two norms compared on the folds that both have.

    Args:
        first, second: Catalogue names.
        estimate: In accuracy the mean of `first - second`, a fraction; in speed the geometric
            mean of steps(first) / steps(second), below 1 when `first` is sooner. The interval is
            this pair's own 95%, not adjusted for the other pairs.
        deviation: Standard deviation of the paired differences; in speed, of the log ratios.
        pairs: Folds that both have.
        censored: Folds in which one or both missed the target, so that the ratio is a bound
            (the truth is further from 1); 0 for accuracy.
        p_value: Two-sided; None with fewer than `MINIMUM_FOLDS` pairs.
        adjusted_p: The same after Holm's adjustment over all pairs.
    """

    first: str
    second: str
    estimate: Estimate
    deviation: float
    pairs: int
    censored: int = 0
    p_value: float | None = None
    adjusted_p: float | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the two differ at 5%, adjusted for all pairs."""
        return self.adjusted_p is not None and self.adjusted_p <= statistics.SIGNIFICANCE

    def involves(self, *norms: str) -> bool:
        """Whether all of `norms` are among the two."""
        return set(norms) <= {self.first, self.second}


def compare_all(
    scores: Mapping[str, Mapping[Fold, float]], order: Sequence[str], *, test_ratio: float
) -> tuple[PairedTest, ...]:
    """Compare every two norms of `order` that share a fold; the one named earlier is `first`.

    Args:
        scores: One score per norm and fold.
        order: Norms; decides which of two is `first`.
        test_ratio: n_test / n_train of a fold.
    """
    tests: list[PairedTest] = []
    for first, second in itertools.combinations(order, 2):
        folds = sorted(scores[first].keys() & scores[second].keys())
        if not folds:
            continue
        outcome = statistics.paired_difference(
            [scores[first][fold] for fold in folds],
            [scores[second][fold] for fold in folds],
            test_ratio=test_ratio,
        )
        tests.append(
            PairedTest(
                first=first,
                second=second,
                estimate=outcome.estimate,
                deviation=outcome.deviation,
                pairs=outcome.pairs,
                p_value=outcome.p_value if outcome.pairs >= MINIMUM_FOLDS else None,
            )
        )
    adjusted = statistics.holm(
        [math.nan if test.p_value is None else test.p_value for test in tests]
    )
    return tuple(
        test if math.isnan(p) else replace(test, adjusted_p=p)
        for test, p in zip(tests, adjusted, strict=True)
    )


def not_told_apart(leader: str | None, tests: Sequence[PairedTest]) -> tuple[str, ...]:
    """Return the leader and all that its tests cannot tell from it; () if there is no test.

    Norms with too few folds for a test are neither tied nor worse, and are left out.
    """
    judged = [
        test
        for test in tests
        if leader is not None and test.involves(leader) and test.adjusted_p is not None
    ]
    if leader is None or not judged:
        return ()
    return (
        leader,
        *(
            test.second if test.first == leader else test.first
            for test in judged
            if not test.told_apart
        ),
    )
