"""Where things stand in a figure, whatever draws it: rows and lanes, ticks, the choice of pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from graphnorms.lab.design import Pair

if TYPE_CHECKING:
    from graphnorms.lab.pairs import PairedTest

MOST_PAIRS = 15

SPREAD = 0.56
"""Part of a row over which its trials are spread; what sums them up stands below them."""

SUMMARY_OFFSET = -0.36

_NARROW = 0.4
"""Decades below which a logarithmic axis is as good as even."""


def log_ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers around positive values: finer steps the fewer decades they span."""
    known = [value for value in values if 0 < value < math.inf]
    if not known:
        return [1.0]
    decades = math.log10(max(known) / min(known))
    if 0 < decades < _NARROW:
        return _even_ticks(min(known), max(known))
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 2.5 else (1,)
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    return [float(f"{step}e{power}") for power in range(first, last + 1) for step in steps]


def _even_ticks(low: float, high: float) -> list[float]:
    """Return round numbers at even distances from below `low` to above `high`."""
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(step for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{place * step:.6g}") for place in range(max(1, first), last + 1)]


def lanes_of(pairs: Iterable[Pair]) -> dict[Pair, float]:
    """Give every fold or seed its own height within a row, the same in all rows."""
    ordered = sorted(pairs)
    step = SPREAD / max(1, len(ordered))
    return {pair: 0.4 - step * (place + 0.5) for place, pair in enumerate(ordered)}


def shown_pairs(tests: Sequence[PairedTest], leader: str | None) -> list[PairedTest]:
    """Choose the pairs that a figure has room for: all, or those with the leader."""
    if len(tests) <= MOST_PAIRS:
        return list(tests)
    return [test for test in tests if leader is not None and test.involves(leader)]
