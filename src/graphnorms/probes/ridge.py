"""Ridge regression, its penalty chosen by generalized cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    r"""A fit of standardized columns; of constant columns the weights are 0.

    Args:
        center, scale: Of the columns, `(columns,)`; the scale of a constant one is infinite.
        mean: Of the answers, `(outputs,)`.
        weights: `(columns, outputs)`.
        residuals: Answers less fitted values, `(rows, outputs)`.
        leverages: How much each row draws the fit to itself, the mean included, `(rows,)`.
    """

    center: Floats
    scale: Floats
    mean: Floats
    weights: Floats
    residuals: Floats
    leverages: Floats

    @classmethod
    def fit(cls, inputs: Floats, answers: Floats) -> Ridge:
        """Fit the answers, `(rows, outputs)`, to the inputs, `(rows, columns)`.

        Source: Golub, Heath & Wahba, Technometrics 21, 1979.
        """
        center, scale = inputs.mean(0), inputs.std(0)
        scale[scale < 1e-9] = np.inf  # constant columns say nothing
        x, mean = (inputs - center) / scale, answers.mean(0)
        values, vectors = np.linalg.eigh(x.T @ x)
        values = values.clip(min=0)
        along = vectors.T @ (x.T @ (answers - mean))  # (columns, outputs)
        scored = []
        for penalty in len(x) * np.logspace(-4, 1, 6):
            weights = vectors @ (along / (values + penalty)[:, None])
            error = ((answers - mean - x @ weights) ** 2).sum()
            freedom = 1 - ((values / (values + penalty)).sum() + 1) / len(x)
            scored.append((error / max(freedom, 1e-9) ** 2, penalty, weights))
        _, penalty, weights = min(scored, key=lambda each: each[0])
        leverages = 1 / len(x) + ((x @ vectors) ** 2 / (values + penalty)).sum(1)
        return cls(center, scale, mean, weights, answers - mean - x @ weights, leverages)

    def predict(self, inputs: Floats) -> Floats:
        """Return what it gives for the rows of a table, `(rows, outputs)`."""
        found: Floats = self.mean + ((inputs - self.center) / self.scale) @ self.weights
        return found


def explained(inputs: Floats, answers: Floats) -> float:
    r"""Measure which share of the variance of the answers a ridge regression on inputs explains.

    $$ R^2 = 1 - \frac{\sum_i (y_i - \hat y_{-i})^2}{\sum_i (y_i - \bar y_{-i})^2} $$

    with $\hat y_{-i}$ the prediction of row i by a fit, and $\bar y_{-i}$ the mean, of all other
    rows: 0 on average for inputs that have nothing to do with the answers, however many. For
    classes, one column each, it is a share of their variance, like $\eta^2$. Clipped below 0; NaN
    where the answers do not vary or a number is not finite.

    Args:
        inputs: `(rows, columns)`.
        answers: `(rows, outputs)`; a row with a NaN does not count for its column.

    Source: Allen, Technometrics 16, 1974, for the residuals of rows left out.
    """
    left, total = 0.0, 0.0
    known = ~np.isnan(answers)
    for here in np.unique(known, axis=1).T:  # columns that are known of the same rows
        columns = np.flatnonzero((known == here[:, None]).all(0))
        y, x = answers[here][:, columns], inputs[here]
        if len(y) < 3 or not np.isfinite(x).all():
            continue
        fit = Ridge.fit(x, y)
        share = 1 - fit.leverages[:, None]
        left += float(((fit.residuals / share.clip(min=1e-9)) ** 2).sum())
        total += float((((y - y.mean(0)) * len(y) / (len(y) - 1)) ** 2).sum())
    return max(0.0, 1 - left / total) if total > 0 else float("nan")
