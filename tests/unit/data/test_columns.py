"""The columns of features: found once, and the same for other graphs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from graphnorms.data import Task
from graphnorms.data.feature_columns import Columns, Encoding
from graphnorms.data.onehot import OneHot
from graphnorms.errors import DatasetError

RANGES = [
    (np.int64, 0, 20),
    (np.int64, -5, 10),
    (np.uint8, 0, 200),
    (np.uint64, 0, 2**63),
    (np.int32, 70_000, 70_100),
    (np.uint16, 60_000, 65_535),
]


def dense(x: torch.Tensor | OneHot) -> torch.Tensor:
    return x.dense() if isinstance(x, OneHot) else x


@pytest.mark.parametrize(("dtype", "low", "high"), RANGES)
def test_labels_get_the_columns_of_those_that_were_seen(dtype: type, low: int, high: int) -> None:
    random = np.random.default_rng(0)
    seen = random.integers(low, high, (40, 2), dtype=dtype)
    columns = Columns.found("node", seen, None)
    few = seen[[5, 2, 5]]
    found = dense(columns.encode(3, labels=few, attributes=None))
    expected = [
        [
            float(value == known)
            for value, block in zip(row, columns.blocks, strict=True)
            for known in block
        ]
        for row in few.tolist()
    ]
    assert found.tolist() == expected
    assert columns.width == len(np.unique(seen[:, 0])) + len(np.unique(seen[:, 1]))
    other = np.setdiff1d(random.integers(low, high, 50, dtype=dtype), seen[:, 1])[:1]
    few[1, 1] = other[0]
    with pytest.raises(DatasetError, match=f"1 node with the label {other[0]}, but the model was"):
        columns.encode(3, labels=few, attributes=None)


def test_attributes_stand_in_front_and_degrees_have_columns_too() -> None:
    labels, attributes = np.array([[3], [7]]), np.array([[0.5, 1], [2, 3]])
    columns = Columns.found("node", labels, attributes)
    found = dense(columns.encode(2, labels=labels[::-1], attributes=attributes))
    assert found.tolist() == [[0.5, 1, 0, 1], [2, 3, 1, 0]]
    degrees = Columns(of="degree", blocks=((1, 4),))
    found = dense(degrees.encode(2, labels=None, attributes=None, degree=np.array([4, 1])))
    assert found.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DatasetError, match=r"1 node with the degree 2, but .* trained on 1, 4"):
        degrees.encode(1, labels=None, attributes=None, degree=np.array([2]))
    with pytest.raises(DatasetError, match="1 attribute of each node, but the model was"):
        Columns(attributes=2).encode(2, labels=None, attributes=attributes[:, :1])


def test_an_encoding_survives_json() -> None:
    task = Task(kind="classification", targets=("a", "b"))
    nodes = Columns(attributes=1, blocks=((0, 3), (-1,)))
    encoding = Encoding(nodes=nodes, edges=Columns(noun="edge", encoded=4), task=task)
    assert Encoding.read(json.loads(json.dumps(encoding.to_dict())), task) == encoding
    unknown = Encoding(nodes=None, edges=None, task=task)
    assert Encoding.read(json.loads(json.dumps(unknown.to_dict())), task) == unknown
