"""One trial in a process of its own, started by a process that is to live on.

The process is given its work on its standard input and answers on its standard output, a byte at
a time: `b` where the trial begins, `.` for an epoch, then `r` and the record, or `s` and why it
cannot start. It ends when its input does, and so with the process that started it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final

from graphnorms.errors import one_line
from graphnorms.lab.engines.attempt import (
    StartError,
    TrialDiedError,
    attempt,
    how_ended,
    timed_out,
)
from graphnorms.lab.engines.worker import ENVIRONMENT

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

_COMMAND: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from graphnorms.lab.engines.child import main; main()"
)


def run_in_child(
    packed: bytes, config: TrialConfig, on_epoch: Callable[[], None], timeout: float | None
) -> Record:
    """Run a trial in a new process.

    Args:
        packed: Trial function and data, by `pack`.
        config: The trial.
        on_epoch: Called after each epoch; what it raises ends the process.
        timeout: Seconds that the trial may take.

    Raises:
        StartError: Trial function and data cannot be unpacked.
        TrialDiedError: The process died.
    """
    late = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT},
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(timeout or 0, end)
        try:
            for part in (sys.path, (packed, config)):
                pickle.dump(part, child.stdin)
            child.stdin.flush()
            while byte := child.stdout.read(1):
                if byte == b"b" and timeout is not None:
                    timer.start()
                elif byte == b".":
                    on_epoch()
                elif byte in b"rs":
                    answer = pickle.load(child.stdout)
                    if isinstance(answer, StartError):
                        raise answer
                    record: Record = answer
                    return record
        except (BrokenPipeError, EOFError):  # it died while it was given its work, or answered
            pass
        finally:
            timer.cancel()
            code = child.poll()
            child.kill()
    if late.is_set():
        return timed_out(config, timeout or 0)
    raise TrialDiedError(how_ended(child.returncode if code is None else code))


def main() -> None:
    """Be that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the trial prints
    packed, config = pickle.load(sys.stdin.buffer)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - the trial's
    threading.Thread(target=_end_with_input, daemon=True).start()

    import torch

    from graphnorms.user_code import no_exit

    torch.set_num_threads(1)
    try:
        with no_exit("unpacking the data"):
            trial, dataset = pickle.loads(packed)
    except Exception as error:
        _answer(answers, b"s", StartError(one_line(error)))
    else:
        answers.write(b"b")

        def on_epoch() -> None:
            answers.write(b".")

        record = attempt(trial, config, dataset, on_epoch)
        _answer(answers, b"r", record)
    os._exit(0)  # whatever the trial has left behind


def _answer(answers: IO[bytes], kind: bytes, what: object) -> None:
    rest = memoryview(kind + pickle.dumps(what))
    while rest:
        rest = rest[answers.write(rest) :]


def _end_with_input() -> None:
    while os.read(0, 1 << 16):
        pass
    os._exit(1)
