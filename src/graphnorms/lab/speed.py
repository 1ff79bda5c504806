"""How soon each norm reaches one common training accuracy, misses counted as what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from graphnorms.lab.outcomes import Fold, Trials
from graphnorms.lab.pairs import MINIMUM_FOLDS, PairedTest, compare_all
from graphnorms.lab.statistics import Estimate

HIGHEST_TARGET = 0.99
"""Near 1 a single graph decides when a target is reached."""

REACHED_BY = 0.75
"""Part of the baseline's folds that must reach the target, so that its median exists with room."""


@dataclass(frozen=True)
class Target:
    """A training accuracy that all norms are timed to, and the rule that gave it.

    Args:
        accuracy: A fraction.
        source: The norm it comes from; None if it is the lowest over all norms.
    """

    accuracy: float
    source: str | None


@dataclass(frozen=True)
class TimesToTarget:
    """When each fold of one norm first had the target after an epoch; infinity for a miss.

    Args:
        steps: Optimizer steps, per fold.
        seconds: Training seconds, evaluation not included; folds without measured times lack.
        bounds: Steps that a miss is known to exceed, plus one epoch: the least it can be.
    """

    steps: dict[Fold, float] = field(default_factory=dict)
    seconds: dict[Fold, float] = field(default_factory=dict)
    bounds: dict[Fold, float] = field(default_factory=dict)

    @property
    def reached(self) -> int:
        """Folds that reached the target."""
        return sum(map(math.isfinite, self.steps.values()))

    def median_steps(self) -> float | None:
        """Median over folds; None if half or more of them miss."""
        return _median(self.steps)

    def median_seconds(self) -> float | None:
        """Median over folds; None if half or more of them miss."""
        return _median(self.seconds)

    def log_steps(self) -> dict[Fold, float]:
        """Return log(steps), a miss set to the least that it can be."""
        return {fold: math.log(min(steps, self.bounds[fold])) for fold, steps in self.steps.items()}


def common_target(trials: Mapping[str, Trials], baseline: str) -> Target | None:
    """Fix the training accuracy that all norms are timed to.

    The highest that three quarters of the baseline's folds reach at some epoch, rounded down to
    a percent and at most 0.99. The rule does not look at the norms that compete: it asks how soon
    each gets to where training without normalization gets at all within the budget, and leaves
    the baseline itself a median. Without a done trial of the baseline, the lowest of the same
    quantity over all norms. None if no trial was done.

    Args:
        trials: Trials per norm.
        baseline: Name of the norm that sets the target.
    """
    attained = {norm: _attained(of_norm) for norm, of_norm in trials.items()}
    known = {norm: value for norm, value in attained.items() if not math.isnan(value)}
    if not known:
        return None
    source = baseline if baseline in known else None
    accuracy = known[source] if source is not None else min(known.values())
    # The small addend keeps 0.29, stored as 0.28999…, at 29 percent.
    return Target(min(HIGHEST_TARGET, math.floor(accuracy * 100 + 1e-9) / 100), source)


def times_to_target(
    trials: Mapping[str, Trials], target: Target | None
) -> dict[str, TimesToTarget]:
    """Time every norm to the target; a trial that failed never reached it.

    The first epoch at or above the target counts, even if the accuracy falls again.
    """
    if target is None:
        return {norm: TimesToTarget() for norm in trials}
    bounds = _bounds(trials)
    result: dict[str, TimesToTarget] = {}
    for norm, of_norm in trials.items():
        accuracies, seconds = of_norm.curves("train_accuracy"), of_norm.seconds()
        times = TimesToTarget(
            steps=dict.fromkeys(of_norm.failed, math.inf),
            seconds=dict.fromkeys(of_norm.failed, math.inf),
            bounds={fold: bounds[fold] for fold in (*of_norm.done, *of_norm.failed)},
        )
        for index, (fold, record) in enumerate(of_norm.done.items()):
            hits = np.flatnonzero(accuracies[index] >= target.accuracy)
            epoch = int(hits[0]) if hits.size else None
            steps_per_epoch = record.counts.get("steps_per_epoch", 1)
            times.steps[fold] = math.inf if epoch is None else (epoch + 1.0) * steps_per_epoch
            if epoch is None:
                times.seconds[fold] = math.inf
            elif epoch < seconds.shape[1] and not math.isnan(seconds[index, epoch]):
                times.seconds[fold] = float(seconds[index, epoch])
        result[norm] = times
    return result


def compare_speeds(
    times: Mapping[str, TimesToTarget], *, test_ratio: float
) -> tuple[tuple[str, ...], tuple[PairedTest, ...]]:
    """Order norms by the steps to the target, soonest first, and compare every pair.

    The corrected paired t-test on d = log steps(first) − log steps(second), whose mean is the log
    of a ratio. A miss enters as the least it can be, one epoch beyond the budget: the ratio is
    then a bound on the safe side, and two misses count as equal. Under the hypothesis that
    two norms are alike, d stays symmetric around 0 with that substitution. A rank test would
    not need it, but ignores that the folds' training sets overlap.

    Norms with too few folds to be judged come last; norms without trials are left out.
    """
    logs = {norm: of_norm.log_steps() for norm, of_norm in times.items() if of_norm.steps}

    def place(norm: str) -> tuple[bool, float, str]:
        folds = len(logs[norm])
        return folds < MINIMUM_FOLDS, sum(logs[norm].values()) / folds, norm

    order = sorted(logs, key=place)
    tests = compare_all(logs, order, test_ratio=test_ratio)
    return tuple(order), tuple(
        replace(
            test,
            estimate=Estimate(*map(math.exp, _bounds_of(test.estimate))),
            censored=_censored(times[test.first], times[test.second]),
        )
        for test in tests
    )


def _attained(of_norm: Trials) -> float:
    """Return the training accuracy that `REACHED_BY` of the folds reach at their best."""
    curves = of_norm.curves("train_accuracy")
    if curves.size == 0:
        return math.nan
    best = np.sort(np.max(np.nan_to_num(curves, nan=0.0), axis=1))[::-1]
    return float(best[math.ceil(REACHED_BY * best.size) - 1])


def _bounds(trials: Mapping[str, Trials]) -> dict[Fold, float]:
    """Return, per fold, the steps of the whole budget and one epoch more.

    A trial that failed early may not have counted its steps; another norm's has.
    """
    records = [
        (fold, record)
        for of_norm in trials.values()
        for fold, record in (*of_norm.done.items(), *of_norm.failed.items())
    ]
    steps_per_epoch = max((r.counts.get("steps_per_epoch", 1) for _, r in records), default=1)
    bounds: dict[Fold, float] = {}
    for fold, record in records:
        epochs = record.config.get("epochs") or len(record.history.get("train_accuracy", []))
        steps = (epochs + 1.0) * record.counts.get("steps_per_epoch", steps_per_epoch)
        bounds[fold] = max(bounds.get(fold, 0.0), steps)
    return bounds


def _bounds_of(estimate: Estimate) -> tuple[float, float, float]:
    # Two or three folds give log intervals that no float can exponentiate.
    return estimate.mean, max(estimate.low, -700.0), min(estimate.high, 700.0)


def _censored(first: TimesToTarget, second: TimesToTarget) -> int:
    shared = first.steps.keys() & second.steps.keys()
    return sum(math.isinf(first.steps[fold]) or math.isinf(second.steps[fold]) for fold in shared)


def _median(values: Mapping[Fold, float]) -> float | None:
    if not values:
        return None
    median = float(np.median(list(values.values())))
    return median if math.isfinite(median) else None
