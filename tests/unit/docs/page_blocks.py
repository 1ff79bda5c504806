"""The fenced blocks of a page, and what the page says to do with them.

A comment straight above a block says something of it: `<!-- not run: REASON -->`,
`<!-- raises -->` of Python that ends with an error, `<!-- file: NAME -->` of the text of a file,
and `<!-- output -->` of what the block before it prints. A `python` block that begins with
`# name.py` is that file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[3] / "docs"
FENCE = re.compile(
    r"^(?:<!-- (not run|raises|file|output)(?:: ([^\n]*?))? -->\n)?```(\w+)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block: where it begins, how it is marked, and what is in it."""

    page: str
    line: int
    mark: str | None
    words: str | None
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}, line {self.line}"

    @property
    def file(self) -> str | None:
        """The file whose text this is."""
        if self.mark == "file":
            return self.words
        name = re.match(r"# (\w+\.py)\n", self.text)
        return name[1] if name and self.language == "python" else None

    def commands(self) -> Iterator[list[str]]:
        """The words of each command line of graphnorms."""
        text = self.text.replace("\\\n", " ")
        for line in text.splitlines():
            shown = line.removeprefix("$ ")
            if self.language != "sh" and shown == line:
                continue
            words = shlex.split(shown, comments=True)
            if words[:1] == ["graphnorms"]:
                yield words


def pages() -> dict[str, Path]:
    """All pages that are written by hand, and the README."""
    written = {path.stem: path for path in sorted(DOCS.glob("*.md"))}
    return written | {"README": DOCS.parent / "README.md"}


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page in their order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(path.name, text.count("\n", 0, match.start(4)), *match.groups())
        for match in FENCE.finditer(text)
    ]
