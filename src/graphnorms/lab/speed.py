"""Speed of training: the steps of each norm to one common training score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from graphnorms.lab.design import Design, Pair
from graphnorms.lab.paired_tests import PairedTest, compare_all
from graphnorms.lab.statistics import Estimate
from graphnorms.lab.trials import NormTrials, completed_by_all
from graphnorms.lab.trivial import beats
from graphnorms.training.metrics import Metric

if TYPE_CHECKING:
    from graphnorms.training.record import Record

HIGHEST_TARGET = 0.99
"""Of fractions: near 1 a single item decides when a target is reached."""

REACHED_BY = 0.75
"""Part of the baseline's trials that must reach the target, so that its median exists with room."""


@dataclass(frozen=True)
class Target:
    """A score of the training items in eval mode that all norms are timed to, and its rule.

    Args:
        score: In the unit of the metric.
        source: The norm it comes from; None if it is the worst over all norms.
    """

    score: float
    source: str | None


@dataclass(frozen=True)
class TimesToTarget:
    """The time at which each trial of one norm first reached the target; infinity for a miss.

    Args:
        steps: Optimizer steps, per trial.
        seconds: Training seconds, evaluation not included; trials without measured times are left
            out.
        bounds: A lower bound on the steps of a miss: those of the whole budget and one epoch.
    """

    steps: dict[Pair, float] = field(default_factory=dict)
    seconds: dict[Pair, float] = field(default_factory=dict)
    bounds: dict[Pair, float] = field(default_factory=dict)

    @property
    def reached(self) -> int:
        """Trials that reached the target."""
        return sum(map(math.isfinite, self.steps.values()))

    def median_steps(self) -> float | None:
        """Median over trials; None if half or more of them miss."""
        return _median(self.steps)

    def median_seconds(self) -> float | None:
        """Median over trials; None if half or more of them miss."""
        return _median(self.seconds)

    def log_steps(self) -> dict[Pair, float]:
        """Return log(steps), a miss set to the least that it can be."""
        return {pair: math.log(min(steps, self.bounds[pair])) for pair, steps in self.steps.items()}


def common_target(
    trials: Mapping[str, NormTrials], baseline: str, level: float | None = None
) -> Target | None:
    """Fix the training score that all norms are timed to.

    The best that three quarters of the baseline's trials reach at some epoch, rounded to the easy
    side: fractions down to a percent and at most 0.99, other scores to two significant digits.
    The rule does not look at the norms that compete: it asks how soon each gets to where training
    without normalization gets at all within the budget, and leaves the baseline itself a median.
    Without a done trial of the baseline, or where it gets no better than the trivial predictor,
    the worst of the same quantity over the norms that do. None if there is no such norm.

    Args:
        trials: Trials per norm.
        baseline: Name of the norm that sets the target.
        level: Training score of the trivial predictor, if it is known.
    """
    eased = {
        norm: _eased(attained, of_norm.metric)
        for norm, of_norm in trials.items()
        if math.isfinite(attained := _attained(of_norm))
    }
    known = {norm: at for norm, at in eased.items() if beats(trials[norm].metric, at, level)}
    if not known:
        return None
    if baseline in known:
        return Target(known[baseline], baseline)
    worst = min if next(iter(trials.values())).metric.higher_is_better else max
    return Target(worst(known.values()), None)


def times_to_target(
    trials: Mapping[str, NormTrials], target: Target | None
) -> dict[str, TimesToTarget]:
    """Time every norm to the target; a trial that failed never reached it.

    The first epoch at or beyond the target counts, even if the score gets worse again.
    """
    if target is None:
        return {norm: TimesToTarget() for norm in trials}
    bounds = _bounds(trials)
    result: dict[str, TimesToTarget] = {}
    for norm, of_norm in trials.items():
        scores, seconds = of_norm.curves("train_score"), of_norm.seconds()
        there = (
            scores >= target.score if of_norm.metric.higher_is_better else scores <= target.score
        )
        times = TimesToTarget(
            steps=dict.fromkeys(of_norm.failed, math.inf),
            seconds=dict.fromkeys(of_norm.failed, math.inf),
            bounds=bounds[norm],
        )
        for index, (pair, record) in enumerate(of_norm.done.items()):
            hits = np.flatnonzero(there[index])
            epoch = int(hits[0]) if hits.size else None
            steps_per_epoch = record.counts.get("steps_per_epoch", 1)
            times.steps[pair] = math.inf if epoch is None else (epoch + 1.0) * steps_per_epoch
            if epoch is None:
                times.seconds[pair] = math.inf
            elif epoch < seconds.shape[1] and not math.isnan(seconds[index, epoch]):
                times.seconds[pair] = float(seconds[index, epoch])
        result[norm] = times
    return result


def compare_speeds(
    times: Mapping[str, TimesToTarget], *, design: Design
) -> tuple[tuple[str, ...], tuple[PairedTest, ...]]:
    """Order norms by the steps to the target, soonest first, and compare every pair.

    The paired test of the design on d = log steps(first) − log steps(second), whose mean is the
    log of a ratio. A miss enters as the least it can be, one epoch beyond the budget: the ratio
    is then a bound on the safe side, and two misses count as equal. Under the hypothesis that
    two norms are alike, d stays symmetric around 0 with that substitution. A rank test would
    not need it, but ignores that the folds' training sets overlap.

    As with scores, order and tests use the trials that every norm has an outcome of, norms with
    too few to be judged left aside: these come last. Norms without trials are left out.
    """
    every = {norm: of_norm.log_steps() for norm, of_norm in times.items() if of_norm.steps}
    minimum = design.minimum(math.comb(len(every), 2))
    few = {norm for norm, of_norm in every.items() if design.values(of_norm).size < minimum}
    shared = completed_by_all(every, every.keys() - few or every.keys())
    logs = {
        norm: {pair: steps for pair, steps in of_norm.items() if pair in shared}
        for norm, of_norm in every.items()
    }

    def place(norm: str) -> tuple[bool, float, str]:
        values = design.values(logs[norm])
        return norm in few, float(f"{values.mean():.12g}") if values.size else math.inf, norm

    order = sorted(logs, key=place)
    tests = compare_all(logs, order, design=design)
    return tuple(order), tuple(
        replace(
            test,
            estimate=Estimate(*map(math.exp, _bounds_of(test.estimate))),
            censored=_censored(times[test.first], times[test.second], design),
        )
        for test in tests
    )


def _eased(score: float, metric: Metric) -> float:
    """Round to the easy side. The small addends keep 0.29, stored as 0.28999…, where it is."""
    if metric.fraction and metric.higher_is_better:
        return min(HIGHEST_TARGET, math.floor(score * 100 + 1e-9) / 100)
    if score == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(score))) - 1)
    steps = score / step
    steps = math.floor(steps + 1e-9) if metric.higher_is_better else math.ceil(steps - 1e-9)
    return float(f"{steps * step:.6g}")


def _attained(of_norm: NormTrials) -> float:
    """Return the training score that `REACHED_BY` of the trials reach at their best."""
    curves = of_norm.curves("train_score")
    if curves.size == 0:
        return math.nan
    higher = of_norm.metric.higher_is_better
    worst = -math.inf if higher else math.inf
    known = np.where(np.isnan(curves), worst, curves)
    best = np.sort(known.max(axis=1))[::-1] if higher else np.sort(known.min(axis=1))
    return float(best[math.ceil(REACHED_BY * best.size) - 1])


def _bounds(trials: Mapping[str, NormTrials]) -> dict[str, dict[Pair, float]]:
    """Return, per norm and trial, the steps of the whole budget and one epoch more.

    A trial that failed early may not have counted its steps; another of its norm has, or one of
    another norm. They differ between treatments with minibatches of other sizes.
    """

    def counted(norms: Iterable[str]) -> int:
        records = (record for norm in norms for record in trials[norm].records())
        return max((record.counts.get("steps_per_epoch", 0) for record in records), default=0)

    longest = max((_epochs(r) for of_norm in trials.values() for r in of_norm.records()), default=0)
    every = counted(trials) or 1
    bounds: dict[str, dict[Pair, float]] = {}
    for norm, of_norm in trials.items():
        steps_per_epoch = counted([norm]) or every
        bounds[norm] = {
            pair: (longest + 1.0) * record.counts.get("steps_per_epoch", steps_per_epoch)
            for pair, record in (*of_norm.done.items(), *of_norm.failed.items())
        }
    return bounds


def _epochs(record: Record) -> int:
    """Return the epochs of a trial: those that it was given, if it says so."""
    return record.config.get("epochs") or len(record.history.get("train_score", []))


def _bounds_of(estimate: Estimate) -> tuple[float, float, float]:
    # Two or three folds give log intervals that no float can exponentiate.
    return estimate.mean, max(estimate.low, -700.0), min(estimate.high, 700.0)


def _censored(first: TimesToTarget, second: TimesToTarget, design: Design) -> int:
    """Count the folds, or seeds, in which one or both missed."""
    shared = first.steps.keys() & second.steps.keys()
    missed = {
        pair[:2] if design.by_fold else pair
        for pair in shared
        if math.isinf(first.steps[pair]) or math.isinf(second.steps[pair])
    }
    return len(missed)


def _median(values: Mapping[Pair, float]) -> float | None:
    if not values:
        return None
    median = float(np.median(list(values.values())))
    return median if math.isfinite(median) else None
