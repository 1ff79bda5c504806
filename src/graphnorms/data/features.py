"""What the features of nodes and edges are made of: one policy for every reader."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.onehot import OneHot
from graphnorms.errors import DatasetError, unknown_name

Features = Literal["auto", "labels", "attributes", "degree", "constant"]
EdgeFeatures = Literal["auto", "labels", "attributes", "none"]

#: `"auto"` makes no one-hot of more degrees than this. It lies between COLLAB's 367, which the
#: literature does encode, and REDDIT-BINARY's 566, which it does not (1.9 GB of zeros).
MAX_DEGREES = 512

_COUNTED = 1 << 16

Integers = NDArray[np.int64]
Attributes = NDArray[np.float32]
#: Of any integer type, `(rows, columns)`; or encoded already.
Labels = NDArray[Any] | OneHot


def make_features(
    policy: Features,
    *,
    name: str,
    degree: Integers,
    labels: Labels | None,
    attributes: Attributes | None,
) -> tuple[Tensor | OneHot, str]:
    """Make the node features, and say in words what they are.

    - `"labels"`: one-hot node labels, a column for every value that occurs, ascending; several
      label columns stand side by side.
    - `"attributes"`: the node attributes as they are.
    - `"degree"`: one-hot in-degree, a column for every value that occurs, ascending. The papers
      count a self loop added to every node; that raises all degrees by one and leaves these
      columns as they are.
    - `"constant"`: a single column of ones.
    - `"auto"`: labels if they take more than one value or come encoded, else attributes if there
      are any, else the degree, unless it takes more than `MAX_DEGREES` values or only one: then
      a constant.
      On the papers' graph sets this is the papers' choice.

    All but the attributes are kept as the columns of their ones: a byte or two per node.

    Shapes: the result is `(nodes, features)` float32, or stands for it.

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
    check_policy(policy)
    if policy == "auto":
        policy = _choose(degree, labels, attributes)
    if policy == "labels":
        if labels is None:
            raise _missing("labels", name, attributes is not None)
        return _encoded(labels), "one-hot node labels"
    if policy == "attributes":
        if attributes is None:
            raise _missing("attributes", name, labels is not None)
        return torch.from_numpy(np.ascontiguousarray(attributes)), "node attributes"
    if policy == "degree":
        return OneHot.from_blocks([_one_hot(degree)]), "one-hot degree"
    return OneHot.from_blocks([(torch.zeros(len(degree)), 1)]), "constant"


def make_edge_features(
    policy: EdgeFeatures, *, name: str, labels: Labels | None, attributes: Attributes | None
) -> Tensor | OneHot | None:
    """Make the edge features, if there are to be any.

    `"labels"` and `"attributes"` are as for nodes, `"none"` makes none; `"auto"` takes labels,
    else attributes, else none.

    Args:
        policy: One of the above.
        name: The data set, for the messages.
        labels: Edge labels, `(edges, columns)` or encoded, if the set has any.
        attributes: Edge attributes, `(edges, columns)`, if the set has any.

    Raises:
        ValueError: The policy is unknown.
        DatasetError: It asks for labels or attributes that the set does not have.
    """
    check_edge_policy(policy)
    if policy == "auto":
        policy = "none"
        if labels is not None or attributes is not None:
            policy = "attributes" if labels is None else "labels"
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
    if policy == "labels":
        return _encoded(values)
    assert not isinstance(values, OneHot)
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def labels_or_attributes(
    values: NDArray[Any] | None, policy: str
) -> tuple[Labels | None, Attributes | None]:
    """Tell what columns of numbers are by their type: integers are labels, floats attributes.

    Integers are taken as attributes too where a policy asks for them.
    """
    if values is None:
        return None, None
    if values.dtype.kind in "biu" and policy != "attributes":
        return values, None
    return None, values.astype(np.float32)


def check_policy(policy: str) -> None:
    """Raise the error for a policy that does not exist."""
    if policy not in get_args(Features):
        raise unknown_name("features", policy, get_args(Features))


def check_edge_policy(policy: str) -> None:
    """Raise the error for a policy for edges that does not exist."""
    if policy not in get_args(EdgeFeatures):
        raise unknown_name("edge features", policy, get_args(EdgeFeatures))


def _choose(degree: Integers, labels: Labels | None, attributes: Attributes | None) -> Features:
    if isinstance(labels, OneHot) or (labels is not None and (labels != labels[:1]).any()):
        return "labels"
    if attributes is not None:
        return "attributes"
    return "degree" if 1 < len(np.unique(degree)) <= MAX_DEGREES else "constant"


def _encoded(labels: Labels) -> OneHot:
    """One-hot labels, the columns of labels side by side."""
    if isinstance(labels, OneHot):
        return labels
    return OneHot.from_blocks([_one_hot(column) for column in labels.T])


def _one_hot(values: NDArray[Any]) -> tuple[Tensor, int]:
    """The column of each row, `(rows,)`, and the number of values that occur."""
    if len(values) and values.min() >= 0 and values.max() < _COUNTED:
        occurs = np.bincount(values) > 0  # no sort, where the values are few
        return torch.from_numpy((np.cumsum(occurs) - 1)[values]), int(occurs.sum())
    kinds, column = np.unique(values, return_inverse=True)
    return torch.from_numpy(column), len(kinds)


def _missing(wanted: str, name: str, has_other: bool) -> DatasetError:
    other = {"labels": "attributes", "attributes": "labels"}[wanted]
    has = f"it has node {other}" if has_other else "it has the edges alone"
    choices = [*([other] if has_other else []), "degree", "constant"]
    return DatasetError(
        f"data set {name!r} has no node {wanted}; {has}: "
        f"ask for features {', '.join(choices)} or auto"
    )
