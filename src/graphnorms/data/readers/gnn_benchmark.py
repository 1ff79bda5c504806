"""The gnn-benchmark layout: a graph as sparse matrices in a `.npz` file, see `read_npz`."""

from __future__ import annotations

import numpy as np

from graphnorms.data.integer_arrays import Integers
from graphnorms.data.readers.npz_arrays import Arrays
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading


def read_matrices(arrays: Arrays, reading: Reading) -> RawGraphs:
    """Read a graph in this layout.

    Raises:
        DatasetError: The file is malformed; the message names file and array.
    """
    row, column, nodes, width = _sparse(arrays, "adj")
    if nodes != width:
        raise arrays.error("adj_shape", f"is {nodes} × {width}, expected a square")
    y = np.empty(nodes) if reading.encoding else arrays.numbers("labels", (1, 2))
    if len(y) != nodes:
        raise arrays.error("labels", f"has {len(y)} rows, expected {nodes}, one for each node")
    keys = np.unique(np.concatenate((row * nodes + column, column * nodes + row)))
    notes = ["edges made undirected"] if len(keys) > len(np.unique(row * nodes + column)) else []
    attributes = None
    if reading.needs("attributes") and "attr_matrix" in arrays:
        attributes = arrays.numbers("attr_matrix", (2,))
    elif reading.needs("attributes") and "attr_indptr" in arrays:
        of_row, ones, rows, width = _sparse(arrays, "attr")
        attributes = np.zeros((rows, width), dtype=np.float32)
        attributes[of_row, ones] = 1
    if attributes is not None and len(attributes) != nodes:
        raise arrays.error("attr_shape", f"{len(attributes)} rows, expected {nodes}, as of adj")
    split, split_name = arrays.split(nodes)
    return RawGraphs(
        name=arrays.path.name.removesuffix(".npz"),
        ptr=np.array([0, nodes]),
        source=keys // nodes,
        target=keys % nodes,
        y=y,
        attributes=attributes,
        level="node",
        unknown=-1,
        split=split,
        split_name=split_name,
        loops=False,
        notes=tuple(notes),
    )


def _sparse(arrays: Arrays, name: str) -> tuple[Integers, Integers, int, int]:
    """Return rows and columns of the nonzero entries of a CSR matrix, `(entries,)`, and its
    shape."""
    shape = arrays.integers(f"{name}_shape", (1,))
    if len(shape) != 2 or shape.min() < 1:
        raise arrays.error(f"{name}_shape", f"is {shape.tolist()}, expected two sizes")
    height, width = shape.tolist()
    ptr, index, size = (f"{name}_{part}" for part in ("indptr", "indices", "shape"))
    rows, columns, given = arrays.entries(ptr, index, size, width)
    if given != height:
        raise arrays.error(ptr, f"has {given + 1} entries, expected {height + 1}")
    arrays.check_stated(size, width, [index, ptr])
    if f"{name}_data" in arrays:
        data = arrays.numbers(f"{name}_data", (1,))
        if len(data) != len(columns):
            raise arrays.error(f"{name}_data", f"has {len(data)} entries, expected {len(columns)}")
        rows, columns = rows[data != 0], columns[data != 0]
    return rows, columns, height, width
