"""Arrays of integers: where runs of rows begin, and where the first fault is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def offsets(counts: NDArray[Any]) -> Integers:
    """Where runs of so many begin, and where the last one ends."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def first_true(wrong: NDArray[np.bool_]) -> int | None:
    """The first place that is true, if there is one."""
    return int(wrong.argmax()) if wrong.any() else None


def run_starts(*keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each place begins a run of equal entries, of all keys together."""
    starts = np.ones(len(keys[0]), dtype=bool)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return starts
