"""Running statistics are float32 or wider, whatever a model is cast to, and load as such."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from tests.norms import normal

Make = Callable[..., nn.Module]
LAYERS: dict[str, Make] = {
    "BatchNorm": lambda **k: gn.BatchNorm(4, **k),
    "InstanceNorm": lambda **k: gn.InstanceNorm(4, track_running_stats=True, **k),
    "HeteroBatchNorm": lambda **k: gn.HeteroBatchNorm(4, 1, **k),
    "PowerNorm": lambda **k: gn.PowerNorm(4, warmup=1, **k),
    "DiffGroupNorm": lambda **k: gn.DiffGroupNorm(4, 1, **k),
    "UnitedNorm": lambda **k: gn.UnitedNorm(4, **k),
    "SuperNorm": lambda **k: gn.SuperNorm(4, standardize_rows=False, **k),
}
NARROW = [torch.float16, torch.bfloat16]


def call(layer: nn.Module, x: Tensor) -> Tensor:
    given: dict[str, Any] = {}
    if isinstance(layer, gn.HeteroBatchNorm):
        given = {"type_vec": torch.zeros(x.shape[0], dtype=torch.long)}
    elif isinstance(layer, gn.UnitedNorm):
        edges = torch.zeros(2, 0, dtype=torch.long)
        given = {"adjacency": gn.Adjacency.from_edge_index(edges, x.shape[0])}
    elif isinstance(layer, gn.SuperNorm):
        given = {"factors": torch.ones(x.shape[0])}
    y: Tensor = layer(x, **given)
    return y


def averages(layer: nn.Module) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in layer.named_buffers()
        if name.rpartition(".")[2].startswith("running_")
    }


def dtypes(layer: nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in averages(layer).values()}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("cast", ["method", "to", "type", "made", "default", "within"])
@pytest.mark.parametrize("name", LAYERS)
def test_averages_reach_the_mean(name: str, cast: str, dtype: torch.dtype) -> None:
    """At 0.1 of the rest per step, bfloat16 stops at 98 of 100."""
    if cast == "made":
        layer = LAYERS[name](dtype=dtype)
    elif cast == "default":
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            layer = LAYERS[name]()
        finally:
            torch.set_default_dtype(before)
    else:
        layer = LAYERS[name]()
        if cast == "method":
            layer = layer.half() if dtype == torch.float16 else layer.bfloat16()
        elif cast == "within":
            nn.Sequential(layer).to("cpu", dtype)
        else:
            layer = layer.to(dtype) if cast == "to" else layer.type(dtype)
    assert all(parameter.dtype == dtype for parameter in layer.parameters())
    assert dtypes(layer) == {torch.float32}
    x = (100 + torch.tensor([[-1.0], [1.0]]).expand(2, 4)).to(dtype)
    for _ in range(200):
        y = call(layer, x)
    assert y.dtype == dtype
    found = averages(layer)
    for key, value in found.items():
        if key.endswith("running_mean"):
            torch.testing.assert_close(value, torch.full_like(value, 100.0), rtol=1e-5, atol=0)
        elif key.endswith("running_var"):  # 2 from two rows, each 1 from the mean
            torch.testing.assert_close(value, torch.full_like(value, 2.0), rtol=1e-4, atol=0)
        elif key.endswith("running_moment"):
            torch.testing.assert_close(value, torch.full_like(value, 10001.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_double_is_double(name: str) -> None:
    layer = LAYERS[name]().double()
    assert dtypes(layer) == {torch.float64}
    assert dtypes(layer.float()) == {torch.float32}
    assert dtypes(layer.double().half()) == {torch.float32}
    assert dtypes(LAYERS[name](dtype=torch.float64)) == {torch.float64}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_half_checkpoints_load(name: str, assign: bool) -> None:
    saved = LAYERS[name]()
    call(saved, normal(9, 4).float() + 3)
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in saved.state_dict().items()
    }
    given = dict(state)
    layer = LAYERS[name](dtype=torch.float16)
    layer.load_state_dict(state, assign=assign)
    assert all(state[key] is value for key, value in given.items())  # not changed in place
    assert dtypes(layer) == {torch.float32}
    for key, value in averages(layer).items():
        assert torch.equal(value, state[key].float())
    assert layer.state_dict().keys() == saved.state_dict().keys()


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_empty_devices(name: str) -> None:
    layer = LAYERS[name]().half()
    assert dtypes(copy.deepcopy(layer)) == {torch.float32}
    assert dtypes(pickle.loads(pickle.dumps(layer))) == {torch.float32}
    empty = LAYERS[name](device="meta").half()
    assert dtypes(empty) == {torch.float32}
    assert {value.device.type for value in averages(empty).values()} == {"meta"}
    empty.load_state_dict(layer.state_dict(), assign=True)
    assert dtypes(empty) == {torch.float32}
    made = LAYERS[name](device="meta", dtype=torch.bfloat16).to_empty(device="cpu")
    assert dtypes(made) == {torch.float32}
    assert dtypes(layer.to("meta", torch.bfloat16)) == {torch.float32}


def test_buffers_of_others_are_cast() -> None:
    """What is kept wide is a norm's own."""
    model = nn.Sequential(gn.BatchNorm(4), nn.BatchNorm1d(4)).half()
    assert model[1].running_mean.dtype == torch.float16
    assert model[0].module.running_mean.dtype == torch.float32
