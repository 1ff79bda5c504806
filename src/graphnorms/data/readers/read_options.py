"""How a graph set is to be read: one set of options for every reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, get_args

from graphnorms.data.feature_columns import EdgeFeatures, Encoding, Features
from graphnorms.data.scaffolds import ScaffoldSplit
from graphnorms.data.tasks import TaskKind
from graphnorms.errors import unknown_name


class ReadOptions(TypedDict, total=False):
    """The options of `Reading` besides `features`, as keywords of the readers."""

    task: TaskKind
    edge_features: EdgeFeatures
    keep_loops: bool | None
    keep_repeats: bool | None
    drop_empty: bool
    drop_rare: int
    split_by: str
    encoding: Encoding | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a graph set is to be read.

    Args:
        features: What the node features are made of, see `node_columns`.
        edge_features: What the edge features are made of, see `edge_columns_of`.
        task: What the targets are, see `make_targets`.
        keep_loops: Whether edges from a node to itself stay. None leaves it to the format: TU
            folders lose them, as in PyG's `TUDataset`, and so do adjacency matrices in `.npz`
            files; all else keeps them.
        keep_repeats: Whether an edge that is listed again stays, parallel to the first. None
            leaves it to the format: TU folders, powerful-gnns texts and the pairs `edges` of
            `.npz` files, each read by others as well, have them merged; all else keeps them. Of
            merged edges with different features the first one's are taken.
        drop_empty: Leave out graphs without nodes, and items of a list that are None, which are
            an error otherwise.
        drop_rare: Leave out classes of fewer items than this: their items then have no target.
        split_by: Divide molecules anew by a rule, such as `"scaffold:hashed"`, in place of the
            split that is given; see `ScaffoldSplit`. It takes their SMILES.
        encoding: How a model has its input: the features are made so, and targets are neither
            needed nor read.

    Raises:
        ValueError: A word or a value is not possible.
    """

    features: Features = "auto"
    edge_features: EdgeFeatures = "auto"
    task: TaskKind = "auto"
    keep_loops: bool | None = None
    keep_repeats: bool | None = None
    drop_empty: bool = False
    drop_rare: int = 0
    split_by: str = ""
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

    def needs(self, *kinds: str, of_edges: bool = False) -> bool:
        """Whether `"labels"` or `"attributes"` of the nodes, or of the edges, may be used.

        What is not needed is not read, and may be malformed.

        Args:
            kinds: One of them or both; of both, whether one is.
            of_edges: Whether those of the edges are meant.
        """
        if self.encoding is not None and self.encoding.nodes is not None:
            columns = self.encoding.edges if of_edges else self.encoding.nodes
            return columns is not None and not {*kinds}.isdisjoint(columns.needs)
        return (self.edge_features if of_edges else self.features) in ("auto", *kinds)
