"""One try at a trial: however it ends, it becomes a record."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphnorms.errors import one_line

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

Trial = Callable[..., "Record"]
"""`trial(config, dataset, on_epoch)`; it calls `on_epoch` once after each epoch."""

WORKER_DIED = "its worker process died"
"""How the reason of a trial begins that was lost to no fault known to be its own."""

OUT_OF_MEMORY = "out of memory"
"""How the reason of a trial begins that found too little memory."""

TIMED_OUT = "over the time limit"
"""How the reason of a trial begins that took longer than it was given."""

# Beside the exceptions that are made for it: torch's CPU allocator, and libraries of CUDA, raise
# a plain RuntimeError.
_MEMORY_ERRORS = ("MemoryError", "OutOfMemoryError")
_MEMORY_MESSAGES = ("DefaultCPUAllocator: ", "CUDA out of memory", "_ALLOC_FAILED")
_AMOUNT = re.compile(r"tried to allocate ([\d.]+ ?[KMGT]?i?B(?:ytes)?)", re.IGNORECASE)


class NotTheTrialError(BaseException):
    """Ends a trial for a reason that is not its own; not an `Exception`, which trials may catch."""


class StartError(Exception):
    """A worker cannot run any trial; says why."""


class DiedError(Exception):
    """A worker process died.

    Args:
        how: What is known of its end, e.g. `SIGKILL(-9), out of memory?`.
        begun: Whether the trial had begun.
    """

    def __init__(self, how: str, begun: bool) -> None:
        super().__init__(how, begun)
        self.how, self.begun = how, begun


def attempt(
    trial: Trial, config: TrialConfig, dataset: Any, on_epoch: Callable[[], object]
) -> Record:
    """Run a trial; an exception, or a record that cannot be pickled, becomes a failed record.

    So do `KeyboardInterrupt` and `GeneratorExit`: a real Ctrl-C does not reach worker processes,
    and where trials run in the user's process the engine knows whether it was pressed. Changes
    that the trial made to the process are undone.
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
        _release_gpu_memory()
    return failed(config, reason)


def failed(config: TrialConfig, reason: str) -> Record:
    """Return the record of a trial that left nothing behind but a reason."""
    from graphnorms.training import Record

    return Record(key=config.key, config=config.to_dict(), status="failed", reason=reason)


def timed_out(config: TrialConfig, timeout: float) -> Record:
    """Return the record of a trial that took longer than `timeout` seconds."""
    return failed(config, f"{TIMED_OUT} of {timeout:g} s")


def is_settled(record: Record | None) -> bool:
    """Whether a trial with this record, or none, needs no further run.

    A trial that failed by itself would fail again. One that lost its process, or found too little
    memory or time, may have done nothing wrong; it is tried again when the run is continued.
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


def _release_gpu_memory() -> None:
    """Leave to other processes what torch's allocator keeps on the GPU for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
