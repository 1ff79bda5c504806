"""Graphs dealt to folds and parts so that twins stay together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.words import some

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_WAY = "or leave twins apart (without --group-twins)"


def grouped_folds(
    groups: Integers, strata: Integers | None, folds: int, seed: int, *, names: Sequence[str] = ()
) -> Integers:
    """Deal graphs to folds of about equal size, each group to one of them.

    Args:
        groups: Equal for graphs that stay together, `(graphs,)`.
        strata: Classes that are to be about as frequent in every fold, `(graphs,)`, if any.
        folds: How many folds.
        seed: Seeds the shuffle.
        names: What the classes 0, 1, … are called, for the message.

    Returns:
        The fold of each graph, `(graphs,)`.

    Raises:
        ValueError: A group is larger than a fold, or a class is in fewer groups than folds.
    """
    if type(folds) is not int or folds < 2:
        raise ValueError(f"folds is {folds!r}, expected an integer ≥ 2")
    largest, number = int(np.unique(groups, return_counts=True)[1].max(initial=0)), len(groups)
    size = math.ceil(number / folds)
    if largest > size:
        way = f"at most {number // largest} folds" if number >= 2 * largest else "a random split"
        raise ValueError(
            f"{largest} of {number} graphs are twins of each other, more than the {size} of one of "
            f"{folds} folds: ask for {way}, {_WAY}"
        )
    labels = np.zeros(number, np.int64) if strata is None else strata
    pairs = np.unique(np.stack((labels, groups)), axis=1)
    kinds, counts = np.unique(pairs[0], return_counts=True)
    if (counts < folds).any():
        least = int(counts.min())
        rare = np.flatnonzero(counts < folds)
        need, few = "", f"there are {least}"
        if strata is not None:
            need = " of every class"
            called = [names[kind] if names else kind for kind in kinds.tolist()]
            few = some(f"class {called[at]} has {counts[at]}" for at in rare.tolist())
        way = f"at most {least} folds" if least > 1 else "a random split"
        raise ValueError(
            f"{folds} folds that keep twins together need {folds} or more different graphs{need}, "
            f"and {few}: ask for {way}, {_WAY}"
        )
    return deal(groups, labels, np.full(folds, 1 / folds), seed)


def deal(groups: Integers, labels: Integers | None, shares: Floats, seed: int) -> Integers:
    """Deal items to parts, each group to one, as near to the shares as that goes.

    Groups of several come first, the largest ahead: each goes where Σ (n − n*)² / n* over parts
    and classes becomes least, with n members of a class in a part and n* its share. Single items
    fill up, class by class, what is missing then.

    Args:
        groups: Equal for items that stay together, `(items,)`.
        labels: Their classes, `(items,)`, if any.
        shares: Of each part, which sum to 1.
        seed: Seeds the shuffle.

    Returns:
        The part of each item, `(items,)`.
    """
    draw = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(np.zeros_like(groups) if labels is None else labels, return_inverse=True)
    sizes, counts = np.bincount(group), np.bincount(label)
    wanted = np.outer(shares, counts)  # (parts, classes)
    have = np.zeros_like(wanted)
    table = np.zeros((len(sizes), len(counts)))
    np.add.at(table, (group, label), 1)
    part = np.full(len(sizes), -1)
    several = draw.permutation(np.flatnonzero(sizes > 1))
    for one in several[np.argsort(-sizes[several], kind="stable")]:
        content = table[one]
        change = ((2 * (have - wanted) + content) * content / wanted).sum(1)
        order = draw.permutation(len(shares))
        part[one] = order[change[order].argmin()]
        have[part[one]] += content
    of_single = np.flatnonzero(sizes[group] == 1)
    for kind in range(len(counts)):
        items = draw.permutation(of_single[label[of_single] == kind])
        amounts = _filled(wanted[:, kind], have[:, kind], len(items), (wanted - have).sum(1))
        part[group[items]] = np.repeat(np.arange(len(shares)), amounts)
        have[:, kind] += amounts
    dealt: Integers = part[group]
    return dealt


def _filled(wanted: Floats, have: Floats, number: int, room: Floats) -> Integers:
    """How many of `number` items each part gets, for what it has to be near what is wanted.

    Args:
        wanted, have: Of each part.
        number: How many there are to deal.
        room: What each part lacks of all kinds, which decides between equals.
    """
    missing = wanted - have
    ranked = np.sort(missing)[::-1]
    levels = (np.cumsum(ranked) - number) / np.arange(1, len(ranked) + 1)
    level = levels[np.flatnonzero(ranked > levels).max(initial=0)]
    exact = np.clip(missing - level, 0, None)
    amounts: Integers = np.floor(exact + 1e-9).astype(np.int64)
    rest = number - int(amounts.sum())
    amounts[np.lexsort((-room, -np.round(exact - amounts, 9)))[:rest]] += 1
    for at in np.flatnonzero((amounts + have == 0) & (wanted > 0)):  # of every kind one, if may be
        if amounts.max() > 1:
            amounts[amounts.argmax()] -= 1
            amounts[at] += 1
    return amounts
