from __future__ import annotations

import math

import pytest

from graphnorms.report.layout import SPREAD, SUMMARY_OFFSET, lanes_of, log_ticks


@pytest.mark.parametrize(
    "values", [[0.2, 0.9], [30, 600], [1.0], [1e-3, 1e4], [1750, 2600], [0.91, 1.14]]
)
def test_log_ticks_are_few_round_and_around_the_values(values: list[float]) -> None:
    ticks = log_ticks(values)
    shown = [tick for tick in ticks if min(values) / 2 <= tick <= max(values) * 2]
    assert 1 <= len(shown) <= 9
    if max(values) > min(values):
        assert len([tick for tick in ticks if min(values) <= tick <= max(values)]) >= 2
    assert ticks == sorted(ticks)
    assert ticks[0] <= min(values)
    assert ticks[-1] >= max(values)


def test_log_ticks_of_nothing() -> None:
    assert log_ticks([math.inf, math.nan, 0.0]) == [1.0]


def test_every_fold_has_its_own_lane_above_the_summary() -> None:
    heights = list(lanes_of([(9, fold, 0) for fold in range(50)]).values())
    assert len(set(heights)) == 50
    assert max(heights) - min(heights) < SPREAD
    assert min(heights) > SUMMARY_OFFSET
