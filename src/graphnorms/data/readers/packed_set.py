"""Reads packed folders as the other readers read their files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from graphnorms.data.feature_columns import Encoding
from graphnorms.data.graphset import GraphSet
from graphnorms.data.packed_folder import open_folder
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.split_files import read_split_file
from graphnorms.errors import DatasetError

_OF_PACKING: Final = (
    *("features", "edge_features", "task", "keep_loops", "keep_repeats"),
    *("drop_empty", "drop_rare", "split_by"),
)


def read_packed_set(path: Path, reading: Reading) -> GraphSet:
    """Open a packed folder, see `GraphSet.open`, and compare its fingerprint with its arrays.

    A comparison reads all of it many times, and keeps the fingerprint with its results.

    Args:
        path: The folder.
        reading: The options; features and task are those that the set was packed with.

    Raises:
        DatasetError: The folder is damaged, an option asks for other features, targets or edges, or
            the columns are not those of a model that is to predict.
    """
    graphs = open_folder(path, verify=True)
    if reading.encoding is not None:
        return _encoded(path, graphs, reading.encoding)
    for name in _OF_PACKING:
        if (value := getattr(reading, name)) != getattr(Reading(), name):
            raise DatasetError(
                f"{path}: {name} is {str(value)!r}, but the set is packed already; pack it again "
                "with it"
            )
    if not reading.split_file:
        return graphs
    if graphs.source_rows is not None:
        raise DatasetError(
            f"{path}: rows of the file were left out before it was packed, so that split_file "
            "cannot be matched; pack it again with it"
        )
    split = read_split_file(reading.split_file, graphs.num_items, f"{graphs.task.level}s")
    return graphs._with(split=torch.from_numpy(split), split_name=Path(reading.split_file).name)


def _encoded(path: Path, graphs: GraphSet, encoding: Encoding) -> GraphSet:
    """Return the set as the input of a model, without targets."""
    pairs = (
        ("nodes", graphs.columns, encoding.nodes),
        ("edges", graphs.edge_columns, encoding.edges),
    )
    for noun, has, wanted in pairs:
        if wanted is not None and has != wanted:
            raise DatasetError(
                f"{path}: the {noun} are packed with the columns {has}, but the model was trained "
                f"on {wanted}; predict from what was packed"
            )
    items = len(graphs) if encoding.task.level == "graph" else graphs.num_nodes
    made = graphs.with_targets(encoding.unknown(items), encoding.task)
    if encoding.nodes is not None and encoding.edges is None:
        made = made._with(edge_features=None, edge_columns=None)
    return made._with(split=None)
