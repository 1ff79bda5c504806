"""The splitters of scikit-learn, draw by draw: the same seed gives the same items.

Importing scikit-learn takes a second, and 45 MiB of every process that splits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.integer_arrays import Integers


def k_fold(number: int, folds: int, seed: int) -> Integers:
    """Return the fold of each item, `(items,)`: `KFold(folds, shuffle=True, random_state=seed)`."""
    order = np.arange(number)
    np.random.RandomState(seed).shuffle(order)
    fold_of = np.empty(number, np.int64)
    for fold, items in enumerate(np.array_split(order, folds)):
        fold_of[items] = fold
    return fold_of


def stratified_k_fold(labels: NDArray[Any], folds: int, seed: int) -> Integers:
    """Return the fold of each item, `(items,)`.

    That of `StratifiedKFold(folds, shuffle=True, random_state=seed)`.
    """
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    of_class = np.argsort(np.argsort(first))[label]  # in the order of appearance
    in_turn = np.sort(of_class)
    amounts = [np.bincount(in_turn[fold::folds], minlength=len(first)) for fold in range(folds)]
    draw = np.random.RandomState(seed)
    fold_of = np.empty(len(labels), np.int64)
    for kind, amount in enumerate(np.transpose(amounts)):
        dealt = np.repeat(np.arange(folds), amount)
        draw.shuffle(dealt)
        fold_of[of_class == kind] = dealt
    return fold_of


def shuffle_split(number: int, size: int, seed: int) -> tuple[Integers, Integers]:
    """Draw `size` items; return the others and these, in the order of the draw.

    As `ShuffleSplit(1, test_size=size, random_state=seed)`.
    """
    order: Integers = np.random.RandomState(seed).permutation(number)
    return order[size:], order[:size]


def stratified_shuffle_split(
    labels: NDArray[Any], size: int, seed: int
) -> tuple[Integers, Integers]:
    """Draw `size` items, of each class its share; return the others and these.

    As `StratifiedShuffleSplit(1, test_size=size, random_state=seed)`, which wants two members of
    every class, and one in both parts.
    """
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(label, kind="stable"), np.cumsum(counts)[:-1])
    draw = np.random.RandomState(seed)
    stay = _shares(counts, len(labels) - size, draw)
    go = _shares(counts - stay, size, draw)
    left, drawn = [], []
    for items, first, second in zip(members, stay, go, strict=True):
        order = items[draw.permutation(len(items))]
        left.append(order[:first])
        drawn.append(order[first : first + second])
    return draw.permutation(np.concatenate(left)), draw.permutation(np.concatenate(drawn))


def _shares(counts: Integers, number: int, draw: np.random.RandomState) -> Integers:
    """Share `number` items among classes by their counts; ties of the remainders are drawn."""
    exact = counts / counts.sum() * number
    shares = np.floor(exact)
    rest = exact - shares
    missing = int(number - shares.sum())
    for value in np.unique(rest)[::-1]:
        if missing == 0:
            break
        tied = np.flatnonzero(rest == value)
        chosen = draw.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    whole: Integers = shares.astype(np.int64)
    return whole
