"""Generated graphs: regular and complete ones, whose nodes are alike, and social networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data import Features, GraphSet, Reading
from graphnorms.data.readers.raw_graphs import RawGraphs

DEGREES: Final = (3, 4, 5, 6)
SIZES: Final = (6, 9, 12, 15)
REMOVED: Final = 0.2
"""The default share of its edges that a thinned graph lacks."""

FILMS: Final = (1.3, 2.5)
"""Mean number of films of an actor beside the first, by class: 27% and 8% have no other."""
CASTS: Final = ((5, 14), (3, 9))
"""Smallest and largest number of others in the cast of a film, by class."""
KNOWN: Final = 0.2
"""The share of a cast that has played with the actor before."""
ANSWERED: Final = ((4, 2), (2, 4))
"""Of the Beta distribution of the share of users who write to an expert, by class."""

Integers = NDArray[np.int64]
Graph = tuple[int, Integers, Integers]
"""Number of nodes, and the two ends of each edge."""


def regular_graphs(
    number: int, features: Features, seed: int, *, thinned: float = 0.0, removed: float = REMOVED
) -> GraphSet:
    """Make regular graphs of 3 to 6 neighbours; the class is the degree, all equally frequent.

    Circulant graphs: node i has the neighbours i ± k for some steps k drawn at random, and its
    opposite where the degree is odd. With constant features all nodes of a graph look alike to
    every network that passes messages, and so they do with the degree as their feature.

    Args:
        number: How many; a multiple of 4.
        features: `"constant"` or `"degree"`.
        seed: Draws sizes (8, 10, … 24 nodes), steps, and the edges that are removed.
        thinned: The share of the graphs of each class that lack edges, and so are only nearly
            regular.
        removed: The share of their edges that these lack, one at least.
    """
    draw = np.random.default_rng(seed)
    graphs = []
    for index in range(number):
        degree = DEGREES[index % 4]
        size = 2 * int(draw.integers(4, 13))
        node = np.arange(size)
        steps = 1 + draw.choice(size // 2 - 1, degree // 2, replace=False)
        pairs = [(node, (node + step) % size) for step in steps]
        if degree % 2:
            pairs.append((node[: size // 2], node[size // 2 :]))
        one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        graphs.append((size, one, other))
    return packed("regular", _thin(graphs, thinned, removed, draw), features)


def complete_graphs(
    number: int, features: Features, seed: int, *, thinned: float = 0.0, removed: float = REMOVED
) -> GraphSet:
    """Make complete graphs of 6, 9, 12 and 15 nodes; the class is the size, equally frequent.

    Args:
        number, features, thinned, removed: Those of `regular_graphs`.
        seed: Draws the edges that are removed.
    """
    draw = np.random.default_rng(seed)
    sizes = [SIZES[index % 4] for index in range(number)]
    graphs = [(size, *np.triu_indices(size, 1)) for size in sizes]
    return packed("complete", _thin(graphs, thinned, removed, draw), features)


def _thin(
    graphs: list[Graph], thinned: float, removed: float, draw: np.random.Generator
) -> list[Graph]:
    """Take edges out of the first graphs; their classes alternate."""
    for index in range(4 * round(thinned * len(graphs) / 4)):
        size, one, other = graphs[index]
        left = draw.permutation(len(one))[max(1, round(removed * len(one))) :]
        graphs[index] = (size, one[left], other[left])
    return graphs


def packed(name: str, graphs: Sequence[Graph], features: Features, *, classes: int = 4) -> GraphSet:
    """Make a set of graphs whose classes alternate; the edges of a graph are given once."""
    ptr = np.concatenate(([0], np.cumsum([size for size, _, _ in graphs])))
    one = np.concatenate([ends + first for (_, ends, _), first in zip(graphs, ptr, strict=False)])
    other = np.concatenate([ends + first for (_, _, ends), first in zip(graphs, ptr, strict=False)])
    return RawGraphs(
        name=name,
        ptr=ptr,
        source=np.concatenate((one, other)),
        target=np.concatenate((other, one)),
        y=np.arange(len(graphs)) % classes,
    ).pack(Reading(features=features))


def casts(number: int, seed: int) -> GraphSet:
    """Make ego networks of actors that resemble IMDB-BINARY: one-hot degrees, two classes.

    An actor is linked to all others, and the cast of every film among themselves; who has no
    second film has a complete graph. Actors of the first class have few films with large casts,
    those of the second many with small ones, and the classes overlap. About 20 nodes and 98
    edges a graph (IMDB-BINARY: 20 and 97), about one in six complete (one in seven).

    Args:
        number: How many graphs; the classes alternate.
        seed: Draws them.
    """
    draw = np.random.default_rng(seed)
    graphs: list[Graph] = []
    for index in range(number):
        linked = np.zeros((1, 1), dtype=bool)  # the actor alone
        for _ in range(1 + draw.poisson(FILMS[index % 2])):
            low, high = CASTS[index % 2]
            size, met = int(draw.integers(low, high + 1)), len(linked) - 1
            old = draw.permutation(met)[: draw.binomial(size, KNOWN)] + 1
            new = np.arange(size - len(old)) + met + 1
            linked = np.pad(linked, (0, len(new)))
            cast = np.concatenate(([0], old, new))
            linked[np.ix_(cast, cast)] = True
        one, other = np.triu(linked, 1).nonzero()
        graphs.append((len(linked), one, other))
    return packed("IMDB-like", graphs, "degree", classes=2)


def threads(number: int, seed: int) -> GraphSet:
    """Make discussions, like those of REDDIT-BINARY: constant features, two classes.

    A node is a user, linked to the one whom it answers: an expert, of whom there are one or a
    few, or any user before it. Most users of the first class, questions and answers, write to an
    expert; fewer of the second, discussions. The share of a graph is drawn, and the classes
    overlap. 20 to 60 nodes and trees, where REDDIT-BINARY has 430 nodes and 498 edges on average.

    Args:
        number: How many graphs; the classes alternate.
        seed: Draws them.
    """
    draw = np.random.default_rng(seed)
    graphs: list[Graph] = []
    for index in range(number):
        size, experts = int(draw.integers(20, 61)), 1 + draw.poisson(1.0)
        user = np.arange(1, size)
        to_expert = draw.random(size - 1) < draw.beta(*ANSWERED[index % 2])
        answered = np.where(to_expert, draw.integers(experts, size=size - 1), draw.integers(user))
        graphs.append((size, user, np.minimum(answered, user - 1)))
    return packed("REDDIT-like", graphs, "constant", classes=2)
