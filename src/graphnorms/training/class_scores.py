"""Scores of predicted classes and answers: from a table of counts, or from the order of logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from graphnorms.kernels.point import in_float64


def confusion(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count the items of every class that are predicted as every class.

    Args:
        predicted: `(items,)`, from 0.
        targets: `(items,)`; negative ones do not count.
        classes: Number of classes.

    Returns:
        `(classes, classes)` float64 on the host: true class by row, predicted class by column.
    """
    known = targets >= 0
    cells = targets[known] * classes + predicted[known]
    return cells.bincount(minlength=classes**2).view(classes, classes).cpu().double()


def balanced_accuracy(counts: Tensor) -> float:
    """Return the mean share of right items over the classes that occur; NaN without items.

    Equals `sklearn.metrics.balanced_accuracy_score`.

    Args:
        counts: See `confusion`.
    """
    items = counts.sum(1)
    return float((counts.diag() / items)[items > 0].mean())


def macro_f1(counts: Tensor) -> float:
    """Return the mean F1 over the classes that occur or are predicted; NaN without items.

    F1 = 2 · right / (items of the class + items predicted as it). Equals
    `sklearn.metrics.f1_score(average="macro")`.

    Args:
        counts: See `confusion`.
    """
    both = counts.sum(1) + counts.sum(0)
    return float((2 * counts.diag() / both)[both > 0].mean())


def mcc(counts: Tensor) -> float:
    r"""Return Matthews' correlation coefficient; NaN unless two classes occur.

    $$ \frac{c\,s - \sum_k p_k t_k}{\sqrt{(s^2 - \sum_k p_k^2)(s^2 - \sum_k t_k^2)}} $$

    for s items of which c are right, $t_k$ of class k and $p_k$ predicted as it; 0 if all items are
    predicted as one class. Equals `sklearn.metrics.matthews_corrcoef` where that has two classes.

    Args:
        counts: See `confusion`.

    Source: Gorodkin, Computational Biology and Chemistry 28, 2004.
    """
    items, true, predicted = counts.sum(), counts.sum(1), counts.sum(0)
    spread = items**2 - true.square().sum()
    if spread <= 0:
        return math.nan
    guessed = items**2 - predicted.square().sum()
    if guessed <= 0:
        return 0.0
    shared = counts.diag().sum() * items - (true * predicted).sum()
    return float(shared / (spread.sqrt() * guessed.sqrt()))


def roc_auc(scores: Tensor, positive: Tensor) -> float:
    """Return the area under the ROC curve of one question; NaN unless both answers occur.

    This is the share of pairs of a positive and a negative item in which the positive one scores
    higher; a tie counts half. Equals `sklearn.metrics.roc_auc_score`.

    Shapes: `scores` and `positive` `(items,)`.
    """
    hits, misses = _counts_by_threshold(scores, positive)
    positives, negatives = hits.sum(), misses.sum()
    above = hits.cumsum(0) - hits / 2  # (thresholds,), positives above it
    return float((misses * above).sum() / (positives * negatives))


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Return the average precision of one question; NaN unless both answers occur.

    This is the precision at each threshold, weighted by the increase in recall. Equals
    `sklearn.metrics.average_precision_score`.

    Shapes: `scores` and `positive` `(items,)`.
    """
    hits, misses = _counts_by_threshold(scores, positive)
    if not misses.sum():
        return math.nan
    precision = hits.cumsum(0) / (hits + misses).cumsum(0)
    return float((precision * hits).sum() / hits.sum())


def _counts_by_threshold(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Count the positive and the negative items at every score, in descending order."""
    ordered, order = scores.sort(descending=True)
    rank = torch.unique_consecutive(ordered, return_inverse=True)[1]  # (items,)
    thresholds = int(rank[-1]) + 1 if rank.shape[0] else 0
    here = in_float64(positive[order])
    rank = rank.to(here.device)
    zeros = here.new_zeros(thresholds)
    return zeros.index_add(0, rank, here), zeros.index_add(0, rank, 1 - here)


OF_ORDER: Final[dict[str, Callable[[Tensor, Tensor], float]]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
}
"""Scores of the logits of one question, `(items,)`, and whether it is answered yes, `(items,)`."""

OF_COUNTS: Final[dict[str, Callable[[Tensor], float]]] = {
    "accuracy": lambda counts: float(counts.diag().sum() / counts.sum()),
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "mcc": mcc,
}
"""Scores of a table of counts, see `confusion`."""
