"""Random graphs for tests and benchmarks."""

from __future__ import annotations

import numpy as np

from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading

_BONDS = 1.08  # per atom, as in NCI1
_LIGHTEST = 3  # atoms


def random_graphs(
    num_graphs: int,
    mean_nodes: float = 30.0,
    num_features: int = 37,
    num_classes: int = 2,
    seed: int = 0,
) -> GraphSet:
    """Make sparse, molecule-like graphs: chains with branches and a few rings.

    The default sizes match NCI1. Features are one-hot, and one is far more frequent than the
    others, like carbon. Classes are balanced and independent of the graphs: there is nothing to
    learn.

    Args:
        num_graphs: Number of graphs.
        mean_nodes: Mean number of nodes of a graph; the minimum is 3.
        num_features: Columns of `x`.
        num_classes: Number of classes.
        seed: Seed of the graphs.

    Raises:
        ValueError: A number is too small: graphs 1, nodes 3, features 1, classes 1.
    """
    lowest = {
        "num_graphs": (num_graphs, 1),
        "mean_nodes": (mean_nodes, _LIGHTEST),
        "num_features": (num_features, 1),
        "num_classes": (num_classes, 1),
    }
    for name, (value, least) in lowest.items():
        if not value >= least:
            raise ValueError(f"{name} is {value}, expected {least} or more")
    draw = np.random.default_rng(seed)
    # A gamma distribution: few small graphs, a tail of large ones.
    sizes = _LIGHTEST + draw.poisson(draw.gamma(4.0, (mean_nodes - _LIGHTEST) / 4.0, num_graphs))
    ptr = offsets(sizes)  # (graphs + 1,)
    num_nodes = int(ptr[-1])
    node = np.arange(num_nodes)
    place = node - np.repeat(ptr[:-1], sizes)  # (nodes,), counted within the graph

    # Each atom is bonded to the previous one, or to one slightly before: a tree. A ring bond goes
    # five or six atoms back, where there is no bond yet.
    back = np.minimum(draw.geometric(0.75, num_nodes), np.minimum(place, 4))
    bonded = node[place > 0]
    can_close = np.flatnonzero(place >= 6)
    rings = _BONDS * num_nodes - len(bonded)  # expected number, if enough atoms can close one
    closing = can_close[draw.random(len(can_close)) * len(can_close) < rings]
    one = np.concatenate((bonded, closing))
    other = np.concatenate((bonded - back[bonded], closing - draw.integers(5, 7, len(closing))))

    weights = 1.0 / np.arange(1, num_features + 1) ** 2
    element = draw.choice(num_features, num_nodes, p=weights / weights.sum())
    attributes = np.zeros((num_nodes, num_features), dtype=np.float32)
    attributes[node, element] = 1.0
    return RawGraphs(
        name=f"random-{num_graphs}",
        ptr=ptr,
        source=np.concatenate((one, other)),
        target=np.concatenate((other, one)),
        y=draw.permutation(np.arange(num_graphs) % num_classes),
        attributes=attributes,
    ).pack(Reading(features="attributes"))
