"""What a dask worker process does for the engine in `dask.py`."""

from __future__ import annotations

import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

from graphnorms.errors import one_line
from graphnorms.lab.engines.attempt import (
    NothingUnpackedError,
    NotTheTrialError,
    StartError,
    Trial,
    attempt,
)
from graphnorms.lab.engines.child import run_in_child
from graphnorms.lab.engines.engine import TICK

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

_KEPT = 4
_one_at_a_time = threading.Lock()
_work: dict[str, tuple[Trial, Any] | bytes] = {}
"""Trial function and data of the last engines, by token; bytes if each trial has its own process.

An engine that was killed cannot have its own removed."""
_cancelled: set[str] = set()


class _CancelledError(NotTheTrialError):
    """The engine no longer waits for the record."""


def unpack(token: str, packed: bytes) -> None:
    """Unpack trial function and data, and keep them.

    Raises:
        StartError: They cannot be unpacked.
    """
    from graphnorms.user_code import no_exit

    try:
        with no_exit("unpacking the data"):
            work = pickle.loads(packed)
    except Exception as error:
        raise StartError(one_line(error)) from None
    keep(token, work)


def keep(token: str, work: tuple[Trial, Any] | bytes) -> None:
    """Keep trial function and data, and drop those of the oldest engine beyond `_KEPT`."""
    _work[token] = work
    while len(_work) > _KEPT:
        del _work[next(iter(_work))]


def forget(token: str) -> None:
    """Drop what an engine has sent."""
    _work.pop(token, None)


def cancel(ids: list[str]) -> None:
    """End trials at their next epoch."""
    _cancelled.update(ids)


def run(config: TrialConfig, token: str, trial_id: str, timeout: float | None) -> Record:
    """Run a trial, and tell of its epochs as events under the token.

    Args:
        config: The trial.
        token: What the engine has sent its work under.
        trial_id: What `cancel` calls this trial.
        timeout: Seconds that the trial may take; in a process of its own only.

    Raises:
        NothingUnpackedError: The work is not here: the process is a new one.
    """
    from distributed import get_worker

    from graphnorms.training import threads

    if token not in _work:
        raise NothingUnpackedError
    work = _work[token]
    worker = get_worker()
    epochs, told = 0, 0.0

    def tell() -> None:
        nonlocal told
        if trial_id in _cancelled:
            _cancelled.discard(trial_id)
            raise _CancelledError
        if time.monotonic() - told >= TICK:
            told = time.monotonic()
            worker.log_event(token, {"id": trial_id, "epochs": epochs})

    def on_epoch() -> None:
        nonlocal epochs
        epochs += 1
        tell()

    with _one_at_a_time, threads(1):
        tell()
        if isinstance(work, bytes):
            return run_in_child(work, config, on_epoch, timeout)
        return attempt(work[0], config, work[1], on_epoch)
