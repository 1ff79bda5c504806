"""One worker process: the handle that an engine holds, and what runs on the other side."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import one_line
from graphnorms.interrupts import SIGNALS
from graphnorms.lab.engines.attempt import (
    NothingUnpackedError,
    StartError,
    Trial,
    attempt,
)

if TYPE_CHECKING:
    from loky.process_executor import ProcessPoolExecutor

    from graphnorms.training import Record, TrialConfig

ENVIRONMENT: Final = {
    **dict.fromkeys(
        ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"],
        "1",
    ),
    # The order of a set of strings is that of every process.
    "PYTHONHASHSEED": "0",
    # Where psutil is installed loky ends a process that has grown by 300 MB since its first call.
    # The libraries that the first trial loads are more than that: each trial would load them anew.
    "LOKY_MAX_MEMORY_LEAK_SIZE": "1e15",
}


class Worker:
    """The engine's side of one process, which starts with its first trial and can be replaced.

    How far its trial is, the process tells through a file that grows by one byte per epoch: that
    needs no lock for a killed process to take with it, and no thread to listen.

    Args:
        packed: Trial function and data, by `pack`.
        folder: A temporary folder for those files.
    """

    def __init__(self, packed: bytes, folder: Path) -> None:
        self._packed = packed
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None
        self._began: float | None = None

    def start(self, config: TrialConfig) -> Future[Record]:
        """Begin a trial, in a new process if there is none."""
        from loky.process_executor import BrokenProcessPool

        path, self._began = self._epochs_file(config), None
        path.unlink(missing_ok=True)
        with interrupts_held_back():
            if self._pool is not None:
                try:
                    return _submit(self._pool, config, path)
                except BrokenProcessPool:  # killed while it was idle
                    self.kill()
            self._pool = self._new_pool()
            # As a call, which a thread sends. Were it an argument of the process, starting one
            # would take until the one before has loaded torch and read its data.
            self._pool.submit(_unpack, self._packed)
            return _submit(self._pool, config, path)

    def begun(self, config: TrialConfig) -> bool:
        """Whether the process came as far as the trial."""
        return self._epochs_file(config).exists()

    def seconds(self, config: TrialConfig) -> float:
        """Return how long the trial has been running; the start of its process is no part of it."""
        now = time.monotonic()
        if self._began is None and self.begun(config):
            self._began = now
        return 0.0 if self._began is None else now - self._began

    def epochs(self, config: TrialConfig) -> int:
        """Epochs that the trial has done."""
        try:
            return self._epochs_file(config).stat().st_size
        except FileNotFoundError:
            return 0

    def kill(self) -> None:
        """End the process at once; the next trial starts a new one."""
        if self._pool is not None:
            with warnings.catch_warnings():
                # Without psutil and pgrep loky warns that it kills the process alone and not its
                # children; a trial has none.
                warnings.simplefilter("ignore")
                self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    def _epochs_file(self, config: TrialConfig) -> Path:
        return self._folder / config.key

    def _new_pool(self) -> ProcessPoolExecutor:
        from loky.process_executor import ProcessPoolExecutor

        return ProcessPoolExecutor(
            max_workers=1,
            initializer=_prepare_process,
            initargs=(os.getpid(), self._folder),
            env=ENVIRONMENT,
        )


def _submit(pool: ProcessPoolExecutor, config: TrialConfig, path: Path) -> Future[Record]:
    future: Future[Record] = pool.submit(_run_in_worker, config, path)
    return future


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block ends, also from the processes started in it.

    Ctrl-C goes to every process of a terminal, and `timeout` and Slurm send SIGTERM to all of a
    group. A process inherits the blocked signals of the thread that starts it, so that a worker is
    deaf to them from its first moment on. In this process blocking is not enough, for another
    thread can take the signal, and Python then interrupts the main thread all the same: handlers
    are exchanged as well.
    """
    held: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in SIGNALS if in_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        with _signals_blocked():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            handlers[signal.Signals(held[0])](held[0], None)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    from loky.backend import resource_tracker

    resource_tracker.ensure_running()  # else started below, where it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What runs in the worker process.

_work: tuple[Trial, Any] | StartError | None = None


def _prepare_process(parent: int, folder: Path) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32":
        threading.Thread(target=_die_with, args=(parent, folder), daemon=True).start()


def _unpack(packed: bytes) -> None:
    """Unpack trial function and data, once per process."""
    global _work
    from graphnorms.user_code import no_exit

    try:
        # A module of the user's may be imported here.
        with no_exit("unpacking the data"):
            _work = pickle.loads(packed)
        import torch

        torch.set_num_threads(1)
    except Exception as error:
        _work = StartError(one_line(error))


def _run_in_worker(config: TrialConfig, epochs_file: Path) -> Record:
    if _work is None:
        raise NothingUnpackedError
    if isinstance(_work, StartError):
        raise _work
    trial, dataset = _work
    try:
        file = epochs_file.open("wb", buffering=0)
    except OSError as error:  # no fault of the trial
        raise StartError(one_line(error)) from None
    with file:

        def on_epoch() -> None:
            with suppress(OSError):  # a full disk: the display stands still, the trial goes on
                file.write(b".")

        return attempt(trial, config, dataset, on_epoch)


def _die_with(parent: int, folder: Path) -> None:
    """End when the parent was killed, in its place clean up; loky's workers would live on."""
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
