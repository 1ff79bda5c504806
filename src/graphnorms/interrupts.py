"""Ctrl-C while the command line is loading: it ends at once, in one line.

A `KeyboardInterrupt` would show a traceback there, or be lost in the C code that is being loaded.
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


def _is_command() -> bool:
    started, given = Path(sys.argv[0]).stem if sys.argv else "", sys.orig_argv[1:]
    if started == "-m":  # of `python -m`, while the package is loaded
        return "-m" in given[:-1] and given[given.index("-m") + 1] == "graphnorms"
    return started == "graphnorms" and any(Path(each).stem == started for each in given)


IS_COMMAND: Final = _is_command()
"""Whether this process was started as `graphnorms` or `python -m graphnorms`."""


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process; nothing has begun that would be lost."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _leave)


def interrupt_again() -> None:
    """From now on Ctrl-C is a `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def loading() -> Iterator[None]:
    """Have Ctrl-C end the command at once while it loads more code."""
    if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        leave_at_once()
    try:
        yield
    finally:
        interrupt_again()


def _leave(number: int, frame: Any) -> None:
    os.write(2, b"graphnorms: interrupted\n")
    os._exit(INTERRUPTED)
