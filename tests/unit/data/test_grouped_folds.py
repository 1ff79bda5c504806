"""Twins stay in one fold, and classes are about as frequent in each as in the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphnorms.data import GraphSet, SplitConfig, Task, random_graphs, split_items
from graphnorms.data.folds import deal, grouped_folds
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading


def cycles(sizes: list[int], y: list[int]) -> GraphSet:
    """Cycles of so many nodes, which are twins iff they are of one size."""
    ptr = np.cumsum([0, *sizes])
    pairs = [
        (first + at, first + (at + 1) % size)
        for first, size in zip(ptr, sizes, strict=False)
        for at in range(size)
    ]
    source, target = np.array([*pairs, *((b, a) for a, b in pairs)]).T
    graphs = RawGraphs(name="cycles", ptr=ptr, source=source, target=target, y=np.array(y))
    return graphs.pack(Reading())


def test_groups_go_first_and_single_items_fill_up_what_is_missing() -> None:
    groups = np.array([0] * 4 + [1] * 4 + [2, 3, 4, 5])
    labels = np.array([0] * 4 + [1] * 4 + [0, 0, 1, 1])
    for seed in range(5):
        part = deal(groups, labels, np.array([0.5, 0.5]), seed)
        for kind in (0, 1):  # four of six cannot be parted, and both others are in the other part
            assert sorted(np.bincount(part[labels == kind], minlength=2).tolist()) == [2, 4]
            assert len(set(part[groups == kind])) == 1


@pytest.mark.parametrize("seed", range(3))
def test_parts_have_their_shares_of_every_class_where_single_items_suffice(seed: int) -> None:
    draw = np.random.default_rng(seed)
    groups = np.where(draw.random(2000) < 0.4, draw.integers(0, 80, 2000), 1000 + np.arange(2000))
    labels = (draw.random(2000) < 0.2).astype(np.int64) + 2 * (draw.random(2000) < 0.3)
    shares = np.array([0.8, 0.15, 0.05])
    part = deal(groups, labels, shares, seed)
    assert all(len(set(part[groups == one])) == 1 for one in np.unique(groups))
    for kind in range(4):
        counts = np.bincount(part[labels == kind], minlength=3)
        assert np.abs(counts - shares * counts.sum()).max() < 1
    assert np.abs(np.bincount(part) - shares * 2000).max() < 3


def test_a_rare_class_has_a_member_in_every_part() -> None:
    labels = np.array([1] * 4 + [0] * 96)
    part = deal(np.arange(100), labels, np.array([0.9, 0.1]), 0)
    assert set(part[labels == 1].tolist()) == {0, 1}


@pytest.mark.parametrize("kind", ["fold", "paper", "random"])
@pytest.mark.parametrize("classes", [True, False])
def test_no_graph_is_in_another_part_than_its_twin(kind: str, classes: bool) -> None:
    draw = np.random.default_rng(1)
    sizes = [*draw.integers(3, 23, 120).tolist(), *range(30, 90)]
    graphs = cycles(sizes, (np.arange(180) % 3).tolist())
    if not classes:
        numbers = torch.arange(180.0)[:, None]
        graphs = graphs.with_targets(numbers, Task(kind="regression", targets=("number",)))
    held_out = []
    for at in range(5):
        where = {"seed": at} if kind == "random" else {"folds": 5, "fold": at}
        split = split_items(graphs, SplitConfig(kind=kind, group_twins=True, **where))
        parts = [part.tolist() for part in (split.train, split.validation, split.test)]
        seen = [{sizes[item] for item in part} for part in parts]
        assert sum(map(len, seen)) == len(set.union(*seen))
        assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(180))
        held_out += parts[1 if kind == "paper" else 2]
        if classes:
            counts = np.bincount(graphs.y[split.train].numpy())
            assert counts.max() - counts.min() <= 2
    if kind != "random":
        assert sorted(held_out) == list(range(180))


def test_without_twins_the_folds_are_those_that_do_not_look_for_them() -> None:
    graphs = cycles(list(range(3, 63)), [0, 1] * 30)
    for kind in ("fold", "paper", "random"):
        config = SplitConfig(kind=kind, folds=4, fold=1, seed=2)
        together = SplitConfig(kind=kind, folds=4, fold=1, seed=2, group_twins=True)
        assert torch.equal(split_items(graphs, config).train, split_items(graphs, together).train)


def test_what_cannot_be_kept_together_is_refused_in_words() -> None:
    graphs = cycles([4] * 12 + list(range(5, 33)), [0, 1] * 20)
    config = SplitConfig(kind="fold", folds=5, group_twins=True)
    with pytest.raises(ValueError, match=r"12 of 40 graphs are twins .* the 8 of one of 5 folds"):
        split_items(graphs, config)
    few = cycles([4, 4, 5, 5] * 5 + list(range(6, 26)), [0] * 20 + [1] * 20)
    with pytest.raises(ValueError, match=r"3 or more different graphs .* class 0 has 2: .* 2 fol"):
        split_items(few, SplitConfig(kind="fold", folds=3, group_twins=True))
    with pytest.raises(ValueError, match=r"a given split says where twins are"):
        SplitConfig(kind="given", group_twins=True)
    same = cycles([4] * 20, [0, 1] * 10)
    with pytest.raises(ValueError, match=r"of 20 graphs 1 are different"):
        split_items(same, SplitConfig(kind="random", group_twins=True))
    nodes = random_graphs(20)
    task = Task(kind="classification", level="node", targets=("0", "1"))
    nodes = nodes.with_targets(torch.arange(nodes.num_nodes) % 2, task)
    with pytest.raises(ValueError, match=r"the task is about nodes"):
        split_items(nodes, config)


def test_too_few_different_graphs_without_classes_are_counted() -> None:
    with pytest.raises(ValueError, match=r"4 or more different graphs, and there are 3: "):
        grouped_folds(np.array([0, 0, 1, 1, 2, 2]), None, 4, 0)


def test_the_config_of_a_split_is_as_before_where_twins_are_not_kept_together() -> None:
    assert "group_twins" not in SplitConfig(kind="random").to_dict()
    config = SplitConfig(kind="random", group_twins=True)
    assert SplitConfig(**config.to_dict()) == config
