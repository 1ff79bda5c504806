"""What worker processes are sent: pickled by value, large tensors in a file that they map."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

import cloudpickle  # type: ignore[import-untyped]

from graphnorms.lab.engines.attempt import Trial

LEAST_MAPPED: Final = 1 << 16
"""Bytes from which on a tensor is worth its pages."""

_ALIGNED: Final = 64  # bytes, as torch allocates


def pack(trial: Trial, dataset: Any, file: Path | None = None) -> bytes:
    """Pickle what a worker process needs, to be sent to each process once.

    By value, also what `__main__` or a notebook defines. The picklers of multiprocessing would
    pass a tensor as a handle to shared memory, which dies with the process.

    Args:
        trial: The trial function.
        dataset: Its second argument.
        file: Where large tensors on the CPU are written, once for all processes of this machine.
            Each maps it when it unpacks: it reads shared pages, and has a page that it writes to
            for itself. The file has to stay as long as processes start.
    """
    if file is None:
        packed: bytes = cloudpickle.dumps((trial, dataset))
        return packed
    buffer = io.BytesIO()
    with file.open("wb") as tensors:
        _Packer(buffer, tensors, str(file.resolve())).dump((trial, dataset))
    return buffer.getvalue()


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles large tensors as their places in a file."""

    def __init__(self, buffer: IO[bytes], tensors: IO[bytes], path: str) -> None:
        super().__init__(buffer)
        self._tensors, self._path = tensors, path

    def reducer_override(self, obj: Any) -> Any:
        """Return how to make the object again; of others as cloudpickle does."""
        if not _is_mappable(obj):
            return super().reducer_override(obj)
        self._tensors.write(bytes(-self._tensors.tell() % _ALIGNED))
        place = self._tensors.tell()
        self._tensors.write(obj.numpy().data)
        return _mapped, (self._path, place, obj.dtype, tuple(obj.shape))


def _is_mappable(obj: Any) -> bool:
    import torch

    return (
        type(obj) is torch.Tensor
        and obj.layout is torch.strided
        and obj.device.type == "cpu"
        and obj.nbytes >= LEAST_MAPPED
        and obj.is_contiguous()
        and not (obj.requires_grad or obj.is_conj() or obj.is_neg() or vars(obj))
        and obj.dtype in _dtypes()
    )


@cache
def _dtypes() -> frozenset[Any]:
    """Return the dtypes that NumPy has too, which writes them."""
    import torch

    names = ("float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")
    return frozenset(getattr(torch, name) for name in names)


def _mapped(path: str, place: int, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return a tensor whose memory is a part of a file."""
    size = dtype.itemsize
    for length in shape:
        size *= length
    return _bytes_of(path)[place : place + size].view(dtype).view(shape)


@cache
def _bytes_of(path: str) -> Any:
    import torch

    size = Path(path).stat().st_size
    return torch.from_file(path, shared=False, size=size, dtype=torch.uint8)
