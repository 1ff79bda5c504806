"""Cross-validation, as scikit-learn splits it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphnorms.data.words import some


def stratified_folds(
    y: Tensor | Sequence[int], folds: int, seed: int, *, names: Sequence[str] = ()
) -> list[tuple[Tensor, Tensor]]:
    """Split graphs into folds in which the classes are about as frequent as in the whole.

    The split is `StratifiedKFold(folds, shuffle=True, random_state=seed)` of scikit-learn, on
    the graphs in their order: the split of the GIN (seed 0) and GraphNorm (seed 9) codes. What
    the classes are called does not matter to it.

    Args:
        y: Class of each graph, `(graphs,)`.
        folds: How many folds; each is held out once.
        seed: Seeds the shuffle.
        names: What the classes 0, 1, … are called, for the message.

    Returns:
        For each fold the ids of the graphs to train on and of those held out, both ascending,
        int64 on the CPU.

    Raises:
        ValueError: `folds` is below 2 or above the number of members of a class, or `y` is not
            a vector.
    """
    # Loads a second of SciPy, which reading a data set should not have to wait for.
    from sklearn.model_selection import StratifiedKFold

    labels = torch.as_tensor(y).cpu().numpy()
    if labels.ndim != 1:
        raise ValueError(f"y has shape {labels.shape}, expected (graphs,): a class for each graph")
    if type(folds) is not int or folds < 2:
        raise ValueError(f"folds is {folds!r}, expected an integer ≥ 2")
    kinds, counts = np.unique(labels, return_counts=True)
    if not len(counts):
        raise ValueError(f"{folds} folds of no items: y is empty")
    rare = np.flatnonzero(counts < folds)
    if len(rare):
        few = some(
            f"class {names[kinds[at]] if names else kinds[at]} has {counts[at]}" for at in rare
        )
        ways = [f"at most {counts.min()} folds"] if counts.min() > 1 else []
        ways.append("a random split (--protocol split --split random)")
        if len(counts) - len(rare) > 1:
            ways.append(f"the other classes alone (--drop-rare {folds})")
        raise ValueError(
            f"{folds} folds need {folds} or more members of every class, and {few}: ask "
            f"for {' or '.join(ways)}"
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [
        (torch.from_numpy(train), torch.from_numpy(held_out))
        for train, held_out in splitter.split(np.zeros(len(labels)), labels)
    ]


def shuffled_folds(
    number: int, folds: int, seed: int, *, noun: str = "graphs"
) -> list[tuple[Tensor, Tensor]]:
    """Split into folds at random: `KFold(folds, shuffle=True, random_state=seed)`.

    Args:
        number: How many there are to split.
        folds: How many folds; each is held out once.
        seed: Seeds the shuffle.
        noun: What is split, for the message.

    Returns:
        As `stratified_folds` does.

    Raises:
        ValueError: `folds` is below 2 or above `number`.
    """
    from sklearn.model_selection import KFold

    if not 2 <= folds <= number:
        raise ValueError(f"{folds} folds of {number} {noun}: expected 2 … {number} folds")
    splitter = KFold(folds, shuffle=True, random_state=seed)
    return [
        (torch.from_numpy(train), torch.from_numpy(held_out))
        for train, held_out in splitter.split(np.zeros(number))
    ]
