"""What the data allow: ceilings, twins across folds, what simple models score, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphnorms.data import GraphSet, Task, load_dataset, split_items
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.lab.data_facts import Facts, ceiling, facts_of
from graphnorms.lab.data_sentences import data_sentences, key_facts
from graphnorms.lab.options import Options
from graphnorms.lab.resolve import resolve
from graphnorms.lab.schedule import Schedule, code_versions


def cycles(sizes: list[int], y: np.ndarray, x: np.ndarray | None = None) -> GraphSet:
    """Cycles of so many nodes."""
    ptr = np.cumsum([0, *sizes])
    source = np.concatenate([first + np.arange(n) for first, n in zip(ptr, sizes, strict=False)])
    target = np.concatenate(
        [first + (np.arange(n) + 1) % n for first, n in zip(ptr, sizes, strict=False)]
    )
    return RawGraphs(
        name="cycles",
        ptr=ptr.astype(np.int64),
        source=np.concatenate((source, target)),
        target=np.concatenate((target, source)),
        y=y,
        attributes=x,
    ).pack(Reading())


def planned(graphs: GraphSet, **choices) -> Schedule:
    settings = resolve(Options(**choices), graphs, graphs.name)
    return Schedule(settings=settings, fingerprint="", versions=code_versions())


def facts(graphs: GraphSet, **choices) -> Facts:
    return facts_of(graphs, planned(graphs, **choices))


def simple(found: Facts) -> dict[str, float]:
    return {each.name: each.score for each in found.baselines}


def test_twins_of_other_classes_set_the_ceiling():
    # 4 squares of class 0 and 2 of class 1; 3 pentagons of class 0 and 3 of class 1.
    sizes = [4] * 6 + [5] * 6
    y = np.array([0] * 4 + [1] * 2 + [0] * 3 + [1] * 3)
    found = facts(cycles(sizes, y), folds=2)
    assert found.ceilings == {
        name: pytest.approx(7 / 12) for name in ("twins", "structure", "alike")
    }
    assert found.quality.twins.contradicting == 12


def test_features_lift_the_ceiling_of_the_structure():
    sizes, y = [4] * 12, np.array([0, 1] * 6)
    x = np.repeat(np.arange(12.0), 4)[:, None]
    found = facts(cycles(sizes, y, x), folds=2)
    assert found.ceilings["twins"] == 1.0
    assert found.ceilings["structure"] == 0.5
    assert (found.tested, found.leaked) == (12, 0)


@pytest.mark.parametrize(
    ("metric", "right"),
    # Groups {0, 1, 5}, {2, 4} and {7}: medians 1, 2 (or any to 4) and 7, means 2, 3 and 7.
    [("mae", (5 + 2) / 6), ("rmse", ((4 + 1 + 9 + 1 + 1) / 6) ** 0.5)],
)
def test_the_ceiling_of_numbers_is_the_least_error(metric, right):
    y = np.array([0.0, 1.0, 5.0, 2.0, 4.0, 7.0])
    graphs = cycles([3, 3, 3, 4, 4, 5], y)
    assert ceiling(graphs, np.array([0, 0, 0, 3, 3, 5]), metric) == pytest.approx(right)


def test_the_ceiling_of_answers_is_per_question_and_leaves_out_what_is_missing():
    graphs = cycles([3, 3, 3, 4, 4, 4], np.array([[1.0, np.nan]] * 2 + [[0, 0]] * 2 + [[0, 1]] * 2))
    # First question: in group 0 yes, yes, no; in group 3 no. Pairs yes/no: 2 × 4, of which those
    # with the no of group 0 tie: (6 + 2/2) / 8. Second: group 0 no; group 3 no, yes, yes, so that
    # of 2 × 2 pairs two tie: (2 + 2/2) / 4.
    found = ceiling(graphs, np.array([0, 0, 0, 3, 3, 3]), "roc_auc")
    assert found == pytest.approx((7 / 8 + 3 / 4) / 2)


def test_twins_across_folds_are_those_in_the_training_part():
    draw = np.random.default_rng(0)
    sizes = draw.integers(3, 40, 60).tolist()
    graphs = cycles(sizes, np.arange(60) % 2)
    schedule = planned(graphs, folds=5)
    right = 0
    for fold in range(5):
        split = split_items(graphs, schedule.split(fold))
        seen = {sizes[at] for at in split.train.tolist()}
        right += sum(sizes[at] in seen for at in split.test.tolist())
    found = facts_of(graphs, schedule)
    assert (found.tested, found.leaked) == (60, right)
    assert 0 < right < 60


def test_no_tested_graph_is_known_from_training_where_twins_are_kept_together():
    sizes = np.random.default_rng(0).integers(3, 40, 60).tolist()
    graphs = cycles(sizes, np.arange(60) % 2)
    apart, together = (facts(graphs, folds=5, group_twins=choice) for choice in (None, True))
    assert (together.tested, together.leaked) == (60, 0)
    assert apart.leaked > 0
    assert together.ceilings == apart.ceilings
    assert "twins are kept in one fold" in " ".join(key_facts(together, graphs.task))


def test_size_alone_separates_what_differs_in_size_alone():
    sizes, y = [4] * 30 + [7] * 30, np.array([0] * 30 + [1] * 30)
    found = facts(cycles(sizes, y), folds=5)
    scores = simple(found)
    assert scores["size"] == 1.0
    assert scores["constant"] == 0.5
    assert scores["degree"] == 0.5  # every degree is 2
    said = " ".join(key_facts(found, Task(kind="classification", targets=("0", "1"))))
    assert "size (nodes and edges) alone 100.0%" in said


def test_features_without_edges_learn_what_the_features_say():
    y = np.array([0, 1] * 40)
    noise = np.random.default_rng(0).normal(size=(80, 4))
    x = (noise + 5 * y[:, None]).reshape(-1, 1)  # a graph is four nodes
    scores = simple(facts(cycles([4] * 80, y, x), folds=4))
    assert scores["features"] == 1.0
    assert scores["size"] == 0.5


def test_a_number_that_is_linear_in_the_features_is_learned():
    x = np.random.default_rng(0).normal(size=(80 * 3, 2))
    y = x.reshape(80, 3, 2).mean(1) @ np.array([2.0, -1.0])
    scores = simple(facts(cycles([3] * 80, y, x), folds=4))
    assert scores["constant"] == pytest.approx(float(np.abs(y - np.median(y)).mean()), rel=0.2)
    assert scores["features"] < 0.01 * scores["constant"]


def test_degree_alone_of_nodes():
    graphs = load_dataset("MUTAG")
    graphs = GraphSet(
        name="nodes",
        x=torch.ones(graphs.num_nodes, 1),
        ptr=graphs.ptr,
        edge_ptr=graphs.edge_ptr,
        edge_index=graphs.edge_index,
        y=(graphs.edge_ptr.diff() > 2).long(),
        task=Task(kind="classification", level="node", targets=("few", "many")),
        features="ones",
    )
    found = facts(graphs, folds=3)
    scores = simple(found)
    assert scores["degree"] == 1.0
    assert set(scores) == {"constant", "degree", "features"}
    assert found.quality.twins is None
    assert set(found.ceilings) == {"alike"}


def test_data_that_cannot_be_divided_are_told_all_the_same():
    found = facts(cycles([3, 4, 5, 6], np.array([0, 0, 0, 1])))
    assert "10 folds need 10 or more members of every class" in found.problem
    assert found.baselines == ()
    assert found.quality.graphs == 4
    said = data_sentences(found, Task(kind="classification", targets=("0", "1")))
    assert any(found.problem in line for line in said)


def test_a_sample_is_told(monkeypatch):
    monkeypatch.setattr("graphnorms.lab.data_facts.MOST_TRAINED", 50)
    monkeypatch.setattr("graphnorms.lab.data_facts.MOST_FITTED", 2)
    monkeypatch.setattr("graphnorms.lab.data_facts.MOST_COLUMNS", 5)
    found = facts(load_dataset("MUTAG"))
    assert found.sampled == (
        "the first 2 of 10 folds",
        "50 items to train on in each",
        "5 of 7 columns of features",
    )


def test_features_that_are_pooled_piece_by_piece_score_the_same(monkeypatch):
    x = np.random.default_rng(0).normal(size=(200, 3))
    sets = [load_dataset("MUTAG"), cycles([5] * 40, x.reshape(40, 5, 3).sum((1, 2)) > 0, x)]
    whole = [simple(facts(graphs, folds=4))["features"] for graphs in sets]
    monkeypatch.setattr("graphnorms.lab.data_facts._ROWS", 7)
    monkeypatch.setattr("graphnorms.data.onehot._CHUNK", 100)
    assert [simple(facts(graphs, folds=4))["features"] for graphs in sets] == pytest.approx(whole)
    assert min(whole) > 0.7


def test_graphs_without_nodes_or_edges_are_counted_and_said():
    graphs = GraphSet(
        name="bare",
        x=torch.zeros(2, 1),
        ptr=torch.tensor([0, 0, 0, 1, 2]),
        edge_ptr=torch.zeros(3, dtype=torch.long),
        edge_index=torch.zeros(0, dtype=torch.long),
        y=torch.tensor([0, 1, 0, 1]),
        task=Task(kind="classification", targets=("a", "b")),
        features="zeros",
    )
    found = facts(graphs, folds=2)
    assert found.ceilings["twins"] == 0.5  # two empty graphs, and two of one node, of both classes
    said = data_sentences(found, graphs.task)
    assert "2 empty graphs, 2 graphs of one node, 2 graphs without edges" in said[0]
    assert "4 of 4 graphs are isomorphic to another, 4 of them with different targets" in said[1]


def test_message_passing_has_a_ceiling_of_its_own():
    # Two triangles side by side against a hexagon: other graphs, the same colours.
    ring = np.arange(6)
    pair = np.array([1, 2, 0, 4, 5, 3])
    target = np.concatenate([6 * at + (pair if at % 2 else (ring + 1) % 6) for at in range(20)])
    source = np.arange(120)
    graphs = RawGraphs(
        name="hard",
        ptr=np.arange(0, 121, 6),
        source=np.concatenate((source, target)),
        target=np.concatenate((target, source)),
        y=np.arange(20) % 2,
    ).pack(Reading())
    found = facts(graphs, folds=5)
    assert found.ceilings == {"twins": 1.0, "structure": 1.0, "alike": 0.5}
    said = " ".join(key_facts(found, graphs.task))
    assert "no GIN or GCN can score above 50.0% accuracy" in said
