"""What a comparison can show, said before it is run or while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from graphnorms.lab import power
from graphnorms.lab.design import Design
from graphnorms.lab.sensitivity import sensitivities
from graphnorms.lab.trials import Trials, group_trials

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.settings import Settings
    from graphnorms.training.record import Record


def expected_detectable(
    *,
    protocol: str,
    metric: str,
    norms: int,
    pairs: int,
    test_items: float = 0.0,
    train_items: float = 0.0,
    splits: int = 1,
    deviation: float | None = None,
) -> float:
    """Say before a run which difference it can show.

    The smallest true difference that is detected with 80% power at 5% over all pairs of norms,
    in the unit of the score. For accuracies over folds it follows from the sizes of the folds
    (what is assumed: `power.expected_deviation`). For other scores, and for seeds on one split,
    it is unknown before something has been trained: give `deviation`, e.g. that of the trials
    that chose the learning rates, `selection_deviation`. NaN where it is unknown, or where there
    is nothing to compare.

    Args:
        protocol: See `Design`.
        metric: Name of the score.
        norms: Norms compared.
        pairs: Folds of all repeats, or seeds.
        test_items, train_items: Graphs or nodes per fold, or per given split, that are tested,
            and trained on.
        splits: Given splits, of protocol `"split"`.
        deviation: Standard deviation of the paired differences, if something is known of it.
    """
    ratio = test_items / train_items if train_items and (protocol != "split" or splits > 1) else 0.0
    design = Design(protocol=protocol, test_ratio=ratio)
    if pairs < 2 or norms < 2:
        return math.nan
    if deviation is None:
        if metric != "accuracy" or not design.by_fold or test_items <= 0:
            return math.nan
        deviation = power.expected_deviation(test_items)
    return design.detectable(deviation, pairs, math.comb(norms, 2))


class FoldSizes(NamedTuple):
    """Items that a planned fold, or given split, tests and trains on, and how many pairs there are.

    Pairs are the folds of all repeats, splits, or seeds. `tested` and `trained` are 0 on one split,
    whose seeds are independent.
    """

    tested: float
    trained: float
    pairs: int


def fold_sizes(settings: Settings, graphs: GraphSet) -> FoldSizes:
    """Say how large the parts of a planned comparison are, before anything is divided."""
    if settings.protocol == "split":
        if graphs.split is None or settings.folds == 1:
            return FoldSizes(0.0, 0.0, settings.runs)
        tested, trained = (int((graphs.split == part).sum()) / settings.folds for part in (2, 0))
        return FoldSizes(tested, trained, settings.folds)
    tested = graphs.num_items / settings.folds
    held_out = settings.holdout if settings.protocol == "nested" else 0.0
    return FoldSizes(tested, (graphs.num_items - tested) * (1 - held_out), settings.all_folds)


def planned_detectable(settings: Settings, graphs: GraphSet) -> float:
    """Say which difference a planned comparison can show, see `expected_detectable`."""
    sizes = fold_sizes(settings, graphs)
    return expected_detectable(
        protocol=settings.protocol,
        metric=settings.metric,
        norms=len(settings.norms),
        pairs=sizes.pairs,
        test_items=sizes.tested,
        train_items=sizes.trained,
        splits=settings.folds,
    )


def selection_deviation(records: Sequence[Record], *, protocol: str) -> float | None:
    """Take the spread of paired differences from the trials that choose the learning rate.

    Every norm at the rate that is best for it, over the folds or seeds that two norms share; the
    root mean square over all pairs of norms. None where fewer than two are shared.
    """
    trials = group_trials(records, protocol=protocol)
    return _selection_deviation(trials, Design(protocol=protocol))


def _selection_deviation(trials: Mapping[str, Trials], design: Design) -> float | None:
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
    norms = sorted(scores)
    for place, first in enumerate(norms):
        for second in norms[place + 1 :]:
            one, other = scores[first], scores[second]
            values = design.values({p: one[p] - other[p] for p in one.keys() & other.keys()})
            if values.size > 1:
                variances.append(float(values.var(ddof=1)))
    return math.sqrt(sum(variances) / len(variances)) if variances else None


def detectable_before(
    trials: Mapping[str, Trials], design: Design, planned: int, repeats: int = 1
) -> float | None:
    """Return what was to be expected of a comparison whose records are there, see above.

    Args:
        trials: Trials per norm.
        design: What is paired.
        planned: Trials per norm that give scores.
        repeats: Of the cross-validation.
    """
    records = [record for of_norm in trials.values() for record in of_norm.done.values()]
    if not records:
        return None
    held_out = "validation_items" if design.optimistic else "test_items"
    folds = max(record.config["split"].get("folds", 0) for record in records)
    pairs = folds * repeats if design.by_fold else planned
    value = expected_detectable(
        protocol=design.protocol,
        metric=records[0].config["metric"],
        norms=len(trials),
        pairs=pairs,
        test_items=max(record.counts.get(held_out, 0) for record in records),
        train_items=max(record.counts.get("train_items", 0) for record in records),
        splits=folds,
    )
    # What formulas do not say, the trials that chose the learning rate do.
    if math.isnan(value) and not design.optimistic:
        deviation = _selection_deviation(trials, design)
        if deviation is not None:
            value = design.detectable(deviation, pairs, math.comb(len(trials), 2))
    return None if math.isnan(value) or not value else value
