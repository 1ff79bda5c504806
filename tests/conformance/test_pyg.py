"""The layers against PyG's own, in float64, at random parameters; checkpoints both ways."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from tests.norms import randomize


@pytest.fixture(scope="module")
def pyg() -> Any:
    """`torch_geometric.nn`; importing it calls what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "BatchNorm": ("BatchNorm", {}),
    "BatchNorm plain": ("BatchNorm", {"affine": False, "track_running_stats": False}),
    "BatchNorm cumulative": ("BatchNorm", {"momentum": None}),
    "LayerNorm graph": ("LayerNorm", {}),
    "LayerNorm node": ("LayerNorm", {"mode": "node"}),
    "LayerNorm plain": ("LayerNorm", {"affine": False}),
    "InstanceNorm": ("InstanceNorm", {}),
    "InstanceNorm affine": ("InstanceNorm", {"affine": True}),
    "InstanceNorm tracked": ("InstanceNorm", {"affine": True, "track_running_stats": True}),
    "GraphNorm": ("GraphNorm", {}),
    "GraphNorm eps": ("GraphNorm", {"eps": 1e-2}),
}
BATCHES: dict[str, Callable[[], Tensor | None]] = {
    "none": lambda: None,
    "sorted": lambda: torch.arange(40) // 10,  # equal sizes: running statistics agree as well
    "unsorted": lambda: (torch.arange(40) * 7) % 4,
    "int32": lambda: ((torch.arange(40) * 7) % 4).int(),
}


def pair(pyg: Any, name: str) -> tuple[nn.Module, nn.Module]:
    kind, arguments = LAYERS[name]
    theirs = getattr(pyg, kind)(16, **arguments).double()
    ours = getattr(gn, kind)(16, **arguments, dtype=torch.float64)
    randomize(theirs, torch.Generator().manual_seed(0))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("batch_name", BATCHES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_pyg(pyg: Any, name: str, batch_name: str, training: bool) -> None:
    ours, theirs = pair(pyg, name)
    ours.train(training)
    theirs.train(training)
    kind, arguments = LAYERS[name]
    batch = BATCHES[batch_name]()
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):  # running statistics move on
        x = torch.randn(40, 16, generator=generator, dtype=torch.float64) * 2 + 3
        grad_y = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = ours(mine, batch)
        if kind == "BatchNorm":
            expected = theirs(other)
        elif kind == "LayerNorm" and batch is None and arguments.get("mode") != "node":
            # PyG divides by std + eps here, and by sqrt(var + eps) for zeros: the latter is meant
            expected = theirs(other, torch.zeros(40, dtype=torch.long))
        else:
            expected = theirs(other, None if batch is None else batch.long())
        assert torch.allclose(y, expected, rtol=1e-11, atol=1e-11)
        y.backward(grad_y)
        expected.backward(grad_y)
        assert mine.grad is not None
        assert other.grad is not None
        assert torch.allclose(mine.grad, other.grad, rtol=1e-10, atol=1e-11)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert a.grad is not None
            assert b.grad is not None
            assert torch.allclose(a.grad, b.grad, rtol=1e-10, atol=1e-10)
        # A second backward through PyG's running statistics would raise: start it afresh.
        for buffer_name, buffer in list(theirs.named_buffers()):
            if buffer.requires_grad:
                setattr(theirs, buffer_name, buffer.detach())
    for (key, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        if key == "num_batches_tracked" and kind == "InstanceNorm":
            continue  # PyG never moves it, or torch does where batch is None
        assert torch.allclose(a, b, rtol=1e-11), key


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith("BatchNorm")])
def test_empty_graphs_and_no_rows_equal_pyg(pyg: Any, name: str) -> None:
    ours, theirs = pair(pyg, name)
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = (torch.arange(40) * 3) % 4 * 2  # graphs 0, 2, 4, 6 of 9
    y, expected = ours(x, batch, 9), theirs(x, batch, 9)
    assert torch.allclose(y, expected, rtol=1e-11, atol=1e-11)
    if "tracked" not in name:  # PyG's averages over no graphs are not numbers
        assert ours(x[:0], batch[:0], 9).shape == theirs(x[:0], batch[:0], 9).shape == (0, 16)
    assert ours(x[:0], batch[:0]).shape == (0, 16)  # where PyG needs batch_size


@pytest.mark.parametrize("name", LAYERS)
def test_checkpoints_load_both_ways(pyg: Any, name: str) -> None:
    ours, theirs = pair(pyg, name)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_repr_is_pygs(pyg: Any, name: str) -> None:
    kind, arguments = LAYERS[name]
    ours = getattr(gn, kind)(16, **arguments)
    assert repr(ours) == repr(getattr(pyg, kind)(16, **arguments))
    fused = getattr(gn, kind)(16, **arguments, activation="relu")
    assert repr(fused) == repr(ours)[:-1] + ", activation='relu')"


def test_graph_norm_of_more_dimensions_equals_pyg(pyg: Any) -> None:
    ours, theirs = pair(pyg, "GraphNorm")
    x = torch.randn(40, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    batch = torch.arange(40) // 7
    assert torch.allclose(ours(x, batch), theirs(x, batch))


def test_batch_norm_of_one_row_is_pygs(pyg: Any) -> None:
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        gn.BatchNorm(16)(x)
    with pytest.raises(ValueError, match="requires 'track_running_stats'"):
        gn.BatchNorm(16, track_running_stats=False, allow_single_element=True)
    assert torch.allclose(gn.BatchNorm(16, allow_single_element=True)(x), x, atol=1e-5)
