from __future__ import annotations

import itertools
import math

import pytest

from graphnorms.report.layout import SPREAD, SUMMARY_OFFSET, chance_mark, lanes_of, log_ticks


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


@pytest.mark.parametrize("low", [0.0123, 0.2, 0.95, 15.0, 1750.0])
@pytest.mark.parametrize("factor", [1.02, 1.3, 2.0, 4.7, 11.0, 60.0, 900.0, 3e4, 1e9])
def test_numbers_of_a_log_axis_do_not_touch_on_a_phone(low: float, factor: float) -> None:
    """230 pixels are what a phone leaves, and a digit takes 7."""
    high = low * factor

    def place(tick: float) -> float:
        return 230 * math.log(tick / low) / math.log(factor)

    shown = [tick for tick in log_ticks([low, high]) if low <= tick <= high]
    for tick, after in itertools.pairwise(shown):
        half = 7 * (len(f"{tick:g}") + len(f"{after:g}")) / 2
        assert place(after) - place(tick) > half, (tick, after)


def test_chance_far_off_takes_no_room() -> None:
    near = chance_mark(60.0, [70.0, 90.0], "60%")
    assert (near.inside, near.x, near.text, near.leftwards) == (True, 60.0, "60%", False)
    below = chance_mark(10.0, [70.0, 90.0], "10%")
    assert (below.inside, below.x, below.text) == (False, 70.0, "◂ 10%")
    above = chance_mark(300.0, [70.0, 90.0], "300")
    assert (above.inside, above.x, above.text, above.leftwards) == (False, 90.0, "300 ▸", True)


def test_log_ticks_of_nothing() -> None:
    assert log_ticks([math.inf, math.nan, 0.0]) == [1.0]


def test_every_fold_has_its_own_lane_above_the_summary() -> None:
    heights = list(lanes_of([(9, fold, 0) for fold in range(50)]).values())
    assert len(set(heights)) == 50
    assert max(heights) - min(heights) < SPREAD
    assert min(heights) > SUMMARY_OFFSET
