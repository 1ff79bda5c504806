"""What PyG 2.8 gets wrong, shown on PyG, and that it is right here.

Those of a single layer are with the tests of that layer: HeteroBatchNorm, DiffGroupNorm.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels.cpu import extension

# Dynamo makes an instance of a Function.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(scope="module")
def pyg() -> Any:
    """`torch_geometric.nn`; importing it calls what torch has deprecated."""
    pytest.importorskip("torch_geometric")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


def draw(rows: int, channels: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
    x = torch.randn(rows, channels, generator=torch.Generator().manual_seed(0))
    return x * std + mean


def test_layer_norm_of_no_batch_is_that_of_one_graph(pyg: Any) -> None:
    x, zeros = draw(100, 8, std=1e-3), torch.zeros(100, dtype=torch.int64)
    theirs, ours = pyg.LayerNorm(8), gn.LayerNorm(8)
    assert theirs(x).std() > 0.9
    assert theirs(x, zeros).std() < 0.4
    torch.testing.assert_close(ours(x), ours(x, zeros))
    with pytest.raises(ValueError, match="unknown mode 'rows'"):
        gn.LayerNorm(8, mode="rows")
    pyg.LayerNorm(8, mode="rows")  # refused when it is called only


def test_running_statistics_of_instance_norm(pyg: Any) -> None:
    x, batch = draw(12, 4).requires_grad_(), torch.arange(12) // 6
    arguments = {"affine": True, "track_running_stats": True}
    theirs, ours = pyg.InstanceNorm(4, **arguments), gn.InstanceNorm(4, **arguments)
    for layer in (theirs, ours):
        layer(x, batch)
    assert theirs.running_mean.requires_grad
    assert not ours.running_mean.requires_grad
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(theirs)
    copy.deepcopy(ours)
    assert theirs.num_batches_tracked == 0
    assert ours.num_batches_tracked == 1
    with pytest.raises(TypeError):
        pyg.InstanceNorm(4, momentum=None, **arguments)(x, batch)
    gn.InstanceNorm(4, momentum=None, **arguments)(x, batch)


@pytest.mark.parametrize("name", ["InstanceNorm", "GraphNorm", "LayerNorm", "BatchNorm"])
def test_a_large_mean_costs_no_digits(pyg: Any, name: str) -> None:
    x = draw(3000, 16, mean=1e4)
    batch = () if name == "BatchNorm" else (torch.zeros(3000, dtype=torch.int64), 1)

    def error(layer: torch.nn.Module) -> float:
        exact = copy.deepcopy(layer).double()(x.double(), *batch)
        return float((layer(x, *batch) - exact).detach().abs().max())

    assert error(getattr(pyg, name)(16)) > 1e-3
    assert error(getattr(gn, name)(16)) < 5e-6


def test_float16_overflows_nowhere(pyg: Any) -> None:
    zeros = torch.zeros(3000, dtype=torch.int64)
    long = draw(3000, 4, mean=30).half()
    wide = draw(3000, 4, std=300).half()
    theirs, ours = pyg.GraphNorm(4).half(), gn.GraphNorm(4).half()
    assert not torch.isfinite(theirs(long, zeros, 1)).all() or theirs(long, zeros, 1).std() < 0.5
    assert not 0.9 < theirs(wide, zeros, 1).std() < 1.1
    for x in (long, wide):
        assert 0.95 < ours(x, zeros, 1).float().std() < 1.05


def test_parameters_do_not_widen_the_result(pyg: Any) -> None:
    x, batch = draw(12, 4).bfloat16(), torch.arange(12) // 6
    for name in ("GraphNorm", "LayerNorm"):
        assert getattr(pyg, name)(4)(x, batch, 2).dtype == torch.float32
        assert getattr(gn, name)(4)(x, batch, 2).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert getattr(gn, name)(4)(x, batch, 2).dtype == torch.bfloat16


def test_exported_without_the_number_of_graphs(pyg: Any) -> None:
    x, batch = draw(12, 4), torch.arange(12) // 6
    with pytest.raises(Exception, match=r"data-dependent|GuardOnDataDependent|Eq\(u0"):
        torch.export.export(pyg.GraphNorm(4), (x, batch))
    torch.export.export(gn.GraphNorm(4), (x, batch))


@pytest.mark.skipif(extension.unavailable() is not None, reason="of the kernels")
def test_little_is_kept_for_the_backward(pyg: Any) -> None:
    x, batch = draw(3000, 64).requires_grad_(), torch.arange(3000) // 30

    def kept(layer: torch.nn.Module) -> float:
        seen: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(x, batch, 100)
        return sum(seen.values()) / (x.numel() * 4)

    assert kept(pyg.GraphNorm(64)) > 3.5
    assert kept(gn.GraphNorm(64)) < 1.2


def test_no_rows(pyg: Any) -> None:
    x, batch = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        pyg.GraphNorm(4)(x, batch)
    assert gn.GraphNorm(4)(x, batch).shape == (0, 4)


def test_pair_norm_by_name_has_the_scale_of_pair_norm(pyg: Any) -> None:
    resolver = importlib.import_module("torch_geometric.nn.resolver")
    assert resolver.normalization_resolver("PairNorm", 64).scale == 64
    assert gn.make_norm("pair", 64).scale == 1
    assert gn.make_norm("pair:scale=2", 64).scale == 2
    for name in ("MeanSubtractionNorm", "GraphSizeNorm"):
        with pytest.raises(TypeError):
            resolver.normalization_resolver(name, 64)
    for name in ("mean-subtraction", "graph-size", "message"):
        gn.make_norm(name, 64)
