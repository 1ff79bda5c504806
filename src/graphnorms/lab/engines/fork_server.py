"""Worker processes as forks of one process, the fork server, that has imported what they need.

Importing torch takes a second of processor time and 150 MiB for each process. Forks share these
pages until they write to them, and start in milliseconds. The fork server does nothing but import
and fork: it has one thread and no pool of OpenMP, initializes no GPU and loads no code of the
user's, so that a fork of it is as good as a new process. Where importing torch opens a GPU all the
same, it ends, and processes are started one by one. Linux alone has it: libraries of macOS do not
survive a fork, and Windows has none; processes are started there one by one, see `process`.

The fork server reads requests from a socket: `f` with two file descriptors asks for a worker that
has these as input and output, and is answered with its process id; `w` with a process id waits for
the end of that worker, and is answered with its exit code. It ends when the socket does.
"""

from __future__ import annotations

import array
import gc
import importlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any, Final, NoReturn

HAS_FORK_SERVER: Final = sys.platform == "linux"
"""Whether this system has them."""

_PRELOADED: Final = (
    "cloudpickle",
    "graphnorms.data",
    "graphnorms.models",
    "graphnorms.training.trial",
    "graphnorms.training.interventions",
    "graphnorms.probes",
    "torch._dynamo",  # the first step of an optimizer imports it
)
_GPUS: Final = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
_NUMBER: Final = struct.Struct("<q")
_KEEP_CUDA_CLOSED: Final = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""With this, asking whether there is a GPU does not initialize it."""


class Forked:
    """A worker process that was forked; has what `Process` uses of `subprocess.Popen`."""

    def __init__(
        self, fork_server: ForkServer, pid: int, stdin: IO[bytes], stdout: IO[bytes]
    ) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        self._fork_server = fork_server

    def kill(self) -> None:
        """End the process at once."""
        if self.returncode is None:  # until it has been waited for, no other has its id
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, and return the exit code; negative: the number of a signal."""
        if self.returncode is None:
            self.returncode = self._fork_server.wait_for(self.pid)
        return self.returncode


class ForkServer:
    """Starts worker processes; it starts with the first of them, and again if it was killed.

    Args:
        start: Starts the process of the fork server, given the file descriptor of its socket.
    """

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_of_use = True
        self._has_forked = False

    def fork(self) -> Forked:
        """Start a worker.

        Raises:
            ConnectionError: The fork server cannot be used.
        """
        requests, to_child = os.pipe()
        from_child, answers = os.pipe()
        try:
            with self._lock:
                pid = self._ask_for_worker(requests, answers)
        except BaseException:
            os.close(to_child)
            os.close(from_child)
            raise
        finally:
            os.close(requests)
            os.close(answers)
        return Forked(self, pid, os.fdopen(to_child, "wb"), os.fdopen(from_child, "rb"))

    def wait_for(self, pid: int) -> int:
        """Return the exit code of a worker; that of a kill if the fork server has died with it."""
        with self._lock:
            try:
                return self._ask(b"w" + _NUMBER.pack(pid))
            except OSError:
                return -signal.SIGKILL

    def interrupt(self) -> None:
        """End a fork server that is still starting, without waiting for it."""
        process = self._process
        if process is not None and not self._has_forked:
            process.kill()

    def close(self) -> None:
        """End the fork server; its workers live on."""
        with self._lock:
            self._end()

    def _ask_for_worker(self, *pipes: int) -> int:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pipes))]
        if self._process is not None:
            with suppress(OSError):
                return self._ask(b"f", rights)
            self._end()
        if not self._is_of_use:
            raise ConnectionError("the fork server of worker processes cannot start")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process, self._socket = self._start(theirs.fileno()), ours
        try:
            pid = self._ask(b"f", rights)
        except OSError:
            self._is_of_use = self._process.wait() < 0  # it was killed, which may not happen again
            self._end()
            raise ConnectionError("the fork server of worker processes cannot start") from None
        self._has_forked = True
        return pid

    def _ask(self, request: bytes, rights: Any = ()) -> int:
        if self._socket is None:
            raise ConnectionError("the fork server has been closed")
        self._socket.sendmsg([request], rights)
        answer = self._socket.recv(_NUMBER.size, socket.MSG_WAITALL)
        if len(answer) < _NUMBER.size:
            raise ConnectionError("the fork server of worker processes died")
        (number,) = _NUMBER.unpack(answer)
        return int(number)

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None
        self._has_forked = False


# What runs in the fork server.


def serve(descriptor: int, work: Callable[[], NoReturn]) -> NoReturn:
    """Import what workers need, then fork those that are asked for.

    Args:
        descriptor: That of the socket.
        work: What a worker does, with the pipes as standard input and output.
    """
    asked = os.environ.get(_KEEP_CUDA_CLOSED)
    os.environ[_KEEP_CUDA_CLOSED] = "1"
    for name in _PRELOADED:
        importlib.import_module(name)
    if asked is None:
        del os.environ[_KEEP_CUDA_CLOSED]
    if any(link.startswith(_GPUS) for link in _open_files()):
        os._exit(1)  # a fork could not use the GPU
    gc.collect()
    gc.freeze()  # a collection in a worker writes to no page of what is here
    requests = socket.socket(fileno=descriptor)
    while True:
        request, pipes, _, _ = socket.recv_fds(requests, 1 + _NUMBER.size, 2)
        if request[:1] == b"f":
            pid = os.fork()
            if pid == 0:
                requests.close()
                for standard, pipe in enumerate(pipes):
                    os.dup2(pipe, standard)
                    os.close(pipe)
                work()
            for pipe in pipes:
                os.close(pipe)
            requests.sendall(_NUMBER.pack(pid))
        elif request[:1] == b"w":
            (pid,) = _NUMBER.unpack(request[1:])
            _, status = os.waitpid(pid, 0)
            requests.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))
        else:  # the engine has gone
            os._exit(0)


def _open_files() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            yield os.readlink(f"/proc/self/fd/{descriptor}")
