"""The errors that `scripts/mutations.py` plants: each where it says, and each noticed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mutations() -> Any:
    path = ROOT / "scripts" / "mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_they_exchange_is_there(mutations: Any) -> None:
    mutations.check([*mutations.MUTATIONS, *mutations.KERNELS])
    assert len(mutations.MUTATIONS) >= 30


def test_each_that_was_planted_was_noticed(mutations: Any) -> None:
    found = mutations.known()
    assert set(found) <= {each.name for each in (*mutations.MUTATIONS, *mutations.KERNELS)}
    assert [name for name, test in found.items() if not test] == []
