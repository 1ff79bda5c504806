"""Choosing measurements by their case, and reading one value of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphnorms.studies.study import Measured, Measurement


def where(measured: Measured, **chosen: object) -> list[Measurement]:
    """Return the measurements whose case has all the values given."""
    return [each for each in measured if all(each.case.get(key) == v for key, v in chosen.items())]


def by_seed(measured: Measured, value: str, **chosen: object) -> list[float]:
    """Return one value of the chosen cases in the order of their seeds; NaN for `None`.

    Raises:
        ValueError: No case is chosen, or two have the same seed.
    """
    found = sorted(where(measured, **chosen), key=lambda one: int(one.case["seed"]))
    seeds = [one.case["seed"] for one in found]
    if not found or len(set(seeds)) < len(seeds):
        raise ValueError(f"{chosen} has the seeds {seeds}, expected one case for each")
    values = [one.values[value] for one in found]
    return [math.nan if value is None else float(value) for value in values]


def mean_by_seed(measured: Measured, value: str, **chosen: object) -> float:
    """Return the mean of `by_seed`."""
    return float(np.mean(by_seed(measured, value, **chosen)))


def curves(
    measured: Measured, value: str, key: str, places: Sequence[object], **chosen: object
) -> list[tuple[float, ...]]:
    """Return one value over the places of one key of the case, a curve per seed."""
    columns = [by_seed(measured, value, **{key: place}, **chosen) for place in places]
    return list(zip(*columns, strict=True))


def geometric_mean(runs: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the geometric mean of the runs, position by position."""
    means: NDArray[np.float64] = np.exp(np.log(np.asarray(runs, dtype=float)).mean(0))
    return means
