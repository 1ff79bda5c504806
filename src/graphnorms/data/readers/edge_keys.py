"""Edges as sortable keys, from a list in any order to CSR."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from graphnorms.data.integer_arrays import Integers
from graphnorms.data.text_format import count

_BITS = 32  # of a key, for the column; the row is above them
_LOW = (1 << _BITS) - 1

EdgeNote = tuple[str, str]
"""What some edges are, and what became of them."""


def edge_keys(row: Integers, column: Integers) -> Integers:
    """Return a sort key for each edge: by row, then by column."""
    return row << _BITS | column


def rows_of_keys(keys: Integers) -> Integers:
    """Return the row of each key."""
    return keys >> _BITS


def reversed_keys(keys: Integers) -> Integers:
    """Return the sorted keys of the edges in the other direction."""
    found = edge_keys(keys & _LOW, keys >> _BITS)
    found.sort()
    return found


def sorted_edges(
    keys: Integers, counted: Counter[EdgeNote], *, loops: bool, repeats: bool, placed: bool
) -> tuple[Integers, Integers]:
    """Return the sorted keys of the kept edges and, if `placed`, their positions.

    Parallel edges keep their order.

    Args:
        keys: Of all edges.
        counted: Receives the numbers of loops and repeated edges.
        loops, repeats: Whether to keep these.
        placed: Whether positions are needed; the sort is quicker without.
    """
    kept = [keys, np.arange(len(keys))] if placed else [keys]
    is_loop = keys >> _BITS == keys & _LOW
    if number := int(np.count_nonzero(is_loop)):
        counted["self loop", "kept" if loops else "dropped"] += number
        kept = kept if loops else [part[~is_loop] for part in kept]
    if placed:
        order = np.argsort(kept[0], kind="stable")
        kept = [part[order] for part in kept]
    else:
        kept[0].sort()
    again = kept[0][1:] == kept[0][:-1]
    if number := int(np.count_nonzero(again)):
        counted["repeated edge", "kept" if repeats else "merged"] += number
        kept = kept if repeats else [part[np.append(True, ~again)] for part in kept]
    return kept[0], kept[-1]


def csr_of(keys: Integers, first: Integers) -> tuple[Tensor, Tensor]:
    """Return offsets and columns of sorted keys, with column ids within the graph."""
    ptr = np.searchsorted(keys, np.arange(len(first) + 1) << _BITS)
    index = keys & _LOW
    index -= np.repeat(first, np.diff(ptr))
    return torch.from_numpy(ptr), torch.from_numpy(index)


def edge_notes(counted: Counter[EdgeNote]) -> list[str]:
    """Say how many edges were special, and what became of them."""
    return [f"{count(number, noun)} {verb}" for (noun, verb), number in counted.items()]
