"""Generated social networks."""

from __future__ import annotations

from typing import Final

import numpy as np

from graphnorms.data import GraphSet
from graphnorms.data.synthetic import Graph, packed

FILMS: Final = (1.3, 2.5)
"""Mean number of films of an actor beside the first, by class: 27% and 8% have no other."""
CASTS: Final = ((5, 14), (3, 9))
"""Smallest and largest number of others in the cast of a film, by class."""
KNOWN: Final = 0.2
"""The share of a cast that has played with the actor before."""
ANSWERED: Final = ((4, 2), (2, 4))
"""Of the Beta distribution of the share of users who write to an expert, by class."""


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
