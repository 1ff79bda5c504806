"""Files are written on a platform with Windows' rules as they are here."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from graphnorms.data import load_dataset, random_graphs, read_npz, save_npz
from graphnorms.files import replacing
from graphnorms.kernels.cpu import extension
from graphnorms.lab.run import Run
from graphnorms.report.several import names_of

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks /proc which files are open"
)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows does otherwise: fsync of files open for reading, renames of open files."""
    import fcntl

    fsync, replace = os.fsync, os.replace

    def fsync_as_there(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        fsync(descriptor)

    def replace_as_there(source: Path | str, target: Path | str) -> None:
        for path in (source, target):
            if os.path.abspath(path) in open_files():
                raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync_as_there)
    monkeypatch.setattr(os, "replace", replace_as_there)
    monkeypatch.delattr(os, "register_at_fork")
    monkeypatch.delattr(os, "sched_getaffinity")
    # Folders cannot be opened there. (Of `sys.platform` itself the standard library makes more.)
    monkeypatch.setattr("graphnorms.files.sync_folder", lambda folder: None)
    monkeypatch.setattr("graphnorms.lab.run.sync_folder", lambda folder: None)
    monkeypatch.setattr("graphnorms.lab.journal.sync_folder", lambda folder: None)


def open_files() -> set[str]:
    """The files that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue  # the one that lists them
    return found


@pytest.mark.usefixtures("windows")
def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "text.txt"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "two"
    assert os.listdir(path.parent) == ["text.txt"]


@pytest.mark.usefixtures("windows")
def test_a_graph_set_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "set.npz"
    for seed in (1, 2):
        graphs = random_graphs(4, seed=seed)
        save_npz(graphs, path)
        assert read_npz(path).fingerprint == graphs.fingerprint
        assert str(path) not in open_files()
    assert os.listdir(path.parent) == ["set.npz"]


@pytest.mark.usefixtures("windows")
def test_no_reader_keeps_a_file_open(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    save_npz(random_graphs(4, seed=1), good)
    spoilt = tmp_path / "spoilt.npz"
    spoilt.write_bytes(good.read_bytes()[:-60])
    np.savez(tmp_path / "lacking.npz", x=np.zeros((3, 1)))
    for path in (good, spoilt, tmp_path / "lacking.npz"):
        with contextlib.suppress(ValueError):
            load_dataset(path)
        assert str(path) not in open_files(), path.name


@pytest.mark.usefixtures("windows")
def test_a_run_begins(tmp_path: Path) -> None:
    with Run(tmp_path / "run", {"dataset": "MUTAG"}) as run:
        assert (run.folder / "config.json").is_file()
    with Run(tmp_path / "run", {"dataset": "MUTAG"}):
        pass


@pytest.mark.usefixtures("windows")
def test_the_kernels_load() -> None:
    if (reason := extension.unavailable()) is not None:
        pytest.skip(reason)
    assert extension.kernels.__wrapped__() is extension.kernels()


def test_names_of_paths() -> None:
    datasets = [str(Path("data") / "PROTEINS.npz"), "MUTAG", "my_data:make"]
    assert names_of(datasets, [Path("a"), Path("b"), Path("c")]) == [
        "PROTEINS",
        "MUTAG",
        "my_data:make",
    ]
