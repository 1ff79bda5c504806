"""The long form of the conformance suite is slow; the short one keeps a few epilogues of each."""

from __future__ import annotations

import pytest

from tests.conftest import BACKENDS

_SHORT = ("None", "relu", "silu+dropout+residual")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the backends but the first, all epilogues on all inputs are for `-m slow`."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is None or "epilogue" not in callspec.params:
            continue
        if callspec.params["backend"] != BACKENDS[0] and callspec.params["epilogue"] not in _SHORT:
            item.add_marker(pytest.mark.slow)
