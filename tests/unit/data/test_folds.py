from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from graphnorms.data import GraphSet, read_powerful_gnns, stratified_folds


@pytest.mark.parametrize(("folds", "seed"), [(10, 9), (10, 0), (3, 1)])
def test_folds_are_those_of_sklearn(mutag: GraphSet, folds: int, seed: int) -> None:
    ours = stratified_folds(mutag.y, folds, seed)
    theirs = StratifiedKFold(folds, shuffle=True, random_state=seed).split(
        np.zeros(188), mutag.y.numpy()
    )
    assert len(ours) == folds
    for (train, held_out), (their_train, their_held_out) in zip(ours, theirs, strict=True):
        assert train.dtype == held_out.dtype == torch.int64
        assert train.tolist() == their_train.tolist()
        assert held_out.tolist() == their_held_out.tolist()


def test_folds_partition_and_stratify(mutag: GraphSet) -> None:
    seen = []
    for train, held_out in stratified_folds(mutag.y, 10, 9):
        assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(188))
        assert mutag.subset(held_out).class_counts[0] in (6, 7)
        seen += held_out.tolist()
    assert sorted(seen) == list(range(188))


def test_folds_do_not_depend_on_the_numbers_of_the_classes(mutag: GraphSet, text_file: str) -> None:
    by_appearance = read_powerful_gnns(text_file)
    assert torch.equal(by_appearance.y, 1 - mutag.y)
    for one, other in zip(
        stratified_folds(mutag.y, 10, 9), stratified_folds(by_appearance.y, 10, 9), strict=True
    ):
        assert torch.equal(one[1], other[1])


def test_seeds_and_lists() -> None:
    y = [0, 1] * 10
    one, again, other = (stratified_folds(y, 5, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("y", "folds", "message"),
    [
        ([0, 0, 1, 1], 1, "folds is 1, expected an integer ≥ 2"),
        ([0, 0, 0, 1, 1], 3, "3 folds need 3 or more members of every class, and class 1 has 2"),
        ([], 2, "2 folds of no items: y is empty"),
        ([[0, 1]], 2, r"y has shape \(1, 2\), expected \(graphs,\)"),
    ],
)
def test_bad_folds(y: list[int], folds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        stratified_folds(y, folds, 0)
    assert "\n" not in str(caught.value)
