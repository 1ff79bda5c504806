"""`scripts/agree_with_pyg.py`: the paper's GIN is the one that others write with PyG."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from graphnorms.data import load_dataset

pytest.importorskip("torch_geometric")


@pytest.fixture(scope="module")
def script() -> Any:
    path = Path(__file__).parents[3] / "scripts" / "agree_with_pyg.py"
    spec = importlib.util.spec_from_file_location("agree_with_pyg", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("norm", ["none", "batch", "graph"])
def test_losses_agree_step_by_step(norm: str, script: Any) -> None:
    graphs = load_dataset("MUTAG").subset(range(40))
    error, losses = script.deviation(norm, graphs, steps=12)
    assert error <= script.AGREES
    assert len(set(losses)) == 12
