"""The journal against kills, torn lines, full disks and second writers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab import journal as journal_module
from graphnorms.lab.journal import Journal, read_records
from graphnorms.training import Record, content_hash


def make_record(number: int, status: str = "done", epochs: int = 100, **changes) -> Record:
    config = {"run": number}
    return Record(
        key=content_hash(config),
        config=config,
        status=status,
        history={"train_loss": [1 / (epoch + 3) for epoch in range(epochs)]},
        **changes,
    )


def test_what_is_appended_is_read_back(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append(make_record(number))
        assert make_record(1).key in journal
        assert len(journal) == 3
    with Journal(path) as journal:
        assert list(journal) == [make_record(number) for number in range(3)]
        assert journal.get("no such key") is None
    assert read_records(path) == [make_record(number) for number in range(3)]


def test_of_several_records_one_that_is_done_counts_else_the_last(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0, "failed", reason="first"))
        journal.append(make_record(1, "failed", reason="first"))
        journal.append(make_record(2))
        journal.append(make_record(0, "done"))
        journal.append(make_record(1, "failed", reason="second"))
        journal.append(make_record(2, "failed"))
        outcomes = [(record.status, record.reason) for record in journal]
    assert outcomes == [("done", ""), ("failed", "second"), ("done", "")]
    assert [(record.status, record.reason) for record in read_records(path)] == outcomes
    assert len(path.read_text().splitlines()) == 6


def test_a_record_is_at_once_what_it_will_be_when_it_is_read(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        kept = journal.append(make_record(0, outcome={"test_score": float("nan")}))
        assert kept.outcome == {"test_score": None}
        assert list(journal) == [kept]
    assert read_records(path) == [kept]


def test_a_record_that_was_forgotten_stays_in_the_file(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0, "failed"))
        journal.forget(make_record(0).key)
        assert len(journal) == 0
    assert len(read_records(path)) == 1


def test_a_line_torn_at_any_byte_is_ignored_and_cut_off_before_the_next(tmp_path):
    path = tmp_path / "records.jsonl"
    first, second, third = (make_record(number, epochs=3) for number in range(3))
    with Journal(path) as journal:
        journal.append(first)
        start_of_second = path.stat().st_size
        journal.append(second)
    whole = path.read_bytes()
    for cut in range(start_of_second, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_records(path) == [first]
        with Journal(path) as journal:
            assert list(journal) == [first]
            assert path.read_bytes() == whole[:cut], "reading changes nothing"
            journal.append(third)
        assert read_records(path) == [first, third]


def test_a_last_line_that_a_loss_of_power_left_without_content_is_torn(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0))
        journal.append(make_record(1))
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes(50) + content[-50:])
    assert read_records(path) == [make_record(0)]
    with Journal(path) as journal:
        journal.append(make_record(2))
    assert read_records(path) == [make_record(0), make_record(2)]


def test_a_damaged_line_before_the_last_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    for damage in ("{}", "[1, 2]", "not json", "", "\udcff"):
        text = f"{make_record(0).to_json()}\n{damage}\n{make_record(1).to_json()}\n"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(GraphnormsError, match=r"records\.jsonl, line 2: not a trial record"):
            Journal(path)


def test_no_byte_of_a_line_can_be_changed_unnoticed(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0, epochs=2))
        first = path.stat().st_size
        journal.append(make_record(1, epochs=2))
        second = path.stat().st_size
        journal.append(make_record(2, epochs=2))
    content = path.read_bytes()
    for at in range(first, second):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(
            GraphnormsError, match=r"records\.jsonl, line [23]: .*changed by someth"
        ):
            read_records(path)


def test_a_line_without_a_check_is_read_if_its_key_is_that_of_its_config(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(make_record(0).to_json() + "\n")
    assert read_records(path) == [make_record(0)]
    text = make_record(1).to_json().replace('"run":1', '"run":2')
    path.write_text(make_record(0).to_json() + "\n" + text + "\n")
    with pytest.raises(GraphnormsError, match=r"line 2: the config of trial \w+ is not that which"):
        Journal(path)


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0))
        with pytest.raises(RunExistsError, match="is in use"):
            Journal(path)
        assert read_records(path) == [make_record(0)]
    Journal(path).close()


def test_without_locks_a_second_writer_is_noticed(tmp_path, monkeypatch):
    def no_locks(descriptor):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(journal_module, "_lock_posix", no_locks)
    path = tmp_path / "records.jsonl"
    with Journal(path) as first, Journal(path) as second:
        first.append(make_record(0))
        with pytest.raises(RunExistsError, match="is in use"):
            second.append(make_record(1))
    assert read_records(path) == [make_record(0)]


def test_a_journal_that_was_removed_takes_no_records(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0))
        path.unlink()
        with pytest.raises(RunExistsError, match=r"records\.jsonl was removed"):
            journal.append(make_record(1))


def test_on_windows_a_byte_far_behind_the_end_is_locked(tmp_path, monkeypatch):
    """With a stand-in for the module that only Windows has."""
    calls = []
    taken = False

    def locking(descriptor, mode, size):
        calls.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, size))
        if taken:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(journal_module, "_lock_posix", journal_module._lock_windows)
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0))
    taken = True
    with pytest.raises(RunExistsError, match="is in use"):
        Journal(path)
    assert [call[1:] for call in calls] == [(2, 1), (2, 1)]
    assert calls[0][0] > 2**30
    assert read_records(path) == [make_record(0)]


def test_a_full_disk_loses_nothing_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    write = os.write
    with Journal(path) as journal:
        journal.append(make_record(0))

        def fill_up(descriptor, data):
            write(descriptor, data[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journal_module.os, "write", fill_up)
        with pytest.raises(OSError, match="No space left"):
            journal.append(make_record(1))
        monkeypatch.setattr(journal_module.os, "write", write)

        assert list(journal) == read_records(path) == [make_record(0)]
        journal.append(make_record(2))
    assert read_records(path) == [make_record(0), make_record(2)]


def test_a_write_in_pieces_is_put_together(tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    write = os.write
    monkeypatch.setattr(journal_module.os, "write", lambda fd, data: write(fd, data[:7]))
    with Journal(path) as journal:
        journal.append(make_record(0))
    assert read_records(path) == [make_record(0)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked")
@pytest.mark.parametrize("rounds", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_loses_no_record_that_was_confirmed(tmp_path, rounds):
    path = tmp_path / "records.jsonl"
    script = (
        f"import sys, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        f"import test_journal; test_journal.kill_writers(pathlib.Path({str(path)!r}), {rounds})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(read_records(path)) >= rounds


def kill_writers(path: Path, rounds: int) -> None:
    """Let processes append to one journal, each confirming what is on the disk, and kill them."""
    confirmed = -1
    for attempt in range(rounds):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with Journal(path) as journal:
                for number in range(len(journal), 10**9):
                    journal.append(make_record(number))
                    os.write(writing, b"%d\n" % number)
        os.close(writing)
        told = os.read(reading, 100)  # the writer is at work
        time.sleep(0.0007 * (attempt % 17))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while chunk := os.read(reading, 1 << 16):
            told += chunk
        os.close(reading)
        numbers = [int(line) for line in told.split(b"\n")[:-1]]
        # A record may be on the disk and its writer killed before it could say so.
        assert numbers[0] in (confirmed + 1, confirmed + 2), "it went on where the last had stopped"
        confirmed = numbers[-1]
        keys = [record.config["run"] for record in read_records(path)]
        assert keys == list(range(len(keys))), "each once, in order"
        assert len(keys) - 1 in (confirmed, confirmed + 1)
