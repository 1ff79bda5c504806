"""What the columns of features are: found on one set of graphs, and made of others alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.onehot import OneHot
from graphnorms.data.words import count, some
from graphnorms.errors import DatasetError

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet
    from graphnorms.data.task import Task

_COUNTED = 1 << 16

Integers = NDArray[np.int64]
#: Of floats, `(rows, columns)`; or of integers, to be taken for such.
Attributes = NDArray[Any]
#: Of any integer type, `(rows, columns)`; or encoded already.
Labels = NDArray[Any] | OneHot


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of the features of nodes or of edges: attributes, and behind them one-hot blocks.

    Args:
        noun: `"node"` or `"edge"`.
        of: What the blocks encode: `"label"`, `"degree"`, or `"constant"`, a single column of ones.
        attributes: Number of attributes.
        blocks: The values that each block has a column for, ascending.
        encoded: Columns of labels that came encoded, so that their values are not known.
    """

    noun: str = "node"
    of: str = "label"
    attributes: int = 0
    blocks: tuple[tuple[int, ...], ...] = ()
    encoded: int = 0

    @classmethod
    def found(cls, noun: str, labels: Labels | None, attributes: Attributes | None) -> Self:
        """Return the columns that labels and attributes have."""
        encoded = labels.width if isinstance(labels, OneHot) else 0
        blocks: tuple[tuple[int, ...], ...] = ()
        if labels is not None and not isinstance(labels, OneHot):
            blocks = tuple(values_of(column) for column in labels.T)
        width = 0 if attributes is None else attributes.shape[1]
        return cls(noun=noun, attributes=width, blocks=blocks, encoded=encoded)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` made, also by way of JSON."""
        return cls(**{**data, "blocks": tuple(map(tuple, data["blocks"]))})

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.attributes + sum(map(len, self.blocks)) + self.encoded

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to be known of the nodes or edges: `"labels"`, `"attributes"`, or both."""
        labels = self.of == "label" and (self.encoded or self.blocks)
        return ("labels",) * bool(labels) + ("attributes",) * bool(self.attributes)

    def __str__(self) -> str:
        """Say how many they are, and of what."""
        of_blocks = f"{self.width - self.attributes} of one-hot {self.noun} {self.of}s"
        parts = [f"{self.attributes} of {self.noun} attributes"] * bool(self.attributes)
        parts += [of_blocks] * (self.width > self.attributes)
        values = [f" ({some(block)})" for block in self.blocks if self.of != "constant"]
        return f"{self.width}: {' and '.join(parts)}{''.join(values)}"

    def encode(
        self,
        name: str,
        rows: int,
        *,
        labels: Labels | None,
        attributes: Attributes | None,
        degree: Integers | None = None,
    ) -> Tensor | OneHot:
        """Make the features, `(rows, width)` float32, or what stands for them.

        Args:
            name: The data set, for the messages.
            rows: Number of nodes or edges.
            labels, attributes: Theirs, as far as there are any.
            degree: The in-degree of each node.

        Raises:
            DatasetError: The data do not have what the columns are of, or values without a column.
        """
        given = None if attributes is None or labels is not None else attributes.shape[1]
        if "labels" in self.needs and given == self.width:  # encoded already
            return _tensor(attributes)
        parts: list[Tensor] = []
        if self.attributes:
            parts.append(self._attributes(name, labels, attributes))
        one_hot = self._one_hot(name, rows, labels, degree)
        if one_hot is None:
            return parts[0]
        return torch.cat((parts[0], one_hot.dense()), 1) if parts else one_hot

    def _attributes(self, name: str, labels: Labels | None, values: Attributes | None) -> Tensor:
        if values is None and isinstance(labels, OneHot) and "labels" not in self.needs:
            values = labels.dense().numpy()  # of a set in which they happen to be one-hot
        if values is None or values.shape[1] != self.attributes:
            has = "none" if values is None else f"{values.shape[1]}"
            raise DatasetError(
                f"data set {name!r} has {has}, but the model was trained on "
                f"{count(self.attributes, 'attribute')} of each {self.noun}"
            )
        return _tensor(values)

    def _one_hot(
        self, name: str, rows: int, labels: Labels | None, degree: Integers | None
    ) -> OneHot | None:
        if self.of == "constant":
            return OneHot.from_blocks([(torch.zeros(rows), 1)])
        if not (self.blocks or self.encoded):
            return None
        values = degree[:, None] if self.of == "degree" and degree is not None else labels
        trained = f"{count(len(self.blocks), 'label')} of each {self.noun}"
        if self.encoded:
            trained = f"one-hot {self.noun} labels of {self.encoded} columns"
        trained = f"but the model was trained on {trained}"
        if values is None:
            raise DatasetError(f"data set {name!r} has no {self.noun} labels, {trained}")
        if isinstance(values, OneHot):
            if values.width == self.width - self.attributes:
                return values
            raise DatasetError(
                f"data set {name!r} has one-hot {self.noun} labels of {values.width} columns, "
                f"but the model was trained on {self.width - self.attributes}"
            )
        if values.shape[1] != len(self.blocks):
            given = count(values.shape[1], "label")
            raise DatasetError(f"data set {name!r} has {given} of each {self.noun}, {trained}")
        columns = []
        for column, known in zip(values.T, self.blocks, strict=True):
            place, is_known = _places(column, np.array(known))
            if not is_known.all():
                unknown = np.unique(column[~is_known])
                raise DatasetError(
                    f"data set {name!r}: {count(int((~is_known).sum()), self.noun)} with the "
                    f"{self.of} {some(unknown)}, but the model was trained on {some(known)}"
                )
            columns.append((torch.from_numpy(place), len(known)))
        return OneHot.from_blocks(columns)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How graphs become the input of a model, and what its results mean.

    Args:
        nodes: The columns of the node features; None: not known, which only their number tells.
        edges: Those of the edge features, if the model has any use for them.
        task: What is predicted.
    """

    nodes: Columns | None
    edges: Columns | None
    task: Task

    @classmethod
    def of(cls, graphs: GraphSet) -> Self:
        """Return how a set of graphs was made."""
        return cls(nodes=graphs.columns, edges=graphs.edge_columns, task=graphs.task)

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as JSON-able data; None where they are not known."""
        parts = {"nodes": self.nodes, "edges": self.edges}
        return {name: None if part is None else asdict(part) for name, part in parts.items()}

    @classmethod
    def read(cls, data: Mapping[str, Any], task: Task) -> Self:
        """Read what `to_dict` wrote."""
        nodes, edges = (
            None if data.get(name) is None else Columns.read(data[name])
            for name in ("nodes", "edges")
        )
        return cls(nodes=nodes, edges=edges, task=task)

    def unknown(self, items: int) -> Tensor:
        """Return targets of which none is known, as the task has them."""
        if self.task.kind == "classification":
            return torch.full((items,), -1)
        return torch.full((items, self.task.outputs), torch.nan)


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def values_of(column: NDArray[Any]) -> tuple[int, ...]:
    """List the values that occur, ascending."""
    if len(column) and column.min() >= 0 and column.max() < _COUNTED:
        # No sort, where the values are few; of unsigned ones NumPy makes no counts.
        return tuple(np.flatnonzero(np.bincount(column.astype(np.int64))).tolist())
    return tuple(np.unique(column).tolist())


def _places(column: NDArray[Any], known: NDArray[Any]) -> tuple[Integers, NDArray[np.bool_]]:
    """The place of each value among those known, and whether it is."""
    if not len(known):
        return np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    last = int(known[-1])
    if known[0] >= 0 and last < _COUNTED:  # a table, which is quicker than a search
        table = np.full(last + 2, -1)
        table[known] = np.arange(len(known))
        inside = (column >= 0) & (column <= last)
        place = table[np.where(inside, column, last + 1).astype(np.int64)]
        return place.clip(min=0), place >= 0
    if column.dtype == np.uint64 and known[0] >= 0:
        known = known.astype(np.uint64)  # else both become floats
    place = np.searchsorted(known, column).clip(max=len(known) - 1)
    return place, known[place] == column
