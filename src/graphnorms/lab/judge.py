"""From the records of a comparison to its verdict.

The score of a norm comes from data that chose nothing (but in protocol `"paper"`, which every
output calls optimistic); speed of training is judged separately, by the steps to one common
training score. Both compare every pair of norms on the same folds or seeds, with the tests of
`graphnorms.lab.design`, adjusted over *all* pairs, because which norm leads is not known
beforehand. Ranks, intervals and tests use one set of trials: those that every contender
completed. The verdict is the set of norms that cannot be told apart from the leader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from graphnorms.lab import speed, wording
from graphnorms.lab.design import Design, Pair
from graphnorms.lab.detectable import detectable_before
from graphnorms.lab.number_format import Scale
from graphnorms.lab.paired_tests import PairedTest, compare_all, not_told_apart
from graphnorms.lab.recommendation import MOST_FAILED, recommend
from graphnorms.lab.sensitivity import NEAR, Sensitivity, sensitivities
from graphnorms.lab.statistics import Estimate, PairedDifference
from graphnorms.lab.trials import Trials, completed_by_all, group_trials, splits_of
from graphnorms.lab.trivial import Trivial, against_trivial, beats, level_of, trains
from graphnorms.lab.verdict import NormSummary, Verdict
from graphnorms.layers.factory import lookup
from graphnorms.training.metrics import Metric, metric_named

if TYPE_CHECKING:
    from graphnorms.training.record import Record

MARGIN = 0.01
"""Of a fraction, one point; of other scores, this share of the baseline's."""


def judge(
    records: Sequence[Record],
    *,
    protocol: str,
    norms: Sequence[str] = (),
    baseline: str = "none",
    margin: float | None = None,
    planned: int | None = None,
    selection: int = 0,
    repeats: int | None = None,
    unit: str = "",
    trivial: Trivial | None = None,
) -> Verdict:
    """Judge the records of one comparison.

    Failed trials are left out of the scores, counted and named. The contenders are the norms with
    enough trials of which at most `MOST_FAILED` failed, or, where there is none, the best there
    are. Scores count on the trials that every contender completed: there the leader has the best
    mean, and there every pair is tested, so that the sign of a paired difference is that of the
    ranks. A norm that is no contender is ranked behind them, on what it has of those trials.

    Args:
        records: Outcomes, in any order; trials may be missing.
        protocol: `"nested"`, `"split"` or `"paper"`.
        norms: Norms that were asked for; those without a record are then listed too.
        baseline: The norm that sets the training target, see `speed.common_target`, and from
            which parameters are counted.
        margin: Differences below it are practically none, in the unit of the score (0.01 is one
            point). None is one point, or 1% of the baseline's mean score.
        planned: Trials per norm that give scores; None takes what the records show.
        selection: Trials per norm that choose its learning rates, where these are to be counted
            when something was not run; in protocol `"paper"` the others are among them.
        repeats: Of the cross-validation that are planned; None takes what the records show.
        unit: Unit of the target, of scores that are not fractions.
        trivial: What a predictor scores that looks at no graph. None: not known, and only a
            ROC-AUC, where it is 1/2, is held against it.

    Raises:
        ValueError: There are no records, they mix different settings, the protocol is unknown,
            or the margin is not positive.
    """
    if not records:
        raise ValueError("no trial has an outcome yet, so there is nothing to judge")
    if margin is not None and not margin > 0:
        raise ValueError(f"the margin is {margin}, expected a number > 0, e.g. 0.01 for one point")
    Design(protocol=protocol)  # an unknown protocol is refused before its name is used
    trials = group_trials(records, norms, protocol=protocol)
    metric = metric_named(records[0].config["metric"])
    folds = 0 if protocol == "split" else _folds_of(trials)
    design = Design(protocol=protocol, test_ratio=_test_ratio(trials, protocol), folds=folds)
    _require_one_split(trials, design)
    every = {norm: of_norm.scores() for norm, of_norm in trials.items()}
    minimum = design.minimum(math.comb(sum(map(bool, every.values())), 2))
    contenders = _contenders(trials, every, design, minimum)
    shared = completed_by_all(every, contenders)
    scores = {
        norm: {pair: score for pair, score in of_norm.items() if pair in shared}
        for norm, of_norm in every.items()
    }
    ranking = _rank(scores, contenders, design, metric)
    best = ranking[0] if scores[ranking[0]] else None
    level = level_of(trivial, metric, "held_out", shared, design)
    typical = {
        norm: float(design.values(of_norm).mean()) for norm, of_norm in scores.items() if of_norm
    }
    scale = Scale.fitting(metric, typical[best] if best is not None else None, unit)
    width, source = _margin(margin, metric, typical, baseline, scale)
    differences = compare_all(
        scores, ranking, design=design, margin=width, higher_is_better=metric.higher_is_better
    )
    above = {
        norm: of_norm
        for norm, of_norm in trials.items()
        if (norm not in typical or beats(metric, typical[norm], level))
        and trains(of_norm, trivial, design, minimum)
    }
    target = speed.common_target(
        above, baseline, level_of(trivial, metric, "train", shared, design)
    )
    times = speed.times_to_target(trials, target)
    speed_order, speed_differences = speed.compare_speeds(
        {norm: times[norm] for norm in above} if target is not None else {}, design=design
    )
    rates = sensitivities(trials, NEAR * width, best)
    if planned is None:
        planned = _planned(trials)
    rows = tuple(
        _summarize(
            trials[norm],
            scores[norm],
            planned,
            design,
            minimum,
            times[norm] if norm in above else speed.TimesToTarget(),
            rates[norm],
            _to_best(norm, best, differences),
            against_trivial(scores[norm], trivial, metric, "held_out", design),
        )
        for norm in ranking
    )
    tied = tuple(norm for norm in not_told_apart(best, differences) if norm in contenders)
    deviation, pairs, comparisons = _spread(differences)
    after = design.detectable(deviation, pairs, comparisons) if comparisons else math.nan
    if repeats is None:
        repeats = len({seed for seed, _ in splits_of(trials)})
    verdict = Verdict(
        design=design,
        scale=scale,
        baseline=baseline,
        planned=planned,
        selection=selection,
        margin=width,
        margin_source=source,
        minimum=minimum,
        rows=rows,
        best=best,
        contenders=tuple(norm for norm in ranking if norm in contenders),
        shared=len(shared),
        completed=len(set[Pair]().union(*(every[norm] for norm in contenders))),
        trivial=level,
        tied=tied,
        differences=differences,
        target=target,
        speed_order=speed_order,
        speed_tied=not_told_apart(speed_order[0] if speed_order else None, speed_differences),
        speed_differences=speed_differences,
        detectable_before=detectable_before(trials, design, planned, repeats),
        detectable_after=None if math.isnan(after) else after,
        detectable_at_best=design.reachable(deviation, comparisons) if comparisons else None,
        needed_for_margin=design.needed(width, deviation, comparisons) if comparisons else None,
        recommendation=None,
    )
    verdict = replace(verdict, recommendation=recommend(verdict))
    sentences = wording.describe(verdict)
    return replace(
        verdict,
        protocol_sentence=sentences.protocol,
        score_sentence=sentences.score,
        power_sentence=sentences.power,
        equal_sentence=sentences.equal,
        speed_sentence=sentences.speed,
        rates_sentence=sentences.rates,
        advice_sentence=sentences.advice,
        failure_sentence=sentences.failures,
    )


def _test_ratio(trials: Mapping[str, Trials], protocol: str) -> float:
    """Return n_test / n_train over the records that count them, else 1 / (folds − 1)."""
    if protocol == "split" and len(splits_of(trials)) < 2:
        return 0.0
    held_out = "validation_items" if protocol == "paper" else "test_items"
    records = [record for of_norm in trials.values() for record in of_norm.records()]
    counts = [r.counts for r in records if r.counts.get("train_items") and r.counts.get(held_out)]
    if counts:
        tested = sum(count[held_out] for count in counts)
        return tested / sum(count["train_items"] for count in counts)
    return 1 / max(1, _folds_of(trials) - 1)


def _folds_of(trials: Mapping[str, Trials]) -> int:
    """Return into how many folds the records say that the data were cut."""
    records = [record for of_norm in trials.values() for record in of_norm.records()]
    return max((record.config["split"].get("folds", 0) for record in records), default=0)


def _require_one_split(trials: Mapping[str, Trials], design: Design) -> None:
    seeds = {seed for seed, _ in splits_of(trials)}
    if design.protocol == "split" and len(seeds) > 1:
        raise ValueError(
            f"protocol 'split' judges seeds on one split, or given splits, and these trials have "
            f"{len(seeds)} splits of other seeds; judge the records of one comparison at a time"
        )


def _contenders(
    trials: Mapping[str, Trials],
    scores: Mapping[str, Mapping[Pair, float]],
    design: Design,
    minimum: int,
) -> list[str]:
    """Return the norms that may lead: enough pairs and few failures, as far as there are any."""

    def group(norm: str) -> tuple[bool, bool]:
        return (
            design.values(scores[norm]).size < minimum,
            len(trials[norm].failed) > MOST_FAILED * len(trials[norm].records()),
        )

    known = [norm for norm in scores if scores[norm]]
    leading = min(map(group, known), default=None)
    return [norm for norm in known if group(norm) == leading]


def _rank(
    scores: Mapping[str, Mapping[Pair, float]],
    contenders: Sequence[str],
    design: Design,
    metric: Metric,
) -> list[str]:
    """Order norms: the contenders, the others, those without a score; each by their mean."""

    def place(norm: str) -> tuple[bool, float, str]:
        values = design.values(scores[norm])
        if not values.size:
            return True, math.inf, norm
        mean = float(f"{values.mean():.12g}")  # what differs by rounding is equal
        return norm not in contenders, -mean if metric.higher_is_better else mean, norm

    return sorted(scores, key=place)


def _margin(
    given: float | None,
    metric: Metric,
    typical: Mapping[str, float],
    baseline: str,
    scale: Scale,
) -> tuple[float, str]:
    """Return the margin and where it comes from."""
    if given is not None:
        return given, ""
    if metric.fraction:
        return MARGIN, "one point"
    if not typical:
        return MARGIN, "no score is known yet"
    whose = baseline if baseline in typical else min(typical)
    if not typical[whose]:
        return MARGIN, f"the {metric.title} of {whose!r} is 0"
    return MARGIN * abs(typical[whose]), f"{MARGIN:.0%} of the {metric.title} of {whose!r}"


def _planned(trials: Mapping[str, Trials]) -> int:
    every = {pair for of_norm in trials.values() for pair in (*of_norm.done, *of_norm.failed)}
    folds = _folds_of(trials)
    runs = len({pair[2] for pair in every})
    seeds = len({pair[0] for pair in every})
    return max(len(every), folds * runs * seeds)


def _summarize(
    of_norm: Trials,
    scores: Mapping[Pair, float],
    planned: int,
    design: Design,
    minimum: int,
    times: speed.TimesToTarget,
    sensitivity: Sensitivity,
    difference: PairedTest | None,
    against_trivial: PairedDifference | None,
) -> NormSummary:
    parameters = [r.counts["parameters"] for r in of_norm.records() if "parameters" in r.counts]
    values = design.values(scores)
    most = 1.0 if of_norm.metric.fraction else math.inf
    paper = of_norm.selected is not None

    def estimate(scores: Mapping[Pair, float]) -> Estimate | None:
        return design.estimate(design.values(scores)).within(0.0, most) if scores else None

    return NormSummary(
        norm=of_norm.norm,
        planned=planned,
        done=len(of_norm.done),
        failed=len(of_norm.failed),
        reasons=_reasons(of_norm.failed.values()),
        tried=len(of_norm.tried) + len(of_norm.tried_failed),
        tried_failed=len(of_norm.tried_failed),
        tried_reasons=_reasons(of_norm.tried_failed.values()),
        pairs=values.size,
        judged=values.size >= minimum,
        parameters=parameters[0] if parameters else None,
        needs=_needs(of_norm.norm),
        learning_rates=sensitivity.chosen,
        score=estimate(scores),
        score_std=float(values.std()) if values.size else None,
        validation=estimate(of_norm.outcome("validation_score")),
        train=estimate(of_norm.last("train_score")),
        targets=_targets(of_norm),
        last=estimate(of_norm.last("validation_score")) if paper else None,
        selected_epoch=of_norm.selected[1] if of_norm.selected is not None else None,
        difference=difference,
        trivial_p=None if against_trivial is None else against_trivial.p_value,
        reached=times.reached,
        steps_to_target=times.median_steps(),
        seconds_to_target=times.median_seconds(),
        step_seconds=_step_seconds(of_norm),
        sensitivity=sensitivity if sensitivity.rates else None,
    )


def _targets(of_norm: Trials) -> tuple[tuple[str, float], ...]:
    """Return the mean test error of each target over the trials where it is known."""
    tested = [record.target_scores.get("test", {}) for record in of_norm.done.values()]
    known = [(name, error) for each in tested for name, error in each.items() if error is not None]
    names = dict.fromkeys(name for name, _ in known)
    return tuple((name, fmean(error for other, error in known if other == name)) for name in names)


def _reasons(failed: Iterable[Record]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(record.reason or "unknown" for record in failed).most_common())


def _needs(norm: str) -> tuple[str, ...]:
    try:
        return lookup(norm).needs
    except ValueError:  # of a version that had other norms
        return ()


def _step_seconds(of_norm: Trials) -> float | None:
    """Return the median over trials of training seconds per step."""
    per_step = []
    for record in of_norm.done.values():
        times = [time for time in record.timing.get("train", []) if time is not None]
        steps = len(times) * record.counts.get("steps_per_epoch", 1)
        if steps:
            per_step.append(sum(times) / steps)
    return median(per_step) if per_step else None


def _to_best(norm: str, best: str | None, differences: Sequence[PairedTest]) -> PairedTest | None:
    """Return the test of scores against the best norm, as `norm - best`."""
    for test in differences:
        if best is not None and norm != best and test.involves(norm, best):
            return test if test.first == norm else test.reversed()
    return None


def _spread(differences: Sequence[PairedTest]) -> tuple[float, int, int]:
    """Return the typical deviation of paired differences, the least pairs, and how many tests."""
    judged = [test for test in differences if test.adjusted_p is not None]
    if not judged:
        return math.nan, 0, 0
    # Root mean square: the pairs are taken to vary alike, and there are too few folds for more.
    deviation = math.sqrt(sum(test.deviation**2 for test in judged) / len(judged))
    return deviation, min(test.pairs for test in judged), len(judged)
