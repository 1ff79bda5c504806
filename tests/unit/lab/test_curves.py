"""Means of learning curves and their bands, worked out by hand."""

from __future__ import annotations

import math

import numpy as np

from graphnorms.lab.curves import curve_of, padded


def test_mean_and_one_deviation_within_what_trials_reached() -> None:
    curve = curve_of(np.array([[0.2, 0.5], [0.4, 0.5], [0.6, 0.5]]))
    np.testing.assert_allclose(curve.mean, [0.4, 0.5])
    deviation = math.sqrt((0.2**2 + 0.2**2) / 3)
    np.testing.assert_allclose(curve.low, [0.4 - deviation, 0.5])
    np.testing.assert_allclose(curve.high, [0.4 + deviation, 0.5])


def test_a_band_does_not_pass_the_best_trial() -> None:
    """Nine trials at 1 and one at 0: the mean plus the deviation would be 1.2."""
    curve = curve_of(np.array([[1.0]] * 9 + [[0.0]]))
    np.testing.assert_allclose([curve.low[0], curve.mean[0], curve.high[0]], [0.6, 0.9, 1.0])


def test_trials_of_different_lengths() -> None:
    values = padded([[1.0, 3.0, 5.0], [3.0, None], []])
    np.testing.assert_array_equal(
        values, [[1, 3, 5], [3, math.nan, math.nan], [math.nan, math.nan, math.nan]]
    )
    curve = curve_of(values)
    np.testing.assert_allclose(curve.mean, [2, 3, 5])
    np.testing.assert_allclose(curve.low, [1, 3, 5])
    nothing = curve_of(padded([[], []]))
    assert nothing.mean.shape == nothing.low.shape == (0,)
    assert math.isnan(curve_of(padded([[None]])).mean[0])
