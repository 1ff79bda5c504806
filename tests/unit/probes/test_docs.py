from __future__ import annotations

from pathlib import Path

import pytest

from graphnorms import probes

PAGE = Path(__file__).parents[3] / "docs" / "probes.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the tests stand without the docs")
def test_the_page_names_every_probe() -> None:
    text = PAGE.read_text(encoding="utf-8")
    constants = {"QUANTILES", "STEPS"}
    missing = [name for name in set(probes.__all__) - constants if f"`{name}`" not in text]
    assert not missing
    assert sorted(probes.__all__) == sorted(set(probes.__all__))
