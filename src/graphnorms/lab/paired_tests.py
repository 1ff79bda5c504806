"""Paired tests of every two norms on the same folds or seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphnorms.lab import statistics
from graphnorms.lab.design import Design, Pair
from graphnorms.lab.effect_size import better_in
from graphnorms.lab.equivalence import Probabilities
from graphnorms.lab.statistics import Estimate
from graphnorms.lab.trials import completed_by_all

MOST_PAIRS = 15
"""Pairs of norms that a figure or a table has room for."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two norms compared on the folds, or seeds, that both have.

    Args:
        first, second: Catalogue names.
        estimate: Of scores the mean of `first - second`; of speed the geometric mean of
            steps(first) / steps(second), below 1 when `first` is sooner. The interval is this
            pair's own 95%, not adjusted for the other pairs, and cut to the possible differences.
        deviation: Standard deviation of the paired differences; in speed, of the log ratios.
        pairs: Folds, or seeds, that both have.
        censored: Of these, in how many one or both missed the target, so that the ratio is a
            bound (the truth is further from 1); 0 for scores.
        p_value: Two-sided; None with fewer pairs than `Design.minimum`.
        adjusted_p: The same, adjusted over all pairs, see `Design.adjusted`.
        equivalence_p: Small where the difference lies within the margin; None as `p_value`, and
            where no margin was given.
        adjusted_equivalence_p: The same, adjusted over all pairs.
        probabilities: That the first is better by more than the margin, neither, or the second.
        needed: Pairs that would show, with 80% power over all pairs of norms, a difference as
            large as the one seen; None if no number would.
        needed_to_equal: Pairs that would show in the same way that it is within the margin.
        effect: Of scores, the difference in standard deviations of the paired differences, see
            `graphnorms.lab.effect_size.hedges_g`; None as `p_value`, and where there is no spread.
        wins, losses: Of scores, the pairs in which the first is better, and the second.
    """

    first: str
    second: str
    estimate: Estimate
    deviation: float
    pairs: int
    censored: int = 0
    p_value: float | None = None
    adjusted_p: float | None = None
    equivalence_p: float | None = None
    adjusted_equivalence_p: float | None = None
    probabilities: Probabilities | None = None
    needed: int | None = None
    needed_to_equal: int | None = None
    effect: Estimate | None = None
    wins: int = 0
    losses: int = 0

    @property
    def told_apart(self) -> bool:
        """Whether the two differ at 5%, adjusted for all pairs."""
        return self.adjusted_p is not None and self.adjusted_p <= statistics.SIGNIFICANCE

    @property
    def practically_equal(self) -> bool:
        """Whether the difference is shown to be within the margin, at 5% over all pairs."""
        p = self.adjusted_equivalence_p
        return p is not None and p <= statistics.SIGNIFICANCE

    def reversed(self) -> PairedTest:
        """Return the same test of scores with the two exchanged."""
        estimate, odds, effect = self.estimate, self.probabilities, self.effect
        return replace(
            self,
            first=self.second,
            second=self.first,
            estimate=Estimate(-estimate.mean, -estimate.high, -estimate.low),
            probabilities=odds and Probabilities(odds.second, odds.equal, odds.first),
            effect=effect and Estimate(-effect.mean, -effect.high, -effect.low),
            wins=self.losses,
            losses=self.wins,
        )

    def inverted(self) -> PairedTest:
        """Return the same test of speed with the two exchanged."""
        one = self.estimate
        ratio = Estimate(1 / one.mean, 1 / one.high, 1 / one.low)
        return replace(self, first=self.second, second=self.first, estimate=ratio)

    def involves(self, *norms: str) -> bool:
        """Whether all of `norms` are among the two."""
        return set(norms) <= {self.first, self.second}

    def other(self, norm: str) -> str:
        """Return the one of the two that is not `norm`."""
        return self.second if self.first == norm else self.first


def compare_all(
    scores: Mapping[str, Mapping[Pair, float]],
    order: Sequence[str],
    *,
    design: Design,
    margin: float | None = None,
    higher_is_better: bool = True,
    most: float = math.inf,
) -> tuple[PairedTest, ...]:
    """Compare every two norms of `order` that share a fold or seed; the earlier is `first`.

    Within a fold the runs that both have are averaged, and only they.

    Args:
        scores: One score per norm and trial.
        order: Norms; decides which of two is `first`.
        design: Decides what a pair is, and the tests.
        margin: Half the width of the region of practical equivalence, if it is to be tested.
        higher_is_better: Which way the probabilities are.
        most: The largest possible difference, at which intervals end.
    """
    known = [norm for norm in order if scores[norm]]
    comparisons = math.comb(len(known), 2)
    minimum = design.minimum(comparisons)
    tests: list[PairedTest] = []
    judged: dict[int, dict[Pair, float]] = {}
    for first, second in itertools.combinations(known, 2):
        one, other = scores[first], scores[second]
        paired = {p: _difference(one[p], other[p]) for p in one.keys() & other.keys()}
        differences = design.values(paired)
        if not differences.size:
            continue
        outcome = design.difference(differences)
        test = PairedTest(
            first=first,
            second=second,
            estimate=outcome.estimate.within(-most, most),
            deviation=outcome.deviation,
            pairs=outcome.pairs,
        )
        if outcome.pairs >= minimum:
            test = replace(test, p_value=outcome.p_value)
            judged[len(tests)] = paired
            if margin is not None:
                signed = differences if higher_is_better else -differences
                test = replace(
                    test,
                    equivalence_p=design.equivalence(differences, margin),
                    probabilities=design.probabilities(signed, margin),
                    effect=design.effect(differences),
                )
        if not math.isnan(outcome.deviation):
            needed = design.needed(outcome.estimate.mean, outcome.deviation, comparisons)
            test = replace(test, needed=needed)
            if margin is not None:
                to_equal = design.needed_to_equal(
                    outcome.estimate.mean, outcome.deviation, margin, comparisons
                )
                test = replace(test, needed_to_equal=to_equal)
        if margin is not None:
            wins, losses = better_in(differences if higher_is_better else -differences)
            test = replace(test, wins=wins, losses=losses)
        tests.append(test)
    paired_differences = list(judged.values())
    different = design.adjusted(
        [tests[place].p_value or 0.0 for place in judged], paired_differences
    )
    equal: Sequence[float | None] = [None] * len(judged)
    if margin is not None:
        equal = design.adjusted_equivalence(
            [tests[place].equivalence_p or 0.0 for place in judged], paired_differences, margin
        )
    for place, p, q in zip(judged, different, equal, strict=True):
        tests[place] = replace(tests[place], adjusted_p=p, adjusted_equivalence_p=q)
    return tuple(tests)


def differences_to(
    leader: str, scores: Mapping[str, Mapping[Pair, float]], contenders: Iterable[str]
) -> dict[str, dict[Pair, float]]:
    """Return, of every norm but the leader, each trial's score less the leader's on its fold.

    Only of the trials that the verdict counts: those that every contender completed.
    """
    counted, best = completed_by_all(scores, contenders), scores[leader]
    return {
        norm: {pair: score - best[pair] for pair, score in of_norm.items() if pair in counted}
        for norm, of_norm in scores.items()
        if norm != leader
    }


def shown_pairs(tests: Sequence[PairedTest], leader: str | None) -> list[PairedTest]:
    """Choose the pairs that there is room for: all, or those with the leader."""
    if len(tests) <= MOST_PAIRS:
        return list(tests)
    return [test for test in tests if leader is not None and test.involves(leader)]


def not_told_apart(leader: str | None, tests: Sequence[PairedTest]) -> tuple[str, ...]:
    """Return the leader and the norms not significantly different from it; () without a test.

    Norms with too few pairs for a test are neither tied nor worse, and are left out.
    """
    judged = [
        test
        for test in tests
        if leader is not None and test.involves(leader) and test.adjusted_p is not None
    ]
    if leader is None or not judged:
        return ()
    return (leader, *(test.other(leader) for test in judged if not test.told_apart))


def _difference(first: float, second: float) -> float:
    """Return first − second, and exactly 0 where only rounding is left of it."""
    return 0.0 if math.isclose(first, second, rel_tol=1e-12) else first - second
