"""The compiled extension: loading it, and the checks before an address is passed to it."""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

from graphnorms.kernels.tensor_checks import check_memory
from graphnorms.tracing import is_zero

# Numbered as in `Dtype` in problem.h.
DTYPES: Final = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


@functools.cache
def kernels() -> ModuleType:
    """Load the extension: after torch, whose OpenMP threads it then shares.

    Raises:
        ImportError: It was not built, or this torch is too old for it.
    """
    module = importlib.import_module("graphnorms.kernels.cpu._kernels")
    module.use_exchange(Tensor)
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        # After a fork GNU's OpenMP hangs when it is asked for the threads of the parent.
        os.register_at_fork(after_in_child=module.after_fork_in_child)
    return module


@functools.cache
def unavailable() -> str | None:
    """Why the backend cannot run at all here, or `None`."""
    if not hasattr(Tensor, "__dlpack_c_exchange_api__"):
        return f"torch {torch.__version__} has no C exchange of tensors; torch 2.11 or newer does"
    try:
        kernels()
    except ImportError as error:
        return (
            "the C++ kernels are not installed (no working C++ compiler was found when "
            "graphnorms was installed): install a compiler, then "
            f"`pip install --force-reinstall --no-deps graphnorms` [{error}]"
        )
    return None


def description() -> str:
    """What would run: the instruction set and the threads."""
    module = kernels()
    threads = f"{torch.get_num_threads()} threads" if module.openmp else "1 thread, no OpenMP"
    return f"{module.instruction_set()}, {threads}"


def common_refusals(device: str, dtype: torch.dtype) -> list[str]:
    """Why no kernel can run on features of a dtype on a device; empty if they can."""
    reasons = []
    if (reason := unavailable()) is not None:
        reasons.append(reason)
    if device != "cpu":
        reasons.append(f"x is on {device}, the kernels run on the cpu")
    if dtype not in DTYPES:
        reasons.append(f"x is {dtype}, the kernels have float64, float32, bfloat16 and float16")
    return reasons


def rows_contiguous(x: Tensor) -> Tensor:
    """x, or a copy of it whose rows lie without gaps within; the rows may be apart."""
    if x.is_contiguous() or (x.stride(1) == 1 and x.stride(0) >= x.shape[1]):
        return x
    return x.contiguous()


def resolved(name: str, tensor: Tensor) -> Tensor:
    """The tensor, its numbers written out where torch has only noted their sign or that all are 0.

    Raises:
        ValueError: They have no memory.
    """
    if is_zero(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    check_memory(name, tensor)
    return tensor.resolve_neg()


def features(x: Tensor) -> Tensor:
    """x as the kernels take features, a copy where strides are others.

    Raises:
        ValueError: It has another dtype, is not on the cpu, or has no memory.
    """
    if not x.is_cpu or x.dtype not in DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")
    return rows_contiguous(resolved("x", x))


def rows_like(name: str, tensor: Tensor, x: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Rows as the kernels take them beside x, of its shape unless another is given.

    Raises:
        ValueError: They have another shape or dtype, are not on the cpu, or have no memory.
    """
    shape = tuple(x.shape) if shape is None else shape
    if tensor.shape != shape or tensor.dtype != x.dtype or not tensor.is_cpu:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}, expected "
            f"{shape} of {x.dtype} on the cpu like x"
        )
    return rows_contiguous(resolved(name, tensor))


def check_index(name: str, index: Tensor, length: int | None) -> None:
    """Raise the error for ids that a kernel cannot take; a length of `None` is any."""
    if (
        index.dtype != torch.int64
        or not index.is_cpu
        or index.dim() != 1
        or not index.is_contiguous()
        or (length is not None and index.shape[0] != length)
    ):
        raise ValueError(
            f"{name} is {tuple(index.shape)} of {index.dtype} on {index.device}, expected a "
            f"contiguous vector of {'int64' if length is None else f'{length} int64'} on the cpu"
        )
    check_memory(name, index)


def parameter(
    name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor | None:
    """Numbers as the kernels take them, contiguous in the accumulation dtype.

    Raises:
        ValueError: They have another shape, are not on the cpu, or have no memory.
    """
    if tensor is None:
        return None
    if tensor.shape != shape or not tensor.is_cpu:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} on {tensor.device}, expected {shape} on the cpu"
        )
    return resolved(name, tensor).to(dtype).contiguous()


def unreadable() -> ValueError:
    """The error for a call that fits by all that was checked, and still is not taken."""
    return ValueError("a tensor cannot be read; expected plain tensors on the cpu")
