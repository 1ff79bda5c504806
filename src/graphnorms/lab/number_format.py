"""How scores and differences are written: in percent and points, or in the target's unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphnorms.lab.phrases import several
from graphnorms.training.metrics import Metric

DIGITS = 3
"""Significant digits of scores that are not fractions."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Writes the scores of one comparison, all with the same number of decimals.

    Args:
        metric: What the scores are.
        unit: Unit of scores that are not fractions, if known.
        decimals: Decimals; for fractions, those of the percentage.
    """

    metric: Metric
    unit: str = ""
    decimals: int = 1

    @classmethod
    def fitting(cls, metric: Metric, reference: float | None, unit: str = "") -> Scale:
        """Choose the decimals by a typical score.

        Args:
            metric: What the scores are.
            reference: A typical score; None if none is known yet.
            unit: Unit of the target; only errors are in it.
        """
        if metric.fraction:
            return cls(metric=metric)
        unit = metric.unit or (unit if metric.has_unit else "")
        if metric.most == 1 or not reference or not math.isfinite(reference):
            return cls(metric=metric, unit=unit, decimals=DIGITS)
        decimals = DIGITS - 1 - math.floor(math.log10(abs(reference)))
        return cls(metric=metric, unit=unit, decimals=min(max(0, decimals), 9))

    @property
    def factor(self) -> float:
        """What scores are multiplied by before they are written."""
        return 100.0 if self.metric.fraction else 1.0

    @property
    def score_unit(self) -> str:
        """Unit of a score: `%`, or the target's; may be empty."""
        return "%" if self.metric.fraction else self.unit

    @property
    def difference_unit(self) -> str:
        """Unit of a difference: `points`, or the target's; may be empty."""
        return "points" if self.metric.fraction else self.unit

    @property
    def direction(self) -> str:
        """Which way is better: `higher is better` or `lower is better`."""
        return f"{'higher' if self.metric.higher_is_better else 'lower'} is better"

    def number(self, value: float, *, signed: bool = False) -> str:
        """Write a score or a difference without its unit; a minus is a minus sign."""
        rounded = round(self.factor * value, self.decimals)
        sign = "+" if signed and rounded > 0 else ""
        # Zero has no sign, also where a small number below it was rounded.
        return f"{sign}{rounded or 0.0:.{self.decimals}f}".replace("-", "−")

    def score(self, value: float) -> str:
        """Write a score: `91.2%`, `0.594 eV`."""
        return _with_unit(self.number(value), self.score_unit)

    def difference(self, value: float) -> str:
        """Write a difference: `6.3 points`, `0.031 eV`."""
        if self.metric.fraction and self.number(value) == f"{round(100 * value)}.0":
            return several(100 * value, "point")
        return _with_unit(self.number(value), self.difference_unit)


def _with_unit(number: str, unit: str) -> str:
    return f"{number}{'' if unit == '%' else ' '}{unit}".rstrip()
