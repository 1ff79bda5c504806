"""The layers of e3nn, cuEquivariance and fairchem beside ours, where they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.layers.equivariant import EquivariantLayerNorm, EquivariantRMSNorm, IrrepsBatchNorm
from tests.norms import normal, randomize

IRREPS = "5x0e + 3x0o + 4x1o + 2x2e + 1x0e"
COLUMNS = 31
FAIRCHEM = "core/models/uma/nn/layer_norm.py"


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Tables of theirs, such as the weights of degrees, are made in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def fairchem() -> ModuleType:
    """fairchem's file of norms, which needs torch alone."""
    found = importlib.util.find_spec("fairchem")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    path = next((Path(each, FAIRCHEM) for each in folders if Path(each, FAIRCHEM).exists()), None)
    if path is None:
        pytest.skip("fairchem-core is not installed")
    spec = importlib.util.spec_from_file_location("fairchem_norms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agree(mine: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """Results, gradients and second derivatives, with parameters that go both ways."""
    mine, theirs = mine.double(), theirs.double()
    randomize(theirs)
    mine.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())
    cotangent, direction = normal(*x.shape, seed=2), normal(*x.shape, seed=3)
    found = []
    for layer in (mine, theirs):
        given = x.clone().requires_grad_()
        y = layer(given)
        wanted = [given, *dict(sorted(layer.named_parameters())).values()]
        first = torch.autograd.grad((y * cotangent).sum(), wanted, create_graph=True)
        (second,) = torch.autograd.grad((first[0] * direction).sum(), given)
        found.append([y, *first, second])
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)
    mine.eval()
    theirs.eval()
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-12, atol=1e-12)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value)


@pytest.mark.parametrize("normalization", ["component", "norm"])
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
def test_e3nn(normalization: str, *, affine: bool, bias: bool) -> None:
    e3nn = pytest.importorskip("e3nn.nn")
    options: dict[str, Any] = {"affine": affine, "include_bias": bias}
    mine = IrrepsBatchNorm(IRREPS, normalization=normalization, **options)
    theirs = e3nn.BatchNorm(IRREPS, normalization=normalization, **options)
    agree(mine, theirs, normal(12, COLUMNS) * 2 + 1)


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_cuequivariance(layout: str) -> None:
    cue = pytest.importorskip("cuequivariance")
    layers = pytest.importorskip("cuequivariance_torch.layers.batchnorm")
    irreps = cue.Irreps("O3", IRREPS)
    mine = IrrepsBatchNorm(irreps, layout=layout)
    agree(mine, layers.BatchNorm(irreps, layout=getattr(cue, layout)), normal(12, COLUMNS) + 1)


@pytest.mark.parametrize("normalization", ["component", "norm"])
@pytest.mark.parametrize("lmax", [1, 3])
def test_fairchem(lmax: int, normalization: str) -> None:
    theirs = fairchem()
    x = normal(6, (lmax + 1) ** 2, 4) + 0.5
    kind = {"normalization": normalization}
    agree(
        EquivariantLayerNorm(4, lmax, **kind),
        theirs.EquivariantLayerNormArray(lmax, 4, **kind),
        x,
    )
    agree(
        EquivariantRMSNorm(4, lmax, centering=False, std_balance_degrees=False, **kind),
        theirs.EquivariantRMSNormArraySphericalHarmonics(lmax, 4, **kind),
        x,
    )
    for balanced in (True, False):
        options = kind | {"std_balance_degrees": balanced}
        agree(
            EquivariantLayerNorm(4, lmax, degrees="scalars-and-rest", **options),
            theirs.EquivariantLayerNormArraySphericalHarmonics(lmax, 4, **options),
            x,
        )
        if not (balanced and normalization == "norm"):
            agree(
                EquivariantRMSNorm(4, lmax, **options),
                theirs.EquivariantRMSNormArraySphericalHarmonicsV2(lmax, 4, **options),
                x,
            )
