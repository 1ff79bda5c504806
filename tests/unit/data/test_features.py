from __future__ import annotations

import numpy as np
import pytest
import torch

from graphnorms.data import from_pyg, load_dataset, read_powerful_gnns, read_tu
from graphnorms.data.feature_columns import MAX_DEGREES, Features, node_columns
from graphnorms.data.onehot import OneHot
from graphnorms.errors import DatasetError

DEGREE = np.array([3, 0, 3, 7])
LABELS = np.array([[2], [9], [2], [2]])
ATTRIBUTES = np.array([[0.5], [1], [2], [3]], dtype=np.float32)


def made(policy: Features, **parts: np.ndarray) -> tuple[list[list[float]], str]:
    given = {"degree": DEGREE, "labels": None, "attributes": None} | parts
    columns, description = node_columns(policy, **given)
    x = columns.encode(len(given["degree"]), **given)
    assert x.shape[1] == columns.width
    assert isinstance(x, OneHot) == ("attributes" not in description)
    x = x.dense() if isinstance(x, OneHot) else x
    assert x.dtype == torch.float32
    return x.tolist(), description


def test_each_policy() -> None:
    parts = {"labels": LABELS, "attributes": ATTRIBUTES}
    one_hot_labels = [[1, 0], [0, 1], [1, 0], [1, 0]]
    assert made("labels", **parts) == (one_hot_labels, "one-hot node labels")
    assert made("attributes", **parts) == (ATTRIBUTES.tolist(), "node attributes")
    assert made("degree", **parts) == (
        [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "one-hot degree",
    )
    assert made("constant", **parts) == ([[1]] * 4, "constant")
    assert made("auto", **parts) == (
        [[0.5, 1, 0], [1, 0, 1], [2, 1, 0], [3, 1, 0]],
        "node attributes and one-hot labels",
    )


def test_a_self_loop_on_every_node_changes_no_column() -> None:
    assert made("degree", degree=DEGREE + 1) == made("degree")


def test_auto_passes_over_labels_that_say_nothing() -> None:
    same = np.full((4, 1), 5)
    assert made("auto", labels=same, attributes=ATTRIBUTES)[1] == "node attributes"
    assert made("auto", labels=same)[1] == "one-hot degree"
    assert made("labels", labels=same) == ([[1]] * 4, "one-hot node labels")


def test_auto_is_constant_where_degrees_are_too_many_or_all_alike() -> None:
    many = np.arange(MAX_DEGREES + 1)
    assert made("auto", degree=many)[1] == "constant"
    assert made("auto", degree=many[:-1])[1] == "one-hot degree"
    assert len(made("degree", degree=many)[0][0]) == MAX_DEGREES + 1
    assert made("auto", degree=np.array([4, 4]))[1] == "constant"


def test_asking_for_what_is_not_there() -> None:
    with pytest.raises(DatasetError, match="no node labels; it has the edges alone: ask"):
        made("labels")
    with pytest.raises(
        DatasetError, match="no node attributes; it has node labels: ask for features labels,"
    ):
        made("attributes", labels=LABELS)
    with pytest.raises(DatasetError, match="data set 'MUTAG': no node attributes"):
        load_dataset("MUTAG", features="attributes")


def test_unknown_policy_is_told_before_anything_is_read() -> None:
    unknown = "unknown features 'label'; did you mean labels"
    for reader in (load_dataset, read_tu, read_powerful_gnns):
        with pytest.raises(ValueError, match=unknown):
            reader("MUTAG", features="label")
    with pytest.raises(ValueError, match=unknown):
        from_pyg([], features="label")


def test_mutag_by_each_policy() -> None:
    degree = load_dataset("MUTAG", features="degree")
    assert (degree.num_features, degree.features) == (4, "one-hot degree")
    # The degree is the number of neighbours.
    assert torch.equal(degree.x.argmax(1) + 1, degree.edge_ptr.diff())
    assert load_dataset("MUTAG", features="constant").x.unique().tolist() == [1]
    assert torch.equal(load_dataset("MUTAG", features="labels").x, load_dataset("MUTAG").x)
