"""Generated graphs: for tests and benchmarks, and with a known reason for norms to differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.feature_columns import Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.errors import unknown_name

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Graph = tuple[int, Integers, Integers]
"""Number of nodes, and the two ends of each edge."""

DEGREES: Final = (3, 4, 5, 6)
SIZES: Final = (6, 9, 12, 15)
REMOVED: Final = 0.2
"""The default share of its edges that a thinned graph lacks."""

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


def regular_graphs(
    number: int,
    features: Features,
    seed: int,
    *,
    thinned: float = 0.0,
    removed: float = REMOVED,
    degrees: Sequence[int] = DEGREES,
) -> GraphSet:
    """Make regular graphs of some degrees; the class is the degree, all equally frequent.

    Circulant graphs: node i has the neighbours i ± k for some steps k drawn at random, and its
    opposite where the degree is odd. With constant features all nodes of a graph look alike to
    every network that passes messages, and so they do with the degree as their feature.

    Args:
        number: How many; a multiple of 4, and of the number of degrees.
        features: `"constant"` or `"degree"`.
        seed: Draws sizes (8, 10, … 24 nodes), steps, and the edges that are removed.
        thinned: The share of the graphs of each class that lack edges, and so are only nearly
            regular.
        removed: The share of their edges that these lack, one at least.
        degrees: From 2 to 7.
    """
    draw = np.random.default_rng(seed)
    graphs = []
    for index in range(number):
        degree = degrees[index % len(degrees)]
        size = 2 * int(draw.integers(4, 13))
        node = np.arange(size)
        steps = 1 + draw.choice(size // 2 - 1, degree // 2, replace=False)
        pairs = [(node, (node + step) % size) for step in steps]
        if degree % 2:
            pairs.append((node[: size // 2], node[size // 2 :]))
        one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        graphs.append((size, one, other))
    thin = _thin(graphs, thinned, removed, draw)
    return packed("regular", thin, features, classes=len(degrees))


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


def packed(
    name: str, graphs: Sequence[Graph], features: Features, *, classes: int = 4, **given: Any
) -> GraphSet:
    """Make a set of graphs whose classes alternate; the edges of a graph are given once.

    Args:
        name, graphs: The name, and the graphs.
        features: What the nodes have as features.
        classes: How many classes.
        given: Further parts of the `RawGraphs`, such as `attributes`, or `y` in place of classes.
    """
    ptr = np.concatenate(([0], np.cumsum([size for size, _, _ in graphs])))
    one = np.concatenate([ends + first for (_, ends, _), first in zip(graphs, ptr, strict=False)])
    other = np.concatenate([ends + first for (_, _, ends), first in zip(graphs, ptr, strict=False)])
    return RawGraphs(
        name=name,
        ptr=ptr,
        source=np.concatenate((one, other)),
        target=np.concatenate((other, one)),
        **{"y": np.arange(len(graphs)) % classes, **given},
    ).pack(Reading(features=features))


_SCALE: Final = 1e4
_OFFSET: Final = 3.0
"""Of the features that are planted as `"feature-scale"`: their unit, and their mean in it."""
_SHIFT: Final = 3.0
"""What is added to the features of test graphs, which are about 1, as `"shift"`."""


def planted(cause: str, seed: int, number: int = 96) -> GraphSet:
    """Make graphs in which one cause makes one norm lead another, or none does.

    | cause | graphs | what is planted |
    |---|---|---|
    | `"lost-mean"` | complete | the class is the degree, which is the one feature of all nodes |
    | `"batch-noise"` | paths | the class is whether a mean from 0.1 to 10 is above 1 |
    | `"depth"` | paths | nothing: train it with 32 layers |
    | `"feature-scale"` | paths | features of scale 1e4, all of one sign |
    | `"constant-features"` | nearly regular | the class is the degree, and all features are 1 |
    | `"shift"` | paths and stars | the class is the form; features of test graphs are shifted |
    | `"nothing"` | paths | classes are drawn at random: nothing can be learned |

    Classes are equally frequent. Half of the graphs are for training, a quarter each for
    validation and test.

    Args:
        cause: One of `PLANTED`.
        seed: Draws the graphs.
        number: How many; a multiple of 4.

    Raises:
        ValueError: The cause is unknown.
    """
    if cause not in PLANTED:
        raise unknown_name("cause", cause, PLANTED)
    graphs = PLANTED[cause](number, seed)
    split = torch.from_numpy(_parts(graphs.y.numpy(), seed))
    return graphs._with(split=split, split_name="planted")


def _parts(classes: Integers, seed: int) -> NDArray[np.int8]:
    """Half of each class for training, a quarter for validation, and a quarter for the test."""
    draw = np.random.default_rng([seed, 1])
    part = np.empty(len(classes), dtype=np.int8)
    for name in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == name))
        part[members] = np.array([0, 0, 1, 2])[np.arange(len(members)) % 4]
    return part


def _paths(sizes: Integers) -> list[Graph]:
    return [(int(n), np.arange(n - 1), np.arange(1, n)) for n in sizes]


def _with_column(
    cause: str, sizes: Integers, column: Floats, classes: Integers, **given: Any
) -> GraphSet:
    """Make paths with a feature, `(nodes,)`."""
    attributes = column[:, None].astype(np.float32)
    return packed(cause, _paths(sizes), "attributes", attributes=attributes, y=classes, **given)


def _drawn(number: int, seed: int, smallest: int = 5) -> tuple[Any, Integers, Integers, Integers]:
    """The generator, the sizes and classes of the graphs, and the graph of each node."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(smallest, 2 * smallest, number)
    return draw, sizes, draw.permutation(np.arange(number) % 2), np.repeat(range(number), sizes)


def _signed(number: int, seed: int) -> GraphSet:
    draw, sizes, classes, graph = _drawn(number, seed)
    column = draw.normal(size=len(graph)) + 2 * classes[graph] - 1
    return _with_column("depth", sizes, column, classes)


def _unscaled(number: int, seed: int) -> GraphSet:
    draw, sizes, classes, graph = _drawn(number, seed)
    column = _SCALE * (_OFFSET + 2 * classes[graph] - 1 + draw.normal(size=len(graph)))
    return _with_column("feature-scale", sizes, column, classes)


def _of_unlike_graphs(number: int, seed: int) -> GraphSet:
    draw, sizes, classes, graph = _drawn(number, seed)
    mean = 10 ** ((2 * classes - 1) * draw.random(number))
    column = mean[graph] * (1 + 0.1 * draw.normal(size=len(graph)))
    return _with_column("batch-noise", sizes, column, classes)


def _shifted(number: int, seed: int) -> GraphSet:
    draw, sizes, classes, graph = _drawn(number, seed, smallest=8)
    graphs = [
        (n, one if path else 0 * one, other)
        for (n, one, other), path in zip(_paths(sizes), classes, strict=True)
    ]
    tested = _parts(classes, seed)[graph] == 2
    column = 1 + 0.1 * draw.normal(size=len(graph)) + _SHIFT * tested
    return packed(
        "shift",
        graphs,
        "attributes",
        attributes=column[:, None].astype(np.float32),
        y=classes,
    )


def _unrelated(number: int, seed: int) -> GraphSet:
    draw, sizes, classes, graph = _drawn(number, seed)
    return _with_column("nothing", sizes, draw.normal(size=len(graph)), classes)


PLANTED: Final[Mapping[str, Callable[[int, int], GraphSet]]] = MappingProxyType(
    {
        "lost-mean": lambda number, seed: complete_graphs(number, "degree", seed),
        "batch-noise": _of_unlike_graphs,
        "depth": _signed,
        "feature-scale": _unscaled,
        "constant-features": lambda number, seed: regular_graphs(
            number, "constant", seed, thinned=1.0, removed=0.0, degrees=(3, 6)
        ),
        "shift": _shifted,
        "nothing": _unrelated,
    }
)
"""What `planted` makes."""
