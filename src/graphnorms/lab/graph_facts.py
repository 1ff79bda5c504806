"""Facts of a set of graphs that bear on what a normalization does to it."""

from __future__ import annotations

import math
from statistics import median
from typing import Final

import torch

from graphnorms.data import GraphSet
from graphnorms.data.onehot import OneHot
from graphnorms.data.quality import constant_columns
from graphnorms.lab.data_facts import answers_of
from graphnorms.probes import explained, spectra
from graphnorms.probes.spectra import Aggregation

MOST_GRAPHS: Final = 64
MOST_NODES: Final = 200
"""Graphs whose singular values are computed, and how many nodes they have at most."""

MOST_LABELS: Final = 5000
"""Graphs that the label is explained in."""

_ZERO: Final = 1e-10


def graph_facts(graphs: GraphSet, aggregation: Aggregation = "gin") -> dict[str, float]:
    r"""Find what graphs are like: a flat mapping, without what is unknown.

    | name | value |
    |---|---|
    | `regular`, `complete` | share of graphs whose nodes have equally many neighbours, or all |
    | `one_node` | share of graphs with one node, which are complete and regular |
    | `constant_features` | share of graphs all of whose nodes have the same features |
    | `constant_columns` | share of columns that are the same for all nodes of the set |
    | `label_by_size` | share of the variance of the label that log n and n explain linearly |
    | `label_by_degree` | the same of mean degree |
    | `largest_q`, `largest_qn` | largest singular value of Q, and of QN (Q and centering) |
    | `condition_q`, `condition_qn` | largest over smallest singular value that is not 0 |

    Singular values are medians over at most `MOST_GRAPHS` graphs of at most `MOST_NODES` nodes,
    evenly spaced in the set.

    Args:
        graphs: The set.
        aggregation: Q of the model: `"gcn"`, or else `"gin"`.
    """
    graphs = graphs.to("cpu")
    sizes, degree = graphs.ptr.diff(), graphs.edge_ptr.diff()
    first = graphs.ptr[:-1].repeat_interleave(sizes)  # (nodes,), the graph's first node

    def of_graphs(holds: torch.Tensor) -> torch.Tensor:
        graph = torch.repeat_interleave(sizes)
        return torch.ones(len(graphs), dtype=torch.bool).scatter_reduce(0, graph, holds, "amin")

    rows = graphs.kept_x
    rows = rows.columns if isinstance(rows, OneHot) else rows
    regular = of_graphs(degree == degree[first])
    complete = of_graphs(degree == sizes.repeat_interleave(sizes) - 1)
    alike = of_graphs((rows == rows[first]).all(1))
    found = {
        "regular": _share(regular),
        "complete": _share(complete),
        "one_node": _share(sizes == 1),
        "constant_features": _share(alike),
        "constant_columns": constant_columns(graphs) / max(1, graphs.num_features),
    }
    if graphs.task.level == "graph":
        chosen = _spaced(len(graphs), MOST_LABELS)
        answers = answers_of(graphs)[chosen]
        n = sizes[chosen].double()
        edges = graphs.edge_ptr[graphs.ptr].diff()[chosen].double()
        by_size = torch.stack((n, n.clamp(min=1).log()), 1)
        found["label_by_size"] = explained(by_size.numpy(), answers)
        found["label_by_degree"] = explained((edges / n.clamp(min=1))[:, None].numpy(), answers)
    found |= _singular_values(graphs, aggregation)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _singular_values(graphs: GraphSet, aggregation: Aggregation) -> dict[str, float]:
    small = ((graphs.ptr.diff() <= MOST_NODES) & (graphs.ptr.diff() > 1)).nonzero()[:, 0]
    if not len(small):
        return {}
    batch = graphs.batch(small[_spaced(len(small), MOST_GRAPHS)])
    found: dict[str, list[float]] = {}
    for spectrum in spectra(batch.adjacency, batch.segments, aggregation):
        for name, values in (("q", spectrum.plain), ("qn", spectrum.centered)):
            there = values[values > _ZERO * spectrum.plain[0]]
            if len(there):
                found.setdefault(f"largest_{name}", []).append(float(there[0]))
                found.setdefault(f"condition_{name}", []).append(float(there[0] / there[-1]))
    return {name: median(values) for name, values in found.items()}


def _spaced(number: int, most: int) -> torch.Tensor:
    return torch.linspace(0, number - 1, min(number, most)).round().long()


def _share(holds: torch.Tensor) -> float:
    return float(holds.double().mean())
