"""Force fields of others keep their energies, forces and gradients with fused norms."""

from __future__ import annotations

import copy
import importlib.util
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import graphnorms as gn
from tests.force_models import MODELS
from tests.fused_models import compare
from tests.norms import normal, randomize

SH, ARRAY = "EquivariantLayerNormArraySphericalHarmonics", "EquivariantLayerNormArray"
V2 = "EquivariantRMSNormArraySphericalHarmonicsV2"
REPLACED = {
    "gate network": {"BatchNorm": 2},
    "ViSNet": {"LayerNorm": 3},
    "FullyConnectedTensorProductConv": {"BatchNorm": 1},
    "UMA rms_norm_sh": {"LayerNorm": 6, V2: 5},
    "UMA layer_norm_sh": {"LayerNorm": 6, SH: 5},
    "UMA layer_norm": {"LayerNorm": 6, ARRAY: 5},
    "EquiformerV2 rms_norm_sh": {"LayerNorm": 11, V2: 5},
    "EquiformerV2 layer_norm_sh": {"LayerNorm": 11, SH: 5},
    "EquiformerV2 layer_norm": {"LayerNorm": 11, ARRAY: 5},
    "TorchMD-ET": {"LayerNorm": 3},
    "TensorNet": {"LayerNorm": 2},
    "MACE": {"LayerNorm": 6},
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("graph_norm", "EquivariantGraphNormV2"),
        ("layer_norm", "EquivariantLayerNormV2"),
        ("fast_layer_norm", "EquivariantLayerNormFast"),
    ],
)
def test_norms_of_equiformer(file: str, name: str) -> None:
    """With a clone of atomicarchitects/equiformer at 64cb786 on PYTHONPATH."""
    paths = (Path(folder, "nets", f"{file}.py") for folder in sys.path)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        pytest.skip("no clone of equiformer is on PYTHONPATH")
    # By its path, as its package imports much more.
    spec = importlib.util.spec_from_file_location(f"nets.{file}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    norm = getattr(module, name)("5x0e + 3x0o + 4x1o + 2x2e", normalization="norm")
    randomize(norm)
    (change,) = gn.replace_norms(nn.Sequential(copy.deepcopy(norm)), "fused").changed
    x, batch = normal(6, 30), torch.tensor([0, 0, 0, 1, 1, 1])
    y = change.new(node_input=x, batch=batch)
    torch.testing.assert_close(y, norm(node_input=x, batch=batch), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_energies_forces_and_gradients(name: str) -> None:
    try:
        replacement, differences = compare(name)
    except ImportError as error:
        pytest.skip(str(error))
    assert Counter(type(change.old).__name__ for change in replacement.changed) == REPLACED[name]
    assert not replacement.left
    assert {"energy", "forces", "gradient"} <= differences.keys()
    assert max(differences.values()) < 1e-12
