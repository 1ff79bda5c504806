"""The same draws as scikit-learn's, on classes of many sizes, sorted or not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import model_selection

from graphnorms.data import sklearn_draws


def labels_of(seed: int) -> np.ndarray:
    """Between one class and six, of 5 to 40 members, named by numbers with gaps."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(5, 41, draw.integers(1, 7))
    labels = np.repeat(draw.permutation(20)[: len(counts)], counts)
    return draw.permutation(labels) if seed % 2 else labels


@pytest.mark.parametrize("seed", [*range(40), 2**32 - 1])
def test_they_are_those_of_scikit_learn(seed: int) -> None:
    labels = labels_of(seed)
    folds = 2 + seed % 4
    for ours, theirs in (
        (sklearn_draws.k_fold(len(labels), folds, seed), model_selection.KFold),
        (sklearn_draws.stratified_k_fold(labels, folds, seed), model_selection.StratifiedKFold),
    ):
        splitter = theirs(folds, shuffle=True, random_state=seed)
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
            assert np.flatnonzero(ours == fold).tolist() == held_out.tolist()
    size = min(len(np.unique(labels)) + seed % 5, len(labels) - 1)
    for pair, theirs in (
        (sklearn_draws.shuffle_split(len(labels), size, seed), model_selection.ShuffleSplit),
        (
            sklearn_draws.stratified_shuffle_split(labels, size, seed),
            model_selection.StratifiedShuffleSplit,
        ),
    ):
        splitter = theirs(1, test_size=size, random_state=seed)
        for part, expected in zip(pair, *splitter.split(labels, labels), strict=True):
            assert part.tolist() == expected.tolist()
