"""Atomic, durable writes of files, and of parts of a page."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from graphnorms.errors import GraphnormsError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    Readers see the old or the new file, never a part of one, and a process killed in between leaves
    the old one. After the block the new file is synced to disk. A missing folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows syncs only files open for writing
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def fill_slots(page: Path, name: str, body_of: Callable[[str], str | None]) -> None:
    """Write text into the slots of a page, `<!-- name -->` … `<!-- end -->`, in place of the old.

    Args:
        page: The page.
        name: Regular expression of what the slots are called.
        body_of: Returns the text of a slot, given what it is called; None leaves the old one.

    Raises:
        GraphnormsError: The page has no such slot.
        OSError: It cannot be read or written.
    """

    def slot(found: re.Match[str]) -> str:
        body = body_of(found[1])
        return found[0] if body is None else f"<!-- {found[1]} -->\n\n{body}\n\n<!-- end -->"

    slots_of(page, name)
    text = _slot(name).sub(slot, page.read_text(encoding="utf-8"))
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def slots_of(page: Path, name: str) -> list[str]:
    """Return what the slots of a page are called; see `fill_slots`.

    Raises:
        GraphnormsError: The page has no such slot.
        OSError: It cannot be read.
    """
    found = [match[1] for match in _slot(name).finditer(page.read_text(encoding="utf-8"))]
    if not found:
        shown = name.replace(r"\w+", "NAME")
        raise GraphnormsError(
            f"{page} has no slot, expected a line <!-- {shown} --> and below it <!-- end -->"
        )
    return found


def _slot(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- ({name}) -->\n.*?^<!-- end -->", re.DOTALL | re.MULTILINE)


def require_suffix(path: Path, suffix: str, what: str) -> None:
    """Raise a `ValueError` for a name with another suffix."""
    if path.suffix not in ("", suffix):
        raise ValueError(f"the name of {what} is {path}, expected the suffix {suffix}")


def sync_folder(folder: Path) -> None:
    """Fsync the entries of a folder, not the content of its files."""
    if sys.platform == "win32":  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # the file system does not support it
    finally:
        os.close(descriptor)
