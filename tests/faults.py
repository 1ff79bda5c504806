"""A comparison that trains nothing, and what disturbs it: for tests that kill processes.

`python -m tests.faults FOLDER NOTES` is a real parent process with real workers, a real engine
and a real journal; only its trials are not real. They take a moment, their outcome is a function
of their config, and each notes in the file NOTES that it was begun.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from graphnorms.lab.engines import Engine, make_engine
from graphnorms.lab.run import Run
from graphnorms.training.record import Record
from graphnorms.training.trial_config import TrialConfig

ROOT = Path(__file__).parents[1]
SETTINGS = {"dataset": "toy", "norms": ["none", "batch", "graph"]}
RATES = (0.001, 0.01)
SELECTIONS, FINALS = 2, 3  # per norm and rate, and per norm


def make_config(run: int = 0, norm: str = "graph", stage: str = "select", **changes) -> TrialConfig:
    """The config of a small trial."""
    fields = {
        "dataset": "toy",
        "fingerprint": "0" * 16,
        "model": {"layers": 2},
        "norm": norm,
        "split": {"kind": "fold", "folds": 10, "fold": run, "seed": 0, "holdout": 0.1},
        "stage": stage,
        "run": run,
        "metric": "accuracy",
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.01,
        "schedule": "linear",
        "weight_decay": 0.0,
        "seed": run,
        "device": "cpu",
        "dtype": "float32",
        "graphnorms_version": "0",
        "torch_version": "0",
    }
    return TrialConfig(**(fields | changes))


def make_trial(notes: Path, seconds: float = 0.02) -> Callable[..., Record]:
    """Return a trial whose outcome follows from its config; one in eight fails.

    It is a function inside a function, which cloudpickle sends to the workers by value.
    """

    def trial(config, dataset, on_epoch):
        with notes.open("a") as file:
            file.write(f"{config.key}\n")
        number = int(hashlib.sha256(config.key.encode()).hexdigest()[:8], 16)
        history = []
        for epoch in range(config.epochs):
            time.sleep(seconds)
            if epoch == 1 and number % 8 == 0:
                raise RuntimeError(f"no good: {number}")
            history.append(number / (epoch + 1) / 2**32)
            on_epoch()
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            history={"validation_score": history},
            outcome={"epoch": 1, "validation_score": history[0]},
            timing={"total": time.monotonic()},
        )

    return trial


def selections(norms: Iterable[str] = SETTINGS["norms"]) -> list[TrialConfig]:
    """The trials that are known from the start: every norm with every learning rate."""
    return [
        make_config(run, norm, learning_rate=rate)
        for run in range(SELECTIONS)
        for norm in norms
        for rate in RATES
    ]


def final_trials(run: Run) -> Callable[[Record], list[TrialConfig]]:
    """What follows: when all of a norm is in, its best rate is run anew."""

    def then(record: Record) -> list[TrialConfig]:
        norm = record.config["norm"]
        records = [run.journal.get(config.key) for config in selections([norm])]
        if record.config["stage"] == "final" or None in records:
            return []
        scores = Counter()
        for selection in records:
            scores[selection.config["learning_rate"]] += selection.outcome.get(
                "validation_score", 0
            )
        rate = max(scores, key=scores.__getitem__)
        return [make_config(run, norm, "final", learning_rate=rate) for run in range(FINALS)]

    return then


def complete(folder: Path, engine: Engine) -> list[Record]:
    """Run what has no outcome yet; return what the run has then, in an order of its own."""
    with Run(folder, SETTINGS) as run:
        for _ in run.complete(engine, selections(), then=final_trials(run)):
            pass
        return sorted(run.journal, key=lambda record: record.key)


def without_timing(records: Iterable[Record]) -> list[dict]:
    """What is to be equal of two runs."""
    return [record.without_timing() for record in records]


def command(folder: Path, notes: Path, *options: str) -> list[str]:
    """The command line of the comparison in a process of its own, see `main`."""
    return [sys.executable, "-m", "tests.faults", str(folder), str(notes), *options]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("notes", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scheduler")
    parser.add_argument("--seconds", type=float, default=0.02, help="of an epoch")
    parser.add_argument("--disk", type=int, help="bytes that a file may have")
    options = parser.parse_args()
    if options.disk is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (options.disk, options.disk))
    engine = make_engine(
        "dask" if options.scheduler else "local",
        make_trial(options.notes, options.seconds),
        list(range(1000)),
        workers=options.workers,
        scheduler=options.scheduler,
    )
    with engine:
        complete(options.folder, engine)


def disturb(
    command: Sequence[str], kills: int, random: Random, check: Callable[[], None]
) -> Counter[str]:
    """Run a command again and again and kill it, or a worker of it, at random moments.

    Ends when it has been killed that often, or when the command has come to its end.

    Args:
        command: What is run, from the root of the repository.
        kills: How often something is killed.
        random: When, and what.
        check: Called each time after the command was killed or has ended.

    Returns:
        How often a parent and how often a worker was killed.

    Raises:
        AssertionError: The command has ended with an error.
    """
    killed: Counter[str] = Counter()
    ended = False
    while killed.total() < kills and not ended:
        parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        # A second goes by until there is a run, another until there are workers.
        deadline = time.monotonic() + random.uniform(0.8, 3.5)
        workers_to_kill = min(random.choice([0, 1, 2]), kills - killed.total() - 1)
        while parent.poll() is None and time.monotonic() < deadline:
            time.sleep(random.uniform(0, 0.3))
            if workers_to_kill > 0 and (workers := workers_of(parent.pid)):
                workers_to_kill -= 1
                killed["worker"] += kill(random.choice(workers))
        if parent.poll() is None:
            killed["parent"] += kill(parent.pid)
        _, errors = parent.communicate()
        ended = parent.returncode == 0
        assert ended or parent.returncode == -signal.SIGKILL, errors
        check()
    return killed


@contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler with workers, which are restarted when they die: its address and its process."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    started = [_dask(folder, "scheduler", *local, "--port", "0", "--scheduler-file", str(file))]
    try:
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), 60)
        address = json.loads(file.read_text())["address"]
        several = ["--nworkers", str(workers), "--nthreads", "1", "--death-timeout", "30"]
        started.append(_dask(folder, "worker", address, *local, *several))
        yield address, started[0]
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def _dask(folder: Path, what: str, *arguments: str) -> subprocess.Popen:
    with (folder / f"{what}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", what, *arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def workers_of(parent: int) -> list[int]:
    """The worker processes of a process."""
    import psutil

    try:
        children = psutil.Process(parent).children()
        return [p.pid for p in children if any("engines.process" in word for word in p.cmdline())]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def kill(process: int) -> bool:
    """Kill a process at once; say whether it was there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def alive(process: int) -> bool:
    """Whether there is a process with this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
