from __future__ import annotations

import numpy as np
import pytest
import torch

from graphnorms.data.synthetic import complete_graphs, packed, planted, random_graphs
from graphnorms.lab.graph_facts import graph_facts


def test_complete_graphs_by_hand() -> None:
    facts = graph_facts(complete_graphs(8, "degree", 0))
    assert facts["regular"] == facts["complete"] == facts["constant_features"] == 1
    assert facts["one_node"] == facts["constant_columns"] == 0
    # A + I is all ones: its singular values are n and 0, and nothing is left of it when centered.
    assert facts["largest_q"] == pytest.approx((9 + 12) / 2)
    assert facts["condition_q"] == pytest.approx(1)
    assert "condition_qn" not in facts


def test_singular_values_of_a_ring_by_hand() -> None:
    nodes = [np.arange(size) for size in (8, 10, 12, 14, 17)]
    rings = packed("rings", [(len(n), n, np.roll(n, 1)) for n in nodes], "constant")
    facts = graph_facts(rings, "gin")
    assert facts["constant_columns"] == facts["regular"] == 1
    sizes = rings.ptr.diff().tolist()
    values = [np.abs(1 + 2 * np.cos(2 * np.pi * np.arange(n) / n)) for n in sizes]
    nonzero = [v[v > 1e-9] for v in values]
    assert facts["largest_q"] == pytest.approx(3)
    expected = np.median([v.max() / v.min() for v in nonzero])
    assert facts["condition_q"] == pytest.approx(expected)
    centered = [np.delete(v, 0) for v in values]
    expected = np.median([v[v > 1e-9].max() / v[v > 1e-9].min() for v in centered])
    assert facts["condition_qn"] == pytest.approx(expected)


def test_label_by_size_and_degree() -> None:
    graphs = random_graphs(300, seed=1)
    counts = graphs.ptr.diff()
    labelled = graphs.with_targets((counts > counts.median()).long())
    assert graph_facts(labelled)["label_by_size"] > 0.5
    assert graph_facts(graphs)["label_by_size"] < 0.05
    assert graph_facts(planted("constant-features", 1))["label_by_degree"] > 0.9


def test_planted_sets() -> None:
    for cause in ("lost-mean", "batch-noise", "depth", "feature-scale", "shift", "nothing"):
        graphs = planted(cause, 3)
        assert planted(cause, 3).fingerprint == graphs.fingerprint
        for name in graphs.y.unique():
            parts = torch.bincount(graphs.split[graphs.y == name].long())  # type: ignore[index]
            assert parts[0] == 2 * parts[1] == 2 * parts[2]
    shifted = planted("shift", 3)
    graph = torch.repeat_interleave(shifted.ptr.diff())
    tested = shifted.split[graph] == 2  # type: ignore[index]
    assert shifted.x[tested].mean() - shifted.x[~tested].mean() == pytest.approx(3, abs=0.05)
    assert planted("feature-scale", 3).x.mean() == pytest.approx(3e4, rel=0.1)
    with pytest.raises(ValueError, match="no-cause"):
        planted("no-cause", 0)
