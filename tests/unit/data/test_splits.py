"""Splits against scikit-learn's own, and what every split has to fulfil."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, StratifiedKFold
from torch import Tensor

from graphnorms.data import GraphSet, Split, SplitConfig, Task, random_graphs, split_items
from graphnorms.errors import DatasetError

NAN = float("nan")


def graph_set(number: int = 60, **changes: Any) -> GraphSet:
    return random_graphs(number, mean_nodes=5, num_features=2, num_classes=2)._with(**changes)


def numbers(y: Tensor, kind: str = "regression") -> dict[str, Any]:
    return {"y": y, "task": Task(kind=kind, targets=tuple(map(str, range(y.shape[1]))))}


def one_graph(nodes: int = 90) -> GraphSet:
    """One graph whose nodes have classes, a seventh of them unknown."""
    graphs = random_graphs(1, mean_nodes=nodes, num_features=2, seed=1)
    y = torch.arange(graphs.num_nodes) % 3
    y[::7] = -1
    return graphs._with(
        y=y, task=Task(kind="classification", level="node", targets=("a", "b", "c"))
    )


SETS: dict[str, GraphSet] = {
    "classes": graph_set(),
    "one question": graph_set(**numbers((torch.arange(60) % 5 == 0).float()[:, None], "binary")),
    "questions": graph_set(**numbers((torch.arange(180) % 4 == 0).float().view(60, 3), "binary")),
    "numbers": graph_set(**numbers(torch.arange(60.0)[:, None])),
    "nodes": one_graph(),
}
CONFIGS = [
    SplitConfig(kind="fold", folds=5, fold=2, seed=3, holdout=0.2),
    SplitConfig(kind="paper", folds=5, fold=4, seed=3),
    SplitConfig(kind="random", seed=4, holdout=0.15),
]


def parts(split: Split) -> list[list[int]]:
    return [part.tolist() for part in (split.train, split.validation, split.test)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
@pytest.mark.parametrize("name", SETS)
def test_every_known_item_is_in_one_part(name: str, config: SplitConfig) -> None:
    graphs = SETS[name]
    split = split_items(graphs, config)
    known = graphs.known.nonzero()[:, 0].tolist()
    assert sorted(itertools.chain(*parts(split))) == known
    for part in (split.train, split.validation, split.test):
        assert part.dtype == torch.int64
        assert part.tolist() == sorted(part.tolist())
    train, validation, test = (len(part) for part in parts(split))
    if config.kind == "paper":
        assert test == 0
    elif config.kind == "fold":
        assert validation == -(-(train + validation) // 5)  # a fifth of the rest, rounded up
    else:
        assert validation == test == -(-len(known) * 15 // 100)
    assert parts(split_items(graphs, config)) == parts(split)
    other = SplitConfig(**(config.to_dict() | {"seed": 9}))
    assert parts(split_items(graphs, other)) != parts(split)


@pytest.mark.parametrize("kind", ["fold", "paper"])
@pytest.mark.parametrize("seed", [0, 9])
@pytest.mark.parametrize("name", SETS)
def test_folds_are_those_of_scikit_learn(name: str, seed: int, kind: str) -> None:
    graphs = SETS[name]
    known = graphs.known.nonzero()[:, 0].numpy()
    if name in ("classes", "nodes", "one question"):
        labels = graphs.y.view(graphs.num_items, -1)[known, 0].numpy()
        splitter: Any = StratifiedKFold(6, shuffle=True, random_state=seed)
    else:
        labels = np.zeros(len(known))
        splitter = KFold(6, shuffle=True, random_state=seed)
    for fold, (rest, held_out) in enumerate(splitter.split(labels, labels)):
        split = split_items(graphs, SplitConfig(kind=kind, folds=6, fold=fold, seed=seed))
        mine = split.test if kind == "fold" else split.validation
        assert mine.tolist() == known[held_out].tolist()
        left = split.train if kind == "paper" else torch.cat([split.train, split.validation])
        assert sorted(left.tolist()) == known[rest].tolist()


def test_the_published_folds(mutag: GraphSet) -> None:
    # The folds of the GraphNorm code, as the tables of the published results need them.
    from graphnorms.data import stratified_folds

    for fold, (train, held_out) in enumerate(stratified_folds(mutag.y, 10, 9)):
        split = split_items(mutag, SplitConfig(kind="paper", folds=10, fold=fold, seed=9))
        assert torch.equal(split.train, train)
        assert torch.equal(split.validation, held_out)
        nested = split_items(mutag, SplitConfig(kind="fold", folds=10, fold=fold, seed=9))
        assert torch.equal(nested.test, held_out)


@pytest.mark.parametrize("kind", ["fold", "random"])
def test_classes_are_as_frequent_in_every_part(kind: str) -> None:
    graphs = SETS["one question"]  # a fifth says yes
    split = split_items(graphs, SplitConfig(kind=kind, folds=3, seed=1, holdout=0.25))
    for part in (split.train, split.validation, split.test):
        assert abs(float(graphs.y[part].sum()) - 0.2 * len(part)) <= 1


def test_holdouts_of_the_folds_differ() -> None:
    # A holdout drawn alike in every fold would tie the folds to each other.
    graphs = SETS["numbers"]
    places = []
    for fold in range(2):
        split = split_items(graphs, SplitConfig(kind="fold", folds=2, fold=fold, holdout=0.3))
        rest = torch.cat([split.train, split.validation]).sort().values
        places.append(torch.searchsorted(rest, split.validation).tolist())
    assert places[0] != places[1]


def test_a_class_too_rare_to_hold_out_is_shuffled() -> None:
    y = torch.zeros(40, dtype=torch.int64)
    y[:3] = 1
    graphs = graph_set(40, y=y)
    split = split_items(graphs, SplitConfig(kind="fold", folds=3, seed=0, holdout=0.04))
    assert [len(part) for part in parts(split)] == [25, 2, 13] or len(split.validation) == 2
    alone = graph_set(40, y=torch.eye(40)[0].long())
    assert len(split_items(alone, SplitConfig(kind="random")).test) == 4


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_is_among_the_validation_items(seed: int) -> None:
    """6 of 120 say yes, 4 of the 80 outside the test fold: 8 validation items would have 0.4."""
    y = torch.zeros(120, 1)
    y[:6] = 1
    graphs = graph_set(120, **numbers(y, "binary"))
    for fold in range(3):
        split = split_items(graphs, SplitConfig(kind="fold", folds=3, fold=fold, seed=seed))
        assert [len(part) for part in parts(split)] == [72, 8, 40]
        assert sorted(itertools.chain(*parts(split))) == list(range(120))
        assert [int(graphs.y[part].sum()) for part in (split.train, split.validation)] == [3, 1]


def test_whole_graphs_are_divided_where_nodes_are_predicted() -> None:
    graphs = random_graphs(20, mean_nodes=6, num_features=2, seed=2)
    y = torch.zeros(graphs.num_nodes, 1)
    y[graphs.ptr[3] : graphs.ptr[4]] = NAN  # nothing is known of the fourth graph
    y[graphs.ptr[5]] = NAN
    task = Task(kind="regression", level="node", targets=("a",))
    graphs = graphs._with(y=y, task=task)
    graph_of_node = torch.repeat_interleave(graphs.ptr.diff())
    for config in (*CONFIGS, SplitConfig(kind="fold", folds=19)):
        split = split_items(graphs, config)
        assert sorted(itertools.chain(*parts(split))) == graphs.known.nonzero()[:, 0].tolist()
        touched = [
            set(graph_of_node[part].tolist())
            for part in map(torch.tensor, parts(split))
            if len(part)
        ]
        assert sum(map(len, touched)) == 19  # no graph is in two parts
    held_out = next(iter(KFold(19, shuffle=True, random_state=0).split(np.zeros(19))))[1]
    graph_ids = [graph for graph in range(20) if graph != 3]
    assert set(graph_of_node[split.test].tolist()) == {graph_ids[held_out[0]]}


def test_given_splits() -> None:
    split = torch.tensor([0, 1, 2, -1] * 15, dtype=torch.int8)
    y = torch.arange(60.0)[:, None].clone()
    y[:12] = NAN
    graphs = graph_set(**numbers(y), split=split)
    given = split_items(graphs, SplitConfig(kind="given"))
    assert parts(given) == [list(range(start, 60, 4)) for start in (12, 13, 14)]
    nodes = one_graph()
    nodes = nodes._with(split=(torch.arange(nodes.num_nodes) % 3).to(torch.int8))
    given = split_items(nodes, SplitConfig(kind="given"))
    assert given.test.tolist() == [n for n in range(nodes.num_nodes) if n % 3 == 2 and n % 7]


@pytest.mark.parametrize(
    ("graphs", "config", "message"),
    [
        (graph_set(), {"kind": "given"}, "random-60 has no given split; ask for one of fold, rand"),
        (
            graph_set(split=torch.zeros(60, dtype=torch.int8)),
            {"kind": "given"},
            "the given split of random-60 leaves nothing for validation and test: 60 of 60 graphs",
        ),
        (
            graph_set(3),
            {"kind": "random", "holdout": 0.4},
            "the random split of random-3 leaves nothing for training",
        ),
        (
            graph_set(4, **numbers(torch.full((4, 1), NAN))),
            {"kind": "random"},
            "leaves nothing for training and .*test: 0 of 4 graphs have a target",
        ),
        (
            graph_set(),
            {"kind": "fold", "folds": 31},
            "31 folds need 31 or more members of every class, and class 0 has 30, class 1 has 30",
        ),
        (
            graph_set(5, **numbers(torch.zeros(5, 1))),
            {"kind": "paper", "folds": 6},
            "6 folds of 5 graphs: expected 2 … 5 folds",
        ),
        (
            graph_set(2, y=torch.zeros(2).long()),
            {"kind": "fold", "folds": 2},
            "the fold split of random-2 leaves nothing for training",
        ),
    ],
)
def test_splits_that_cannot_be(graphs: GraphSet, config: dict[str, Any], message: str) -> None:
    with pytest.raises((DatasetError, ValueError), match=message) as caught:
        split_items(graphs, SplitConfig(**config))
    assert "\n" not in str(caught.value)
