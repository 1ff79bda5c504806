"""The options of all readers."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Final, TypedDict, get_args

from graphnorms.data.feature_columns import EdgeFeatures, Encoding, Features
from graphnorms.data.scaffolds import ScaffoldSplit
from graphnorms.data.tasks import TaskKind
from graphnorms.errors import DatasetError, is_number, unknown_name

OF_TABLES: Final = ("smiles", "target", "edges", "cutoff")
"""Options that name the parts of a table, or are for atoms."""

_GO_WITH: Final = {
    "smiles": "a table of molecules",
    "target": "tables, NetworkX graphs and extended XYZ",
    "edges": "a table of the nodes of one graph",
    "cutoff": "extended XYZ",
}


class ReadOptions(TypedDict, total=False):
    """The options of `Reading` besides `features`, as keywords of the readers."""

    task: TaskKind
    edge_features: EdgeFeatures
    keep_loops: bool | None
    keep_repeats: bool | None
    drop_empty: bool
    drop_rare: int
    split_by: str
    split_file: str
    smiles: str
    target: str
    edges: str
    cutoff: float | None
    encoding: Encoding | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The options for reading a graph set.

    Args:
        features: The policy for node features, see `node_columns`.
        edge_features: The policy for edge features, see `edge_columns_of`.
        task: The kind of the targets, see `make_targets`.
        keep_loops: Whether to keep self loops. None depends on the format: TU folders drop them, as
            PyG's `TUDataset` does, and so do adjacency matrices in `.npz` files; other formats keep
            them.
        keep_repeats: Whether to keep repeated edges. None depends on the format: TU folders,
            powerful-gnns texts and the pairs `edges` of `.npz` files merge them, like other readers
            of these formats; other formats keep them. Merged edges have the features of the first
            one.
        drop_empty: Drop graphs without nodes, and items of a list that are None; otherwise these
            are errors.
        drop_rare: Drop classes with fewer items than this; their items have no target then.
        split_by: Split molecules by a rule such as `"scaffold:hashed"` instead of the given split;
            see `ScaffoldSplit`. This needs their SMILES.
        split_file: A file with one or several splits of the items, in place of the given ones; see
            `read_split_file`.
        smiles: Name of the column of SMILES in a table of molecules.
        target: Names of the columns or attributes to predict, separated by commas; for tables,
            NetworkX graphs, and energy and forces of extended XYZ.
        edges: The table of edges, for a table of the nodes of one graph.
        cutoff: Radius in Å within which atoms are joined; None for
            `graphnorms.data.atom_frames.DEFAULT_CUTOFF`.
        encoding: The encoding of a model's input: features are encoded accordingly, and targets are
            neither needed nor read.

    Raises:
        ValueError: An option is invalid.
    """

    features: Features = "auto"
    edge_features: EdgeFeatures = "auto"
    task: TaskKind = "auto"
    keep_loops: bool | None = None
    keep_repeats: bool | None = None
    drop_empty: bool = False
    drop_rare: int = 0
    split_by: str = ""
    split_file: str = ""
    smiles: str = ""
    target: str = ""
    edges: str = ""
    cutoff: float | None = None
    encoding: Encoding | None = None

    def __post_init__(self) -> None:
        words: tuple[tuple[str, str, Any], ...] = (
            ("features", self.features, Features),
            ("edge features", self.edge_features, EdgeFeatures),
            ("task", self.task, TaskKind),
        )
        for what, given, known in words:
            if given not in get_args(known):
                raise unknown_name(what, given, get_args(known))
        for name in ("keep_loops", "keep_repeats", "drop_empty"):
            if type(value := getattr(self, name)) is not bool and (
                value is not None or "drop" in name
            ):
                raise ValueError(f"{name} is {value!r}, expected True or False")
        if type(self.drop_rare) is not int or self.drop_rare < 0:
            raise ValueError(f"drop_rare is {self.drop_rare!r}, expected an integer ≥ 0")
        if self.split_by:
            ScaffoldSplit.named(self.split_by)
        for name in ("split_file", "smiles", "target", "edges"):
            if not isinstance(value := getattr(self, name), str | os.PathLike):
                raise ValueError(f"{name} is {value!r}, expected a text")
        cutoff = self.cutoff
        if cutoff is not None and not (is_number(cutoff) and 0 < cutoff < math.inf):
            raise ValueError(f"cutoff is {cutoff!r}, expected a number > 0, in Å")
        if self.split_by and self.split_file:
            raise ValueError(
                f"split_file is {str(self.split_file)!r}, and the split {self.split_by}; expected "
                "one of them"
            )

    def refuse(self, kind: str, *names: str) -> None:
        """Refuse options that a kind of data has no use for.

        Options kept from a model's training are ignored: it may predict for other kinds of data.

        Args:
            kind: The kind of the data, for the message.
            names: The options.

        Raises:
            DatasetError: One of them is given.
        """
        for name in names:
            if (value := getattr(self, name)) and self.encoding is None:
                raise DatasetError(
                    f"{name} is {str(value)!r}, which goes with {_GO_WITH[name]}, but the data are "
                    f"{kind}; leave it out"
                )

    def needs(self, *kinds: str, of_edges: bool = False) -> bool:
        """Whether `"labels"` or `"attributes"` of nodes or edges may be used.

        Data that are not needed are not read, and may be malformed.

        Args:
            kinds: One or both of them; True if any is needed.
            of_edges: Whether the question is about edges.
        """
        if self.encoding is not None and self.encoding.nodes is not None:
            columns = self.encoding.edges if of_edges else self.encoding.nodes
            return columns is not None and not {*kinds}.isdisjoint(columns.needs)
        return (self.edge_features if of_edges else self.features) in ("auto", *kinds)
