"""Graphs made up for tests and benchmarks."""

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

    The defaults have the size of NCI1's graphs. Features are one-hot, one of them far more
    frequent than the others, as carbon is. Classes are drawn independently of the graphs, as
    equal in number as they can be: there is nothing to learn.

    Args:
        num_graphs: How many graphs.
        mean_nodes: Nodes of a graph on average; they vary around it, with 3 at the least.
        num_features: Columns of `x`.
        num_classes: How many classes.
        seed: The same seed gives the same graphs.

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

    # Each atom hangs on the one before it, or a little further back: a tree. A ring closes five
    # or six atoms back along it, where no bond can be yet.
    back = np.minimum(draw.geometric(0.75, num_nodes), np.minimum(place, 4))
    bonded = node[place > 0]
    can_close = np.flatnonzero(place >= 6)
    rings = _BONDS * num_nodes - len(bonded)  # expected, as far as there are atoms to close them
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
