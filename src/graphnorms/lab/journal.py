"""The journal: the records of a run as JSON lines, appended and never rewritten.

One line is one record, written with a single `write` and forced to the disk before the next
trial is counted. A process that is killed, or a disk that is full, can therefore damage the last
line only: a last line without its newline is *torn*. It is ignored when the journal is read and
cut off before the next record is appended. Reading parses JSON and executes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from graphnorms.errors import GraphnormsError, RunExistsError

if TYPE_CHECKING:  # importing the lab loads no training code, and so nothing beyond torch
    from graphnorms.training import Record

if sys.platform != "win32":
    import fcntl


class Journal:
    """A journal that is open for appending, held by one process at a time.

    Args:
        path: The file; made when it does not exist.

    Raises:
        RunExistsError: Another process is writing this journal.
        GraphnormsError: A line other than a torn last one is not a record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            content = path.read_bytes()
            self._end = content.rfind(b"\n") + 1
            self._torn = self._end < len(content)
            self._records = {record.key: record for record in _parse(content[: self._end], path)}
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[Record]:
        """The last record of each trial, in the order in which the trials first ended."""
        return iter(list(self._records.values()))

    def get(self, key: str) -> Record | None:
        """Return the record of the trial with this key, or None."""
        return self._records.get(key)

    def append(self, record: Record) -> None:
        """Add a record; when this returns it is on the disk.

        Raises:
            OSError: It could not be written (a full disk, say). The journal is then as it was
                before, apart from a line that is torn.
        """
        line = record.to_json().encode() + b"\n"
        if self._torn:
            os.ftruncate(self._descriptor, self._end)
        self._torn = True
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        finally:
            # A line that is whole counts, also when Ctrl-C arrived while the disk was waited for.
            if not rest:
                self._torn = False
                self._end += len(line)
                self._records[record.key] = record

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        if sys.platform == "win32":  # there, nobody stops two processes from sharing a journal
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{self.path.parent} is in use: another process is writing {self.path.name}"
            raise RunExistsError(message) from None
        except OSError:
            pass  # a file system that knows no locks


def read_records(path: Path) -> list[Record]:
    """Read a journal that may be in use; the last entry of each trial counts.

    Raises:
        FileNotFoundError: There is no such file.
        GraphnormsError: A line other than a torn last one is not a record.
    """
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    return list({record.key: record for record in _parse(complete, path)}.values())


def _parse(content: bytes, path: Path) -> Iterator[Record]:
    from graphnorms.training import Record

    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield Record.from_json(line.decode())
        except ValueError:
            raise GraphnormsError(
                f"{path}, line {number}: not a trial record; the file was changed by something else"
            ) from None
