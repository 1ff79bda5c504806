"""Helpers for integer arrays: offsets, runs of equal entries, first true entry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def offsets(counts: NDArray[Any]) -> Integers:
    """Compute the offsets of runs with these lengths."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def first_true(wrong: NDArray[np.bool_]) -> int | None:
    """Return the position of the first true entry, if any."""
    return int(wrong.argmax()) if wrong.any() else None


def run_starts(*keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each position begins a run of equal keys."""
    starts = np.ones(len(keys[0]), dtype=bool)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return starts
