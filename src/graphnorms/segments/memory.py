"""What is derived from a batch vector, kept as long as the vector lives."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from graphnorms import tracing

if TYPE_CHECKING:
    from graphnorms.segments.segments import Segments


class Seen:
    """A vector as it was when something was derived from it.

    Known again by its identity, its version counter and, on the CPU, its content: the counter
    misses what is written through `.data` or through memory that is shared with NumPy. On a GPU,
    where a comparison would wait for the device, the counter decides alone.
    """

    __slots__ = ("address", "content", "size", "vector", "version")

    def __init__(
        self, vector: Tensor, forget: Callable[[weakref.ref[Tensor]], None] | None = None
    ) -> None:
        self.vector = weakref.ref(vector, forget)
        self.version = vector._version
        self.content = vector.detach().clone() if vector.is_cpu else None
        self.size = vector.nbytes
        comparable = self.content is not None and vector.is_contiguous()
        self.address = self.content.data_ptr() if self.content is not None and comparable else 0

    def is_still(self, vector: Tensor) -> bool:
        """Whether a vector is this one and has not changed."""
        if self.version != vector._version or self.vector() is not vector:
            return False
        if self.content is None:
            return True
        if self.address and _memcmp is not None and vector.nbytes == self.size:
            # A twentieth of the time of `torch.equal`. Freed memory has no address: what is
            # derived anew then says so.
            first = vector.data_ptr()
            return first != 0 and _memcmp(first, self.address, self.size) == 0
        return torch.equal(vector, self.content)


def _find_memcmp() -> Callable[[int, int, int], int] | None:
    try:
        library: Any = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        function = library.memcmp
    except (AttributeError, OSError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_int
    compare: Callable[[int, int, int], int] = function
    return compare


_memcmp: Final = _find_memcmp()


class Memory:
    """The Segments of recently seen batch vectors, by the identity of the vector."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int | None], tuple[Seen, Segments]] = {}

    def find(self, batch: Tensor, num_segments: int | None) -> Segments | None:
        """Return what is kept for a vector that has not changed since.

        Nothing while a CUDA graph is recorded: it is replayed when the vector holds another batch,
        and must derive anew what follows from it.
        """
        if tracing.is_recorded(batch):
            return None
        entry = self.entries.get((id(batch), num_segments))
        return entry[1] if entry is not None and entry[0].is_still(batch) else None

    def keep(self, batch: Tensor, num_segments: int | None, segments: Segments) -> None:
        """Keep Segments as long as the vector lives."""
        key = (id(batch), num_segments)

        def forget(dead: weakref.ref[Tensor]) -> None:
            # Another tensor may have got the same id in the meantime.
            entry = self.entries.get(key)
            if entry is not None and entry[0].vector is dead:
                del self.entries[key]

        self.entries[key] = (Seen(batch, forget), segments)


memory = Memory()
