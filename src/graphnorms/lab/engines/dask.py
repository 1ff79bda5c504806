"""Trials on the workers of a dask scheduler.

The engine itself decides which worker process runs which trial, one at a time in each: a trial
draws from the random numbers of its process, and it is to have one thread. dask carries trials
there and records back, and tells who is there. Data is sent to each process once, when it is
first seen; a process that is restarted has lost them, says so, and is sent them again.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError, one_line
from graphnorms.lab.engines import dask_worker
from graphnorms.lab.engines.attempt import (
    NothingUnpackedError,
    Retries,
    StartError,
    Trial,
    TrialDiedError,
    pack,
)
from graphnorms.lab.engines.engine import TICK, Engine, OnProgress, Queue, Then

if TYPE_CHECKING:
    from distributed import Client, Future

    from graphnorms.training import Record, TrialConfig

_PATIENCE = 60.0  # seconds to wait for a first worker, or for one in place of the last that died
_CONNECT = 10.0  # seconds for the scheduler to answer
_POLL = 1.0  # seconds between two looks at who is there


class DaskWorkers(Engine):
    """Run trials on every worker process that a dask scheduler has, those included that join.

    A trial whose process died is run once more. Where the scheduler is lost the run ends, and what
    was running has no record: that is no fault of the trials. A process with another version of
    graphnorms or torch is an error at the start; one that joins later is left alone.

    Args:
        trial: The trial function.
        dataset: Its second argument; sent to each process once.
        scheduler: Address of the scheduler.
        timeout: Seconds that a trial may take, see `make_engine`.
        fresh: Whether every trial has a process of its own. A worker then starts one for it, as it
            does where there is a time limit.

    Raises:
        ImportError: dask.distributed is not installed.
    """

    def __init__(
        self,
        trial: Trial,
        dataset: Any,
        scheduler: str,
        *,
        timeout: float | None = None,
        fresh: bool = False,
    ) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise ImportError("the dask engine needs: pip install 'graphnorms[dask]'") from None
        self._trial = trial
        self._dataset = dataset
        self._scheduler = scheduler
        self._timeout = timeout
        self._apart = fresh or timeout is not None
        self._token = uuid.uuid4().hex
        self._client: Client | None = None
        self._packed = b""
        self._ready: set[str] = set()  # addresses of processes that have the data
        self._unfit: set[str] = set()
        self._epochs: dict[str, int] = {}  # by the id of a try; -1 before it has begun

    @property
    def workers(self) -> int:
        """See `Engine.workers`; what there is now.

        Raises:
            GraphnormsError: The scheduler does not answer.
        """
        return len(self._present(self._connected()))

    def run(
        self,
        configs: Iterable[TrialConfig],
        on_progress: OnProgress | None = None,
        then: Then | None = None,
    ) -> Generator[Record, None, None]:
        """See `Engine.run`.

        Raises:
            GraphnormsError: The scheduler does not answer, it has no workers, or they cannot run
                trials.
        """
        waiting = Queue(configs)
        if not waiting:
            return
        client = self._connected()
        running: dict[Future[Any], _Try] = {}
        ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        ends = Retries()
        look = 0.0
        alone_since = time.monotonic()

        def start() -> None:
            for address in self._ready - {trial.address for trial in running.values()}:
                if waiting:
                    with self._asking():
                        future, trial = self._start(client, waiting.next(), address)
                    running[future] = trial
                    future.add_done_callback(ended.put)

        try:
            while waiting or running:
                if time.monotonic() >= look:
                    present = self._present(client)
                    with self._asking():
                        self._prepare(client, present)
                    look = time.monotonic() + _POLL
                    for future, trial in running.items():
                        if trial.address not in present and not future.done():
                            ended.put(future)
                    if self._ready:
                        alone_since = time.monotonic()
                    elif time.monotonic() - alone_since > _PATIENCE:
                        raise GraphnormsError(
                            f"the dask scheduler {self._scheduler} has no workers; "
                            f"start some with: dask worker {self._scheduler} --nthreads 1"
                        )
                start()
                for future in _taken(ended):
                    if future not in running:  # one that was lost, and then cancelled
                        continue
                    trial = running[future]
                    record = self._record_or_none(client, future, trial, ends)
                    del running[future]
                    del self._epochs[trial.id]
                    if record is None:
                        waiting.again(trial.config)
                        continue
                    start()  # no process waits for what is now done with the record
                    yield record
                    if then is not None:
                        waiting.put_first(then(record))
                if on_progress is not None:
                    on_progress(
                        {t.config.key: max(0, self._epochs[t.id]) for t in running.values()}
                    )
        finally:
            self._stop(client, running)

    def close(self) -> None:
        """See `Engine.close`; the workers forget the data, and otherwise stay as they are."""
        if self._client is None:
            return
        client, self._client = self._client, None
        try:
            if client.status == "running":
                with suppress(Exception):  # whoever is gone has nothing to forget
                    client.run(
                        dask_worker.forget, self._token, workers=list(self._ready),
                        on_error="ignore",
                    )  # fmt: skip
        finally:
            self._ready.clear()
            self._unfit.clear()
            with suppress(Exception):
                client.close(timeout=_CONNECT)

    def _connected(self) -> Client:
        if self._client is None:
            from distributed import Client

            try:
                client = Client(
                    self._scheduler, timeout=_CONNECT, set_as_default=False, name="graphnorms"
                )
            except (OSError, TimeoutError, ValueError, TypeError):
                raise GraphnormsError(
                    f"no dask scheduler answers at {self._scheduler}; "
                    f"expected its address, e.g. tcp://localhost:8786"
                ) from None
            self._client = client
            client.subscribe_topic(self._token, self._note_epochs)
        return self._client

    def _note_epochs(self, event: tuple[float, dict[str, Any]]) -> None:
        _, told = event
        if told["id"] in self._epochs:
            self._epochs[told["id"]] = told["epochs"]

    @contextmanager
    def _asking(self) -> Generator[None, None, None]:
        """Ask the scheduler for something; when it goes, dask raises many kinds of things."""
        try:
            yield
        except GraphnormsError:
            raise
        except Exception as error:
            raise GraphnormsError(
                f"lost the dask scheduler {self._scheduler} ({one_line(error)}); what is done is "
                "kept: start it again, and run the same command to continue"
            ) from error

    def _present(self, client: Client) -> set[str]:
        with self._asking():
            return set(client.nthreads())

    def _prepare(self, client: Client, present: set[str]) -> None:
        """Give the data to the processes that are new, if they fit."""
        self._ready &= present
        self._unfit &= present
        new = present - self._ready - self._unfit
        if not new:
            return
        first = not self._ready and not self._unfit
        misfits = _misfits(_answers(client, _version_of_worker(), new))
        self._unfit |= set(misfits)
        if misfits and (first or not (self._ready or new - self._unfit)):
            raise GraphnormsError(misfits[min(misfits)])
        if not self._packed:
            self._packed = pack(self._trial, self._dataset)
        keep = dask_worker.keep if self._apart else dask_worker.unpack
        answers = _answers(client, keep, new - self._unfit, self._token, self._packed)
        for address, answer in answers.items():
            if isinstance(answer, StartError):
                raise GraphnormsError(f"dask worker {address} cannot start: {answer}")
            if answer is None:  # else it has gone since
                self._ready.add(address)

    def _start(self, client: Client, config: TrialConfig, address: str) -> tuple[Future[Any], _Try]:
        trial = _Try(config, address)
        self._epochs[trial.id] = -1
        future = client.submit(
            dask_worker.run,
            config,
            self._token,
            trial.id,
            self._timeout,
            key=f"graphnorms-{trial.id}",
            workers=[address],
            pure=False,
            retries=0,
        )
        return future, trial

    def _record_or_none(
        self, client: Client, future: Future[Any], trial: _Try, ends: Retries
    ) -> Record | None:
        """Return the record of a trial that ended, or None when it is to be run once more."""
        from distributed import KilledWorker

        config, address = trial.config, trial.address
        how = f"dask worker {address}"
        lost: BaseException | None = None
        try:
            while True:
                try:
                    record: Record = future.result(timeout=_POLL)
                    return record
                except TimeoutError as error:
                    # Its process is gone, or is so busy that the record takes a while.
                    if address not in self._present(client):
                        # With its scheduler, or alone?
                        lost = error if future.status in ("cancelled", "lost") else None
                        break
        except StartError as error:
            raise GraphnormsError(f"dask worker {address} cannot start: {error}") from None
        except NothingUnpackedError:
            self._ready.discard(address)  # another process with the same address
            if self._epochs[trial.id] < 0:
                return None
        except TrialDiedError as error:
            return ends.died(config, f"{error}, on {how}")
        except KilledWorker:
            pass
        except (GraphnormsError, KeyboardInterrupt):
            raise
        except BaseException as error:  # of whatever carries the record, not of the trial
            self._present(client)
            lost = error
        with suppress(Exception):
            client.cancel([future], force=True)
        self._ready.discard(address)
        if lost is None:
            return ends.died(config, how)
        ends.lost(config, lost)
        return None

    def _stop(self, client: Client, running: dict[Future[Any], _Try]) -> None:
        self._epochs.clear()
        if not running or client.status != "running":
            return
        with suppress(Exception):
            client.cancel(list(running), force=True)
            # dask forgets a call that has begun, but does not end it.
            tries = running.values()
            ids, busy = [each.id for each in tries], [each.address for each in tries]
            client.run(dask_worker.cancel, ids, workers=busy, on_error="ignore")


class _Try:
    """A trial that was given to a process."""

    def __init__(self, config: TrialConfig, address: str) -> None:
        self.config = config
        self.address = address
        self.id = uuid.uuid4().hex


def _taken(ended: queue.SimpleQueue[Future[Any]]) -> Generator[Future[Any], None, None]:
    """Wait a moment for futures that have ended, and take all there are."""
    with suppress(queue.Empty):
        yield ended.get(timeout=TICK)
        while True:
            yield ended.get_nowait()


def _answers(
    client: Client, function: Callable[..., Any], addresses: set[str], *args: Any
) -> dict[str, Any]:
    """Call a function in each process; what it raises, or its absence, is its answer."""
    if not addresses:
        return {}
    try:
        answers: dict[str, Any] = client.run(
            function, *args, workers=sorted(addresses), on_error="return"
        )
    except OSError:  # all are gone
        return {}
    return answers


def _misfits(versions: dict[str, Any]) -> dict[str, str]:
    """Say of every process why it cannot be used, if so."""
    here = _version_of_worker()()
    misfits = {}
    for address, there in versions.items():
        if isinstance(there, OSError):
            continue  # it has gone since
        if isinstance(there, Exception):
            misfits[address] = f"dask worker {address} cannot start: {one_line(there)}"
        elif different := [name for name in here if there[name] != here[name]]:
            name = different[0]
            found = f"has {name} {there[name]}" if there[name] else f"has no {name}"
            misfits[address] = (
                f"dask worker {address} {found}, here is {here[name]}; "
                f"install the same version on every worker"
            )
    return misfits


def _version_of_worker() -> Callable[[], dict[str, str]]:
    """Return a function that asks for versions; made here, it is sent by value."""

    def versions() -> dict[str, str]:
        found = {}
        for name in ("graphnorms", "torch"):
            try:
                found[name] = __import__(name).__version__
            except ImportError:
                found[name] = ""
        return found

    return versions
