"""The verdict on a comparison, in numbers.

Scores are in the unit of the metric: fractions are not percent here. None where nothing is known.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from graphnorms.lab.chosen_values import Chosen
from graphnorms.lab.design import Design
from graphnorms.lab.equal_starts import Starts
from graphnorms.lab.number_format import Scale
from graphnorms.lab.paired_tests import PairedTest
from graphnorms.lab.recommendation import MOST_FAILED, Recommendation
from graphnorms.lab.sensitivity import Sensitivity
from graphnorms.lab.speed import Target
from graphnorms.lab.statistics import Estimate


@dataclass(frozen=True, kw_only=True)
class NormSummary:
    """The results of one norm.

    Args:
        norm: Catalogue name.
        planned: Trials that the comparison has per norm, those that choose the rate not counted.
        done, failed: Of these, those that ended well and that did not; the rest were not run.
        reasons: Why trials failed and how many for each reason, most frequent first.
        tried, tried_failed, tried_reasons: The same of the trials that choose the learning rate.
        pairs: Folds, or seeds, with a score.
        judged: Whether they are enough for the norm's score to be judged.
        parameters: Trainable parameters of the model with this norm; the median over trials, which
            differ where the size is searched.
        needs: What the norm needs besides features and graphs, see the catalogue.
        learning_rates: Of the trials done, and how many have each; ascending.
        score: What the norm is judged by: on test data, at the epoch that validation data chose.
            *Optimistic* in protocol `"paper"`, see `graphnorms.lab.trials.Trials.scores`.
        score_std: Standard deviation (over J) over folds or seeds there.
        validation: The validation score that chose the epoch. *Optimistic*.
        train: Score of the training items in eval mode, after the last epoch.
        others: Of every other metric of the task the mean test score at the epoch of `score`, over
            the trials of `score`; none is tested. Not in protocol `"paper"`.
        targets: Of several questions or numbers the mean test score of each; of a standardized
            metric the error, in the target's own unit.
        last: Protocol `"paper"` only: the validation score of the last epoch.
        selected_epoch: Protocol `"paper"` only: the epoch (from 1) that `score` is from.
        difference: Of scores, to the best norm, paired; None for the best itself.
        trivial_p: Of the paired difference to the trivial predictor, two-sided and not adjusted;
            None if that is not known.
        reached: Trials whose training score, in eval mode, reached the target.
        steps_to_target, seconds_to_target: Median over trials, a miss counting as later than any
            other; None if half or more miss. Evaluation is not in the seconds.
        step_seconds: Median over trials of the training seconds per optimizer step.
        sensitivity: To the learning rate.
        chosen: What a search has chosen for it, by option; empty without a search.
    """

    norm: str
    planned: int = 0
    done: int = 0
    failed: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    tried: int = 0
    tried_failed: int = 0
    tried_reasons: tuple[tuple[str, int], ...] = ()
    pairs: int = 0
    judged: bool = False
    parameters: int | None = None
    needs: tuple[str, ...] = ()
    learning_rates: tuple[tuple[float, int], ...] = ()
    score: Estimate | None = None
    score_std: float | None = None
    validation: Estimate | None = None
    train: Estimate | None = None
    others: tuple[tuple[str, Estimate], ...] = ()
    targets: tuple[tuple[str, float], ...] = ()
    last: Estimate | None = None
    selected_epoch: int | None = None
    difference: PairedTest | None = None
    trivial_p: float | None = None
    reached: int = 0
    steps_to_target: float | None = None
    seconds_to_target: float | None = None
    step_seconds: float | None = None
    sensitivity: Sensitivity | None = None
    chosen: tuple[Chosen, ...] = ()

    @property
    def trials(self) -> int:
        """Trials with an outcome, those that choose the rate not counted."""
        return self.done + self.failed

    @property
    def finished(self) -> bool:
        """Whether every trial has an outcome, those of all learning rates among them."""
        found = self.sensitivity
        if found is None or self.chosen:
            return self.trials >= self.planned
        tried = zip(found.done, found.failed, strict=True)
        return self.trials >= self.planned and len({sum(of_rate) for of_rate in tried}) < 2

    @property
    def unreliable(self) -> bool:
        """Whether more of its trials failed than a norm to be recommended may lose."""
        return self.failed > MOST_FAILED * self.trials


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a comparison, in numbers; `graphnorms.lab.sentences` puts it into words.

    Args:
        design: The protocol, what is paired, and the tests.
        scale: Metric and unit, and how scores are written.
        baseline: Name of the norm that sets the target.
        planned: Trials per norm, those that choose the rate not counted.
        selection: Trials per norm that choose the rate; 0 where these are not counted.
        margin: Differences below it are practically none.
        margin_source: Where the margin comes from, in words; empty if it was given.
        minimum: Folds, or seeds, below which nothing is judged; it rises with the norms.
        rows: One per norm, best first; then those with too few trials, then those with none.
        best: The norm with the best mean score; None if no trial was done.
        contenders: The norms that were ranked, best first: those with enough trials and few
            failures, see `judge`. The others stand behind them.
        shared, completed: Trials per norm that every contender completed, which scores and tests
            use, and trials that one of them did.
        trivial: Score of the predictor that looks at no graph, over the same folds; None if the
            run does not say.
        tied: `best`, followed by the norms that cannot be told apart from it by score;
            empty if nothing could be judged.
        differences: Of scores, all pairs; the better of `rows` is `first`. The intervals of
            fractions end at ±1.
        target: The training score that speed is measured to.
        speed_order: Norms by the steps to the target, soonest first.
        speed_tied: The soonest, followed by the norms that cannot be told apart from it.
        speed_differences: Steps to the target, all pairs; the sooner is `first`.
        detectable_before: Smallest true difference that this design was expected to find with
            80% power over all pairs, see `graphnorms.lab.detectable.expected_detectable`.
        detectable_after: The same from the spread of the paired differences seen.
        detectable_at_best: The same with any number of folds, from ever more repeats, or of seeds.
        needed_for_margin: Folds, or seeds, that would find a difference as large as the margin;
            None if no number would, or nothing is known of the spread.
        recommendation: Which norm to use; None if nothing could be judged, or nothing deserves it.
        noun: What is compared, in words: norms of a comparison, or the methods of a table.
        starts: What norms had in common in training that is not the lab's; None if the lab trained.
    """

    design: Design
    scale: Scale
    baseline: str
    planned: int
    selection: int
    margin: float
    margin_source: str
    minimum: int
    rows: tuple[NormSummary, ...]
    best: str | None
    contenders: tuple[str, ...]
    shared: int
    completed: int
    trivial: float | None
    tied: tuple[str, ...]
    differences: tuple[PairedTest, ...]
    target: Target | None
    speed_order: tuple[str, ...]
    speed_tied: tuple[str, ...]
    speed_differences: tuple[PairedTest, ...]
    detectable_before: float | None
    detectable_after: float | None
    detectable_at_best: float | None
    needed_for_margin: int | None
    recommendation: Recommendation | None
    noun: str = "norm"
    starts: Starts | None = None

    @property
    def protocol(self) -> str:
        """`"nested"`, `"split"` or `"paper"`."""
        return self.design.protocol

    @property
    def optimistic(self) -> bool:
        """Whether the scores come from data that chose the epoch and the learning rate."""
        return self.design.optimistic

    @property
    def planned_of_norm(self) -> int:
        """Trials per norm of every kind, as a run counts them."""
        # In protocol "paper" what gives a score is among what chooses the rate.
        apart = 0 if self.optimistic and self.selection else self.planned
        return apart + self.selection

    def ended(self, row: NormSummary) -> int:
        """Return how many of these have an outcome."""
        apart = 0 if self.optimistic and self.selection else row.trials
        return apart + min(row.tried, self.selection)

    @property
    def finished(self) -> bool:
        """Whether every trial of every norm has an outcome."""
        return all(row.finished for row in self.rows)

    @property
    def recommended(self) -> str | None:
        """The norm to use, if one is recommended."""
        return self.recommendation.norm if self.recommendation is not None else None

    @property
    def searched(self) -> bool:
        """Whether more than a learning rate was chosen for every norm."""
        return any(row.chosen for row in self.rows)

    @property
    def trained(self) -> bool:
        """Whether training scores are known; of a table of scores they are not."""
        return any(row.train is not None for row in self.rows)

    @property
    def conclusive(self) -> bool:
        """Whether two norms at least had enough folds, or seeds, to be compared."""
        return any(test.adjusted_p is not None for test in self.differences)

    @property
    def speed_ratios(self) -> tuple[PairedTest, ...]:
        """`speed_differences` in the order of `differences`: the better in score is `first`.

        A ratio above 1 then says that the norm with the better score is the slower one.
        """
        places = {row.norm: place for place, row in enumerate(self.rows)}
        tests = [
            test if places[test.first] < places[test.second] else test.inverted()
            for test in self.speed_differences
        ]
        return tuple(sorted(tests, key=lambda test: (places[test.first], places[test.second])))

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
        data = asdict(self) | {
            "protocol": self.protocol,
            "optimistic": self.optimistic,
            "conclusive": self.conclusive,
        }
        metric = data["scale"]["metric"]
        data["scale"]["metric"] = {name: value for name, value in metric.items() if value != ""}
        if self.starts is None:
            del data["starts"]
        if not self.searched:
            for row in data["rows"]:
                del row["chosen"]
                if row["sensitivity"] is not None:
                    del row["sensitivity"]["thirds"]
        plain: dict[str, Any] = jsonable(data)
        return plain


def jsonable(value: Any) -> Any:
    """Return data as JSON takes it: lists for tuples, None for NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value
