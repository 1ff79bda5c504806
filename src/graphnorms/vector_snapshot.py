"""A vector at the time when something was derived from it, to tell whether it has changed."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms import tracing


class VectorSnapshot:
    """A vector at the time when something was derived from it.

    A vector matches by its identity, its version counter and, on the CPU, its content: the counter
    misses writes through `.data` and through memory shared with NumPy. On a GPU comparing the
    content would synchronize, so only the counter is compared.
    """

    __slots__ = ("address", "content", "size", "vector", "version")

    def __init__(
        self, vector: Tensor, forget: Callable[[weakref.ref[Tensor]], None] | None = None
    ) -> None:
        self.vector = weakref.ref(vector, forget)
        self.version = tracing.version_of(vector)
        self.content = vector.detach().clone() if vector.is_cpu else None
        self.size = vector.nbytes
        comparable = self.content is not None and vector.is_contiguous()
        self.address = self.content.data_ptr() if self.content is not None and comparable else 0

    def matches(self, vector: Tensor) -> bool:
        """Whether `vector` is the same object with the same content."""
        if self.version != tracing.version_of(vector) or self.vector() is not vector:
            return False
        if self.content is None:
            return True
        if self.address and _memcmp is not None and vector.nbytes == self.size:
            # A twentieth of the time of `torch.equal`. Freed memory has the address 0: deriving
            # anew then raises the error.
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
