"""Whether edges in files are listed once or in both directions."""

from __future__ import annotations

from typing import Final

import numpy as np

from graphnorms.data.integer_arrays import Integers

DIRECTED: Final = "edges are directed, because only some are listed in both directions"


def has_directions(source: Integers, target: Integers) -> bool:
    """Whether some edges are listed in both directions, and others in one.

    If all edges are listed once, or all in both directions, they are undirected.

    Args:
        source, target: The nodes of each edge, `(edges,)`.
    """
    pairs, once = _counts(source, target)
    return once < pairs < 2 * once


def missing_reverses(source: Integers, target: Integers) -> tuple[Integers, bool]:
    """Return the positions of the edges to be added in the other direction, and whether the edges
    have directions, in which case there are none."""
    pairs, once = _counts(source, target)
    if pairs > once:
        return np.arange(0), pairs < 2 * once
    return np.flatnonzero(source != target), False  # a loop is its own reverse


def _counts(source: Integers, target: Integers) -> tuple[int, int]:
    """Return the numbers of different pairs, ordered and unordered, without loops."""
    edges = np.stack((source, target), 1)
    pairs = np.unique(edges[source != target], axis=0)
    return len(pairs), len(np.unique(np.sort(pairs, 1), axis=0))
