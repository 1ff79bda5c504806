from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Oracle
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

from graphnorms.probes import explained
from graphnorms.probes.ridge import Ridge


def test_residuals_of_rows_left_out_are_those_of_fits_without_them() -> None:
    draw = np.random.default_rng(0)
    x = StandardScaler().fit_transform(draw.normal(size=(30, 4)))
    y = x @ draw.normal(size=(4, 2)) + draw.normal(size=(30, 2))
    fit = Ridge.fit(x, y)
    found = [
        Oracle(alpha=30 * penalty).fit(x, y)
        for penalty in np.logspace(-4, 1, 6)
        if np.allclose(Oracle(alpha=30 * penalty).fit(x, y).coef_.T, fit.weights)
    ]
    assert len(found) == 1
    left_out = cross_val_predict(found[0], x, y, cv=LeaveOneOut())
    np.testing.assert_allclose(y - fit.residuals, fit.predict(x))
    np.testing.assert_allclose(
        fit.residuals / (1 - fit.leverages[:, None]), y - left_out, atol=1e-9
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_share_that_was_planted_is_explained(share: float) -> None:
    found = []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        x = draw.normal(size=(200, 30))
        y = math.sqrt(share) * x[:, :1] + math.sqrt(1 - share) * draw.normal(size=(200, 1))
        found.append(explained(x, y))
    # The fit of 30 columns of noise costs what is left out of it.
    assert np.mean(found) == pytest.approx(share, abs=0.09)
    assert share or np.mean(found) < 0.01


def test_missing_answers_and_constants() -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(50, 1))
    y = np.hstack((x, np.where(np.arange(50)[:, None] < 10, np.nan, -x)))
    assert explained(x, y) == pytest.approx(1, abs=1e-4)
    assert math.isnan(explained(x, np.ones((50, 1))))
    assert explained(np.ones((50, 2)), x) == 0
