"""What `convert_sync` changes in a model; what comes of it is tested over ranks."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import graphnorms as gn
from tests.norms import import_pyg, randomize


def test_norms_of_the_batch_are_shared_and_those_of_graphs_are_not() -> None:
    pyg = import_pyg()
    model = nn.ModuleDict(
        {
            "torch": nn.BatchNorm1d(3, eps=1e-3, momentum=None),
            "pyg": pyg.BatchNorm(4, allow_single_element=True),
            "types": pyg.HeteroBatchNorm(4, 5),
            "groups": pyg.DiffGroupNorm(4, 3),
            "averages": pyg.InstanceNorm(4, track_running_stats=True),
            "ours": gn.BatchNorm(3, activation="relu"),
            "united": gn.UnitedNorm(4),
            "graph": pyg.GraphNorm(4),
            "node": nn.LayerNorm(4),
            "images": nn.BatchNorm2d(4),
        }
    )
    randomize(model)
    before = {name: copy.deepcopy(norm.state_dict()) for name, norm in model.items()}
    result = gn.convert_sync(model)
    assert result.model is model
    shared = {change.name for change in result.changed}
    assert shared == {"torch", "pyg", "types", "groups", "averages", "ours", "united"}
    assert {change.name for change in result.left} == {"graph", "node", "images"}
    for name in shared:
        assert model[name].process_group == "world"
        for key, value in model[name].state_dict().items():
            old = before[name].get(key, before[name].get(key.removeprefix("module.")))
            assert torch.equal(value, old)
    assert model["torch"].module.eps == 1e-3
    assert model["torch"].module.momentum is None
    assert model["pyg"].allow_single_element
    assert model["types"].num_types == 5
    assert model["averages"].whole_graphs
    assert model["united"].batch_norm.process_group == "world"
    assert model["united"].graph_norm.process_group is None
    assert type(model["images"]) is nn.BatchNorm2d
    assert "split_graphs=True" in str(result)
    assert "of the world" in str(result)


def test_split_graphs_share_the_norms_of_graphs_too() -> None:
    pyg = import_pyg()
    model = nn.ModuleList(
        [
            pyg.GraphNorm(4),
            pyg.PairNorm(scale=2.0),
            pyg.LayerNorm(4),
            pyg.LayerNorm(4, mode="node"),
            gn.InstanceNorm(4),
            gn.GroupNorm(4, 2, mode="graph"),
            pyg.MeanSubtractionNorm(),
            pyg.GraphSizeNorm(),
            gn.SuperNorm(4),
        ]
    )
    result = gn.convert_sync(model, split_graphs=True)
    assert {change.name for change in result.left} == {"3", "8"}
    assert isinstance(model[0], gn.GraphNorm)
    assert model[1].scale == 2.0
    assert not model[4].whole_graphs
    assert all(model[int(change.name)].process_group == "world" for change in result.changed)


def test_undo_puts_everything_back() -> None:
    ours, torchs = gn.InstanceNorm(3, track_running_stats=True), nn.BatchNorm1d(3)
    model = nn.Sequential(ours, torchs, torchs)
    result = gn.convert_sync(model, "world")
    assert model[1] is model[2]
    assert isinstance(model[1], gn.BatchNorm)
    result.undo()
    assert model[0] is ours
    assert model[1] is model[2] is torchs
    assert ours.process_group is None
    assert not ours.whole_graphs


def test_a_model_that_is_a_norm() -> None:
    layer = gn.convert_sync(nn.BatchNorm1d(3).eval()).model
    assert isinstance(layer, gn.BatchNorm)
    assert not layer.training


def test_a_model_without_norms() -> None:
    with pytest.raises(ValueError, match="Linear has no norm"):
        gn.convert_sync(nn.Linear(3, 3))


def test_a_layer_with_a_group_is_copied_and_pickled() -> None:
    layer = gn.GraphNorm(3, process_group=True)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.process_group == "world"
        assert "process_group=world" in repr(twin)
