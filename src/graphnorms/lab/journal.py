"""The journal: the records of a run as JSON lines, appended and never rewritten.

One line is one record, written with a single `write` and forced to the disk before the next
trial is counted. A process that is killed, or a disk that is full, can therefore damage the last
line only: a last line without its newline is *torn*. It is ignored when the journal is read and
cut off before the next record is appended. So is a last line with zero bytes in it, as a loss of
power can leave it. Reading parses JSON and executes nothing.

Every line is checked when it is read: the trial's key against the hash of its config, and the
line against the hash of its text that stands at its end.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.files import sync_folder

if TYPE_CHECKING:  # importing the lab loads no training code, and so nothing beyond torch
    from graphnorms.training import Record


class Journal:
    """A journal that is open for appending, held by one process at a time.

    Args:
        path: The file; made when it does not exist.

    Raises:
        RunExistsError: Another process is writing this journal.
        GraphnormsError: A line other than a torn last one is not a record, or was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o644)
        try:
            self._lock()
            sync_folder(path.parent)
            content = path.read_bytes()
            self._end = _end_of_lines(content)
            self._torn = self._end < len(content)
            self._records = _by_key(_parse(content[: self._end], path))
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[Record]:
        """One record of each trial, in the order in which the trials first ended.

        Of several records of a trial the last one counts, unless an earlier one is done.
        """
        return iter(list(self._records.values()))

    def get(self, key: str) -> Record | None:
        """Return the record of the trial with this key, or None."""
        return self._records.get(key)

    def append(self, record: Record) -> Record:
        """Add a record; when this returns it is on the disk.

        Returns:
            The record as it will be read back: numbers that are not finite become None.

        Raises:
            OSError: It could not be written (a full disk, say). The journal is then as it was
                before, apart from a line that is torn.
            RunExistsError: Another process has written to the file, or removed it (on a file system
                without locks).
        """
        line = _line(record)
        record = _record(line[:-1])
        self._require_unchanged()
        if self._torn:
            os.ftruncate(self._descriptor, self._end)
        self._torn = True
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        finally:
            # A complete line counts, also if Ctrl-C interrupted fsync.
            if not rest:
                self._torn = False
                self._end += len(line)
                _keep(self._records, record)
        return record

    def forget(self, key: str) -> None:
        """Drop a record, because its trial is run again."""
        del self._records[key]

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        try:
            locked = _lock_windows if sys.platform == "win32" else _lock_posix
            locked(self._descriptor)
        except BlockingIOError:
            raise self._in_use() from None
        except OSError:
            pass  # a file system without locks, see `_require_unchanged`

    def _require_unchanged(self) -> None:
        mine = os.fstat(self._descriptor)
        try:
            same = os.path.samestat(mine, os.stat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            raise RunExistsError(f"{self.path} was removed, or replaced, while it was written")
        if mine.st_size < self._end or (mine.st_size > self._end and not self._torn):
            raise self._in_use()

    def _in_use(self) -> RunExistsError:
        return RunExistsError(
            f"{self.path.parent} is in use: another process is writing {self.path.name}"
        )


def read_records(path: Path) -> list[Record]:
    """Read a journal that may be in use; one record of each trial, as `Journal` gives them.

    Raises:
        FileNotFoundError: There is no such file.
        GraphnormsError: A line other than a torn last one is not a record, or was changed.
    """
    content = path.read_bytes()
    return list(_by_key(_parse(content[: _end_of_lines(content)], path)).values())


def _by_key(records: Iterable[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        _keep(found, record)
    return found


def _keep(records: dict[str, Record], record: Record) -> None:
    before = records.get(record.key)
    if before is None or before.status != "done":
        records[record.key] = record


_CHECKED = re.compile(rb'(?P<text>.*),"check":"(?P<check>[0-9a-f]{16})"}')


def _line(record: Record) -> bytes:
    text = record.to_json().encode()
    return text[:-1] + b',"check":"' + _digest(text) + b'"}\n'


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()


def _end_of_lines(content: bytes) -> int:
    """Return the end of the last complete line."""
    end = content.rfind(b"\n") + 1
    last = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
    return last if b"\0" in content[last:end] else end


def _parse(content: bytes, path: Path) -> Iterator[Record]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield _record(line)
        except ValueError as error:
            raise GraphnormsError(
                f"{path}, line {number}: {error}; the file was changed by something else: restore "
                "it, or delete that line, and its trial is run again when the run is continued"
            ) from None


def _record(line: bytes) -> Record:
    """Read a line.

    Raises:
        ValueError: It is not what `_line` wrote.
    """
    from graphnorms.training import Record, content_hash

    # A line without a check may have been written by another program.
    if checked := _CHECKED.fullmatch(line):
        line = checked["text"] + b"}"
        if checked["check"] != _digest(line):
            raise ValueError("a trial record that is not as it was written")
    try:
        record = Record.from_json(line.decode())
    except (ValueError, RecursionError):
        raise ValueError("not a trial record") from None
    try:
        key = content_hash(record.config)
    except ValueError:  # a number that is not finite
        key = ""
    if key != record.key:
        raise ValueError(f"the config of trial {record.key} is not that which was tried")
    return record


def _lock_posix(descriptor: int) -> None:
    """Lock a file until it is closed; `BlockingIOError` if another process has done so."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_LOCKED_BYTE = 0x7FFF_FFFE  # beyond the end, for a byte that is locked there cannot be read


def _lock_windows(descriptor: int) -> None:
    """Lock a file until it is closed; `BlockingIOError` if another process has done so."""
    import msvcrt

    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except PermissionError:
        raise BlockingIOError from None
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)
