"""Handling of Ctrl-C and SIGTERM.

While the command loads code, they exit at once with one line: an exception would show a traceback,
or get lost in the C code that is loading. Otherwise they raise exceptions.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C."""

TERMINATED: Final = 143
"""The exit code after SIGTERM."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a process to end: Ctrl-C; `timeout`, Slurm, `docker stop`."""


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM; treated like Ctrl-C."""


def how_ended(error: BaseException | None) -> tuple[str, int]:
    """Return the message and the exit code after a signal."""
    terminated = isinstance(error, Terminated)
    return ("terminated", TERMINATED) if terminated else ("interrupted", INTERRUPTED)


def behind(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interrupt that an error is, or was raised from; `None` for any other error."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found


def _is_command() -> bool:
    started, given = Path(sys.argv[0]).stem if sys.argv else "", sys.orig_argv[1:]
    if started == "-m":  # `python -m` while it loads the package
        return "-m" in given[:-1] and given[given.index("-m") + 1] == "graphnorms"
    return started == "graphnorms" and any(Path(each).stem == started for each in given)


IS_COMMAND: Final = _is_command()
"""Whether this process was started as `graphnorms` or `python -m graphnorms`."""


def leave_at_once() -> None:
    """Make the signals exit the process immediately; there is no work to lose yet."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _leave)


def interrupt_again() -> None:
    """Make the signals raise exceptions again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is _leave:
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def loading() -> Iterator[None]:
    """Make the signals exit the command immediately while the block loads code."""
    if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        leave_at_once()
    try:
        yield
    finally:
        interrupt_again()


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM inside the block, unless the program has a handler."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        _terminate.told = False
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def held_back() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM raise when the block has ended, not inside it.

    Blocking the signals is not enough: another thread can take them, and Python then interrupts
    the main thread all the same.
    """
    in_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in SIGNALS if in_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    held: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            handlers[signal.Signals(held[0])](held[0], None)


class _Terminate:
    """Raises at the first signal only: `timeout` sends two, and the second would interrupt the
    cleanup."""

    told = False

    def __call__(self, number: int, frame: Any) -> None:
        if not self.told:
            self.told = True
            raise Terminated


_terminate: Final = _Terminate()


def _leave(number: int, frame: Any) -> None:
    words, code = how_ended(Terminated() if number == signal.SIGTERM else None)
    os.write(2, f"graphnorms: {words}\n".encode())
    os._exit(code)
