"""Code that must not wait for a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def refused() -> Iterator[None]:
    """Have everything raise that waits for the GPU."""
    torch.cuda.synchronize()
    try:
        _refuse("error")
        yield
    finally:
        _refuse("default")


@contextmanager
def allowed() -> Iterator[None]:
    """Let what is inside wait again."""
    _refuse("default")
    yield
    _refuse("error")


def _refuse(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "a prototype feature": of the mode itself
        torch.cuda.set_sync_debug_mode(mode)
