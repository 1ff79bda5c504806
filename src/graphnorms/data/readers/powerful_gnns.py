"""Reader of the text format of the GIN code ("powerful-gnns")."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

import numpy as np

from graphnorms.data.feature_columns import Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, first_true, offsets
from graphnorms.data.readers.number_text import NumberFile, read_numbers
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading, ReadOptions
from graphnorms.data.text_format import count
from graphnorms.errors import DatasetError


def read_powerful_gnns(
    path: str | os.PathLike[str],
    name: str | None = None,
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Read a text file of the GIN code, plain or gzip.

    The first line is the number of graphs. Each graph has a line `nodes label`, followed by a line
    `tag degree neighbour neighbour …` for each of its nodes, with neighbours numbered from 0 within
    the graph. Numbers after the neighbours are node attributes, as in the GIN code; all nodes must
    have equally many. Tags are the node labels.

    The graphs are undirected: an edge listed at only one end is an error. (The GIN code silently
    adds the other end.) Repeated neighbours are merged, as in the GIN code. A graph without nodes
    is an error, unless `drop_empty` removes it. Classes are numbered in the order of their first
    appearance, as in the code of GIN and GraphNorm.

    Args:
        path: The file.
        name: Name of the set; by default the file name without suffixes.
        features: The policy for node features, see `node_columns`.
        options: See `Reading`. The format has no edge features; its targets are integers.

    Raises:
        DatasetError: The file is missing or malformed; the message names the line.

    Source: Xu et al., ICLR 2019, https://github.com/weihua916/powerful-gnns.
    """
    reading = Reading(features=features, **options)
    path = Path(path)
    if reading.edge_features in ("labels", "attributes"):
        raise DatasetError(f"{path}: powerful-gnns text files have no edge {reading.edge_features}")
    file = read_numbers(path)
    headers, sizes, y = _read_headers(file)
    is_node = np.ones(file.rows, dtype=bool)
    is_node[0] = False
    is_node[headers] = False
    rows = np.flatnonzero(is_node)  # (nodes,), each node's row in the file
    ptr = offsets(sizes)  # (graphs + 1,)

    if (at := first_true(file.length[rows] < 2)) is not None:
        raise file.error(int(rows[at]), "expected a node: 'tag degree neighbour …'")
    degrees = file.integers(file.first[rows] + 1, "a node's degree")
    extra = _check_lengths(file, rows, degrees)
    tags = None
    if reading.needs("labels") or (reading.needs("attributes") and not extra):
        tags = file.integers(file.first[rows], "a node's tag")[:, None]

    target = np.repeat(np.arange(len(rows)), degrees)  # (edges,)
    edge_ptr = np.cumsum(degrees) - degrees  # (nodes,), each node's first edge
    places = np.arange(len(target)) + np.repeat(file.first[rows] + 2 - edge_ptr, degrees)
    source = file.integers(places, "a neighbour")  # (edges,), within the graph so far
    graph = np.repeat(np.arange(len(sizes)), sizes)  # (nodes,)
    outside = (source < 0) | (source >= sizes[graph[target]])
    if (at := first_true(outside)) is not None:
        raise file.error(
            int(rows[target[at]]),
            f"an edge to node {source[at]}, which does not exist: "
            f"the graph's nodes are 0 … {sizes[graph[target[at]]] - 1}",
        )
    source = source + ptr[graph[target]]
    _check_undirected(file, rows, source, target, first=ptr[graph])

    attributes = None
    if extra:
        columns = (file.first + file.length)[rows][:, None] + np.arange(-extra, 0)
        attributes = file.values[columns]  # (nodes, extra)
    return RawGraphs(
        name=name or path.name.removesuffix(".gz").removesuffix(".txt"),
        ptr=ptr,
        source=source,
        target=target,
        y=y,
        labels=tags,
        attributes=attributes,
        classes="first appearance",
        repeats=False,
        first=1,
        file=path,
    ).pack(reading)


def _read_headers(file: NumberFile) -> tuple[Integers, Integers, Integers]:
    """Return the row, the number of nodes and the label of each graph's header."""
    if not file.rows:
        raise DatasetError(f"{file.path}: the file is empty, expected the number of graphs")
    what = "the number of graphs, alone on the first line"
    num_graphs = int(file.integers(file.first[:1], what)[0])
    if file.length[0] != 1 or num_graphs < 1:
        raise file.error(0, f"expected {what}")
    if num_graphs >= file.rows:  # before allocating memory
        raise file.error(
            file.rows - 1,
            f"the file ends after {count(file.rows, 'line')}, expected {num_graphs} graphs by its "
            "first line",
        )
    headers = np.empty(num_graphs, dtype=np.int64)
    sizes = np.empty(num_graphs, dtype=np.int64)
    row, what = 1, "a graph: 'nodes label'"
    for graph in range(num_graphs):
        if row >= file.rows:
            raise file.error(
                file.rows - 1,
                f"the file ends after {count(graph, 'graph')}, expected {num_graphs} "
                "by its first line",
            )
        if file.length[row] != 2:
            raise file.error(
                row,
                f"{count(int(file.length[row]), 'number')}, "
                f"expected graph {graph + 1} as 'nodes label'",
            )
        size = int(file.integers(file.first[row : row + 1], what)[0])
        if size < 0:
            raise file.error(row, f"graph {graph + 1} has {size} nodes, expected 0 or more")
        if row + size >= file.rows:
            raise file.error(
                file.rows - 1,
                f"the file ends within graph {graph + 1} of {num_graphs}: "
                f"{file.rows - row - 1} of its {size} nodes are there",
            )
        headers[graph], sizes[graph] = row, size
        row += 1 + size
    if row < file.rows:
        raise file.error(row, f"expected the end of the file after {count(num_graphs, 'graph')}")
    return headers, sizes, file.integers(file.first[headers] + 1, "a graph's label")


def _check_lengths(file: NumberFile, rows: Integers, degrees: Integers) -> int:
    """Check the number of numbers after each degree; return the number of attributes."""
    extra = file.length[rows] - 2 - degrees
    if (at := first_true((degrees < 0) | (extra < 0))) is not None:
        raise file.error(
            int(rows[at]),
            f"degree {degrees[at]}, followed by "
            f"{count(int(file.length[rows[at]]) - 2, 'neighbour')}",
        )
    if (at := first_true(extra != extra[:1])) is not None:
        raise file.error(
            int(rows[at]),
            f"{count(int(extra[at]), 'number')} after the neighbours, and {extra[0]} at the first "
            "node: they are attributes, of which every node must have as many",
        )
    return int(extra[0]) if len(extra) else 0


def _check_undirected(
    file: NumberFile, rows: Integers, source: Integers, target: Integers, *, first: Integers
) -> None:
    num_nodes = len(rows)
    forward = target * num_nodes + source  # (edges,)
    backward = source * num_nodes + target
    if np.array_equal(np.sort(forward), np.sort(backward)):
        return
    pairs, counts = np.unique(forward, return_counts=True)
    reverse = (pairs % num_nodes) * num_nodes + pairs // num_nodes
    place = np.minimum(np.searchsorted(pairs, reverse), len(pairs) - 1)
    back = np.where(pairs[place] == reverse, counts[place], 0)
    at = int(np.flatnonzero(counts > back)[0])
    node, neighbour = int(pairs[at] // num_nodes), int(pairs[at] % num_nodes)
    here, there = node - first[node], neighbour - first[node]
    raise file.error(
        int(rows[node]),
        f"node {here} lists node {there} {_times(counts[at])}, but node {there} (line "
        f"{file.line[rows[neighbour]]}) lists node {here} {_times(back[at])}; "
        "the format holds undirected graphs",
    )


def _times(number: int) -> str:
    return "never" if number == 0 else "once" if number == 1 else f"{number} times"
