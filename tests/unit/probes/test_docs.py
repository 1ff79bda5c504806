from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from graphnorms import probes

PAGE = Path(__file__).parents[3] / "docs" / "probes.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the tests stand without the docs")
def test_the_page_names_every_probe_and_its_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    constants = {"QUANTILES", "STEPS"}
    missing = [name for name in set(probes.__all__) - constants if f"`{name}`" not in text]
    assert not missing
    assert sorted(probes.__all__) == sorted(set(probes.__all__))
    namespace: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), namespace)
    assert sum(spectrum.violations() for spectrum in namespace["spectra"]) == 0
    assert set(namespace["norms"]) == set(probes.layers_of(namespace["model"]))
    assert "head" in namespace["shifts"]
