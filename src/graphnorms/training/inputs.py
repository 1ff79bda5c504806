"""What a trained model may be given: a `GraphBatch`, PyG's `Data` or `Batch`, or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphBatch
from graphnorms.data.feature_columns import Columns, Encoding, labels_or_attributes
from graphnorms.data.onehot import OneHot
from graphnorms.segments import Segments, as_segments


def as_graph_batch(
    data: GraphBatch | Tensor | Any,
    edge_index: Tensor | None,
    batch: Tensor | Segments | None,
    edge_attr: Tensor | None,
    encoding: Encoding,
    widths: tuple[int, int],
) -> GraphBatch:
    """Return the batch that a model is to see.

    PyG is not needed: `data` is any object with `edge_index`, and `x`, `edge_attr`, `batch` and
    `num_graphs` as far as there are any. Features of as many columns as the model has are taken as
    they are; others (labels as integers, none at all for a model that sees degrees) are encoded as
    those that it was trained on.

    Args:
        data: A `GraphBatch`, PyG's `Data` or `Batch`, or the node features.
        edge_index, batch, edge_attr: With node features, what belongs to them.
        encoding: How the model has its input.
        widths: Features of a node and of an edge that the model takes.

    Raises:
        ValueError: It is something else, or does not have what the model was trained on.
    """
    if isinstance(data, GraphBatch):
        return data
    count = None
    if isinstance(data, Tensor):
        x: Any = data
    elif hasattr(data, "edge_index"):
        x, edge_index = getattr(data, "x", None), data.edge_index
        edge_attr, batch = getattr(data, "edge_attr", None), getattr(data, "batch", None)
        count = None if batch is None else getattr(data, "num_graphs", None)
    else:
        raise ValueError(
            f"a model is given a {type(data).__name__}, expected a GraphBatch, PyG's Data or "
            "Batch, or x, edge_index and batch"
        )
    if not isinstance(edge_index, Tensor):
        raise ValueError("edge_index is missing, expected a tensor (2, edges) beside x")
    nodes = x.shape[0] if isinstance(x, Tensor) else int(getattr(data, "num_nodes", 0))
    adjacency = Adjacency.from_edge_index(edge_index, nodes)
    degree = adjacency.in_degree
    x = _features(x, nodes, encoding.nodes, widths[0], degree)
    edges = None
    if widths[1]:
        edges = _features(edge_attr, edge_index.shape[1], encoding.edges, widths[1], None)
    segments = as_segments(batch, rows_of=x, num_segments=count)
    items = segments.num_segments if encoding.task.level == "graph" else nodes
    y = encoding.unknown(items)
    return GraphBatch(x=x, y=y, segments=segments, adjacency=adjacency, edge_features=edges)


def _features(
    given: Tensor | None, rows: int, columns: Columns | None, width: int, degree: Tensor | None
) -> Tensor:
    """Features as the model has them, `(rows, width)`."""
    values = given[:, None] if given is not None and given.dim() == 1 else given
    if values is not None and values.is_floating_point() and values.shape[1] == width:
        return values
    if columns is None:
        shape = None if given is None else tuple(given.shape)
        raise ValueError(f"features are of shape {shape}, expected floats ({rows}, {width})")
    array = None if values is None else values.detach().cpu().numpy()
    labels, attributes = labels_or_attributes(array, "auto")
    made = columns.encode(
        rows, labels=labels, attributes=attributes,
        degree=None if degree is None else np.asarray(degree.cpu()),
    )  # fmt: skip
    dense = made.dense() if isinstance(made, OneHot) else made
    return dense if given is None else dense.to(given.device)
