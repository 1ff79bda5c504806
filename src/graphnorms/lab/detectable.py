"""Which differences a comparison can show, before it runs or given its trials."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from graphnorms.lab import power
from graphnorms.lab.design import Design
from graphnorms.lab.sensitivity import sensitivities
from graphnorms.lab.trials import Trials

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.settings import Settings


class Expected(NamedTuple):
    """What is known of a comparison before it runs.

    Args:
        design: How trials are paired, and tested.
        pairs: Folds of all repeats, given splits, or seeds.
        tested: Items that a fold or given split tests; 0 on one split, where seeds are independent.
    """

    design: Design
    pairs: int
    tested: float = 0.0


def expected_detectable(
    expected: Expected, metric: str, norms: int, deviation: float | None = None
) -> float:
    """Say which difference a comparison can show.

    The smallest true difference that is detected with 80% power at 5% over all pairs of norms,
    in the unit of the score. For accuracies over folds it follows from the sizes of the folds
    (`power.expected_deviation` has the assumptions). For other scores, and for seeds on one split,
    it is unknown before something has been trained: give `deviation`, e.g. that of the trials
    that chose the learning rates, `selection_deviation`. NaN where it is unknown, or where there
    is nothing to compare.

    Args:
        expected: The comparison.
        metric: Name of the score.
        norms: Norms compared.
        deviation: Standard deviation of the paired differences, if known.
    """
    design, pairs, tested = expected
    if pairs < 2 or norms < 2:
        return math.nan
    if deviation is None:
        if metric != "accuracy" or not design.by_fold or tested <= 0:
            return math.nan
        deviation = power.expected_deviation(tested)
    return design.detectable(deviation, pairs, math.comb(norms, 2))


def expected_of(settings: Settings, graphs: GraphSet) -> Expected:
    """Return what is known of a planned comparison, before anything is divided."""
    protocol, folds = settings.protocol, settings.folds
    if protocol == "split":
        if graphs.split is None or folds == 1:
            return Expected(Design(protocol=protocol), settings.runs)
        tested, trained = (int((graphs.split == part).sum()) / folds for part in (2, 0))
        return Expected(Design(protocol=protocol, test_ratio=tested / trained), folds, tested)
    tested = graphs.num_items / folds
    held_out = settings.holdout if protocol == "nested" else 0.0
    trained = (graphs.num_items - tested) * (1 - held_out)
    design = Design(protocol=protocol, test_ratio=tested / trained, folds=folds)
    return Expected(design, settings.all_folds, tested)


def planned_detectable(settings: Settings, graphs: GraphSet) -> float:
    """Say which difference a planned comparison can show, see `expected_detectable`."""
    treatments = len(settings.treatments)
    return expected_detectable(expected_of(settings, graphs), settings.metric, treatments)


def selection_deviation(trials: Trials, design: Design) -> float | None:
    """Take the spread of paired differences from the trials that choose the learning rate.

    Every norm at the rate that is best for it, over the folds or seeds that two norms share; the
    root mean square over all pairs of norms. None where fewer than two are shared.
    """
    best = {norm: of_norm.best for norm, of_norm in sensitivities(trials, math.inf).items()}
    scores = {
        norm: {
            pair: float(value)
            for (rate, pair), record in of_norm.tried.items()
            if rate == best[norm] and (value := record.outcome.get("validation_score")) is not None
        }
        for norm, of_norm in trials.items()
    }
    variances = []
    for first, second in itertools.combinations(sorted(scores), 2):
        one, other = scores[first], scores[second]
        values = design.values({p: one[p] - other[p] for p in one.keys() & other.keys()})
        if values.size > 1:
            variances.append(float(values.var(ddof=1)))
    return math.sqrt(sum(variances) / len(variances)) if variances else None


def detectable_before(trials: Trials, planned: int, repeats: int) -> float | None:
    """Return what was to be expected of a comparison with these trials.

    Args:
        trials: The trials.
        planned: Trials per norm that give scores.
        repeats: Repeats of the cross-validation.
    """
    design = trials.design
    counts = [r.counts for r in trials.records if r.status == "done"]
    if not counts:
        return None
    tested, trained = (
        max(count.get(f"{part}_items", 0) for count in counts)
        for part in (trials.held_out, "train")
    )
    ratio = tested / trained if trained and design.by_fold else 0.0
    pairs = trials.folds * repeats if design.by_fold else planned
    expected = Expected(Design(protocol=design.protocol, test_ratio=ratio), pairs, tested)
    value = expected_detectable(expected, trials.metric.name, len(trials))
    # What formulas do not say, the trials that chose the learning rate do.
    if math.isnan(value) and not design.optimistic:
        deviation = selection_deviation(trials, design)
        if deviation is not None:
            value = design.detectable(deviation, pairs, math.comb(len(trials), 2))
    return None if math.isnan(value) or not value else value
