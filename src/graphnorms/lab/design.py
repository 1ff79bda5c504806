"""The design of a comparison: what is paired, and the tests for such pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from graphnorms.errors import unknown_name
from graphnorms.lab import effect_size, equivalence, power, resampling, statistics
from graphnorms.lab.equivalence import Probabilities
from graphnorms.lab.option_kinds import PROTOCOLS
from graphnorms.lab.phrases import several
from graphnorms.lab.settings import HOLDOUT
from graphnorms.lab.statistics import Estimate, PairedDifference

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pair: TypeAlias = tuple[int, int, int]
"""What pairs the trials of norms: `(seed of the split, fold, run)`, equal for all norms."""


_TRAINED = {"nested": 1 - HOLDOUT, "paper": 1.0}
"""Share of the items outside the test fold that is trained on; the rest is for validation."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How trials are paired, and how their differences are judged.

    | protocol | one value per | interval | test | all pairs |
    |---|---|---|---|---|
    | `"nested"`, `"paper"` | fold: the mean over its runs | Nadeau & Bengio | corrected t | Holm |
    | `"split"`, several given | split: the mean over runs | Nadeau & Bengio | corrected t | Holm |
    | `"split"`, one | run | bootstrap (BCa) | sign flip | max-t over joint flips |

    Args:
        protocol: One of `PROTOCOLS`.
        test_ratio: n_test / n_train of a fold, or of one of several given splits; 0 for runs on
            one split, which are independent.
        folds: Folds of one cross-validation, which may be repeated; 0 without one.
        own_data: Whether several given splits have data of their own each, and share none.

    Raises:
        ValueError: There is no such protocol.
    """

    protocol: str
    test_ratio: float = 0.0
    folds: int = 0
    own_data: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)

    @property
    def by_fold(self) -> bool:
        """Whether folds, or several given splits, are compared, and not seeds on one split."""
        return self.protocol != "split" or self.test_ratio > 0 or self.own_data

    @property
    def optimistic(self) -> bool:
        """Whether scores come from data that chose the epoch and the learning rate."""
        return self.protocol == "paper"

    def count(self, pairs: int) -> str:
        """Say how many: `10 folds`, `10 splits`, `1 seed`."""
        return several(
            pairs, "seed" if not self.by_fold else "split" if self.protocol == "split" else "fold"
        )

    def values(self, scores: Mapping[Pair, float]) -> NDArray[np.float64]:
        """Return one value per fold, the mean over its runs, or one value per run."""
        if not self.by_fold:
            return np.array([scores[pair] for pair in sorted(scores)], dtype=float)
        folds: dict[tuple[int, int], list[float]] = {}
        for pair in sorted(scores):
            folds.setdefault(pair[:2], []).append(scores[pair])
        return np.array([sum(runs) / len(runs) for runs in folds.values()], dtype=float)

    def minimum(self, comparisons: int) -> int:
        """Return the number of pairs below which nothing is judged, see `power`.

        Args:
            comparisons: Pairs of norms, which share the level.
        """
        comparisons = max(1, comparisons)
        if self.by_fold:
            return power.minimum_folds(self.test_ratio, comparisons)
        return power.minimum_flips(1)  # joint flips have no p-value below 2 / 2ⁿ either

    def least(self, comparisons: int) -> int:
        """Return how many folds, or seeds, to ask for at least, for a run that is judged.

        Args:
            comparisons: Pairs of norms, which share the level.
        """
        comparisons = max(1, comparisons)
        if self.protocol in _TRAINED:
            return power.least_cross_validation(comparisons, _TRAINED[self.protocol])
        return self.minimum(comparisons)

    def estimate(self, values: Sequence[float] | NDArray[np.float64]) -> Estimate:
        """Estimate the mean of one value per pair, with its 95% interval."""
        if self.by_fold:
            return statistics.mean_interval(values, test_ratio=self.test_ratio)
        return resampling.bootstrap_interval(values)

    def difference(self, differences: NDArray[np.float64]) -> PairedDifference:
        """Estimate and test the mean of paired differences."""
        if self.by_fold:
            nothing = np.zeros(differences.size)
            return statistics.paired_difference(differences, nothing, test_ratio=self.test_ratio)
        return PairedDifference(
            resampling.bootstrap_interval(differences),
            statistics.spread(differences),
            differences.size,
            resampling.sign_flip(differences) if differences.size > 1 else math.nan,
        )

    @property
    def adjustment(self) -> str:
        """How p-values are adjusted for all pairs: `Holm` or `max-t`."""
        return "Holm" if self.by_fold else "max-t"

    def adjusted(
        self, p_values: Sequence[float], differences: Sequence[Mapping[Pair, float]]
    ) -> list[float]:
        """Adjust p-values for all pairs of norms.

        Args:
            p_values: One per pair of norms.
            differences: The paired differences that each p-value comes from.
        """
        if self.by_fold or not differences:
            return statistics.holm(p_values)
        return resampling.joint_sign_flips(_table(differences))

    def equivalence(self, differences: NDArray[np.float64], margin: float) -> float:
        """Return the p-value for "practically equal", see `graphnorms.lab.equivalence`."""
        if self.by_fold:
            return equivalence.equivalence_by_t(differences, margin, test_ratio=self.test_ratio)
        return equivalence.equivalence_by_flips(differences, margin)

    def adjusted_equivalence(
        self, p_values: Sequence[float], differences: Sequence[Mapping[Pair, float]], margin: float
    ) -> list[float]:
        """Adjust the p-values of `equivalence` for all pairs of norms, as `adjusted` does."""
        if self.by_fold or not differences:
            return statistics.holm(p_values)
        return equivalence.joint_equivalence_by_flips(_table(differences), margin)

    def probabilities(
        self, differences: NDArray[np.float64], margin: float
    ) -> Probabilities | None:
        """Return how probable "first better", "practically equal" and "second better" are."""
        return equivalence.probabilities(differences, margin, test_ratio=self.test_ratio)

    def effect(self, differences: NDArray[np.float64]) -> Estimate | None:
        """Return the differences in units of their spread, see `effect_size.hedges_g`."""
        return effect_size.hedges_g(differences, test_ratio=self.test_ratio)

    def detectable(self, deviation: float, pairs: int, comparisons: int) -> float:
        """Return the smallest difference found with 80% power; NaN below the minimum of pairs."""
        comparisons = max(1, comparisons)
        if not self.by_fold and pairs < self.minimum(comparisons):
            return math.nan
        return power.detectable_difference(
            deviation, pairs, test_ratio=self.test_ratio, comparisons=comparisons
        )

    def reachable(self, deviation: float, comparisons: int) -> float:
        """Return the smallest difference found with 80% power by any number of pairs.

        For folds it is deviation · sqrt(test_ratio) times a factor of power and level: repeats
        shrink 1/J, but not n_test / n_train. For seeds it is 0 up to rounding.
        """
        return self.detectable(deviation, power.MOST_PAIRS, comparisons)

    def needed(self, difference: float, deviation: float, comparisons: int) -> int | None:
        """Return how many pairs find `difference` with 80% power; None if no number does."""
        comparisons = max(1, comparisons)
        return power.pairs_needed(
            difference,
            deviation,
            test_ratio=self.test_ratio,
            comparisons=comparisons,
            at_least=self.minimum(comparisons),
        )

    def needed_to_equal(
        self, difference: float, deviation: float, margin: float, comparisons: int
    ) -> int | None:
        """Return the pairs at which `difference` is shown to be within `margin`, as `needed`."""
        comparisons = max(1, comparisons)
        return power.pairs_to_equal(
            difference,
            deviation,
            margin,
            test_ratio=self.test_ratio,
            comparisons=comparisons,
            at_least=self.minimum(comparisons),
        )


def _table(differences: Sequence[Mapping[Pair, float]]) -> NDArray[np.float64]:
    """Put differences side by side, `(pairs of norms, seeds)`; NaN where a norm lacks a seed."""
    every = sorted(set[Pair]().union(*differences))
    return np.array([[of_pair.get(pair, math.nan) for pair in every] for of_pair in differences])
