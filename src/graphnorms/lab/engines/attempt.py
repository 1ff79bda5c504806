"""One try at a trial: whatever happens in it becomes a record."""

from __future__ import annotations

import pickle
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError, one_line

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

Trial = Callable[..., "Record"]
"""`trial(config, dataset, on_epoch)`; it calls `on_epoch` once after each epoch."""

WORKER_DIED = "its worker process died"
"""How the reason of a trial begins that was lost to no fault known to be its own."""

OUT_OF_MEMORY = "out of memory"
"""How the reason of a trial begins that found too little memory."""

RETRIES = 1
"""How often a trial is run again whose process died."""

FETCHES = 3
"""How often a trial is run if its record cannot be fetched, which is not the trial's fault."""

TIMED_OUT = "over the time limit"
"""How the reason of a trial begins that took longer than it was given."""

# Beside the exceptions that are made for it: torch's CPU allocator, and libraries of CUDA, raise
# a plain RuntimeError.
_MEMORY_ERRORS = ("MemoryError", "OutOfMemoryError")
_MEMORY_MESSAGES = ("DefaultCPUAllocator: ", "CUDA out of memory", "_ALLOC_FAILED")
_AMOUNT = re.compile(r"tried to allocate ([\d.]+ ?[KMGT]?i?B(?:ytes)?)", re.IGNORECASE)


class NotTheTrialError(BaseException):
    """Ends a trial for a reason that is not its own; not an `Exception`, which trials may catch."""


def attempt(
    trial: Trial, config: TrialConfig, dataset: Any, on_epoch: Callable[..., None]
) -> Record:
    """Run a trial; an exception, or a record that cannot be pickled, becomes a failed record.

    Changes that the trial made to the process are undone.

    `KeyboardInterrupt` and `GeneratorExit` as well: Ctrl-C does not reach the processes that
    trials run in, and where they run in the user's own the engine knows whether it was pressed.
    """
    from graphnorms.process_state import kept_state

    try:
        with kept_state():
            record = trial(config, dataset, on_epoch)
        pickle.dumps(record)
        return record
    except NotTheTrialError:
        raise
    except BaseException as error:
        reason = reason_of(error)
    if reason.startswith(OUT_OF_MEMORY):
        _give_memory_back()
    return failed(config, reason)


def failed(config: TrialConfig, reason: str) -> Record:
    """Return the record of a trial that left nothing behind but a reason."""
    from graphnorms.training import Record

    return Record(key=config.key, config=config.to_dict(), status="failed", reason=reason)


def died_twice(config: TrialConfig, how: str) -> Record:
    """Return the record of a trial whose process died, and died again when it was run once more.

    Args:
        config: The trial.
        how: What is known of the end of the process.
    """
    return failed(config, f"{WORKER_DIED} twice ({how})")


def timed_out(config: TrialConfig, timeout: float) -> Record:
    """Return the record of a trial that took longer than `timeout` seconds."""
    return failed(config, f"{TIMED_OUT} of {timeout:g} s")


def too_often_lost(config: TrialConfig, error: BaseException) -> GraphnormsError:
    """Return the error for a trial whose record could not be fetched `FETCHES` times.

    Args:
        config: The trial.
        error: What was raised the last time.
    """
    return GraphnormsError(
        f"the record of trial {config.key} could not be fetched {FETCHES} times "
        f"({one_line(error)}); what is done is kept: run the same command again to continue"
    )


class Retries:
    """How often trials have ended without a record, and whether they are run once more."""

    def __init__(self) -> None:
        self._deaths: Counter[str] = Counter()  # by the key of the trial
        self._losses: Counter[str] = Counter()

    def died(self, config: TrialConfig, how: str) -> Record | None:
        """Count a process that died; return the failed record, or None for one more run."""
        self._deaths[config.key] += 1
        return None if self._deaths[config.key] <= RETRIES else died_twice(config, how)

    def lost(self, config: TrialConfig, error: BaseException) -> None:
        """Count a record that could not be fetched.

        Raises:
            GraphnormsError: It is the last of `FETCHES`.
        """
        self._losses[config.key] += 1
        if self._losses[config.key] >= FETCHES:
            raise too_often_lost(config, error) from error


def is_settled(record: Record | None) -> bool:
    """Whether a trial with this record, or none, needs no further run.

    A trial that failed by itself would fail again. One whose process died, or that found too
    little memory or time, may have done nothing wrong, and is tried again whenever the run is
    continued.
    """
    if record is None:
        return False
    lost = (WORKER_DIED, OUT_OF_MEMORY, TIMED_OUT)
    return record.status == "done" or not record.reason.startswith(lost)


def reason_of(error: BaseException) -> str:
    """Return why a trial failed, on one line."""
    names = {kind.__name__ for kind in type(error).__mro__}
    text = one_line(error)
    if names.isdisjoint(_MEMORY_ERRORS) and not any(part in text for part in _MEMORY_MESSAGES):
        return text
    amount = _AMOUNT.search(text)
    return f"{OUT_OF_MEMORY} (tried to allocate {amount[1]})" if amount else OUT_OF_MEMORY


def pack(trial: Trial, dataset: Any) -> bytes:
    """Pack what a worker process needs, to be sent to each process once.

    In one block made by the plain pickle protocol: the picklers of multiprocessing would pass a
    tensor as a handle to shared memory, which dies with the process.
    """
    import cloudpickle  # type: ignore[import-untyped]

    packed: bytes = cloudpickle.dumps((trial, dataset))
    return packed


def how_ended(code: int) -> str:
    """Say how a process ended, e.g. `SIGKILL(-9), out of memory?`."""
    if code >= 0:
        return f"EXIT({code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "signal"
    return f"{name}({code}){', out of memory?' if name == 'SIGKILL' else ''}"


class TrialDiedError(Exception):
    """The process of a trial died, in words how."""


class StartError(Exception):
    """A worker process cannot do any trial, in words why."""


class NothingUnpackedError(Exception):
    """A worker process has no data, being another one than that which was given them."""


def _give_memory_back() -> None:
    """Leave to other processes on the GPU what this one has only kept for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
