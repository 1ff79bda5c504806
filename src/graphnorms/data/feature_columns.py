"""The columns of node and edge features, and how graphs are encoded to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.integer_arrays import Integers
from graphnorms.data.onehot import OneHot
from graphnorms.data.text_format import count, some
from graphnorms.errors import DatasetError

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet
    from graphnorms.data.tasks import Task

#: `"auto"` encodes at most this many different degrees as one-hot: more than COLLAB's 367, which
#: the literature encodes, and fewer than REDDIT-BINARY's 566, which it does not (1.9 GB of zeros).
MAX_DEGREES = 512

_COUNTED = 1 << 16

Features = Literal["auto", "labels", "attributes", "degree", "constant"]
EdgeFeatures = Literal["auto", "labels", "attributes", "none"]

#: Floats, `(rows, columns)`, or integers that are treated as floats.
Attributes = NDArray[Any]
#: Integers of any type, `(rows, columns)`, or already one-hot.
Labels = NDArray[Any] | OneHot


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of the features of nodes or edges: attributes, followed by one-hot blocks.

    Args:
        noun: `"node"` or `"edge"`.
        of: The content of the blocks: `"label"`, `"degree"`, or `"constant"`, a single column of
            ones.
        attributes: Number of attributes.
        blocks: The values with a column in each block, ascending.
        encoded: Number of columns of labels that were given one-hot, with unknown values.
    """

    noun: str = "node"
    of: str = "label"
    attributes: int = 0
    blocks: tuple[tuple[int, ...], ...] = ()
    encoded: int = 0

    @classmethod
    def found(cls, noun: str, labels: Labels | None, attributes: Attributes | None) -> Self:
        """Return the columns of some labels and attributes."""
        encoded = labels.width if isinstance(labels, OneHot) else 0
        blocks: tuple[tuple[int, ...], ...] = ()
        if labels is not None and not isinstance(labels, OneHot):
            blocks = tuple(values_of(column) for column in labels.T)
        width = 0 if attributes is None else attributes.shape[1]
        return cls(noun=noun, attributes=width, blocks=blocks, encoded=encoded)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Invert `dataclasses.asdict`, also after a round trip through JSON."""
        return cls(**{**data, "blocks": tuple(map(tuple, data["blocks"]))})

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.attributes + sum(map(len, self.blocks)) + self.encoded

    @property
    def needs(self) -> tuple[str, ...]:
        """The required data of the nodes or edges: `"labels"`, `"attributes"`, or both."""
        labels = self.of == "label" and (self.encoded or self.blocks)
        return ("labels",) * bool(labels) + ("attributes",) * bool(self.attributes)

    def __str__(self) -> str:
        """Describe number and content of the columns."""
        of_blocks = f"{self.width - self.attributes} of one-hot {self.noun} {self.of}s"
        parts = [f"{self.attributes} of {self.noun} attributes"] * bool(self.attributes)
        parts += [of_blocks] * (self.width > self.attributes)
        values = [f" ({some(block)})" for block in self.blocks if self.of != "constant"]
        return f"{self.width}: {' and '.join(parts)}{''.join(values)}"

    def encode(
        self,
        rows: int,
        *,
        labels: Labels | None,
        attributes: Attributes | None,
        degree: Integers | None = None,
    ) -> Tensor | OneHot:
        """Encode the features, `(rows, width)` float32 or `OneHot`.

        Args:
            rows: Number of nodes or edges.
            labels, attributes: Their labels and attributes, if any.
            degree: The in-degree of each node.

        Raises:
            DatasetError: The data lack labels or attributes, or have values without a column.
        """
        given = None if attributes is None or labels is not None else attributes.shape[1]
        if "labels" in self.needs and given == self.width:  # already encoded
            return _tensor(attributes)
        parts: list[Tensor] = []
        if self.attributes:
            parts.append(self._attributes(labels, attributes))
        one_hot = self._one_hot(rows, labels, degree)
        if one_hot is None:
            return parts[0]
        return torch.cat((parts[0], one_hot.dense()), 1) if parts else one_hot

    def _attributes(self, labels: Labels | None, values: Attributes | None) -> Tensor:
        if values is None and isinstance(labels, OneHot) and "labels" not in self.needs:
            values = labels.dense().numpy()  # attributes that happen to be one-hot
        if values is None or values.shape[1] != self.attributes:
            given = "no attributes" if values is None else count(values.shape[1], "attribute")
            raise DatasetError(
                f"{given} of each {self.noun}, but the model was trained on {self.attributes}"
            )
        return _tensor(values)

    def _one_hot(self, rows: int, labels: Labels | None, degree: Integers | None) -> OneHot | None:
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
            raise DatasetError(f"no {self.noun} labels, {trained}")
        if isinstance(values, OneHot):
            if values.width == self.width - self.attributes:
                return values
            raise DatasetError(
                f"one-hot {self.noun} labels of {values.width} columns, "
                f"but the model was trained on {self.width - self.attributes}"
            )
        if values.shape[1] != len(self.blocks):
            given = count(values.shape[1], "label")
            raise DatasetError(f"{given} of each {self.noun}, {trained}")
        columns = []
        for column, known in zip(values.T, self.blocks, strict=True):
            place, is_known = _places(column, np.array(known))
            if not is_known.all():
                unknown = np.unique(column[~is_known])
                raise DatasetError(
                    f"{count(int((~is_known).sum()), self.noun)} with the "
                    f"{self.of} {some(unknown)}, but the model was trained on {some(known)}"
                )
            columns.append((torch.from_numpy(place), len(known)))
        return OneHot.from_blocks(columns)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The encoding of graphs as input of a model, and its task.

    Args:
        nodes: The columns of the node features; None if only their number is known.
        edges: The columns of the edge features, if the model uses them.
        task: The task.
    """

    nodes: Columns | None
    edges: Columns | None
    task: Task

    @classmethod
    def of(cls, graphs: GraphSet) -> Self:
        """Return the encoding of a set of graphs."""
        return cls(nodes=graphs.columns, edges=graphs.edge_columns, task=graphs.task)

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as JSON-able data; None if unknown."""
        parts = {"nodes": self.nodes, "edges": self.edges}
        return {name: None if part is None else asdict(part) for name, part in parts.items()}

    @classmethod
    def read(cls, data: Mapping[str, Any], task: Task) -> Self:
        """Invert `to_dict`."""
        nodes, edges = (
            None if data.get(name) is None else Columns.read(data[name])
            for name in ("nodes", "edges")
        )
        return cls(nodes=nodes, edges=edges, task=task)

    def unknown(self, items: int) -> Tensor:
        """Return targets of the task that are all missing."""
        if self.task.kind == "classification":
            return torch.full((items,), -1)
        return torch.full((items, self.task.outputs), torch.nan)


def node_columns(
    policy: Features,
    *,
    degree: Integers,
    labels: Labels | None,
    attributes: Attributes | None,
) -> tuple[Columns, str]:
    """Choose the columns of the node features; also describe them.

    - `"labels"`: one-hot node labels, with a column per occurring value, ascending; several label
      columns are concatenated.
    - `"attributes"`: the unchanged node attributes.
    - `"degree"`: one-hot in-degree, with a column per occurring value, ascending. The papers add a
      self loop to every node, which increases all degrees by one and does not change these columns.
    - `"constant"`: a single column of ones.
    - `"auto"`: attributes and labels, concatenated in this order as in PyG, if available (labels
      only if they take several values or are given one-hot); otherwise the degree, or a constant if
      the degree takes more than `MAX_DEGREES` values or only one.

    Without attributes the features are stored as `OneHot`, in a byte or two per node.
    `Columns.encode` makes them.

    Args:
        policy: One of the above.
        degree: In-degree of each node, `(nodes,)`.
        labels: Node labels, `(nodes, columns)` or encoded, if the set has any.
        attributes: Node attributes, `(nodes, columns)`, if the set has any.

    Raises:
        DatasetError: The set does not have the requested labels or attributes.
    """
    if policy == "auto":
        made = _present("node", labels, attributes)
        if made is not None:
            return made
        policy = "degree" if 1 < len(np.unique(degree)) <= MAX_DEGREES else "constant"
    if policy in ("labels", "attributes"):
        words = "one-hot node labels" if policy == "labels" else "node attributes"
        return _asked("node", policy, labels, attributes), words
    if policy == "degree":
        return Columns(of="degree", blocks=(values_of(degree),)), "one-hot degree"
    return Columns(of="constant", blocks=((0,),)), "constant"


def edge_columns_of(
    policy: EdgeFeatures, *, labels: Labels | None, attributes: Attributes | None
) -> Columns | None:
    """Choose the columns of the edge features; None for no features.

    `"labels"`, `"attributes"` and `"auto"` are as for nodes, but without labels and attributes
    `"auto"` gives no features, like `"none"`.

    Args:
        policy: One of the above.
        labels: Edge labels, `(edges, columns)` or encoded, if the set has any.
        attributes: Edge attributes, `(edges, columns)`, if the set has any.

    Raises:
        DatasetError: The set does not have the requested labels or attributes.
    """
    if policy == "auto":
        made = _present("edge", labels, attributes)
        return None if made is None else made[0]
    if policy == "none":
        return None
    return _asked("edge", policy, labels, attributes)


def labels_or_attributes(
    values: Labels | None, policy: str
) -> tuple[Labels | None, Attributes | None]:
    """Classify columns of numbers: integers and one-hot floats are labels.

    Other floats and bools are attributes. A policy of labels or attributes takes precedence if
    possible. An array without columns gives no features.
    """
    if isinstance(values, OneHot):
        return values, None
    if values is None or not values.shape[1]:
        return None, None
    if values.dtype.kind == "b":
        values = values.astype(np.uint8 if policy == "labels" else np.float32)
    if policy == "attributes":
        return None, values
    if values.dtype.kind in "iu":
        return values, None
    one_hot = _columns_of_ones(values)
    return (None, values) if one_hot is None else (one_hot, None)


def _asked(noun: str, policy: str, labels: Labels | None, attributes: Attributes | None) -> Columns:
    """Return the columns of only labels, or only attributes."""
    if policy == "labels" and labels is not None:
        return Columns.found(noun, labels, None)
    if policy == "attributes" and attributes is not None:
        return Columns.found(noun, None, attributes)
    others = ["labels"] * (labels is not None) + ["attributes"] * (attributes is not None)
    if noun == "edge":
        raise DatasetError(
            f"no edge {policy}: ask for edge features {', '.join([*others, 'none'])} or auto"
        )
    has = f"node {others[0]}" if others else "the edges alone"
    raise DatasetError(
        f"no node {policy}; it has {has}: ask for features "
        f"{', '.join([*others, 'degree', 'constant'])} or auto"
    )


def _present(
    noun: str, labels: Labels | None, attributes: Attributes | None
) -> tuple[Columns, str] | None:
    """Return the columns of attributes and labels, if there are informative ones."""
    if not (isinstance(labels, OneHot) or (labels is not None and (labels != labels[:1]).any())):
        labels = None
    if labels is None and attributes is None:
        return None
    if attributes is None:
        words = f"one-hot {noun} labels"
    else:
        words = f"{noun} attributes{'' if labels is None else ' and one-hot labels'}"
    return Columns.found(noun, labels, attributes), words


def as_float32(
    values: NDArray[Any], what: Callable[[int], str], *, nan_allowed: bool = False
) -> NDArray[np.float32]:
    """Convert numbers to float32.

    Args:
        values: `(rows, columns)`.
        what: Returns the name of a row, for messages.
        nan_allowed: Whether numbers may be NaN.

    Raises:
        DatasetError: A number is not finite, or overflows float32.
    """
    # Compare before converting: numbers beyond float32 would become infinite.
    wrong = ~(np.abs(values) <= np.finfo(np.float32).max)
    if nan_allowed:
        wrong &= values == values
    if wrong.any():
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        number = values[row, column]
        how = "is beyond float32 (3.4e38): rescale it" if np.isfinite(number) else "is not finite"
        raise DatasetError(f"{what(row)} holds {number:g} in column {column}, which {how}")
    return values.astype(np.float32)


def _columns_of_ones(values: NDArray[Any]) -> OneHot | None:
    """Convert floats to one-hot labels, if they are one-hot."""
    width = values.shape[1]
    if width < 2 or not len(values) or not (((values == 0) | (values == 1)).all()):
        return None
    if not (values.sum(1) == 1).all():
        return None
    return OneHot.from_columns(torch.from_numpy(values.argmax(1)[:, None]), width)


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def values_of(column: NDArray[Any]) -> tuple[int, ...]:
    """List the occurring values, ascending."""
    if len(column) and column.min() >= 0 and column.max() < _COUNTED:
        # Avoids a sort for small values; bincount does not accept unsigned ones.
        return tuple(np.flatnonzero(np.bincount(column.astype(np.int64))).tolist())
    return tuple(np.unique(column).tolist())


def _places(column: NDArray[Any], known: NDArray[Any]) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the position of each value among the known ones, and whether it is known."""
    if not len(known):
        return np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    last = int(known[-1])
    if known[0] >= 0 and last < _COUNTED:  # a table is faster than a search
        table = np.full(last + 2, -1)
        table[known] = np.arange(len(known))
        inside = (column >= 0) & (column <= last)
        place = table[np.where(inside, column, last + 1).astype(np.int64)]
        return place.clip(min=0), place >= 0
    if column.dtype == np.uint64 and known[0] >= 0:
        known = known.astype(np.uint64)  # otherwise both would become floats
    place = np.searchsorted(known, column).clip(max=len(known) - 1)
    return place, known[place] == column
