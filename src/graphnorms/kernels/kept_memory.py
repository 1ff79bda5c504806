"""Memory that the backward of a large batch has used, kept for the next one.

The system clears a page at its first use. For all that a backward needs that can take as long as
the kernels; training uses the same pages again.
"""

from __future__ import annotations

import mmap
import sys
import threading
from typing import Final

import torch
from torch import Tensor

_FEWEST: Final = 1 << 20
"""Bytes from which a piece is kept; smaller ones the allocator of torch keeps."""

_MOST: Final = 512 << 20
"""Bytes that are kept at most."""

(_UNUSED,) = (sys.getrefcount(each) for each in [object()])
"""References to a piece that no tensor has, counted as in `KeptMemory.empty`."""


class KeptMemory:
    """Memory of tensors, used again once these are gone.

    Args:
        fewest, most: Bytes of the smallest piece that is kept, and of all of them.
    """

    def __init__(self, fewest: int = _FEWEST, most: int = _MOST) -> None:
        self._fewest, self._most = fewest, most
        self._pieces: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def empty(self, size: int, like: Tensor) -> Tensor:
        """Return a vector of any values.

        Args:
            size: Its length.
            like: A tensor of float32 on the CPU.
        """
        needed = size * like.element_size()
        if needed < self._fewest:
            return like.new_empty(size)
        with self._lock:
            free = [each for each in self._pieces if sys.getrefcount(each) <= _UNUSED]
            large = [each for each in free if len(each) >= needed]
            piece = min(large, key=len) if large else self._another(needed, free)
            # A tensor of a buffer holds a reference to it.
            return torch.frombuffer(piece, dtype=like.dtype, count=size)

    def _another(self, needed: int, small: list[mmap.mmap]) -> mmap.mmap:
        """Make a piece, in the place of free ones that are too small."""
        self._pieces = [each for each in self._pieces if each not in small]
        piece = _mapped(needed + needed // 8)  # also for a batch that is a little larger
        if sum(map(len, self._pieces)) + len(piece) <= self._most:
            self._pieces.append(piece)
        return piece


def _mapped(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not shared by a fork


MEMORY: Final = KeptMemory()
