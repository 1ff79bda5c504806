"""Force fields of others keep their energies, forces and gradients with fused norms."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from tests.force_models import MODELS
from tests.fused_models import compare

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
