"""From the records of a comparison to its verdict.

The score of a norm comes from data that chose nothing (but in protocol `"paper"`, which every
output calls optimistic); speed of training is judged separately, by the steps to one common
training score. Both compare every pair of norms on the same folds or seeds, with the tests of
`graphnorms.lab.design`, adjusted over *all* pairs, because which norm leads is not known
beforehand. Ranks, intervals and tests use one set of trials: those that every contender
completed. The verdict names the norms that cannot be told apart from the leader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from graphnorms.lab import speed
from graphnorms.lab.chosen_values import chosen_of
from graphnorms.lab.design import Design, Pair
from graphnorms.lab.detectable import detectable_before
from graphnorms.lab.equal_starts import starts_of
from graphnorms.lab.number_format import Scale
from graphnorms.lab.option_kinds import BASELINE
from graphnorms.lab.paired_tests import PairedTest, compare_all, not_told_apart
from graphnorms.lab.recommendation import MOST_FAILED, recommend
from graphnorms.lab.sensitivity import NEAR, sensitivities
from graphnorms.lab.statistics import Estimate, without_nan
from graphnorms.lab.trials import NormTrials, Trials, completed_by_all
from graphnorms.lab.trivial import Trivial, against_trivial, beats, level_of, trains
from graphnorms.lab.verdict import NormSummary, Verdict
from graphnorms.layers.factory import lookup
from graphnorms.training.metrics import Metric, metric_named

if TYPE_CHECKING:
    from graphnorms.training.record import Record

MARGIN = 0.01
"""Of a fraction, one point; of R² and MCC as it is; of errors, this share of the baseline's."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is known of a comparison beside its trials.

    Args:
        baseline: The norm that sets the training target, see `speed.common_target`, and from
            which parameters are counted.
        margin: Differences below it are practically none, in the unit of the score (0.01 is one
            point). None is one point, or 1% of the baseline's mean score.
        planned: Trials per norm that give scores; None takes what the records show.
        selection: Planned trials per norm that choose its learning rates, to count those that were
            not run; 0 leaves them out of the count. In protocol `"paper"` they are the trials that
            give scores.
        repeats: Planned repeats of the cross-validation; None takes what the records show.
        unit: Unit of the target, of scores that are not fractions.
        trivial: The scores of a predictor that looks at no graph. None: not known, and only a
            ROC-AUC is compared with it, where it is 1/2.
        noun: What is compared, in words: norms, or the methods of a table.

    Raises:
        ValueError: The margin is not positive.
    """

    baseline: str = BASELINE
    margin: float | None = None
    planned: int | None = None
    selection: int = 0
    repeats: int | None = None
    unit: str = ""
    trivial: Trivial | None = None
    noun: str = "norm"

    def __post_init__(self) -> None:
        if self.margin is not None and not self.margin > 0:
            raise ValueError(
                f"margin is {self.margin}, expected a number > 0, e.g. 0.01 for one point"
            )


def judge(trials: Trials, terms: Terms = Terms()) -> Verdict:
    """Judge the trials of one comparison.

    Failed trials are left out of the scores, counted and named. The contenders are the norms with
    enough trials of which at most `MOST_FAILED` failed, or, where there is none, the best there
    are. Scores count on the trials that every contender completed: there the leader has the best
    mean, and there every pair is tested, so that the sign of a paired difference is that of the
    ranks. A norm that is no contender is ranked behind them, on what it has of those trials.

    Raises:
        ValueError: The trials are of several comparisons.
    """
    design, metric, trivial, baseline = trials.design, trials.metric, terms.trivial, terms.baseline
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
    scale = Scale.fitting(metric, typical[best] if best is not None else None, terms.unit)
    width, source = _margin(terms.margin, metric, typical, baseline)
    differences = compare_all(
        scores,
        ranking,
        design=design,
        margin=width,
        higher_is_better=metric.higher_is_better,
        most=metric.most - metric.least,
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
    planned = trials.planned if terms.planned is None else terms.planned
    rows = []
    for norm in ranking:
        row = _summarize(trials[norm], scores[norm], design)
        timed = times[norm] if norm in above else speed.TimesToTarget()
        chance = against_trivial(scores[norm], trivial, metric, "held_out", design)
        rows.append(
            replace(
                row,
                planned=planned,
                judged=row.pairs >= minimum,
                learning_rates=rates[norm].chosen,
                difference=_to_best(norm, best, differences),
                trivial_p=None if chance is None else chance.p_value,
                reached=timed.reached,
                steps_to_target=timed.median_steps(),
                seconds_to_target=timed.median_seconds(),
                sensitivity=rates[norm] if rates[norm].rates else None,
            )
        )
    tied = tuple(norm for norm in not_told_apart(best, differences) if norm in contenders)
    deviation, pairs, comparisons = _spread(differences)
    after = design.detectable(deviation, pairs, comparisons) if comparisons else math.nan
    repeats = trials.repeats if terms.repeats is None else terms.repeats
    verdict = Verdict(
        design=design,
        scale=scale,
        baseline=baseline,
        planned=planned,
        selection=terms.selection,
        margin=width,
        margin_source=source,
        minimum=minimum,
        rows=tuple(rows),
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
        detectable_before=detectable_before(trials, planned, repeats),
        detectable_after=None if math.isnan(after) else after,
        detectable_at_best=design.reachable(deviation, comparisons) if comparisons else None,
        needed_for_margin=design.needed(width, deviation, comparisons) if comparisons else None,
        recommendation=None,
        noun=terms.noun,
        starts=starts_of(trials.records),
    )
    return replace(verdict, recommendation=recommend(verdict))


def _contenders(
    trials: Trials, scores: Mapping[str, Mapping[Pair, float]], design: Design, minimum: int
) -> list[str]:
    """Return the norms that may lead: those with enough pairs and few failures, or the nearest."""

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
) -> tuple[float, str]:
    """Return the margin and where it comes from."""
    if given is not None:
        return given, ""
    if metric.most == 1:
        return MARGIN, "one point" if metric.fraction else "a hundredth"
    if not typical:
        return MARGIN, "no score is known yet"
    norm = baseline if baseline in typical else min(typical)
    if not typical[norm]:
        return MARGIN, f"the {metric.title} of {norm!r} is 0"
    return MARGIN * abs(typical[norm]), f"{MARGIN:.0%} of the {metric.title} of {norm!r}"


def _summarize(of_norm: NormTrials, scores: Mapping[Pair, float], design: Design) -> NormSummary:
    """Return what the trials of a norm say by themselves."""
    parameters = [r.counts["parameters"] for r in of_norm.records() if "parameters" in r.counts]
    values = design.values(scores)
    metric = of_norm.metric
    paper = of_norm.selected is not None

    def estimate(scores: Mapping[Pair, float], metric: Metric = metric) -> Estimate | None:
        if not scores:
            return None
        return design.estimate(design.values(scores)).within(metric.least, metric.most)

    others = {
        name: estimate(by_pair, metric_named(name))
        for name, by_pair in of_norm.other_scores(scores).items()
    }
    return NormSummary(
        norm=of_norm.norm,
        done=len(of_norm.done),
        failed=len(of_norm.failed),
        reasons=_reasons(of_norm.failed.values()),
        tried=len(of_norm.tried) + len(of_norm.tried_failed),
        tried_failed=len(of_norm.tried_failed),
        tried_reasons=_reasons(of_norm.tried_failed.values()),
        pairs=values.size,
        parameters=round(median(parameters)) if parameters else None,
        needs=_needs(of_norm),
        score=estimate(scores),
        score_std=float(values.std()) if values.size else None,
        validation=estimate(of_norm.outcome("validation_score")),
        train=estimate(of_norm.last("train_score")),
        others=tuple((name, found) for name, found in others.items() if found is not None),
        targets=_targets(of_norm),
        last=estimate(of_norm.last("validation_score")) if paper else None,
        selected_epoch=of_norm.selected[1] if of_norm.selected is not None else None,
        step_seconds=_step_seconds(of_norm),
        chosen=chosen_of(of_norm.records()),
    )


def _targets(of_norm: NormTrials) -> tuple[tuple[str, float], ...]:
    """Return the mean test score of each target over the trials where it is known."""
    known: dict[str, list[float]] = {}
    for record in of_norm.done.values():
        for name, score in record.target_scores.get("test", {}).items():
            known.setdefault(name, []).extend(without_nan([math.nan if score is None else score]))
    return tuple((name, fmean(scores)) for name, scores in known.items() if scores)


def _reasons(failed: Iterable[Record]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(record.reason or "unknown" for record in failed).most_common())


def _needs(of_norm: NormTrials) -> tuple[str, ...]:
    records = of_norm.records()
    try:
        return lookup(records[0].config["norm"] if records else of_norm.norm).needs
    except ValueError:  # of a version that had other norms
        return ()


def _step_seconds(of_norm: NormTrials) -> float | None:
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
    # Root mean square: all pairs are assumed to vary alike; the folds are too few to model more.
    deviation = math.sqrt(sum(test.deviation**2 for test in judged) / len(judged))
    return deviation, min(test.pairs for test in judged), len(judged)
