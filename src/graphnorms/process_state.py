"""Sets the global state of the process to known values for a trial, and restores it afterwards.

Code can change the global state for later code: the default dtype, random generators, streams,
signal handlers. A trial must depend on its config only.
"""

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from graphnorms.interrupts import SIGNALS


@dataclass(frozen=True)
class _Setting:
    """One piece of global state.

    Args:
        read, write: Getter and setter.
        known: The value during a trial; None leaves it unchanged.
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]
    known: Any = None


def _attribute(owner: Any, name: str, known: Any = None) -> _Setting:
    return _Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), known)


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None removes the mode


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _flushes_denormals() -> bool:
    small = torch.tensor([2e-39], dtype=torch.float32, device="cpu")
    return small.mul(0.5).item() == 0.0


def _autocast(device: str) -> _Setting:
    def write(value: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return _Setting(
        lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)),
        write,
        (False, torch.bfloat16 if device == "cpu" else torch.float16),
    )


_OF_TORCH: Final = (
    _Setting(torch.get_default_device, _set_default_device, torch.device("cpu")),  # first: others
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(torch.is_grad_enabled, torch.set_grad_enabled, True),
    _Setting(torch.is_anomaly_enabled, torch.set_anomaly_enabled, False),
    _Setting(_flushes_denormals, torch.set_flush_denormal, False),
    _Setting(
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        (False, False),
    ),
    _autocast("cpu"),
    _autocast("cuda"),
    _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    _attribute(torch.backends.cudnn, "enabled", True),
    _attribute(torch.backends.cudnn, "benchmark", False),
    _attribute(torch.backends.cudnn, "deterministic", False),
    _Setting(torch.get_num_threads, torch.set_num_threads),
)
_OF_PYTHON: Final = (
    _Setting(os.getcwd, os.chdir),
    _Setting(lambda: list(sys.argv), lambda value: setattr(sys, "argv", value)),
    _Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    _Setting(random.getstate, random.setstate),
    _Setting(torch.get_rng_state, torch.set_rng_state),
    *(_Setting(partial(signal.getsignal, n), partial(signal.signal, n)) for n in SIGNALS),
)
_OF_TRIALS: Final = (
    _Setting(lambda: dict(os.environ), _set_environment),
    _Setting(lambda: list(sys.path), lambda value: sys.path.__setitem__(slice(None), value)),
    _Setting(lambda: locale.setlocale(locale.LC_ALL), lambda v: locale.setlocale(locale.LC_ALL, v)),
    _Setting(gc.get_threshold, lambda value: gc.set_threshold(*value)),
    _Setting(gc.isenabled, lambda value: gc.enable() if value else gc.disable()),
)


@contextmanager
def kept_state(*, of_trials: bool = True) -> Iterator[None]:
    """Restore the global state after the block.

    Imported modules, and their state, are kept.

    Args:
        of_trials: Whether to restore the environment and the module search path, too; code that is
            called again may rely on changes made at import.
    """
    settings = (*_OF_TORCH, *_OF_PYTHON, *(_OF_TRIALS if of_trials else ()))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        settings += (
            _Setting(numpy.random.get_state, numpy.random.set_state),
            _Setting(numpy.geterr, lambda value: numpy.seterr(**value)),
        )
    before = []
    for setting in settings:
        with suppress(Exception):
            before.append((setting, setting.read()))
    streams = sys.stdin, sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):  # the code may close them
        stream = getattr(sys, name)
        setattr(sys, name, None if stream is None else _Unclosed(stream))
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for setting, value in before:
            _set(setting, value)


@contextmanager
def known_state(seed: int) -> Iterator[None]:
    """Give a trial the global state of a fresh process.

    Args:
        seed: Seed of the global generators of Python, NumPy and torch.
    """
    with kept_state(), torch.inference_mode(False):
        for setting in _OF_TORCH:
            if setting.known is not None:
                _set(setting, setting.known)
        random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed % 2**32)
        yield


def _set(setting: _Setting, value: Any) -> None:
    with suppress(Exception):
        if setting.read() == value:
            return
    with suppress(Exception):  # e.g. a deleted folder
        setting.write(value)


class _Unclosed:
    """A stream that flushes instead of closing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Flush."""
        with suppress(Exception):
            self._stream.flush()
