"""What the nodes' features are made of: one policy for every reader."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.onehot import OneHot
from graphnorms.errors import DatasetError, unknown_name

Features = Literal["auto", "labels", "attributes", "degree", "constant"]

#: `"auto"` makes no one-hot of more degrees than this. It lies between COLLAB's 367, which the
#: literature does encode, and REDDIT-BINARY's 566, which it does not (1.9 GB of zeros).
MAX_DEGREES = 512

Integers = NDArray[np.int64]


def make_features(
    policy: Features,
    *,
    name: str,
    degree: Integers,
    labels: Integers | None,
    attributes: NDArray[np.float32] | None,
) -> tuple[Tensor | OneHot, str]:
    """Make the node features, and say in words what they are.

    - `"labels"`: one-hot node labels, a column for every value that occurs, ascending; several
      label columns stand side by side.
    - `"attributes"`: the node attributes as they are.
    - `"degree"`: one-hot in-degree, a column for every value that occurs, ascending. The papers
      count a self loop added to every node; that raises all degrees by one and leaves these
      columns as they are.
    - `"constant"`: a single column of ones.
    - `"auto"`: labels if they take more than one value, else attributes if there are any, else
      the degree, unless it takes more than `MAX_DEGREES` values or only one: then a constant.
      On the papers' graph sets this is the papers' choice.

    All but the attributes are kept as the columns of their ones: a byte or two per node.

    Shapes: the result is `(nodes, features)` float32, or stands for it.

    Args:
        policy: One of the above.
        name: The data set, for the messages.
        degree: In-degree of each node, `(nodes,)`.
        labels: Node labels, `(nodes, columns)`, if the set has any.
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
        blocks = [_one_hot(column) for column in labels.T]
        return OneHot.from_blocks(blocks), "one-hot node labels"
    if policy == "attributes":
        if attributes is None:
            raise _missing("attributes", name, labels is not None)
        return torch.from_numpy(np.ascontiguousarray(attributes)), "node attributes"
    if policy == "degree":
        return OneHot.from_blocks([_one_hot(degree)]), "one-hot degree"
    return OneHot.from_blocks([(torch.zeros(len(degree)), 1)]), "constant"


def check_policy(policy: str) -> None:
    """Raise the error for a policy that does not exist."""
    if policy not in get_args(Features):
        raise unknown_name("features", policy, get_args(Features))


def _choose(
    degree: Integers, labels: Integers | None, attributes: NDArray[np.float32] | None
) -> Features:
    if labels is not None and (labels != labels[:1]).any():
        return "labels"
    if attributes is not None:
        return "attributes"
    return "degree" if 1 < len(np.unique(degree)) <= MAX_DEGREES else "constant"


def _one_hot(values: Integers) -> tuple[Tensor, int]:
    """The column of each node, `(nodes,)`, and the number of values that occur."""
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
