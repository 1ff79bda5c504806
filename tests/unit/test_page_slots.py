"""Pages whose parts are written from measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphnorms.errors import GraphnormsError
from graphnorms.files import fill_slots


def test_slots_are_filled_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- times: a -->\nold\n<!-- end -->\nBetween.\n"
        "<!-- times: b -->\n<!-- end -->\n<!-- other -->\nkept\n<!-- end -->\n"
    )
    bodies = {"times: a": "echo '<!-- end -->'", "times: b": r"\1 \n"}
    fill_slots(page, r"times: \w", bodies.__getitem__)
    filled = page.read_text()
    assert filled == (
        "Before.\n<!-- times: a -->\n\necho '<!-- end -->'\n\n<!-- end -->\nBetween.\n"
        "<!-- times: b -->\n\n\\1 \\n\n\n<!-- end -->\n<!-- other -->\nkept\n<!-- end -->\n"
    )
    fill_slots(page, r"times: \w", bodies.__getitem__)
    assert page.read_text() == filled, "again changes nothing"
    with pytest.raises(GraphnormsError, match="no slot"):
        fill_slots(page, "missing", bodies.__getitem__)
    assert page.read_text() == filled
