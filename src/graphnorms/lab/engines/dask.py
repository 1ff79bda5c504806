"""Trials on the workers of a dask scheduler, and what runs in these workers.

One trial runs at a time on each dask worker, in a process of its own that the dask worker starts,
see `process`. The engine decides which worker runs which trial: dask carries configs there and
records back, and knows which workers there are. Data is sent to each worker once.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import GraphnormsError, one_line
from graphnorms.interrupts import held_back
from graphnorms.lab.engines.attempt import DiedError, StartError, Trial
from graphnorms.lab.engines.engine import TICK, Engine
from graphnorms.lab.engines.packing import pack
from graphnorms.lab.engines.process import Process

if TYPE_CHECKING:
    from distributed import Client, Future

    from graphnorms.training import Record, TrialConfig

_PATIENCE: Final = 60.0  # seconds to wait for a first worker, or for one after the last has gone
_CONNECT: Final = 10.0  # seconds for the scheduler to answer
_POLL: Final = 1.0  # seconds between two looks at which workers there are
_PACKAGES: Final = ["graphnorms", "torch"]  # whose versions are the same on every worker
_IDLE: Final = 60.0  # seconds after which a process without a trial ends; another starts in two
_KEPT: Final = 4  # engines whose data a worker keeps; one that was killed never takes its back


class DaskWorkers(Engine):
    """Run trials on every worker of a dask scheduler, also on those that join later.

    When the scheduler is lost the run ends, and the trials that were running have no record: they
    are not to blame. A worker with another version of graphnorms or torch is an error at the start;
    one that joins later is not used.

    Raises:
        ImportError: dask.distributed is not installed.
    """

    def __init__(self, trial: Trial, dataset: Any, scheduler: str, **options: Any) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise ImportError("the dask engine needs: pip install 'graphnorms[dask]'") from None
        super().__init__(trial, dataset, **options)
        self._scheduler = scheduler
        self._token = uuid.uuid4().hex
        self._client: Client | None = None
        self._packed = b""
        self._ready: dict[str, _DaskWorker] = {}  # by address: those that have the data
        self._unfit: set[str] = set()
        self._look = 0.0  # when to look for workers again
        self._alone_since: float | None = None
        self._listeners: dict[str, Callable[[int], None]] = {}  # by the id of a try

    @property
    def workers(self) -> int:
        """See `Engine.workers`; what there is now.

        Raises:
            GraphnormsError: The scheduler does not answer.
        """
        with self._asking() as client:
            return len(client.nthreads())

    def close(self) -> None:
        """See `Engine.close`; the dask workers forget the data, and otherwise stay as they are."""
        with held_back():
            super().close()
            client, self._client = self._client, None
            if client is None:
                return
            with suppress(Exception):  # a worker that is gone has nothing to forget
                if client.status == "running":
                    _call(client, self._ready, forget, self._token)
            self._ready.clear()
            self._unfit.clear()
            with suppress(Exception):
                client.close(timeout=_CONNECT)

    def _present(self) -> Collection[_DaskWorker]:
        if time.monotonic() >= self._look:
            with self._asking() as client:
                self._update(client)
            self._look = time.monotonic() + _POLL
        return list(self._ready.values())  # a thread may discard one

    def _update(self, client: Client) -> None:
        present = set(client.nthreads())
        for address in self._ready.keys() - present:
            self._ready.pop(address).leave()
        self._unfit &= present
        if new := present - self._ready.keys() - self._unfit:
            self._add(client, new)
        if self._ready:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > _PATIENCE:
            self._alone_since = None
            raise GraphnormsError(
                f"the dask scheduler {self._scheduler} has no workers; "
                f"start some with: dask worker {self._scheduler} --nthreads 1"
            )

    def _add(self, client: Client, new: set[str]) -> None:
        """Send the data to new workers with our versions."""
        first = not self._ready and not self._unfit
        versions: Any = client.get_versions(packages=_PACKAGES)
        here, misfits = versions["client"]["packages"], []
        for address in sorted(new & versions["workers"].keys()):
            there = versions["workers"][address]["packages"]
            different = [name for name in _PACKAGES if there[name] != here[name]]
            if different:
                self._unfit.add(address)
                misfits.append(_misfit(address, different[0], there, here))
        fit = new - self._unfit
        if misfits and (first or not (self._ready or fit)):
            raise GraphnormsError(misfits[0])
        self._packed = self._packed or pack(self._trial, self._dataset)
        options = self._packed, self._timeout, self._fresh
        answers = _call(client, fit, keep, self._token, *options)
        for address in answers:  # the others have gone since
            self._ready[address] = _DaskWorker(self, address)

    def _connected(self) -> Client:
        if self._client is None:
            from distributed import Client

            try:
                self._client = Client(
                    self._scheduler, timeout=_CONNECT, set_as_default=False, name="graphnorms"
                )
            except (OSError, TimeoutError, ValueError, TypeError):
                raise GraphnormsError(
                    f"no dask scheduler answers at {self._scheduler}; "
                    f"expected its address, e.g. tcp://localhost:8786"
                ) from None
            self._client.subscribe_topic(self._token, self._hear)
        return self._client

    def _hear(self, event: tuple[float, tuple[str, int]]) -> None:
        trial_id, epochs = event[1]
        if trial_id in self._listeners:
            self._listeners[trial_id](epochs)

    @contextmanager
    def _asking(self) -> Generator[Client, None, None]:
        """Ask the scheduler for something; when it goes, dask raises many kinds of exceptions."""
        client = self._connected()
        try:
            yield client
        except GraphnormsError:
            raise
        except Exception as error:
            raise GraphnormsError(
                f"lost the dask scheduler {self._scheduler} ({one_line(error)}); what is done is "
                "kept: start it again, and run the same command to continue"
            ) from error


class _DaskWorker:
    """A dask worker that has the data; the `Worker` of this engine."""

    def __init__(self, engine: DaskWorkers, address: str) -> None:
        self.name = f"dask worker {address}"
        self._engine = engine
        self._address = address
        self._running: tuple[Future[Any], str] | None = None
        self._gone = False

    def run_trial(self, config: TrialConfig, tell: Callable[[int], None]) -> Record:
        """See `Worker.run_trial`."""
        from distributed import KilledWorker

        engine, trial_id, begun = self._engine, uuid.uuid4().hex, False

        def listen(epochs: int) -> None:
            nonlocal begun
            begun = True
            tell(epochs)

        engine._listeners[trial_id] = listen
        try:
            place = {"key": f"graphnorms-{trial_id}", "workers": [self._address], "retries": 0}
            future = engine._connected().submit(run, config, engine._token, trial_id, **place)
            self._running = future, trial_id
            record: Record = future.result()
            return record
        except StartError:
            raise
        except DiedError as error:
            raise DiedError(f"{error.how}, on {self.name}", error.begun) from None
        except (NoDataError, KilledWorker):  # a new process has the address
            engine._ready.pop(self._address, None)
            raise DiedError(self.name, begun) from None
        except Exception:
            if self._gone:
                raise DiedError(self.name, begun=True) from None
            engine._look = 0.0  # is the scheduler there?
            raise
        finally:
            self._running = None
            del engine._listeners[trial_id]

    def kill(self) -> None:
        """See `Worker.kill`."""
        client = self._engine._client
        if client is None or self._running is None:
            return
        future, trial_id = self._running
        with suppress(Exception):
            client.cancel([future], force=True)
            # dask forgets a call that has begun, but does not end it.
            if client.status == "running" and not self._gone:
                _call(client, [self._address], cancel, self._engine._token, trial_id)

    def leave(self) -> None:
        """Give up the running trial: the dask worker has gone."""
        self._gone = True
        self.kill()


def _misfit(address: str, name: str, there: dict[str, str], here: dict[str, str]) -> str:
    found = f"{name} {there[name]}" if there[name] else f"no {name}"
    return (
        f"dask worker {address} has {found}, here is {here[name]}; "
        f"install the same version on every worker"
    )


def _call(
    client: Client, addresses: Collection[str], function: Callable[..., None], *args: Any
) -> dict[str, Any]:
    """Call a function in workers, at once, and return what those that are there answer."""
    if not addresses:
        return {}
    answers: dict[str, Any] = client.run(
        function, *args, workers=sorted(addresses), on_error="ignore"
    )
    return answers


# What runs in a dask worker.

_processes: dict[str, Process] = {}  # by the token of the engine
_resting: dict[str, threading.Timer] = {}  # by the token: ends a process that stays idle
_cancelled: set[str] = set()


class NoDataError(Exception):
    """The data of the engine is not here: this process has taken the place of another one."""


class _CancelledError(Exception):
    """The engine no longer waits for the record."""


def keep(token: str, packed: bytes, timeout: float | None, fresh: bool) -> None:
    """Keep what an engine needs, and drop that of the oldest engine beyond `_KEPT`."""
    _processes[token] = Process(packed, timeout, fresh)
    while len(_processes) > _KEPT:
        forget(next(iter(_processes)))


def forget(token: str) -> None:
    """Drop what an engine has sent, and end its process when it is idle."""
    if token in _resting:
        _resting.pop(token).cancel()
    process = _processes.pop(token, None)
    if process is not None:
        process.retire()


def cancel(token: str, trial_id: str) -> None:
    """End a trial."""
    _cancelled.add(trial_id)
    if token in _processes:
        _processes[token].kill()


def run(config: TrialConfig, token: str, trial_id: str) -> Record:
    """Run a trial, and report its epochs as events under the token.

    Raises:
        NoDataError: The engine has not sent its data to this process.
    """
    from distributed import get_worker

    if token not in _processes:
        raise NoDataError
    if token in _resting:
        _resting.pop(token).cancel()
    worker, told = get_worker(), 0.0

    def tell(epochs: int) -> None:
        nonlocal told
        if trial_id in _cancelled:
            raise _CancelledError
        if time.monotonic() - told >= TICK:
            told = time.monotonic()
            worker.log_event(token, (trial_id, epochs))

    process = _processes[token]
    try:
        return process.run_trial(config, tell)
    finally:
        # An engine that was killed sends no further trial, and never says that it has gone.
        _resting[token] = timer = threading.Timer(_IDLE, process.rest)
        timer.daemon = True
        timer.start()
