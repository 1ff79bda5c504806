"""Packs graphs of PyTorch Geometric. PyG is not imported: objects with the same attributes work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from graphnorms.data.feature_columns import Features, labels_or_attributes
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.official_metrics import metric_note, metric_of, task_for
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import OF_TABLES, Reading, ReadOptions
from graphnorms.data.split_files import merged
from graphnorms.data.splits import MASKS, split_of_masks
from graphnorms.data.text_format import count, some
from graphnorms.errors import DatasetError


def from_pyg(
    graphs: Iterable[Any] | Any,
    name: str = "graphs",
    features: Features = "auto",
    *,
    split: Tensor | Sequence[int] | None = None,
    split_name: str = "",
    metric: str = "",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Pack a list of PyG `Data`, a PyG `Dataset` of them, or a single one.

    The attributes used are `edge_index` (sources above targets), `y`, `x` and `edge_attr` if
    present, and the masks below; others are ignored. Integers in `x` and `edge_attr` are labels,
    encoded one-hot per column, and so are one-hot floats; other floats and bools are attributes. If
    `x` is missing or has no columns, `"auto"` makes features from the degree.

    `y` belongs to the graph if it is one number or `(1, targets)` in every graph, and to the nodes
    if it is `(nodes,)` or `(nodes, targets)`; see `make_targets`. Classes are numbered in ascending
    order, so labels `0 … classes - 1` do not change. For nodes, -1 means that the class is unknown;
    NaN is a missing answer or number. A text is the name of a class.

    Node targets are split by `train_mask`, `val_mask` and `test_mask` if all graphs have all three;
    masks with several columns are several splits. The split of a data set of the Open Graph
    Benchmark is that of its `get_idx_split()`; its official metric is known, too.

    Args:
        graphs: The graphs.
        name: Name of the set.
        features: The policy for node features, see `node_columns`.
        split: The part of each item: 0 training, 1 validation, 2 test, -1 unused; one column per
            split.
        split_name: Origin of the split.
        metric: The official metric of the set.
        options: See `Reading`.

    Raises:
        DatasetError: There are no graphs, or one lacks `edge_index` or `y`, has no nodes, an edge
            to a missing node, or inconsistent features or targets; the message names the graph,
            counted from 0.
    """
    reading = Reading(features=features, **options)
    reading.refuse("graphs of PyG", *OF_TABLES)
    if has_indexed_split(graphs):
        metric = metric or metric_of(graphs)
    # A PyG Dataset has the attributes of its only graph, and a Data can be iterated.
    many = isinstance(graphs, (Sequence, Dataset)) or not hasattr(graphs, "edge_index")
    items = list(graphs) if many else [graphs]
    if not items:
        raise DatasetError("the list of graphs is empty, expected at least one PyG Data")
    items, notes = _present(name, items, reading)
    notes += hidden(graphs, items[0])
    indexed = split is None and has_indexed_split(graphs) and reading.encoding is None
    raw = raw_of_pyg(name, items, reading, masked=split is None and not indexed)
    if indexed:
        split = torch.from_numpy(indexed_split(name, graphs, len(raw.y)))
    return replace(
        raw,
        split=raw.split if split is None else torch.as_tensor(split).cpu().numpy(),
        split_name=split_name,
        metric=metric,
        notes=(*notes, *metric_note(metric)),
    ).pack(replace(reading, task=task_for(metric, reading.task)))


def raw_of_pyg(
    name: str, items: Sequence[Any], reading: Reading, *, masked: bool = True, first: int = 0
) -> RawGraphs:
    """Concatenate some PyG `Data`, see `from_pyg`.

    Args:
        name: Name of the set.
        items: The graphs.
        reading: The options.
        masked: Whether masks are the split of nodes.
        first: Number of the first graph in messages.

    Raises:
        DatasetError: See `from_pyg`.
    """
    edges, sizes, rows, edge_rows = [], [], [], []
    offset = 0
    for position, item in enumerate(items, first):
        where = f"{name}, graph {position}"
        size = num_nodes(where, item)
        x = None
        if reading.needs("labels", "attributes"):
            x = _columns(where, "x", "nodes", getattr(item, "x", None))
        edge_index = _edges(where, item, size)
        edges.append(edge_index + offset)
        rows.append(x)
        wanted = reading.needs("labels", "attributes", of_edges=True)
        edge_rows.append(_edge_features(where, item, edge_index.shape[1]) if wanted else None)
        sizes.append(size)
        offset += size
    source, target = torch.cat(edges, dim=1).numpy()  # (edges,) each
    y, level = _wanted_targets(name, items, sizes, reading, first)
    masked = masked and level == "node" and reading.encoding is None
    labels, attributes = labels_or_attributes(_stack(name, "x", rows, first), reading.features)
    edge_labels, edge_attributes = labels_or_attributes(
        _stack(name, "edge_attr", edge_rows, first), reading.edge_features
    )
    return RawGraphs(
        name=name,
        ptr=offsets(np.array(sizes)),
        source=source,
        target=target,
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        level=level,
        unknown=-1 if level == "node" else None,
        split=_masks(name, items, sizes, first) if masked else None,
        smiles=_smiles(items),
        first=first,
    )


def has_indexed_split(graphs: Any) -> bool:
    """Whether a data set says by `get_idx_split()` which items are in which part, as OGB's do."""
    return callable(getattr(graphs, "get_idx_split", None))


def indexed_split(name: str, graphs: Any, items: int) -> NDArray[np.int8]:
    """Return the part of each item by `get_idx_split()`."""
    found = graphs.get_idx_split()
    if not isinstance(found, Mapping) or not all(
        isinstance(found.get(part), Tensor | np.ndarray) for part in ("train", "valid", "test")
    ):
        raise DatasetError(
            f"{name}: get_idx_split() returns {str(found)[:60]}, expected indices of train, valid "
            "and test"
        )
    chosen = [np.asarray(found[part], dtype=np.int64) for part in ("train", "valid", "test")]
    return merged(f"{name}, get_idx_split()", chosen, items, "items")


def _present(name: str, items: list[Any], reading: Reading) -> tuple[list[Any], list[str]]:
    """Return the items that are graphs; None marks an invalid one."""
    absent = [position for position, item in enumerate(items) if item is None]
    if not absent:
        return items, []
    share = f"{len(absent)} of {count(len(items), 'item')}"
    if not reading.drop_empty:
        raise DatasetError(
            f"{name}: {share} {'is' if len(absent) == 1 else 'are'} None ({some(absent)}), "
            "expected graphs; drop_empty (--drop-empty) leaves them out"
        )
    if len(absent) == len(items):
        raise DatasetError(f"{name}: all {len(items)} items are None, expected graphs")
    return [item for item in items if item is not None], [f"{share} left out, for they are None"]


def _smiles(items: Sequence[Any]) -> list[str] | None:
    """Return the SMILES of the molecules, if all have them."""
    smiles = [text for item in items if isinstance(text := getattr(item, "smiles", None), str)]
    return smiles if len(smiles) == len(items) else None


def hidden(graphs: Any, first: Any) -> list[str]:
    """Return notes on features that a `TUDataset` was told to omit."""
    notes = []
    for noun, name in (("node", "x"), ("edge", "edge_attr")):
        values, hidden = getattr(first, name, None), getattr(graphs, f"num_{noun}_attributes", 0)
        if isinstance(values, Tensor) and values.dim() == 2 and not values.shape[1] and hidden:
            notes.append(
                f"{name} has no columns, but the data set has "
                f"{count(hidden, f'{noun} attribute')}: TUDataset(…, use_{noun}_attr=True) "
                "gives them"
            )
    return notes


def _columns(where: str, name: str, noun: str, values: Any) -> Tensor | None:
    if values is None:
        return None
    if not isinstance(values, Tensor) or values.dim() not in (1, 2) or values.is_complex():
        given = (
            f"of shape {tuple(values.shape)}"
            if isinstance(values, Tensor)
            else f"a {type(values).__name__}"
        )
        raise DatasetError(f"{where}: {name} is {given}, expected a tensor ({noun}, features)")
    rows: Tensor = values.detach().cpu()
    rows = rows.to_dense() if rows.layout != torch.strided else rows
    if rows.is_floating_point() and rows.dtype != torch.float64:
        rows = rows.float()  # NumPy has no bfloat16
    return rows[:, None] if rows.dim() == 1 else rows


def num_nodes(where: str, item: Any) -> int:
    """Return the number of nodes of PyG's `Data`.

    Args:
        where: Which one it is, for the message.
        item: The object.

    Raises:
        DatasetError: It does not say.
    """
    x = getattr(item, "x", None)
    size = x.shape[0] if isinstance(x, Tensor) and x.dim() else getattr(item, "num_nodes", None)
    if size is None:
        raise DatasetError(f"{where}: neither x nor num_nodes says how many nodes it has")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise DatasetError(f"{where}: num_nodes is {size!r}, expected an integer ≥ 0")
    return size


def _edges(where: str, item: Any, size: int) -> Tensor:
    edges = getattr(item, "edge_index", None)
    if not isinstance(edges, Tensor):
        raise DatasetError(
            f"{where}: no edge_index; give (2, 0) integers for a graph without edges"
        )
    integers = not (edges.is_floating_point() or edges.is_complex() or edges.dtype == torch.bool)
    if edges.dim() != 2 or edges.shape[0] != 2 or not integers:
        raise DatasetError(
            f"{where}: edge_index is {edges.dtype} of shape {tuple(edges.shape)}, "
            "expected integers (2, edges)"
        )
    edges = edges.detach().cpu().long()
    outside = edges[(edges < 0) | (edges >= size)]
    if outside.shape[0]:
        raise DatasetError(
            f"{where}: an edge to node {int(outside[0])}, which does not exist: "
            f"nodes are 0 … {size - 1}"
            if size
            else f"{where}: an edge, but no nodes"
        )
    return edges


def _edge_features(where: str, item: Any, edges: int) -> Tensor | None:
    values = _columns(where, "edge_attr", "edges", getattr(item, "edge_attr", None))
    if values is not None and values.shape[0] != edges:
        raise DatasetError(
            f"{where}: edge_attr has {values.shape[0]} rows, expected {edges}, one for each edge"
        )
    return values


def _wanted_targets(
    name: str, items: Sequence[Any], sizes: list[int], reading: Reading, first: int
) -> tuple[NDArray[Any], str]:
    """Return the targets and their level; no targets if a model will predict them."""
    if reading.encoding is None:
        return _targets(name, items, sizes, first)
    return np.empty(0), reading.encoding.task.level


def _targets(
    name: str, items: Sequence[Any], sizes: list[int], first: int
) -> tuple[NDArray[Any], str]:
    """Return the concatenated targets of all graphs, and their level."""
    targets = []
    for position, item in enumerate(items, first):
        if (y := getattr(item, "y", None)) is None:
            raise DatasetError(f"{name}, graph {position}: no y, expected what is to be predicted")
        targets.append(_as_array(f"{name}, graph {position}", y))
    of_graph = [y.size == 1 or (y.ndim == 2 and y.shape[0] == 1) for y in targets]
    of_nodes = [
        y.ndim in (1, 2) and y.shape[0] == size for y, size in zip(targets, sizes, strict=True)
    ]
    level = "graph" if all(of_graph) else "node" if all(of_nodes) else ""
    if not level:
        # Assume that the majority of the graphs is right.
        fits = max(of_graph, of_nodes, key=sum)
        at = fits.index(False)
        raise DatasetError(
            f"{name}, graph {at + first}: y is of shape {tuple(targets[at].shape)}, expected one "
            f"number or (1, targets) for the graph, or {sizes[at]} rows for its nodes, as in all "
            "graphs"
        )
    if level == "graph":
        targets = [y.reshape(1, -1) for y in targets]
    widths = [y.shape[1] if y.ndim == 2 else 1 for y in targets]
    if len(set(widths)) > 1:
        at = next(at for at, width in enumerate(widths) if width != widths[0])
        raise DatasetError(
            f"{name}, graph {at + first}: y has {widths[at]} targets, and graph {first} has "
            f"{widths[0]}"
        )
    return np.concatenate([y.reshape(-1, widths[0]) for y in targets]), level


def _as_array(where: str, y: Any) -> NDArray[Any]:
    """Return the unchanged targets of a graph, numbers or texts."""
    if isinstance(y, Tensor):
        values = y.detach().cpu()
        narrow = values.dtype in (torch.float16, torch.bfloat16)
        y = (values.float() if narrow else values).numpy()  # NumPy has no bfloat16
    array = np.asarray(y)
    if array.dtype.kind not in "biufUS":
        raise DatasetError(f"{where}: y is {type(y).__name__}, expected numbers or texts")
    return array


def _masks(
    name: str, items: Sequence[Any], sizes: list[int], first: int
) -> NDArray[np.int8] | None:
    """Return the part of each node from the masks of the graphs, if all have them."""
    if any(getattr(item, mask, None) is None for item in items for mask in MASKS):
        return None
    parts = []
    for position, (item, size) in enumerate(zip(items, sizes, strict=True), first):
        masks = [torch.as_tensor(getattr(item, mask)).cpu().bool().numpy() for mask in MASKS]
        parts.append(split_of_masks(masks, size, where=f"{name}, graph {position}"))
    if len({part.shape[1:] for part in parts}) > 1:
        raise DatasetError(f"{name}: the masks of the graphs are of different numbers of splits")
    return np.concatenate(parts)


def _stack(name: str, attribute: str, rows: list[Tensor | None], first: int) -> NDArray[Any] | None:
    """Return the concatenated features of all graphs, or None if no graph has any."""
    width = None if rows[0] is None else rows[0].shape[1]
    for position, values in enumerate(rows, first):
        given = None if values is None else values.shape[1]
        if given != width:
            raise DatasetError(
                f"{name}, graph {position}: {_say(attribute, given)}, and graph {first} has "
                f"{_say(attribute, width)}; all graphs need the same features"
            )
    present = [values for values in rows if values is not None]
    # Integers in one graph and floats in another become floats.
    return torch.cat(present).numpy() if present else None


def _say(attribute: str, width: int | None) -> str:
    return f"no {attribute}" if width is None else f"{attribute} of {width} columns"
