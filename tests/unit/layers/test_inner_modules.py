"""The modules inside layers: they are called where that can be noticed, as PyG calls them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from tests.norms import import_pyg, normal, randomize

PATHS = [
    (lambda: gn.BatchNorm(6), lambda: import_pyg().BatchNorm(6), "module"),
    (
        lambda: gn.DiffGroupNorm(6, 3, lamda=0.5),
        lambda: import_pyg().DiffGroupNorm(6, 3, lamda=0.5),
        "norm",
    ),
    (
        lambda: gn.DiffGroupNorm(6, 3, lamda=0.5),
        lambda: import_pyg().DiffGroupNorm(6, 3, lamda=0.5),
        "lin",
    ),
]
IDS = ["BatchNorm.module", "DiffGroupNorm.norm", "DiffGroupNorm.lin"]
Make = Callable[[], nn.Module]


def twins(ours: Make, pygs: Make) -> tuple[nn.Module, nn.Module]:
    """A layer and PyG's, with the same parameters, in float64."""
    layers = ours().double(), pygs().double()
    randomize(layers[1])
    layers[0].load_state_dict(layers[1].state_dict())
    return layers


@pytest.mark.parametrize(("ours", "pygs", "path"), PATHS, ids=IDS)
@pytest.mark.parametrize("training", [True, False])
def test_hooks_see_what_pygs_see(ours: Make, pygs: Make, path: str, training: bool) -> None:
    found: list[dict[str, Tensor]] = []
    for layer in twins(ours, pygs):
        layer(normal(30, 6, seed=3))
        seen: dict[str, Tensor] = {}
        inner = layer.train(training).get_submodule(path)

        def before(_: object, args: tuple[Tensor], seen: dict[str, Tensor] = seen) -> None:
            (seen["input"],) = args

        def after(_: object, __: object, y: Tensor, seen: dict[str, Tensor] = seen) -> None:
            seen["output"] = y

        def backward(
            _: object,
            grads: tuple[Tensor],
            outer: tuple[Tensor],
            seen: dict[str, Tensor] = seen,
        ) -> None:
            seen["grad_input"], seen["grad_output"] = grads[0], outer[0]

        inner.register_forward_pre_hook(before)
        inner.register_forward_hook(after)
        inner.register_full_backward_hook(backward)
        x = (normal(40, 6) * 2 + 1).requires_grad_()
        y = layer(x)
        seen["x"] = torch.autograd.grad(y, x, normal(40, 6, seed=9))[0]
        seen["y"] = y
        seen |= {name: value.clone() for name, value in layer.named_buffers()}
        found.append(seen)
    assert len(found[0]) >= 6
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("ours", "pygs", "path"), PATHS, ids=IDS)
@pytest.mark.parametrize("training", [True, False])
def test_a_hook_changes_nothing(ours: Make, pygs: Make, path: str, training: bool) -> None:
    layer = ours().double()
    randomize(layer)
    layer.activation = "gelu"
    layer(normal(30, 6, seed=3))
    hooked = copy.deepcopy(layer.train(training))
    hooked.get_submodule(path).register_forward_hook(lambda *_: None)
    mask, residual = torch.arange(40) % 3 != 0, normal(40, 6, seed=2)
    x = normal(40, 6) * 2 + 1
    results = [
        [one(x, mask=mask, residual=residual), *map(torch.clone, one.buffers())]
        for one in (layer, hooked)
    ]
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("ours", "pygs", "path"), PATHS, ids=IDS)
def test_hooks_change_results(ours: Make, pygs: Make, path: str) -> None:
    """As an attribution by a layer does: it takes input or output in its own hands."""
    results = []
    for layer in twins(ours, pygs):
        inner = layer.get_submodule(path)
        inner.register_forward_pre_hook(lambda _, args: (args[0] * 3 + args[0].square(),))
        inner.register_forward_hook(lambda _, __, y: y * 2)
        results.append(layer(normal(40, 6)))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


def test_hooks_on_every_module() -> None:
    names: list[str] = []
    layer = gn.BatchNorm(4)
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, *_: names.append(type(module).__name__)
    )
    try:
        layer(normal(5, 4).float())
    finally:
        handle.remove()
    assert names == ["InnerBatchNorm", "BatchNorm"]
    layer(normal(5, 4).float())
    assert len(names) == 2


@pytest.mark.parametrize("training", [True, False])
def test_forward_of_an_instance_is_called(training: bool) -> None:
    """That is how accelerate moves parameters to where they are needed."""
    layer = gn.BatchNorm(4).train(training)
    old, calls = layer.module.forward, []

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(args)
        return old(*args, **kwargs)

    layer.module.forward = forward  # type: ignore[method-assign]
    x = normal(5, 4).float()
    expected = gn.BatchNorm(4).train(training)(x)
    assert torch.equal(layer(x), expected)
    assert len(calls) == 1


@pytest.mark.parametrize("path", ["module", "norm", "lin"])
def test_an_exchanged_module_is_called(path: str) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3] * 2 if path == "lin" else x * 2

    layer = gn.BatchNorm(4) if path == "module" else gn.DiffGroupNorm(4, 3, lamda=0.5)
    layer = layer.double()
    setattr(layer, path, Twice())
    layer.reset_parameters()
    x = normal(9, 4)
    if path == "module":
        assert torch.equal(layer(x), 2 * x)
        assert repr(layer) == "BatchNorm(module=Twice())"
    elif path == "norm":
        torch.testing.assert_close(layer(x), x + 0.5 * 2 * x)  # the shares sum to 1
    else:
        share = (2 * x[:, :3]).softmax(1)
        parts = share.unsqueeze(2) * x.unsqueeze(1)  # (nodes, groups, channels)
        normed = (parts - parts.mean(0)) / (parts.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(layer(x), x + 0.5 * normed.sum(1))
        return
    with pytest.raises(ValueError, match=f"{path} is a Twice .* called without a mask"):
        layer(x, mask=torch.ones(9, dtype=torch.bool))
    layer.process_group = "world"
    with pytest.raises(ValueError, match="called without a process_group"):
        layer(x)


def test_an_exchanged_linear_map_without_parameters() -> None:
    """Where a layer asked for the dtype of `weight`."""
    layer = gn.ConditionalNorm(4, 8)
    layer.linear = nn.Identity()  # type: ignore[assignment]
    condition = normal(1, 8).float()
    x = normal(9, 4).float()
    z = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    expected = (1 + condition[:, :4]) * z + condition[:, 4:]
    torch.testing.assert_close(layer(x, condition=condition), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [gn.BatchNorm(4), gn.DiffGroupNorm(4, 3), gn.UnitedNorm(4)])
def test_conversion_by_torch_shows_and_keeps_the_state(layer: nn.Module) -> None:
    layer = copy.deepcopy(layer)
    randomize(layer)
    before = copy.deepcopy(layer.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    assert converted is layer
    assert "process_group=world" in repr(layer)
    assert layer.process_group == "world"
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert layer.state_dict().keys() == before.keys()
    assert layer.state_dict().keys() == pickle.loads(pickle.dumps(layer)).state_dict().keys()
    with pytest.raises(RuntimeError, match=r"call torch\.distributed\.init_process_group"):
        layer(normal(5, 4).float(), **_edges(layer))
    for part in (layer, *layer.children()):
        if hasattr(part, "process_group") and part.process_group is not None:
            part.process_group = None
    assert "process_group" not in repr(layer)
    layer(normal(5, 4).float(), **_edges(layer))


def _edges(layer: nn.Module) -> dict[str, Any]:
    if not isinstance(layer, gn.UnitedNorm):
        return {}
    return {"adjacency": gn.Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 5)}


@pytest.mark.parametrize("layer", [gn.UnitedNorm(4), gn.SuperNorm(4)])
def test_a_single_row_is_refused_without_an_argument_that_is_not_there(layer: nn.Module) -> None:
    given: dict[str, Any] = {"factors": torch.ones(1)}
    if isinstance(layer, gn.UnitedNorm):
        given = {"adjacency": gn.Adjacency.from_edge_index(torch.zeros(2, 0).long(), 1)}
    with pytest.raises(ValueError, match=r"size torch\.Size.*; use a larger batch$"):
        layer(normal(1, 4).float(), **given)
    with pytest.raises(ValueError, match=r"use a larger batch$"):
        gn.BatchNorm(4, track_running_stats=False)(normal(1, 4).float())
    with pytest.raises(ValueError, match=r"or allow_single_element=True$"):
        gn.BatchNorm(4)(normal(1, 4).float())
