"""Quality of a graph set: degenerate, missing, duplicate and contradictory items."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers
from graphnorms.data.onehot import OneHot
from graphnorms.data.twins import Twins, find_twins, node_colours


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Items that equal others except for their targets.

    Args:
        items: Number of items that equal another one.
        groups: Number of groups of such items.
        contradicting: Number of items in groups with different targets.
    """

    items: int
    groups: int
    contradicting: int

    @classmethod
    def of(cls, group: Integers, targets: NDArray[np.float64]) -> Likeness:
        """Count equal items.

        Args:
            group: Equal numbers for equal items, `(items,)`.
            targets: The targets, NaN if missing, `(items, targets)`.
        """
        inverse = np.unique(group, return_inverse=True)[1]
        several = np.bincount(inverse) > 1
        differ = np.zeros(len(several), dtype=bool)
        for column in targets.T:
            known = ~np.isnan(column)
            low, high = np.full(len(several), np.inf), np.full(len(several), -np.inf)
            np.minimum.at(low, inverse[known], column[known])
            np.maximum.at(high, inverse[known], column[known])
            differ |= low < high
        return cls(
            items=int(several[inverse].sum()),
            groups=int(several.sum()),
            contradicting=int(differ[inverse].sum()),
        )


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The counts of a set.

    Args:
        graphs, nodes, edges: Their numbers; an undirected edge counts twice.
        symmetric: Whether each edge has its reverse.
        loops: Kept self loops.
        repeats: Kept repetitions of edges.
        empty, one_node, edgeless: Graphs without nodes, with one node, and without edges except
            loops.
        isolated: Nodes without edges except loops, including those of edgeless graphs.
        isolated_in: Graphs that have such nodes.
        columns, constant: Numbers of all and of constant columns of the node features.
        classes: Items of each class; empty for other tasks.
        missing: Numbers of items without a target by target, if not 0; for classes under `""`.
        twins: Isomorphic graphs, including features; None in node-level tasks and of atoms.
        structure: Isomorphic graphs, without features; likewise.
        alike: Items that message passing of any depth cannot distinguish.
        undecided: Numbers of items for which the search was too expensive, with features and
            without.
    """

    graphs: int
    nodes: int
    edges: int
    symmetric: bool
    loops: int
    repeats: int
    empty: int
    one_node: int
    edgeless: int
    isolated: int
    isolated_in: int
    columns: int
    constant: int
    classes: dict[str, int]
    missing: dict[str, int]
    twins: Likeness | None
    structure: Likeness | None
    alike: Likeness
    undecided: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """Groups of equal items, `(items,)` each.

    Args:
        twins, structure: See `Quality`; None in node-level tasks and of atoms.
        alike: See `Quality`.
        undecided: See `Quality`.
    """

    twins: Integers | None
    structure: Integers | None
    alike: Integers
    undecided: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, graphs: GraphSet) -> Groups:
        """Find the groups of a set."""
        if graphs.atoms is not None:  # their places tell apart what is isomorphic
            return cls(twins=None, structure=None, alike=np.arange(len(graphs)))
        if graphs.task.level == "node":
            colours = node_colours(graphs)
            if colours is None:
                nodes = graphs.num_nodes
                return cls(twins=None, structure=None, alike=np.arange(nodes), undecided=(nodes, 0))
            return cls(twins=None, structure=None, alike=colours)
        bare = find_twins(graphs, structure_only=True)
        seen = bare
        if graphs.features not in ("one-hot degree", "constant") or graphs.num_edge_features:
            # Only graphs with isomorphic structure can be twins.
            shared = np.bincount(bare.alike, minlength=len(graphs))[bare.alike] > 1
            chosen = np.flatnonzero(shared | bool(bare.undecided))
            among = find_twins(graphs.to("cpu").subset(torch.from_numpy(chosen)))
            same, alike = np.arange(len(graphs)), np.arange(len(graphs))
            same[chosen], alike[chosen] = chosen[among.same], chosen[among.alike]
            seen = Twins(same=same, alike=alike, undecided=among.undecided)
        return cls(
            twins=seen.same,
            structure=bare.same,
            alike=seen.alike,
            undecided=(seen.undecided, bare.undecided),
        )


def quality_of(graphs: GraphSet, groups: Groups | None = None) -> Quality:
    """Compute the quality of a set.

    Args:
        graphs: The set.
        groups: The groups of equal items, if known.
    """
    graphs = graphs.to("cpu")
    groups = Groups.of(graphs) if groups is None else groups
    targets = known_targets(graphs)
    sizes, degree = graphs.ptr.diff().numpy(), graphs.edge_ptr.diff().numpy()
    graph = np.repeat(np.arange(len(graphs)), sizes)  # (nodes,)
    row = np.repeat(np.arange(graphs.num_nodes), degree)  # (edges,)
    column = graphs.edge_index.numpy() + np.repeat(graphs.ptr.numpy()[:-1], sizes)[row]
    looped = np.bincount(row[row == column], minlength=graphs.num_nodes)
    isolated = (degree == looped) & (graphs.transpose_ptr.diff().numpy() == looped)
    isolated_in = np.bincount(graph[isolated], minlength=len(graphs))
    missing = np.isnan(targets).sum(0)
    names = ("",) if graphs.task.kind == "classification" else graphs.task.targets

    def likeness(group: Integers | None) -> Likeness | None:
        return None if group is None else Likeness.of(group, targets)

    return Quality(
        graphs=len(graphs),
        nodes=graphs.num_nodes,
        edges=graphs.num_edges,
        symmetric=graphs.symmetric,
        loops=int(looped.sum()),
        repeats=_repeats(row * graphs.num_nodes + column),
        empty=int((sizes == 0).sum()),
        one_node=int((sizes == 1).sum()),
        edgeless=int(((sizes > 0) & (isolated_in == sizes)).sum()),
        isolated=int(isolated.sum()),
        isolated_in=int((isolated_in > 0).sum()),
        columns=graphs.num_features,
        constant=constant_columns(graphs),
        classes=dict(zip(graphs.class_names, graphs.class_counts, strict=True)),
        missing={name: int(n) for name, n in zip(names, missing, strict=True) if n},
        twins=likeness(groups.twins),
        structure=likeness(groups.structure),
        alike=Likeness.of(groups.alike, targets),
        undecided=groups.undecided,
    )


def known_targets(graphs: GraphSet) -> NDArray[np.float64]:
    """Return the targets as numbers, NaN if missing, `(items, targets)`."""
    y = graphs.y.cpu().double().view(graphs.num_items, -1)
    if graphs.task.kind == "classification":
        y = torch.where(y < 0, torch.nan, y)
    return y.numpy()


def constant_columns(graphs: GraphSet) -> int:
    """Count the columns of node features that are the same for all nodes."""
    x = graphs.kept_x
    if not x.shape[0]:
        return 0
    if isinstance(x, OneHot):
        ones = torch.bincount(x.columns.flatten().long(), minlength=x.width)
        return int(((ones == 0) | (ones == x.shape[0])).sum())
    return int((x.amin(0) == x.amax(0)).sum())


def _repeats(keys: Integers) -> int:
    """Count the repetitions of numbers."""
    if (keys[1:] < keys[:-1]).any():  # the readers pack edges in ascending order
        keys = np.sort(keys)
    return int((keys[1:] == keys[:-1]).sum())
