"""The page of the documentation: a summary and a figure per result, never typed by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from graphnorms.bench.results import Result, read_all
from graphnorms.bench.tables import summary
from graphnorms.files import fill_slots


def fill(page: Path, results: Path) -> None:
    """Fill the slots of a page from the results.

    A slot `<!-- bench: layers -->` … `<!-- end -->` gets, for every device, the newest result
    of that benchmark under each name: `layers-0.1.0.json`, and beside it say
    `layers-threads-0.1.0.json`.

    Args:
        page: The page.
        results: The folder of results.

    Raises:
        GraphnormsError: The page has no slot, or a file is not a result.
        OSError: A file cannot be read or written.
    """
    newest = _newest(read_all(results))

    def body(slot: str) -> str:
        shown = [each for each in newest if each[1].benchmark == slot.removeprefix("bench: ")]
        sections = [_section(path, result, page.parent) for path, result in shown]
        return "\n\n".join(sections) or "Not measured yet."

    fill_slots(page, r"bench: \w+", body)


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
    """Write where a result was measured, its summary and figure, and where all numbers are."""
    machine = result.machine
    known = {name: each for name, each in machine["versions"].items() if each is not None}
    parts = [
        f"### {machine['device']}: {_name(path)}",
        f"```text\n$ {result.command}\n```",
        f"{machine['cores']} cores, {machine['torch_instruction_set']}, "
        + ", ".join(f"{name} {version}" for name, version in known.items())
        + f"; {result.settings['rounds']} rounds on {result.taken[:10]}. All numbers: "
        f"{{download}}`{path.name} <{_address(path, folder)}>`.",
    ]
    if table := summary(result):
        lines = [table.header, ("---", *["---:"] * (len(table.header) - 1)), *table.rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    picture = path.with_suffix(".svg")
    if picture.exists():
        parts.append(f"![{result.benchmark} on {machine['device']}]({_address(picture, folder)})")
    return "\n\n".join(parts)


def _address(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
