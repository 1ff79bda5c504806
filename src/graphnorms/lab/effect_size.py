"""How large a paired difference is beside its spread: the standardized effect size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy

from graphnorms.lab.power import shift_quantile
from graphnorms.lab.statistics import CONFIDENCE, Estimate, spread, without_nan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def hedges_g(
    differences: ArrayLike, *, test_ratio: float = 0.0, confidence: float = CONFIDENCE
) -> Estimate | None:
    """Estimate the mean difference in standard deviations of the differences over pairs.

    g = c · d̄ / S (Cohen's d_z times Hedges' correction for few values),
    c = Γ(ν/2) / (sqrt(ν/2) Γ((ν − 1)/2)), ν = J − 1. The interval is that of the noncentral t
    distribution: t = d̄ / (S · sqrt(1/J + test_ratio)) has the noncentrality
    δ / sqrt(1/J + test_ratio), exact for normal differences that are correlated alike over folds,
    where δ is the effect in units of S.

    Special cases: None for fewer than three pairs, and where all differences are equal.

    Args:
        differences: One per pair; NaN is left out.
        test_ratio: n_test / n_train of a fold; 0 for independent pairs.
        confidence: Coverage of the interval.

    Source: Hedges, Journal of Educational Statistics 6, 1981; Steiger & Fouladi, in What if there
    were no significance tests?, 1997, for the interval; Nadeau & Bengio 2003 for `test_ratio`.
    """
    values = without_nan(differences)
    deviation = spread(values)
    if values.size < 3 or deviation == 0:
        return None
    freedom, unit = values.size - 1, math.sqrt(1 / values.size + test_ratio)
    effect = float(values.mean()) / deviation
    correction = math.exp(
        float(scipy.special.gammaln(freedom / 2) - scipy.special.gammaln((freedom - 1) / 2))
    ) / math.sqrt(freedom / 2)
    low, high = (
        unit * shift_quantile(effect / unit, freedom, chance)
        for chance in ((1 + confidence) / 2, (1 - confidence) / 2)
    )
    return Estimate(correction * effect, low, high)


def better_in(differences: ArrayLike) -> tuple[int, int]:
    """Count the pairs in which the difference is above 0, and below."""
    values = without_nan(differences)
    return int(np.count_nonzero(values > 0)), int(np.count_nonzero(values < 0))
