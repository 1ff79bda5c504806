"""The snippets of the page about force fields run, in their order."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "force.md"


def test_snippets(tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) >= 3
    file = tmp_path / "force_page.py"  # a norm of one's own is known by its source
    file.write_text("\n".join(snippets), encoding="utf-8")
    state = runpy.run_path(str(file))
    assert state["forces"].shape == state["pos"].shape
    assert state["forces"].isfinite().all()
