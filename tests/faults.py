"""Trials, configs and waiting, for tests in which processes are killed.

Trial functions are made inside functions: cloudpickle then sends them to the workers by value.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from graphnorms.training.config import TrialConfig


def make_config(run: int = 0, norm: str = "graph", stage: str = "select", **changes) -> TrialConfig:
    """The config of a small trial that trains nothing."""
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
