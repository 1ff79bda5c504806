"""One worker process: the handle that an engine holds, and what runs in the process.

The process reads pickles from its standard input: trial function and data, then one config for
each trial. On its standard output it answers one byte at a time: `b` when a trial begins, `.` after
an epoch, then `r` and the record, or `s` and why it cannot run any trial. It ends when its input
does, and so with the process that started it, however that ended. On Linux it is the fork of a
process that has imported torch already, see `fork_server`; elsewhere it is started alone.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from graphnorms.errors import one_line
from graphnorms.interrupts import SIGNALS
from graphnorms.lab.engines.attempt import (
    DiedError,
    StartError,
    Trial,
    attempt,
    timed_out,
)
from graphnorms.lab.engines.fork_server import HAS_FORK_SERVER, Forked, ForkServer, serve

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

_COMMAND: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from graphnorms.lab.engines import process; process.main(*map(int, sys.argv[1:]))"
)
_THREADS: Final = ("OMP", "MKL", "OPENBLAS")
_ENVIRONMENT: Final = {
    **{f"{library}_NUM_THREADS": "1" for library in _THREADS},
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # the order of a set of strings is the same in every process
}


_Child: TypeAlias = subprocess.Popen[bytes] | Forked


class Process:
    """A process that runs one trial after another.

    It starts with its first trial, and again with the next one after it died or was killed.

    Args:
        packed: Trial function and data, by `pack`.
        timeout: Seconds that a trial may take; the start of the process is not counted.
        fresh: Whether every trial has a new process.
        fork_server: What forks the process, which otherwise starts alone.
    """

    name = "worker process"

    def __init__(
        self,
        packed: bytes,
        timeout: float | None = None,
        fresh: bool = False,
        fork_server: ForkServer | None = None,
    ) -> None:
        self._packed = packed
        self._timeout = timeout
        self._fresh = fresh
        self._fork_server = fork_server
        self._child: _Child | None = None
        self._in_use = threading.Lock()
        self._killed = False

    def run_trial(self, config: TrialConfig, tell: Callable[[int], None]) -> Record:
        """See `Worker.run_trial`; what `tell` raises ends the process."""
        import cloudpickle  # type: ignore[import-untyped]

        with self._in_use:
            self._killed = False
            child = self._child or self._start()
            if self._killed:  # while it started
                child.kill()
            assert child.stdin is not None
            assert child.stdout is not None
            late = threading.Event()
            timer = threading.Timer(self._timeout or 0, _expire, (child, late))
            epochs = -1  # the trial has not begun
            ended_well = False
            try:
                _send(child.stdin, cloudpickle.dumps(config))
                while kind := child.stdout.read(1):
                    if kind in b"b.":
                        epochs += 1
                        if kind == b"b" and self._timeout is not None:
                            timer.start()
                        tell(epochs)
                        continue
                    answer: Record | StartError = pickle.load(child.stdout)
                    if isinstance(answer, StartError):
                        raise answer
                    ended_well = True
                    return answer
            except (EOFError, pickle.UnpicklingError):  # it died while it answered
                pass
            finally:
                timer.cancel()
                if self._fresh or not ended_well:
                    self._end()
            if late.is_set():
                return timed_out(config, self._timeout or 0)
            raise DiedError(_how_ended(child.wait()), begun=epochs >= 0)

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        child = self._child
        if child is not None:
            child.kill()
        elif self._fork_server is not None:
            self._fork_server.interrupt()
        self._end_if_idle()

    def rest(self) -> None:
        """End the process if it runs no trial; the next trial starts another."""
        self._end_if_idle()

    def retire(self) -> None:
        """End the process when its trial has ended."""
        self._fresh = True
        self._end_if_idle()

    def _start(self) -> _Child:
        child: _Child | None = None
        if self._fork_server is not None:
            with suppress(ConnectionError):
                child = self._fork_server.fork()
        if child is None and self._killed:
            raise DiedError("killed", begun=False)
        self._child = child = child or started(subprocess.PIPE)
        assert child.stdin is not None
        _send(child.stdin, self._packed)
        return child

    def _end_if_idle(self) -> None:
        if self._in_use.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._in_use.release()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with suppress(OSError):  # what it has not read
                    if pipe is not None:
                        pipe.close()


def started(pipe: int, *sockets: int) -> subprocess.Popen[bytes]:
    """Start this module in a process: as a worker, or as a fork server with a socket.

    Args:
        pipe: Its standard input and output, as `subprocess` has them.
        sockets: The file descriptor of the socket.
    """
    with _signals_blocked():
        return subprocess.Popen(
            [
                *(sys.executable, "-c", _COMMAND),
                *map(str, sockets),
                json.dumps(sys.path, default=str),
            ],
            stdin=pipe,
            stdout=pipe,
            pass_fds=sockets,
            env={**os.environ, **_ENVIRONMENT},
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


def fork_server() -> ForkServer | None:
    """Return a fork server for worker processes, where this system has them."""
    return (
        ForkServer(lambda socket: started(subprocess.DEVNULL, socket)) if HAS_FORK_SERVER else None
    )


def _send(pipe: IO[bytes], what: bytes) -> None:
    with suppress(OSError):  # the process died, and so will not answer
        pickle.dump(what, pipe)
        pipe.flush()


def _expire(child: _Child, late: threading.Event) -> None:
    late.set()
    child.kill()


def _how_ended(code: int) -> str:
    """Say how a process ended, e.g. `SIGKILL(-9), out of memory?`."""
    if code >= 0:
        return f"EXIT({code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "signal"
    return f"{name}({code}){', out of memory?' if name == 'SIGKILL' else ''}"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Have a process that is started inside begin with Ctrl-C and SIGTERM blocked.

    Ctrl-C goes to every process of a terminal, and `timeout` and Slurm send SIGTERM to all of a
    group. A process inherits the blocked signals of the thread that starts it, and so misses none
    before it ignores them itself. On Windows its process group keeps Ctrl-C away.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What runs in the process.


def main(socket: int | None = None) -> None:
    """Run the trials that are asked for, or fork processes that do.

    Args:
        socket: The file descriptor of the socket of a fork server.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if socket is None:
        _work()
    serve(socket, _work)


def _work() -> NoReturn:
    """Run the trials that are asked for on standard input, answer on standard output."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    # A trial reads nothing, and what it prints goes to standard error.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    if sys.platform != "win32":
        # A process that a trial forks may outlive this one, whose end is seen by that of the pipe.
        os.register_at_fork(after_in_child=answers.close)
    packed = pickle.load(requests)
    configs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, configs), daemon=True).start()
    try:
        trial, dataset = _unpack(packed)
        del packed
        while True:
            config = pickle.loads(configs.get())
            answers.write(b"b")
            record = attempt(trial, config, dataset, lambda: answers.write(b"."))
            _answer(answers, b"r", record)
    except Exception as error:
        _answer(answers, b"s", StartError(one_line(error)))
    os._exit(1)


def _receive(requests: IO[bytes], configs: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            configs.put(pickle.load(requests))
    finally:  # nobody waits for the trial any more
        os._exit(1)


def _unpack(packed: bytes) -> tuple[Trial, Any]:
    """Unpickle trial function and data, which may import modules of the user's."""
    import torch

    from graphnorms.user_code import no_exit

    with no_exit("unpacking the data"):
        work: tuple[Trial, Any] = pickle.loads(packed)
    torch.set_num_threads(1)
    return work


def _answer(answers: IO[bytes], kind: bytes, what: object) -> None:
    rest = memoryview(kind + pickle.dumps(what))
    while rest:
        rest = rest[answers.write(rest) :]
