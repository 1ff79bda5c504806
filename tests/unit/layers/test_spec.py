"""Normalizations as text."""

from __future__ import annotations

import pytest

import graphnorms as gn
from graphnorms.layers import lookup
from graphnorms.layers.spec import format_spec, parse_spec, split_specs


def test_lists_split_at_names() -> None:
    text = "none,graph:eps=0.1, instance:affine=true,momentum=none,batch,,"
    assert split_specs(text) == [
        "none",
        "graph:eps=0.1",
        "instance:affine=true,momentum=none",
        "batch",
    ]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("pair", {}),
        ("pair:scale=2", {"scale": 2}),
        ("pair:scale=2.5,on=true", {"scale": 2.5, "on": True}),
        ("custom:center=graph,shift=none", {"center": "graph", "shift": None}),
        ("x:eps=1e-3", {"eps": 1e-3}),
    ],
)
def test_round_trip(text: str, arguments: dict[str, object]) -> None:
    name, got = parse_spec(text)
    assert got == arguments
    assert [type(value) for value in got.values()] == [type(value) for value in arguments.values()]
    assert parse_spec(format_spec(name, got)) == (name, got)


def test_rows_of_texts() -> None:
    row = lookup("instance:momentum=0.2, affine=false")
    assert row.name == "instance:affine=false,momentum=0.2"
    assert row.title == "InstanceNorm (affine=False, momentum=0.2)"
    assert row.arguments == {"affine": False, "momentum": 0.2}
    norm = gn.make_norm("instance:momentum=0.2,affine=false", 4)
    assert isinstance(norm, gn.InstanceNorm)
    assert (norm.momentum, norm.affine) == (0.2, False)
    assert gn.make_norm("graph:eps=0.5", 4, eps=0.5).eps == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpah", "unknown norm 'grpah'; did you mean graph"),
        ("graph:epsilon=1", "unknown argument of graph 'epsilon'; did you mean eps?"),
        ("graph:dropout=0.5", "unknown argument of graph 'dropout'"),
        ("graph:eps", "expected argument=value"),
        ("graph:eps=", "expected argument=value"),
        ("graph:eps=-1", "eps is -1, expected a positive number"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gn.make_norm(text, 4)
