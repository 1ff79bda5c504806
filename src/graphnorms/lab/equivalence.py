"""Whether two norms are practically equal: their difference lies within a margin.

A difference that is not significant is not shown to be small: few folds show nothing. That a
difference is smaller than a margin of practical interest takes a test of equivalence. The
probabilities of the three answers (first better, equal, second better) come with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphnorms.lab.resampling import joint_sign_flips, sign_flip
from graphnorms.lab.statistics import spread, standard_error, student_above, without_nan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ROUNDING = 1e-9
"""Share of the margin that a difference may miss it by and be called equal to it."""


@dataclass(frozen=True)
class Probabilities:
    """Posterior probabilities: the first is better by more than the margin, neither, the second."""

    first: float
    equal: float
    second: float


def equivalence_by_t(differences: ArrayLike, margin: float, *, test_ratio: float = 0.0) -> float:
    """Test that the mean difference lies outside ± `margin`: a small p says practically equal.

    The larger of the two one-sided corrected t-tests (TOST). p ≤ α exactly when the corrected
    interval of confidence 1 − 2α lies within ± `margin`.

    Special cases: fewer than two pairs give NaN. Equal differences inside the margin give
    2^(−J), the smallest one-sided p of the sign test; outside, and on the margin up to rounding,
    1, as the sign flips do.

    Args:
        differences: One per fold; NaN is left out.
        margin: Half the width of the region of practical equivalence, above 0.
        test_ratio: n_test / n_train of a fold.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
    """
    values = without_nan(differences)
    if values.size < 2:
        return math.nan
    mean = float(values.mean())
    if spread(values) == 0:
        return 2.0**-values.size if abs(mean) < margin * (1 - ROUNDING) else 1.0
    statistic = (margin - abs(mean)) / standard_error(values, test_ratio)
    return student_above(statistic, values.size - 1)


def equivalence_by_flips(differences: ArrayLike, margin: float) -> float:
    """Do the same with two one-sided sign-flip tests, around `margin` and around `−margin`.

    A difference that is the margin up to rounding is the margin, and says nothing for either side.
    """
    values = without_nan(differences)
    return max(sign_flip(side, side="greater") for side in _rooms(values, margin))


def joint_equivalence_by_flips(differences: NDArray[np.float64], margin: float) -> list[float]:
    """Test several differences at once for lying within ± `margin`: p-values adjusted for all.

    A difference is called equal in error only if its true mean lies beyond one end of the margin
    and the test of that end rejects. So each pair is tested at the end that it is nearer to, by
    max-t over joint flips of the room that is left there, and no adjusted p-value is below the
    pair's own, `equivalence_by_flips`.

    Args:
        differences: One row per pair of norms, one column per seed; NaN where a norm lacks one.
        margin: Half the width of the region of practical equivalence, above 0.

    Shapes: `(pairs, seeds)`.

    Source: Berger, Technometrics 24, 1982 (intersection–union); `joint_sign_flips`.
    """
    rooms = _rooms(differences, margin)  # (2, pairs, seeds)
    statistic = np.nansum(rooms, axis=2) / np.sqrt(np.nansum(rooms**2, axis=2)).clip(min=1e-300)
    nearer = rooms[statistic.argmin(axis=0), np.arange(len(differences))]
    joint = joint_sign_flips(nearer, side="greater")
    return [
        max(p, equivalence_by_flips(row, margin)) for p, row in zip(joint, differences, strict=True)
    ]


def _rooms(differences: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return how far differences are inside either end of the margin, `(2, …)`."""
    rooms = np.stack((margin - differences, margin + differences))
    rooms[np.abs(rooms) <= ROUNDING * margin] = 0.0
    return rooms


def probabilities(
    differences: ArrayLike, margin: float, *, test_ratio: float = 0.0
) -> Probabilities | None:
    """Return what the data make of "first better, practically equal, second better".

    The posterior of the mean difference under Jeffreys' prior: Student's t with J − 1 degrees
    of freedom around the mean, with scale S · sqrt(1/J + test_ratio): the Bayesian correlated
    t-test. Larger differences are taken to be better.

    Special cases: None for fewer than two pairs. Equal differences give a certainty, as a
    spread of 0 does; the p-value beside it has the number of pairs in it.

    Args:
        differences: One per pair; NaN is left out.
        margin: Half the width of the region of practical equivalence.
        test_ratio: n_test / n_train of a fold; 0 for independent pairs.

    Source: Corani & Benavoli, Machine Learning 100, 2015; Benavoli, Corani, Demšar & Zaffalon,
    Journal of Machine Learning Research 18 (77), 2017.
    """
    values = without_nan(differences)
    if values.size < 2:
        return None
    mean = float(values.mean())
    if spread(values) == 0:
        edge = margin * (1 + ROUNDING)
        return Probabilities(float(mean > edge), float(abs(mean) <= edge), float(mean < -edge))
    error, freedom = standard_error(values, test_ratio), values.size - 1
    first, second = (student_above((margin + side) / error, freedom) for side in (-mean, mean))
    return Probabilities(first, max(0.0, 1.0 - first - second), second)
