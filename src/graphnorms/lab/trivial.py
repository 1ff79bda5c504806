"""The trivial predictor: the scores of one constant answer, as the level of chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from graphnorms.lab.design import Design, Pair
from graphnorms.lab.statistics import SIGNIFICANCE, PairedDifference
from graphnorms.lab.trials import NormTrials

if TYPE_CHECKING:
    from torch import Tensor

    from graphnorms.data import GraphSet, Split
    from graphnorms.training.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Trivial:
    """The scores of one answer for all items, by fold; None where a part has no score.

    Args:
        held_out: On the part that the reported score comes from.
        train: On the part that is trained on.
        folds, seed: Of one cross-validation, and the seed of the first: its repeats follow one
            another, and their seeds as well.
    """

    held_out: Sequence[float | None]
    train: Sequence[float | None]
    folds: int = 0
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON-able data; `Trivial(**data)` reads it back."""
        return asdict(self) | {"held_out": list(self.held_out), "train": list(self.train)}

    def mean(self, part: str, splits: Sequence[tuple[int, int]]) -> float | None:
        """Average over splits, each the seed and the fold; None if one is not known."""
        scores: Sequence[float | None] = getattr(self, part)
        places = [(seed - self.seed) * self.folds + fold for seed, fold in splits]
        found = [scores[place] if 0 <= place < len(scores) else None for place in places]
        known = [score for score in found if score is not None]
        return fmean(known) if known and len(known) == len(found) else None


_ANSWERS: Mapping[str, str] = {
    "accuracy": "the most frequent class",
    "mae": "the median target",
    "rmse": "the mean target",
    "std_mae": "the median targets",
    "std_rmse": "the mean targets",
    "r2": "the mean target",
    "energy_mae": "the energies of the elements",
    "energy_rmse": "the energies of the elements",
    "force_mae": "no force",
    "force_rmse": "no force",
}
"""What the trivial predictor answers, by metric.

By the others no constant answer is better than guessing.
"""


def trivial_answer(metric: Metric) -> str:
    """Say what the trivial predictor answers: `the most frequent class`, or `guessing`."""
    return _ANSWERS.get(metric.name, "guessing")


def trivial_name(metric: Metric) -> str:
    """Say what the trivial predictor does: `predicting the most frequent class for every item`."""
    if metric.name not in _ANSWERS:
        return trivial_answer(metric)
    return f"predicting {trivial_answer(metric)} for every item"


def beats(metric: Metric, score: float, level: float | None) -> bool:
    """Say whether a score is better than the trivial one, by more than rounding."""
    if level is None:
        return True
    return metric.better(score, level) and not math.isclose(score, level, rel_tol=1e-9)


def constant_answer(metric: str, kind: str, targets: Tensor) -> Tensor:
    """Return the one answer for all items that fits some targets, `(outputs,)`.

    The most frequent class, as numbers of items; the share of yes, less a half; the median for an
    absolute error, the mean for a squared one.

    Args:
        metric: One of `graphnorms.training.METRICS`.
        kind: The kind of the task.
        targets: As `graphnorms.data.Task` says; NaN, or a negative class, is missing.
    """
    if kind == "classification":
        return targets[targets >= 0].bincount().double()
    wide = targets.double()
    if metric.endswith("mae"):
        return wide.nanquantile(0.5, dim=0)
    return wide.nanmean(dim=0) - (0.5 if kind == "binary" else 0.0)


def trivial_score(
    metric: str, kind: str, fitted: Tensor, targets: Tensor, std: Tensor | None = None
) -> float:
    """Score the constant answer that fits some targets on others.

    Args:
        metric, kind: As in `constant_answer`.
        fitted: What the constant is fitted to: the targets of the training part.
        targets: What it is scored on.
        std: Of standardized metrics, the deviation of each number, see `score`.
    """
    from graphnorms.training.scores import score

    constant = constant_answer(metric, kind, fitted)
    return score(metric, kind, constant.expand(len(targets), -1), targets, std)


def reported_part(split: Split) -> Tensor:
    """The items that are scored: the test part, or the validation part in protocol paper."""
    return split.test if len(split.test) else split.validation


def trivial_scores(graphs: GraphSet, metric: str, splits: Iterable[Split]) -> Trivial:
    """Score the trivial predictor on every fold, or given split, of a comparison.

    An accuracy is at least 1 / classes: of equally frequent classes, the one that is most frequent
    in the training part is rarer in the rest, and scores below chance. A macro-F1 is at least that
    as well, for guessing has it, which names every class as often as it occurs.
    """
    if graphs.atoms is not None:
        return _trivial_forces(graphs, metric, splits)
    from graphnorms.training.objective import Objective

    y, kind = graphs.y.cpu(), graphs.task.kind
    held_out: list[float | None] = []
    train: list[float | None] = []
    for split in splits:
        fitted = y[split.train]
        std = Objective.of(graphs.task, fitted).deviations
        for scores, items in ((held_out, reported_part(split)), (train, split.train)):
            value = trivial_score(metric, kind, fitted, y[items], std)
            if metric == "macro_f1" or (metric == "accuracy" and kind == "classification"):
                value = max(value, 1 / (graphs.task.outputs if kind == "classification" else 2))
            scores.append(value if math.isfinite(value) else None)
    return Trivial(held_out=held_out, train=train)


def _trivial_forces(graphs: GraphSet, metric: str, splits: Iterable[Split]) -> Trivial:
    """Score frames whose energy is that of their elements, without forces.

    The energies of the elements are those that are removed before training.
    """
    import torch

    from graphnorms.training.force_objective import objective_of
    from graphnorms.training.minibatches import Items

    held_out: list[float | None] = []
    train: list[float | None] = []
    for split in splits:
        objective = objective_of(graphs, split.train)
        prepared = objective.standardized(graphs)
        for scores, items in ((held_out, reported_part(split)), (train, split.train)):
            rows = Items(prepared, items).minibatch_targets
            zeros = torch.zeros(rows.shape[0], objective.columns)
            value = objective.judge(metric, zeros, rows).score
            scores.append(value if math.isfinite(value) else None)
    return Trivial(held_out=held_out, train=train)


def level_of(
    trivial: Trivial | None, metric: Metric, part: str, shared: Iterable[Pair], design: Design
) -> float | None:
    """Return the trivial predictor's score over the folds that scores come from."""
    if metric.name == "roc_auc":
        return 0.5
    if trivial is None:
        return None
    splits = {pair[:2] for pair in shared} if design.by_fold else {(trivial.seed, 0)}
    return trivial.mean(part, sorted(splits))


def against_trivial(
    scores: Mapping[Pair, float], trivial: Trivial | None, metric: Metric, part: str, design: Design
) -> PairedDifference | None:
    """Test the paired differences of a norm and the trivial predictor; None if there are none."""
    levels = {pair: level_of(trivial, metric, part, [pair], design) for pair in scores}
    known = {pair: scores[pair] - level for pair, level in levels.items() if level is not None}
    values = design.values(known)
    return design.difference(values) if values.size > 1 else None


def trains(of_norm: NormTrials, trivial: Trivial | None, design: Design, minimum: int) -> bool:
    """Say whether a norm is shown to train better than the trivial predictor.

    By the training scores after the last epoch: the best of all epochs would be above chance by
    luck. Where it is better by the same amount in every trial, as one that fits all of its training
    graphs can be, there is nothing to test. True where too few are known to judge anything.
    """
    metric = of_norm.metric
    found = against_trivial(of_norm.last("train_score"), trivial, metric, "train", design)
    if found is None or found.pairs < minimum:
        return True
    shown = found.deviation == 0 or found.p_value <= SIGNIFICANCE
    return beats(metric, found.estimate.mean, 0.0) and shown
