"""Writing a file in one step, and to the disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    A reader sees the old file or the new one, never half of one, and a process killed in between
    leaves the old one. When the block has ended well, the new one is on the disk. The folder is
    made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows syncs nothing that is only read
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def require_suffix(path: Path, suffix: str, what: str) -> None:
    """Raise a `ValueError` for a name with the suffix of another kind of file."""
    if path.suffix not in ("", suffix):
        raise ValueError(f"{path} would hold {what}, expected a name that ends in {suffix}")


def sync_folder(folder: Path) -> None:
    """Fsync the entries of a folder, not the content of its files."""
    if sys.platform == "win32":  # there, folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # a file system that does not do this for folders
    finally:
        os.close(descriptor)
