"""The verdict on a comparison: which norms lead in accuracy and in speed, as far as folds tell.

Accuracy is judged by the last epoch, where nothing was selected; speed of training separately, by
the steps to one common training accuracy. Both compare every pair of norms on the same folds with
the corrected paired t-test of `graphnorms.lab.statistics` and Holm's adjustment over *all* pairs,
because which norm leads is not known beforehand. The verdict is the set of norms that cannot be
told apart from the leader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnorms.lab import speed, statistics, wording
from graphnorms.lab.outcomes import Fold, Trials, column_mean, group_trials
from graphnorms.lab.pairs import MINIMUM_FOLDS, PairedTest, compare_all, not_told_apart
from graphnorms.lab.statistics import Estimate

if TYPE_CHECKING:
    from graphnorms.training.record import Record


@dataclass(frozen=True, kw_only=True)
class NormSummary:
    """What the trials of one norm say. Accuracies are fractions; None where nothing is known.

    Args:
        norm: Catalogue name.
        planned: Trials the comparison has per norm.
        done, failed: Trials that ended well and that did not; the rest were not run.
        reasons: Why trials failed and how many for each reason, most frequent first.
        parameters: Trainable parameters of the model with this norm.
        validation_accuracy: Of the last epoch: the honest number, nothing is selected.
        train_accuracy: Of the last epoch, in eval mode.
        selected_epoch: The single epoch (from 1) with the best fold-averaged validation accuracy,
            as the GIN and GraphNorm papers select. *Optimistic*: the folds that choose the epoch
            are those that then measure it.
        selected_accuracy, selected_std: Mean and standard deviation (over J) there. *Optimistic*.
        difference: To the best norm, paired; None for the best itself.
        reached: Trials whose training accuracy reached the target.
        steps_to_target, seconds_to_target: Median over folds, a miss counting as later than any
            other; None if half or more of the folds miss. Evaluation is not in the seconds.
    """

    norm: str
    planned: int
    done: int = 0
    failed: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    parameters: int | None = None
    validation_accuracy: Estimate | None = None
    train_accuracy: Estimate | None = None
    selected_epoch: int | None = None
    selected_accuracy: float | None = None
    selected_std: float | None = None
    difference: PairedTest | None = None
    reached: int = 0
    steps_to_target: float | None = None
    seconds_to_target: float | None = None

    @property
    def trials(self) -> int:
        """Trials with an outcome."""
        return self.done + self.failed

    @property
    def judged(self) -> bool:
        """Whether there are enough trials to judge the norm's accuracy."""
        return self.done >= MINIMUM_FOLDS


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a comparison, in numbers and in words.

    Args:
        baseline: Name of the norm that sets the target.
        planned: Trials per norm.
        rows: One per norm, best first; then those with too few trials, then those with none.
        best: The norm with the highest mean validation accuracy; None if no trial was done.
        tied: Norms that cannot be told apart from `best` in accuracy, `best` included and first;
            empty if nothing could be judged.
        differences: Accuracy, all pairs; the better of `rows` is `first`.
        target: The training accuracy that speed is measured to.
        speed_order: Norms by the steps to the target, soonest first.
        speed_tied: Norms that cannot be told apart from the soonest, it included and first.
        speed_differences: Steps to the target, all pairs; the sooner is `first`.
        detectable_before: Smallest true difference in accuracy that this design finds with 80%
            power over all pairs, from the sizes of the folds alone (see
            `statistics.expected_deviation` for what is assumed).
        detectable_after: The same from the spread of the paired differences seen.
        accuracy_sentence, speed_sentence, failure_sentence: In plain words, with catalogue names;
            `wording.describe` gives them with other names. The last is empty if all went well.
        closing: The sentences together.
    """

    baseline: str
    planned: int
    rows: tuple[NormSummary, ...]
    best: str | None
    tied: tuple[str, ...]
    differences: tuple[PairedTest, ...]
    target: speed.Target | None
    speed_order: tuple[str, ...]
    speed_tied: tuple[str, ...]
    speed_differences: tuple[PairedTest, ...]
    detectable_before: float | None
    detectable_after: float | None
    accuracy_sentence: str = ""
    speed_sentence: str = ""
    failure_sentence: str = ""

    @property
    def closing(self) -> str:
        """The verdict in a few sentences."""
        sentences = (self.accuracy_sentence, self.speed_sentence, self.failure_sentence)
        return " ".join(sentence for sentence in sentences if sentence)

    @property
    def conclusive(self) -> bool:
        """Whether two norms at least had enough folds to be compared."""
        return any(test.adjusted_p is not None for test in self.differences)

    def row(self, norm: str) -> NormSummary:
        """Return the summary of one norm.

        Raises:
            KeyError: The norm is not in the comparison.
        """
        for row in self.rows:
            if row.norm == norm:
                return row
        raise KeyError(norm)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-able data; NaN becomes None."""
        data = asdict(self) | {"conclusive": self.conclusive, "closing": self.closing}
        plain: dict[str, Any] = _jsonable(data)
        return plain


def judge(records: Sequence[Record], baseline: str = "none", norms: Sequence[str] = ()) -> Verdict:
    """Judge the records of one comparison.

    Failed trials are left out of the accuracies, counted and named; a paired difference uses
    the folds that both norms have. The leader is the norm with the highest mean over the folds
    that all judged norms share (over its own folds where they share less than half).

    Args:
        records: Outcomes, in any order; trials may be missing.
        baseline: The norm that sets the training-accuracy target, see `speed.common_target`.
        norms: Norms that were asked for; those without a record are then listed too.

    Raises:
        ValueError: There are no records, or they mix different settings.
    """
    if not records:
        raise ValueError("no trial has an outcome yet, so there is nothing to judge")
    trials = group_trials(records, norms)
    planned = max(
        max(record.config.get("folds", 1) for record in records),
        max(len(of_norm.done) + len(of_norm.failed) for of_norm in trials.values()),
    )
    ratio = _test_ratio(records)
    scores = {norm: of_norm.last("validation_accuracy") for norm, of_norm in trials.items()}
    ranking = _rank(scores)
    best = ranking[0] if scores[ranking[0]] else None
    differences = compare_all(scores, ranking, test_ratio=ratio)
    target = speed.common_target(trials, baseline)
    times = speed.times_to_target(trials, target)
    speed_order, speed_differences = speed.compare_speeds(times, test_ratio=ratio)
    verdict = Verdict(
        baseline=baseline,
        planned=planned,
        rows=tuple(
            _summarize(trials[norm], planned, ratio, times[norm], _to_best(norm, best, differences))
            for norm in ranking
        ),
        best=best,
        tied=not_told_apart(best, differences),
        differences=differences,
        target=target,
        speed_order=speed_order,
        speed_tied=not_told_apart(speed_order[0] if speed_order else None, speed_differences),
        speed_differences=speed_differences,
        detectable_before=_detectable_before(records, len(trials)),
        detectable_after=_detectable_after(differences, ratio),
    )
    sentences = wording.describe(verdict)
    return replace(
        verdict,
        accuracy_sentence=sentences.accuracy,
        speed_sentence=sentences.speed,
        failure_sentence=sentences.failures,
    )


def expected_detectable(*, norms: int, folds: int, graphs: int) -> float:
    """Say before a run which difference in accuracy it can show.

    The smallest true difference, a fraction, that k-fold cross-validation detects with 80% power
    at 5% over all pairs of norms. What it assumes: `statistics.expected_deviation`. NaN with
    fewer than two folds or norms.

    Args:
        norms: Norms compared.
        folds: Folds k.
        graphs: Graphs in the data set.
    """
    if folds < 2 or norms < 2:
        return math.nan
    return statistics.detectable_difference(
        statistics.expected_deviation(graphs / folds),
        folds,
        test_ratio=1 / (folds - 1),
        comparisons=math.comb(norms, 2),
    )


def _test_ratio(records: Sequence[Record]) -> float:
    """Return n_test / n_train over the records that count them, else 1 / (folds − 1)."""
    counts = [record.counts for record in records if record.counts.get("train_graphs")]
    if counts:
        tested = sum(count["validation_graphs"] for count in counts)
        return tested / sum(count["train_graphs"] for count in counts)
    folds: int = max(record.config.get("folds", 2) for record in records)
    return 1 / max(1, folds - 1)


def _rank(scores: Mapping[str, Mapping[Fold, float]]) -> list[str]:
    """Order norms: those with enough folds, the others, those with none; each by their mean."""

    def group(norm: str) -> int:
        done = len(scores[norm])
        return 0 if done >= MINIMUM_FOLDS else 1 if done else 2

    leading = min(map(group, scores))
    peers = [scores[norm] for norm in scores if group(norm) == leading]
    shared = set.intersection(*(set(of_norm) for of_norm in peers))
    # A norm whose trials fail on the hard folds must not lead because of that.
    comparable = 2 * len(shared) >= min(map(len, peers))

    def mean(norm: str) -> float:
        own = scores[norm]
        folds = shared if comparable and group(norm) == leading else own.keys()
        return sum(own[fold] for fold in sorted(folds)) / len(folds) if folds else -math.inf

    return sorted(scores, key=lambda norm: (group(norm), -mean(norm), norm))


def _summarize(
    of_norm: Trials,
    planned: int,
    ratio: float,
    times: speed.TimesToTarget,
    difference: PairedTest | None,
) -> NormSummary:
    reasons = Counter(record.reason or "unknown" for record in of_norm.failed.values())
    records = [*of_norm.done.values(), *of_norm.failed.values()]
    parameters = [r.counts["parameters"] for r in records if "parameters" in r.counts]
    selected = _select_epoch(of_norm)
    return NormSummary(
        norm=of_norm.norm,
        planned=planned,
        done=len(of_norm.done),
        failed=len(of_norm.failed),
        reasons=tuple(reasons.most_common()),
        parameters=parameters[0] if parameters else None,
        validation_accuracy=_interval(of_norm, "validation_accuracy", ratio),
        train_accuracy=_interval(of_norm, "train_accuracy", ratio),
        selected_epoch=selected[0] if selected else None,
        selected_accuracy=selected[1] if selected else None,
        selected_std=selected[2] if selected else None,
        difference=difference,
        reached=times.reached,
        steps_to_target=times.median_steps(),
        seconds_to_target=times.median_seconds(),
    )


def _interval(of_norm: Trials, quantity: str, ratio: float) -> Estimate | None:
    values = list(of_norm.last(quantity).values())
    return statistics.mean_interval(values, test_ratio=ratio) if values else None


def _select_epoch(of_norm: Trials) -> tuple[int, float, float] | None:
    """Select as the GIN and GraphNorm papers do: the epoch with the best mean over folds."""
    curves = of_norm.curves("validation_accuracy")  # (folds, epochs)
    means = column_mean(curves)
    if not np.isfinite(means).any():
        return None
    epoch = int(np.nanargmax(means))
    return epoch + 1, float(means[epoch]), float(np.nanstd(curves[:, epoch]))


def _to_best(norm: str, best: str | None, differences: Sequence[PairedTest]) -> PairedTest | None:
    """Return the accuracy test against the best norm, as `norm - best`."""
    for test in differences:
        if best is not None and norm != best and test.involves(norm, best):
            if test.first == norm:
                return test
            mean, low, high = test.estimate.mean, test.estimate.low, test.estimate.high
            return replace(test, first=norm, second=best, estimate=Estimate(-mean, -high, -low))
    return None


def _detectable_before(records: Sequence[Record], norms: int) -> float | None:
    folds = max(record.config.get("folds", 1) for record in records)
    sizes = [
        r.counts["validation_graphs"] + r.counts["train_graphs"]
        for r in records
        if r.counts.get("validation_graphs") and r.counts.get("train_graphs")
    ]
    if not sizes:
        return None
    value = expected_detectable(norms=norms, folds=folds, graphs=max(sizes))
    return None if math.isnan(value) else value


def _detectable_after(differences: Sequence[PairedTest], ratio: float) -> float | None:
    judged = [test for test in differences if test.adjusted_p is not None]
    if not judged:
        return None
    # Root mean square: the pairs are taken to vary alike, and there are too few folds for more.
    deviation = math.sqrt(sum(test.deviation**2 for test in judged) / len(judged))
    return statistics.detectable_difference(
        deviation,
        min(test.pairs for test in judged),
        test_ratio=ratio,
        comparisons=len(judged),
    )


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
