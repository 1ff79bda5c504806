"""What the size benchmark trains on: sets of many graphs, one large graph, and wide features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphnorms.data import GraphSet, Reading, load_dataset
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.readers.raw_graphs import RawGraphs

_MEAN_DEGREE: Final = 10
_HUBS: Final = 6.0
_NODES_PER_GRAPH: Final = 10
_NODES_OF_PASS: Final = 250_000


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A model, a set of graphs, and how many of them a pass trains on.

    Args:
        title: What it is, in words.
        graphs: The set.
        sample: Graphs that a pass trains on, drawn from the set.
        batch: Graphs in a minibatch.
        layers, hidden: Of the GIN.
        sweep: What is varied, if sizes are compared; and `value`, how much of it there is.
        packed: Whether the set is also read from mapped files.
    """

    title: str
    graphs: GraphSet
    sample: int
    batch: int
    layers: int = 4
    hidden: int = 64
    sweep: str = ""
    value: int = 0
    packed: bool = False


def problems(data: tuple[str, ...], *, quick: bool) -> Iterator[Problem]:
    """Go through the problems; each is made when it is asked for.

    Args:
        data: Names or paths of sets, in place of the generated ones.
        quick: Tiny sizes, to try the benchmark out.
    """
    sets = map(load_dataset, data) if data else _generated(quick=quick)
    for graphs in sets:
        sample = min(len(graphs), max(2, _NODES_OF_PASS * len(graphs) // graphs.num_nodes))
        name = f"{graphs.name}, {len(graphs)} graphs of {graphs.num_nodes / len(graphs):.0f} nodes"
        batch = 8 if quick else 128
        yield Problem(title=name, graphs=graphs, sample=sample, batch=batch, packed=True)
    for nodes in (1000,) if quick else (10**4, 10**5, 10**6):
        graphs = random_graph(nodes)
        title = f"one graph, {nodes} nodes, {graphs.num_edges} edges"
        yield Problem(
            title=title, graphs=graphs, sample=1, batch=1, layers=2, sweep="nodes", value=nodes
        )
    if quick:
        return
    for number in (10**3, 10**4, 10**5):
        graphs = random_trees("small", number, _NODES_PER_GRAPH, power=1.0, features=8)
        title = f"{number} graphs of {_NODES_PER_GRAPH} nodes in one batch"
        yield Problem(
            title=title,
            graphs=graphs,
            sample=number,
            batch=number,
            layers=2,
            sweep="graphs",
            value=number,
        )
    graphs = random_trees("wide", 128, 30, power=1.0, features=8)
    for hidden in (128, 256, 512, 1024):
        title = f"{hidden} channels, {len(graphs)} graphs of 30 nodes in one batch"
        yield Problem(
            title=title,
            graphs=graphs,
            sample=len(graphs),
            batch=len(graphs),
            layers=2,
            hidden=hidden,
            sweep="channels",
            value=hidden,
        )


def _generated(*, quick: bool) -> Iterator[GraphSet]:
    """Sets of the sizes of REDDIT-BINARY and of molhiv."""
    if quick:
        yield random_trees("hubs", 20, 40, power=_HUBS, features=1)
        return
    yield random_trees("hubs", 2000, 429, power=_HUBS, features=1)
    yield random_trees("molecules", 41120, 25, power=1.0, features=92)


def random_trees(
    name: str, num_graphs: int, mean_nodes: int, *, power: float, features: int
) -> GraphSet:
    """Make random trees with a sixth more edges, and one-hot features.

    A node is joined to an earlier one, whose place among these is a random number of 0 … 1 to the
    given power: the higher it is, the more edges do the first nodes have. Sizes vary about 3-fold.

    Args:
        name: Name of the set.
        num_graphs, mean_nodes: How many graphs, of how many nodes on average.
        power: See above.
        features: Columns of `x`.
    """
    draw = np.random.default_rng(0)
    sizes = np.maximum(2, (mean_nodes * (0.5 + draw.random(num_graphs))).astype(np.int64))
    ptr = offsets(sizes)
    first = np.repeat(ptr[:-1], sizes)
    place = np.arange(ptr[-1]) - first
    several = np.concatenate((np.flatnonzero(place), np.flatnonzero(place)[::6]))
    other = first[several] + (place[several] * draw.random(len(several)) ** power).astype(np.int64)
    labels = draw.integers(features, size=(len(place), 1))
    labels[:features, 0] = np.arange(features)[: len(labels)]
    return RawGraphs(
        name=name,
        ptr=ptr,
        source=np.concatenate((several, other)),
        target=np.concatenate((other, several)),
        y=np.arange(num_graphs) % 2,
        labels=labels,
        repeats=False,
    ).pack(Reading(features="labels"))


def random_graph(nodes: int) -> GraphSet:
    """Make one graph whose edges join random nodes, ten to each, with targets of the nodes."""
    draw = np.random.default_rng(0)
    one, other = draw.integers(nodes, size=(2, nodes * _MEAN_DEGREE // 2))
    return RawGraphs(
        name="one graph",
        ptr=np.array([0, nodes]),
        source=np.concatenate((one, other)),
        target=np.concatenate((other, one)),
        y=np.arange(nodes) % 10,
        attributes=draw.standard_normal((nodes, 32), dtype=np.float32),
        level="node",
    ).pack(Reading(features="attributes"))
