"""The TU graph collection: reading its folders, and downloading sets by PyG."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Final, Unpack

import numpy as np

from graphnorms.data.feature_columns import Attributes, Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, first_true
from graphnorms.data.readers.number_text import NumberFile, read_numbers
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading, ReadOptions
from graphnorms.data.tasks import TaskKind
from graphnorms.data.text_format import count
from graphnorms.errors import DatasetError

_LISTED: Final = """
AIDS alchemy_full BZR BZR_MD COIL-DEL COIL-RAG COLLAB COLORS-3 COX2 COX2_MD Cuneiform DBLP_v1 DD
deezer_ego_nets DHFR DHFR_MD ENZYMES ER_MD Fingerprint FIRSTMM_DB FRANKENSTEIN github_stargazers
IMDB-BINARY IMDB-MULTI KKI Letter-high Letter-low Letter-med MCF-7 MCF-7H MOLT-4 MOLT-4H MSRC_9
MSRC_21 MSRC_21C MUTAG Mutagenicity NCI1 NCI109 NCI-H23 NCI-H23H OHSU OVCAR-8 OVCAR-8H P388
P388H PC-3 PC-3H Peking_1 PROTEINS PROTEINS_full PTC_FM PTC_FR PTC_MM PTC_MR QM9 REDDIT-BINARY
REDDIT-MULTI-5K REDDIT-MULTI-12K reddit_threads SF-295 SF-295H SN12C SN12CH SW-620 SW-620H
SYNTHETIC SYNTHETICnew Synthie TRIANGLES twitch_egos TWITTER-Real-Graph-Partial UACC257 UACC257H
Yeast YeastH ZINC_full ZINC_test ZINC_train ZINC_val
"""
_NAMES: Final = tuple(_LISTED.split())
_HOME = "https://www.chrsmrrs.com/graphkerneldatasets"
_KINDS = ("labels", "attributes")
_FORMAT = "a folder in TU format has NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt"


def read_tu(
    folder: str | os.PathLike[str],
    name: str | None = None,
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Read a folder in TU format.

    `NAME_A.txt` has an edge `source, target` per line; `NAME_graph_indicator.txt` the graph of each
    node, from 1 and ascending; `NAME_graph_labels.txt` the class of each graph or, if it is missing
    or the task is a regression, `NAME_graph_attributes.txt` its numbers. `NAME_node_labels.txt`,
    `NAME_node_attributes.txt`, `NAME_edge_labels.txt` and `NAME_edge_attributes.txt`, the latter
    two in the order of the edges, are read if present and requested; other files are ignored. Node
    ids count from 1 over the whole set. The classes are numbered in ascending order of their
    labels.

    Repeated edges are merged and self loops dropped, as in PyG's `TUDataset`. For repeated edges
    PyG sums the features; this reader keeps the features of the first edge.

    The files may also be in a folder `raw` inside `folder`, as after a download by PyG's
    `TUDataset`. A graph without nodes is an error, unless `drop_empty` removes it.

    Args:
        folder: The folder.
        name: The prefix of the files; detected if the folder has a single `*_A.txt`.
        features: What the node features are made of, see `node_columns`.
        options: See `Reading`.

    Raises:
        DatasetError: The folder or a file is missing or malformed; the message names the file and
            the line.

    Source: Morris et al. 2020, https://arxiv.org/abs/2007.08663, https://chrsmrrs.github.io/datasets.
    """
    reading = Reading(features=features, **options)
    folder, name = _find(Path(folder), name)

    indicator = _read_required(folder, name, "graph_indicator")
    graph = _read_indicator(indicator)  # (nodes,), from 0
    num_nodes = len(graph)

    if reading.encoding is None:
        counted_by, y = _read_targets(folder, name, reading.task)
    else:  # no target is needed
        counted_by, y = indicator.path, np.empty(int(graph[-1]) + 1)
    num_graphs = len(y)
    if graph[-1] >= num_graphs:
        raise indicator.error(
            int(np.searchsorted(graph, num_graphs)),
            f"graph {graph[np.searchsorted(graph, num_graphs)] + 1}, but {counted_by.name} has "
            f"{count(num_graphs, 'line')}, one for each graph",
        )
    edges = _read_required(folder, name, "A")
    source, target = _read_edges(edges, graph)

    def parts(noun: str, rows: int, by: Path) -> list[Integers | Attributes | None]:
        """Read labels and attributes, if present and requested."""
        there = [(folder / f"{name}_{noun}_{kind}.txt").is_file() for kind in _KINDS]
        wanted = [reading.needs(kind, of_edges=noun == "edge") for kind in _KINDS]
        if any(wanted) and not any(np.logical_and(there, wanted)):
            wanted = [True, True]  # so that the message lists what there is
        return [
            _read_part(folder, name, noun, kind, rows, by) if is_there and is_wanted else None
            for kind, is_there, is_wanted in zip(_KINDS, there, wanted, strict=True)
        ]

    labels, attributes = parts("node", num_nodes, indicator.path)
    edge_labels, edge_attributes = parts("edge", len(source), edges.path)
    return RawGraphs(
        name=name,
        ptr=np.searchsorted(graph, np.arange(num_graphs + 1)),
        source=source,
        target=target,
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        loops=False,
        repeats=False,
        first=1,
        file=folder,
    ).pack(reading)


def collection_names() -> tuple[str, ...]:
    """Return the names of the sets that can be downloaded; others are found on disk only."""
    return _NAMES


def find_in_collection(name: str, root: str | os.PathLike[str]) -> str | None:
    """Return the collection's name of a set, or None if it is unknown.

    The search ignores case. Any folder in TU format in `root` is found by its name, too.
    """
    if name in ("", ".", ".."):
        return None
    known = {known.lower(): known for known in _NAMES}
    here = Path(root) / name
    return name if here.name == name and is_tu_folder(here) else known.get(name.lower())


def read_collection(
    name: str,
    root: str | os.PathLike[str] = "data",
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Read a set of the TU collection from `root/NAME`, or `root/NAME/raw` as written by PyG.

    A missing set is downloaded by PyG's `TUDataset`, which also writes its own copy to
    `root/NAME/processed`; only the text files are read here.

    Args:
        name: Its name in the collection.
        root: The folder of the sets.
        features: What the node features are made of, see `node_columns`.
        options: See `Reading`.

    Raises:
        DatasetError: The files are missing and cannot be downloaded (the message says which files
            to put where), or they are malformed.
    """
    folder = Path(root) / name
    if not is_tu_folder(folder):
        reason = _download(name, root)
        if not is_tu_folder(folder):
            raise DatasetError(
                f"data set {name!r} is not in {folder}, and {reason}; put {name}_A.txt, "
                f"{name}_graph_indicator.txt, {name}_graph_labels.txt and, if there are any, "
                f"{name}_node_labels.txt and {name}_node_attributes.txt of {_HOME}/{name}.zip "
                f"into {folder / 'raw'}"
            )
    return read_tu(folder, features=features, **options)


def _download(name: str, root: str | os.PathLike[str]) -> str:
    """Let PyG download a set; return why it may be missing."""
    try:
        # PyG calls deprecated functions of torch, which the user cannot change.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_geometric.datasets import TUDataset

            TUDataset(os.fspath(root), name)
    except ImportError as error:
        return f"PyTorch Geometric, which would download it, cannot be imported ({error})"
    # The network and three libraries can raise anything.
    except Exception as error:
        lines = str(error).splitlines()
        return (
            f"PyG could not download it ({type(error).__name__}{f': {lines[0]}' if lines else ''})"
        )
    return "PyG's download left nothing there"


def is_tu_folder(folder: Path) -> bool:
    """Whether a folder, or the folder `raw` in it, has a file `*_A.txt`."""
    return any(next(place.glob("*_A.txt"), None) for place in (folder, folder / "raw"))


def _find(folder: Path, name: str | None) -> tuple[Path, str]:
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder; {_FORMAT}")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is a file, not a folder; {_FORMAT}")
    if not any(folder.iterdir()):
        raise DatasetError(f"{folder}: the folder is empty; {_FORMAT}")
    if not any(folder.glob("*_A.txt")) and is_tu_folder(folder):
        folder = folder / "raw"
    names = sorted(path.name.removesuffix("_A.txt") for path in folder.glob("*_A.txt"))
    if name is None and len(names) == 1:
        return folder, names[0]
    if name is not None and name in names:
        return folder, name
    if not names:
        raise DatasetError(f"{folder}: missing file {name or 'NAME'}_A.txt; {_FORMAT}")
    if name is None:
        raise DatasetError(
            f"{folder}: holds {len(names)} data sets ({', '.join(names)}); say which as name="
        )
    raise DatasetError(f"{folder}: missing file {name}_A.txt; the folder holds {', '.join(names)}")


def _read_required(folder: Path, name: str, part: str) -> NumberFile:
    path = folder / f"{name}_{part}.txt"
    if not path.is_file():
        raise DatasetError(f"{folder}: missing file {path.name}; {_FORMAT}")
    return read_numbers(path, separator=b",")


def _read_indicator(file: NumberFile) -> Integers:
    if not file.rows:
        raise DatasetError(f"{file.path}: the file is empty, expected the graph of every node")
    what = "the graph of a node"
    graph = file.table(1, what, what)[:, 0]
    if graph[0] < 1:
        raise file.error(0, f"the first graph is {graph[0]}, expected 1")
    if (at := first_true(np.diff(graph) < 0)) is not None:
        raise file.error(
            at + 1, f"graph {graph[at + 1]} after graph {graph[at]}: the graph ids must ascend"
        )
    return graph - 1


def _read_targets(folder: Path, name: str, task: TaskKind) -> tuple[Path, Integers | Attributes]:
    """Read the classes, or the numbers if there are no classes or for a regression."""
    classes, numbers = (folder / f"{name}_graph_{part}.txt" for part in ("labels", "attributes"))
    if numbers.is_file() and (task == "regression" or not classes.is_file()):
        return numbers, _table(read_numbers(numbers, separator=b","), "attributes", "graph")
    file = _read_required(folder, name, "graph_labels")
    what = "the class of a graph"
    return file.path, file.table(1, what, what)


def _read_part(
    folder: Path, name: str, noun: str, kind: str, rows: int, counted_by: Path
) -> Integers | Attributes:
    """Read the labels or attributes of nodes or edges, a row each."""
    file = read_numbers(folder / f"{name}_{noun}_{kind}.txt", separator=b",")
    values = _table(file, kind, noun)
    if file.rows != rows:
        where = file.line[rows] if file.rows > rows else file.line[-1] if file.rows else 1
        raise DatasetError(
            f"{file.path}, line {where}: {count(file.rows, 'line')}, expected {rows}, "
            f"one for each {noun} of {counted_by.name}"
        )
    return values


def _table(file: NumberFile, kind: str, noun: str) -> Integers | Attributes:
    label = f"{'an' if noun == 'edge' else 'a'} {noun} label" if kind == "labels" else ""
    return file.table(None, f"as many {kind} as the first {noun}", label)


def _read_edges(file: NumberFile, graph: Integers) -> tuple[Integers, Integers]:
    """Read the edges as node ids from 0, `(edges,)` twice; both ends must be in one graph."""
    edges = file.table(2, "an edge 'source, target'", "a node id")  # (edges, 2), from 1
    if edges.min(initial=1) < 1 or edges.max(initial=1) > len(graph):
        outside = (edges < 1) | (edges > len(graph))
        row = int(outside.any(axis=1).argmax())
        node = int(edges[row][outside[row]][0])
        raise file.error(
            row, f"an edge to node {node}, which does not exist: nodes are 1 … {len(graph)}"
        )
    source, target = np.subtract(edges.T, 1, order="C")
    if (at := first_true(graph[source] != graph[target])) is not None:
        raise file.error(
            at,
            f"an edge between two graphs: node {source[at] + 1} is in graph "
            f"{graph[source[at]] + 1}, node {target[at] + 1} in graph {graph[target[at]] + 1}",
        )
    return source, target
