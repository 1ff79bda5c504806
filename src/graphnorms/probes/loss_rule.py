"""When the loss of a training is no longer usual."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Final, Literal

JUMP: Final = 10.0
"""Robust deviations above the running median at which a loss is an outlier."""
STIR: Final = 5.0
"""Those at which a step is recorded in full."""
IN_A_ROW: Final = 3
"""Outliers in a row that make a jump."""
LOSSES: Final = 32
"""Losses that the running median is over."""


class LossRule:
    r"""Says of each loss whether it is usual.

    With the median $m$ and the median absolute deviation of the last 32 usual losses, and $m_0$
    the median of the first 8,
    $s = \max(1.4826\,\mathrm{MAD},\; 0.1\,|m|,\; 0.03\,|m_0|)$. A loss above $m + 5s$ is
    recorded in full, one above $m + 10s$ is an outlier, and three of these in a row are a jump;
    fewer are bad batches. One that is not finite is a blow-up at once. Nothing is an outlier among
    the first 4 losses.
    """

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=LOSSES)
        self._first: list[float] = []
        self._row = 0

    @property
    def median(self) -> float:
        """The running median; NaN before there is one."""
        return median(self._usual) if self._usual else math.nan

    def see(self, loss: float) -> Literal["usual", "stirring", "blown-up"]:
        """Judge the next loss."""
        if not math.isfinite(loss):
            return "blown-up"
        deviations = self._deviations(loss)
        if deviations > JUMP:
            self._row += 1
            return "blown-up" if self._row >= IN_A_ROW else "stirring"
        self._row = 0
        self._usual.append(loss)
        if len(self._first) < 8:
            self._first.append(loss)
        return "stirring" if deviations > STIR else "usual"

    def _deviations(self, loss: float) -> float:
        if len(self._usual) < 4:
            return 0.0
        middle = median(self._usual)
        spread = median(abs(each - middle) for each in self._usual)
        floor = max(0.1 * abs(middle), 0.03 * abs(median(self._first)))
        return (loss - middle) / max(1.4826 * spread, floor, 1e-30)
