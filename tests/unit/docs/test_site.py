"""What every page has, and what the check of the built pages notices."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.unit.docs.page_blocks import DOCS, pages

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the tests stand without the docs")
WRITTEN = {name: path for name, path in pages().items() if name != "README"}


def test_every_page_says_what_it_is_for() -> None:
    """A title and then prose: no command, table or list comes first."""
    for name, path in WRITTEN.items():
        title, words, *_ = path.read_text(encoding="utf-8").split("\n\n")
        assert title.startswith("# "), name
        assert not words.startswith(("```", "|", "-", "<", "#", "![")), name


def test_the_index_leads_to_every_page() -> None:
    text = WRITTEN["index"].read_text(encoding="utf-8")
    trees = re.findall(r"```\{toctree\}\n:caption: .+?\n:hidden:\n\n(.*?)```", text, re.DOTALL)
    listed = re.findall(r"<(.+)>", "\n".join(trees))
    assert len(listed) == len(set(listed))
    assert {page for page in listed if "/" not in page} == set(WRITTEN) - {"index"}


def test_every_public_name_has_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    import graphnorms

    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    made = runpy.run_path(str(DOCS / "pages.py"))
    text = "\n".join(made["api_pages"]().values())
    missing = [n for n in graphnorms.__all__ if f"## `{n}`" not in text and f"[`{n}`]" not in text]
    assert not missing


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('<a href="b.html#there">b</a>', ""),
        ('<a href="b.html#gone">b</a>', "a.html: b.html#gone has no such place"),
        ('<a href="c.html">c</a>', "a.html: c.html is not there"),
        ('<img src="p.png" alt="">', "a.html: the picture p.png has no text"),
        ('<script src="https://x.org/y.js"></script>', "is loaded from the network"),
        ('<link rel="stylesheet" href="//x.org/y.css">', "is loaded from the network"),
        ('<a href="https://x.org">x</a>', "b.html: no page leads there"),
    ],
)
def test_the_check_of_the_site(tmp_path: Path, body: str, words: str) -> None:
    check = runpy.run_path(str(DOCS / "check_site.py"))["problems"]
    (tmp_path / "index.html").write_text('<a href="a.html">a</a>')
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text('<a id="there" href="a.html">a</a>')
    found = "\n".join(check(tmp_path))
    assert (words in found) if words else not found
