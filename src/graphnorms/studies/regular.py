"""Graphs in which all nodes are alike: regular and complete ones, of which only the mean tells."""

from __future__ import annotations

import numpy as np

from graphnorms.data import GraphSet
from graphnorms.data.features import Features
from graphnorms.data.raw import RawGraphs

DEGREES = (3, 4, 5, 6)
SIZES = tuple(range(5, 21))


def regular_graphs(number: int, features: Features, seed: int, removed: float = 0.0) -> GraphSet:
    """Make regular graphs of 3 to 6 neighbours; the class is the degree, all equally frequent.

    Circulant graphs: node i has the neighbours i ± k for some steps k drawn at random, and its
    opposite where the degree is odd. With constant features all nodes of a graph look alike to
    every network that passes messages, and so they do with the degree as their feature.

    Args:
        number: How many; a multiple of 4.
        features: `"constant"` or `"degree"`.
        seed: Draws sizes (8, 10, … 24 nodes), steps, and what is removed.
        removed: The share of the edges that are taken out: the graphs are then nearly regular.
    """
    draw = np.random.default_rng(seed)
    graphs = []
    for index in range(number):
        degree = DEGREES[index % len(DEGREES)]
        size = 2 * int(draw.integers(4, 13))
        node = np.arange(size)
        steps = 1 + draw.choice(size // 2 - 1, degree // 2, replace=False)
        pairs = [(node, (node + step) % size) for step in steps]
        if degree % 2:
            pairs.append((node[: size // 2], node[size // 2 :]))
        one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        left = draw.permutation(len(one))[round(removed * len(one)) :]
        graphs.append((size, one[left], other[left]))
    return _packed("regular", graphs, np.arange(number) % len(DEGREES), features)


def complete_graphs(copies: int, features: Features) -> GraphSet:
    """Make complete graphs of 5 to 20 nodes; the class is the remainder of the size by 4.

    Args:
        copies: How many of each size.
        features: `"constant"` or `"degree"`.
    """
    sizes = SIZES * copies
    graphs = [(size, *np.triu_indices(size, 1)) for size in sizes]
    return _packed("complete", graphs, np.array(sizes) % 4, features)


def _packed(
    name: str,
    graphs: list[tuple[int, np.ndarray, np.ndarray]],
    classes: np.ndarray,
    features: Features,
) -> GraphSet:
    """Pack graphs given as their size and the two ends of each edge, counted from 0."""
    ptr = np.concatenate(([0], np.cumsum([size for size, _, _ in graphs])))
    one, other = (
        np.concatenate([graph[end] + first for graph, first in zip(graphs, ptr, strict=False)])
        for end in (1, 2)
    )
    return RawGraphs(
        name=name,
        ptr=ptr,
        source=np.concatenate((one, other)),
        target=np.concatenate((other, one)),
        y=classes,
    ).pack(features)
