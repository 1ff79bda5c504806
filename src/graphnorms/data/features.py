"""What the features of nodes and edges are made of: one policy for every reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.columns import Attributes, Columns, Integers, Labels, values_of
from graphnorms.data.onehot import OneHot
from graphnorms.data.readers.read_options import EdgeFeatures, Features, Reading
from graphnorms.errors import DatasetError

#: `"auto"` makes no one-hot of more degrees than this. It lies between COLLAB's 367, which the
#: literature does encode, and REDDIT-BINARY's 566, which it does not (1.9 GB of zeros).
MAX_DEGREES = 512


def node_columns(
    policy: Features,
    *,
    name: str,
    degree: Integers,
    labels: Labels | None,
    attributes: Attributes | None,
) -> tuple[Columns, str]:
    """Choose what the node features are made of, and say it in words.

    - `"labels"`: one-hot node labels, a column for every value that occurs, ascending; several
      label columns stand side by side.
    - `"attributes"`: the node attributes as they are.
    - `"degree"`: one-hot in-degree, a column for every value that occurs, ascending. The papers
      count a self loop added to every node; that raises all degrees by one and leaves these
      columns as they are.
    - `"constant"`: a single column of ones.
    - `"auto"`: attributes and labels, side by side in this order as in PyG, of those that there
      are (of labels only such as take more than one value or come encoded); where there are
      none, the degree, unless it takes more than `MAX_DEGREES` values or only one: then a
      constant.

    Where there are no attributes they are kept as the columns of their ones: a byte or two per
    node. `Columns.encode` makes them.

    Args:
        policy: One of the above.
        name: The data set, for the messages.
        degree: In-degree of each node, `(nodes,)`.
        labels: Node labels, `(nodes, columns)` or encoded, if the set has any.
        attributes: Node attributes, `(nodes, columns)`, if the set has any.

    Raises:
        ValueError: The policy is unknown.
        DatasetError: It asks for labels or attributes that the set does not have.
    """
    Reading(features=policy)
    if policy == "auto":
        made = _present("node", labels, attributes)
        if made is not None:
            return made
        policy = "degree" if 1 < len(np.unique(degree)) <= MAX_DEGREES else "constant"
    if policy == "labels":
        if labels is None:
            raise _missing("labels", name, attributes is not None)
        return Columns.found("node", labels, None), "one-hot node labels"
    if policy == "attributes":
        if attributes is None:
            raise _missing("attributes", name, labels is not None)
        return Columns.found("node", None, attributes), "node attributes"
    if policy == "degree":
        return Columns(of="degree", blocks=(values_of(degree),)), "one-hot degree"
    return Columns(of="constant", blocks=((0,),)), "constant"


def edge_columns_of(
    policy: EdgeFeatures, *, name: str, labels: Labels | None, attributes: Attributes | None
) -> Columns | None:
    """Choose what the edge features are made of, if there are to be any.

    `"labels"` and `"attributes"` are as for nodes, `"none"` makes none; `"auto"` takes what there
    is of both, as for nodes, else none.

    Args:
        policy: One of the above.
        name: The data set, for the messages.
        labels: Edge labels, `(edges, columns)` or encoded, if the set has any.
        attributes: Edge attributes, `(edges, columns)`, if the set has any.

    Raises:
        ValueError: The policy is unknown.
        DatasetError: It asks for labels or attributes that the set does not have.
    """
    Reading(edge_features=policy)
    if policy == "auto":
        made = _present("edge", labels, attributes)
        return None if made is None else made[0]
    if policy == "none":
        return None
    values = labels if policy == "labels" else attributes
    if values is None:
        other = {"labels": attributes, "attributes": labels}[policy]
        also = {"labels": "attributes, ", "attributes": "labels, "}[policy]
        raise DatasetError(
            f"data set {name!r} has no edge {policy}: "
            f"ask for edge features {'' if other is None else also}none or auto"
        )
    return Columns.found("edge", *((values, None) if policy == "labels" else (None, values)))


def labels_or_attributes(
    values: NDArray[Any] | None, policy: str
) -> tuple[Labels | None, Attributes | None]:
    """Tell what columns of numbers are: integers are labels, and so are floats that are one-hot.

    Other floats are attributes, and so is yes or no, as 1 and 0. Where a policy asks for labels
    or attributes it is followed, as far as it can be. No columns are no features.
    """
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


def _present(
    noun: str, labels: Labels | None, attributes: Attributes | None
) -> tuple[Columns, str] | None:
    """Attributes and labels side by side, as far as there are any that say something."""
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
    """Numbers as float32.

    Args:
        values: `(rows, columns)`.
        what: Says what a row is, for the message.
        nan_allowed: Whether a number may be missing.

    Raises:
        DatasetError: One of them is not finite, or beyond float32.
    """
    # Compared as they are: what is beyond float32 becomes an infinity there.
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
    """Floats as one-hot labels, if that is what they are."""
    width = values.shape[1]
    if width < 2 or not len(values) or not (((values == 0) | (values == 1)).all()):
        return None
    if not (values.sum(1) == 1).all():
        return None
    return OneHot.from_columns(torch.from_numpy(values.argmax(1)[:, None]), width)


def _missing(wanted: str, name: str, has_other: bool) -> DatasetError:
    other = {"labels": "attributes", "attributes": "labels"}[wanted]
    has = f"it has node {other}" if has_other else "it has the edges alone"
    choices = [*([other] if has_other else []), "degree", "constant"]
    return DatasetError(
        f"data set {name!r} has no node {wanted}; {has}: "
        f"ask for features {', '.join(choices)} or auto"
    )
