"""Cross-validation folds as in scikit-learn, and folds and parts that keep twins together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.integer_arrays import Integers
from graphnorms.data.sklearn_draws import k_fold, stratified_k_fold
from graphnorms.data.text_format import some

Floats = NDArray[np.float64]

_WAY = "or leave twins apart (without --group-twins)"


def stratified_folds(
    y: Tensor | Sequence[int], folds: int, seed: int, *, names: Sequence[str] = ()
) -> list[tuple[Tensor, Tensor]]:
    """Split graphs into stratified folds.

    The split is `StratifiedKFold(folds, shuffle=True, random_state=seed)` of scikit-learn on the
    graphs in their order, as in the code of GIN (seed 0) and GraphNorm (seed 9). It does not depend
    on the names of classes.

    Args:
        y: Class of each graph, `(graphs,)`.
        folds: Number of folds; each is held out once.
        seed: Seed of the shuffle.
        names: Names of the classes 0, 1, …, for messages.

    Returns:
        For each fold the ids of the graphs to train on and of those held out, both ascending,
        int64 on the CPU.

    Raises:
        ValueError: `folds` is below 2 or above the number of members of a class, or `y` is not
            a vector.
    """
    labels = torch.as_tensor(y).cpu().numpy()
    if labels.ndim != 1:
        raise ValueError(f"y has shape {labels.shape}, expected (graphs,): a class for each graph")
    _require_folds(folds)
    kinds, counts = np.unique(labels, return_counts=True)
    if not len(counts):
        raise ValueError(f"{folds} folds of no items: y is empty")
    if few := _rare(kinds, counts, folds, names):
        ways = [f"at most {counts.min()} folds"] if counts.min() > 1 else []
        ways.append("a random split (--protocol split --split random)")
        if (counts >= folds).sum() > 1:
            ways.append(f"the other classes alone (--drop-rare {folds})")
        raise ValueError(
            f"{folds} folds need {folds} or more members of every class, and {few}: ask "
            f"for {' or '.join(ways)}"
        )
    return _divided(stratified_k_fold(labels, folds, seed), folds)


def shuffled_folds(
    number: int, folds: int, seed: int, *, noun: str = "graphs"
) -> list[tuple[Tensor, Tensor]]:
    """Split into folds at random: `KFold(folds, shuffle=True, random_state=seed)`.

    Args:
        number: Number of items.
        folds: How many folds; each is held out once.
        seed: Seeds the shuffle.
        noun: Name of the items, for messages.

    Returns:
        See `stratified_folds`.

    Raises:
        ValueError: `folds` is below 2 or above `number`.
    """
    if not 2 <= folds <= number:
        raise ValueError(f"{folds} folds of {number} {noun}: expected 2 … {number} folds")
    return _divided(k_fold(number, folds, seed), folds)


def grouped_folds(
    groups: Integers, strata: Integers | None, folds: int, seed: int, *, names: Sequence[str] = ()
) -> Integers:
    """Assign groups of graphs to folds of about equal size.

    Args:
        groups: Equal for graphs that stay together, `(graphs,)`.
        strata: Classes to balance between folds, `(graphs,)`, if any.
        folds: How many folds.
        seed: Seeds the shuffle.
        names: What the classes 0, 1, … are called, for the message.

    Returns:
        The fold of each graph, `(graphs,)`.

    Raises:
        ValueError: A group is larger than a fold, or a class is in fewer groups than folds.
    """
    _require_folds(folds)
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
        need, few = "", f"there are {least}"
        if strata is not None:
            need, few = " of every class", _rare(kinds, counts, folds, names)
        way = f"at most {least} folds" if least > 1 else "a random split"
        raise ValueError(
            f"{folds} folds that keep twins together need {folds} or more different graphs{need}, "
            f"and {few}: ask for {way}, {_WAY}"
        )
    return deal(groups, labels, np.full(folds, 1 / folds), seed)


def deal(groups: Integers, labels: Integers | None, shares: Floats, seed: int) -> Integers:
    """Assign groups of items to parts, as close to the given shares as possible.

    Groups of several items are assigned first, the largest ahead: each to the part that minimizes Σ
    (n − n*)² / n* over parts and classes, with n members of a class in a part and n* the target
    number. Then single items fill the parts, class by class.

    Args:
        groups: Equal for items that stay together, `(items,)`.
        labels: Their classes, `(items,)`, if any.
        shares: Share of each part; they sum to 1.
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
    """Return how many of `number` items each part gets to come close to the target numbers.

    Args:
        wanted, have: Target and current number of each part.
        number: Number of items to assign.
        room: Missing items of all classes per part, which breaks ties.
    """
    missing = wanted - have
    ranked = np.sort(missing)[::-1]
    levels = (np.cumsum(ranked) - number) / np.arange(1, len(ranked) + 1)
    level = levels[np.flatnonzero(ranked > levels).max(initial=0)]
    exact = np.clip(missing - level, 0, None)
    amounts: Integers = np.floor(exact + 1e-9).astype(np.int64)
    rest = number - int(amounts.sum())
    amounts[np.lexsort((-room, -np.round(exact - amounts, 9)))[:rest]] += 1
    for at in np.flatnonzero((amounts + have == 0) & (wanted > 0)):  # none yet
        if amounts.max() > 1:
            amounts[amounts.argmax()] -= 1
            amounts[at] += 1
    return amounts


def _require_folds(folds: int) -> None:
    if type(folds) is not int or folds < 2:
        raise ValueError(f"folds is {folds!r}, expected an integer ≥ 2")


def _rare(kinds: NDArray[Any], counts: Integers, folds: int, names: Sequence[str]) -> str:
    """List the classes with fewer members than folds; empty if there are none."""
    return some(
        f"class {names[kind] if names else kind} has {number}"
        for kind, number in zip(kinds.tolist(), counts.tolist(), strict=True)
        if number < folds
    )


def _divided(fold_of: Integers, folds: int) -> list[tuple[Tensor, Tensor]]:
    return [
        (
            torch.from_numpy(np.flatnonzero(fold_of != k)),
            torch.from_numpy(np.flatnonzero(fold_of == k)),
        )
        for k in range(folds)
    ]
