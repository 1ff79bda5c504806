"""The figures of the documentation: filled in from result files, never typed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from graphnorms.bench.results import Result, read_all
from graphnorms.bench.tables import preamble, tables_of
from graphnorms.errors import GraphnormsError

PAGE: Final = Path("docs/benchmarks.md")
_SLOT: Final = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: Path, results: Path) -> str:
    """Return the text of a page with its slots filled from the results.

    A slot `<!-- bench: layers -->` … `<!-- end -->` gets, for every device, the newest result
    of that benchmark under each name: `layers-0.1.0.json`, and beside it say
    `layers-threads-0.1.0.json`.

    Args:
        page: The page as it is.
        results: The folder of results.

    Raises:
        GraphnormsError: The page has no slot, or a file is not a result.
        OSError: A file cannot be read.
    """
    text = page.read_text(encoding="utf-8")
    if not _SLOT.search(text):
        raise GraphnormsError(f"{page}: no slot such as <!-- bench: layers --> … <!-- end -->")
    newest = _newest(read_all(results))

    def filled(slot: re.Match[str]) -> str:
        shown = [_section(path, result, page.parent) for path, result in newest
                 if result.benchmark == slot[2]]  # fmt: skip
        body = "\n\n".join(shown) or "Not measured yet."
        return f"{slot[1]}\n{body}\n\n{slot[3]}"

    return _SLOT.sub(filled, text)


def _newest(results: Iterable[tuple[Path, Result]]) -> list[tuple[Path, Result]]:
    latest: dict[tuple[Path, str], tuple[Path, Result]] = {}
    for path, result in results:
        key = (path.parent, _name(path))
        if key not in latest or latest[key][1].taken < result.taken:
            latest[key] = (path, result)
    return [latest[key] for key in sorted(latest)]


def _name(path: Path) -> str:
    """Return the name of a result without its version."""
    return re.sub(r"-\d[\w.+]*$", "", path.stem)


def _section(path: Path, result: Result, folder: Path) -> str:
    parts = [
        f"### {result.machine['device']}: {_name(path)}",
        f"```text\n$ {result.command}\n{preamble(result)}\n```",
    ]
    picture = path.with_suffix(".svg")
    if picture.exists():
        where = Path(os.path.relpath(picture, folder)).as_posix()
        parts.append(f"![{result.benchmark} on {result.machine['device']}]({where})")
    parts += [table.as_markdown() for table in tables_of(result)]
    parts += [f"- {note}" for note in result.notes]
    return "\n\n".join(parts)
