"""The journal against kills, torn lines, full disks and second writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab import journal as journal_module
from graphnorms.lab.journal import Journal, read_records
from graphnorms.training.record import Record


def make_record(number: int, status: str = "done") -> Record:
    return Record(
        key=f"{number:016x}",
        config={"fold": number},
        status=status,
        history={"train_loss": [1 / (epoch + 3) for epoch in range(100)]},
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


def test_the_last_record_of_a_trial_counts_and_the_first_stays_in_the_file(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0, "failed"))
        journal.append(make_record(1))
        journal.append(make_record(0, "done"))
        assert [record.status for record in journal] == ["done", "done"]
    assert [record.status for record in read_records(path)] == ["done", "done"]
    assert len(path.read_text().splitlines()) == 3


def test_a_line_torn_at_any_byte_is_ignored_and_cut_off_before_the_next(tmp_path):
    path = tmp_path / "records.jsonl"
    first, second, third = (make_record(number) for number in range(3))
    whole = (first.to_json() + "\n" + second.to_json() + "\n").encode()
    start_of_second = len(first.to_json()) + 1
    for cut in {*range(start_of_second, len(whole), 7), len(whole) - 1}:
        path.write_bytes(whole[:cut])
        assert read_records(path) == [first]
        with Journal(path) as journal:
            assert list(journal) == [first]
            assert path.read_bytes() == whole[:cut], "reading changes nothing"
            if cut % 20 == 0 or cut == len(whole) - 1:
                journal.append(third)
                assert read_records(path) == [first, third]


def test_a_damaged_line_before_the_last_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    for damage in ("{}", "[1, 2]", "not json", "", "\udcff"):
        text = f"{make_record(0).to_json()}\n{damage}\n{make_record(1).to_json()}\n"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(GraphnormsError, match=r"records\.jsonl, line 2: not a trial record"):
            Journal(path)


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(make_record(0))
        with pytest.raises(RunExistsError, match="is in use"):
            Journal(path)
        assert read_records(path) == [make_record(0)]
    Journal(path).close()


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
        keys = [int(record.key, 16) for record in read_records(path)]
        assert keys == list(range(len(keys))), "each once, in order"
        assert len(keys) - 1 in (confirmed, confirmed + 1)
