"""Where things stand in a figure, whatever draws it: rows and lanes, ticks, the choice of pairs."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphnorms.lab.design import Pair
from graphnorms.lab.statistics import Estimate

if TYPE_CHECKING:
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.verdict import Verdict

MOST_PAIRS = 15

SPREAD = 0.56
"""Part of a row over which its trials are spread; what sums them up stands below them."""

SUMMARY_OFFSET = -0.36

FOOT = 0.6
"""Rows that a row below all others takes, which has nothing but a name and a number."""

_NARROW = 0.4
"""Decades below which a logarithmic axis is as good as even."""

ROOM = 0.18
"""Part of an axis that a number takes on a phone: ticks lie no closer."""

_STEPS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
"""Mantissas of the ticks of a logarithmic axis, the finest first."""


def log_ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers around positive values: as fine as their labels have room for."""
    known = [value for value in values if 0 < value < math.inf]
    if not known:
        return [1.0]
    decades = math.log10(max(known) / min(known))
    if 0 < decades < _NARROW:
        return _even_ticks(min(known), max(known))
    least = ROOM * decades
    steps = next((steps for steps in _STEPS if _closest(steps) >= least), (1,))
    every = max(1, math.ceil(least))  # decades
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    powers = range(first, last + every, every)
    return [float(f"{step}e{power}") for power in powers for step in steps]


def _closest(steps: Sequence[float]) -> float:
    """Return the least distance between ticks, in decades."""
    return min(math.log10(after / step) for step, after in itertools.pairwise((*steps, 10)))


def _even_ticks(low: float, high: float) -> list[float]:
    """Return round numbers at even distances from below `low` to above `high`."""
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(step for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{place * step:.6g}") for place in range(max(1, first), last + 1)]


def foot_of(rows: Sequence[str]) -> float:
    """Return the height at which the row below all others lies."""
    return 0.5 - len(rows) - FOOT / 2


def row_height(lanes: int) -> int:
    """Return the pixels of a norm's row, in which so many trials have a height of their own."""
    return min(130, max(66, 30 + 5 * lanes))


def lanes_of(pairs: Iterable[Pair]) -> dict[Pair, float]:
    """Give every fold or seed its own height within a row, the same in all rows."""
    ordered = sorted(pairs)
    step = SPREAD / max(1, len(ordered))
    return {pair: 0.4 - step * (place + 0.5) for place, pair in enumerate(ordered)}


@dataclass(frozen=True)
class ChanceMark:
    """How the score of the trivial predictor is shown beside others.

    Args:
        inside: Whether it is drawn; so far off that it would take most of the axis it is not.
        x: Where its text stands.
        text: What it says, with an arrow if it is not drawn.
        leftwards: Whether the text ends there, and does not begin.
    """

    inside: bool
    x: float
    text: str
    leftwards: bool


def chance_mark(level: float, values: Sequence[float], text: str) -> ChanceMark:
    """Place the score of the trivial predictor, written as `text`, among others."""
    low, high = min(values), max(values)
    if level < 2 * low - high:
        return ChanceMark(False, low, f"◂ {text}", False)
    if level > 2 * high - low:
        return ChanceMark(False, high, f"{text} ▸", True)
    return ChanceMark(True, level, text, level > (low + high) / 2)


def wrapped(name: str) -> str:
    """Write the name of a row in lines that leave room for what is drawn."""
    return "\n".join(textwrap.wrap(name, 18))


def shown_ends(test: PairedTest) -> tuple[float, float, float]:
    """Return low end, middle and high end; NaN where two or three folds would dwarf all others."""
    one = test.estimate
    return (
        (one.low, one.mean, one.high)
        if test.adjusted_p is not None
        else (math.nan, one.mean, math.nan)
    )


def shown_pairs(tests: Sequence[PairedTest], leader: str | None) -> list[PairedTest]:
    """Choose the pairs that a figure has room for: all, or those with the leader."""
    if len(tests) <= MOST_PAIRS:
        return list(tests)
    return [test for test in tests if leader is not None and test.involves(leader)]


def ratios_by_score(verdict: Verdict) -> list[PairedTest]:
    """Return the tests of speed as those of scores stand: the better in score first.

    A ratio above 1 then says that the norm with the better score is the slower one.
    """
    places = {row.norm: place for place, row in enumerate(verdict.rows)}

    def turned(test: PairedTest) -> PairedTest:
        if places[test.first] < places[test.second]:
            return test
        one = test.estimate
        ratio = Estimate(1 / one.mean, 1 / one.high, 1 / one.low)
        return replace(test, first=test.second, second=test.first, estimate=ratio)

    tests = map(turned, verdict.speed_differences)
    return sorted(tests, key=lambda test: (places[test.first], places[test.second]))
