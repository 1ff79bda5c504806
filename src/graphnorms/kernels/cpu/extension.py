"""The compiled extension: loading it, and converting tensors for it."""

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

# The numbers of `Dtype` in problem.h.
DTYPES: Final = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}

_FASTER_PRODUCTS: Final = ("avx2", "avx512")
"""Where `linear.inl` is as fast as torch's matrix products or faster, as measured: up to 2.7 times
with avx512 and 1.4 times with avx2, on an AMD processor."""

_ANEW: Final = "`pip install --force-reinstall --no-deps` and the folder or wheel it came from"


@functools.cache
def kernels() -> ModuleType:
    """Load the extension, after torch, so that it shares torch's OpenMP threads.

    Raises:
        ModuleNotFoundError: It was not built.
        ImportError: It cannot be loaded, or was built for another processor.
    """
    module = importlib.import_module("graphnorms.kernels.cpu._kernels")
    if not module.instruction_sets():
        missing = ", ".join(module.missing_instruction_sets())
        raise ImportError(f"built without {missing}, and this processor has none of the others")
    module.use_exchange(Tensor)
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        # After a fork GNU's OpenMP hangs when it uses the threads of the parent.
        os.register_at_fork(after_in_child=module.after_fork_in_child)
    return module


@functools.cache
def unavailable() -> str | None:
    """Return why the backend cannot run on this machine, or `None`."""
    if not hasattr(Tensor, "__dlpack_c_exchange_api__"):
        return f"torch is {torch.__version__}, expected 2.11 or newer"
    try:
        kernels()
    except ModuleNotFoundError as error:
        return (
            "the C++ kernels were not built when graphnorms was installed: see that there is a C++ "
            f"compiler, then install it anew by {_ANEW} [{error}]"
        )
    except ImportError as error:
        return f"the C++ kernels do not load: install graphnorms here by {_ANEW} [{error}]"
    return None


def multiplies_faster() -> bool:
    """Whether the kernels of the instruction set multiply matrices faster than torch's."""
    return kernels().instruction_set() in _FASTER_PRODUCTS


def description() -> str:
    """Describe what runs: the instruction set, the threads, and whose linear maps."""
    module = kernels()
    threads = f"{torch.get_num_threads()} threads" if module.openmp else "1 thread, no OpenMP"
    products = "its own" if multiplies_faster() else "torch's"
    missing = ", ".join(module.missing_instruction_sets())
    alone = f" (built without {missing})" if missing else ""
    return f"{module.instruction_set()}{alone}, {threads}, {products} linear maps in float32"


def common_refusals(device: str, dtype: torch.dtype) -> list[str]:
    """Return why no kernel can run features of a dtype on a device; empty if they can."""
    reasons = []
    if (reason := unavailable()) is not None:
        reasons.append(reason)
    if device != "cpu":
        reasons.append(f"x is on {device}, the kernels run on the cpu")
    if dtype not in DTYPES:
        reasons.append(f"x is {dtype}, the kernels have float64, float32, bfloat16 and float16")
    return reasons


def rows_contiguous(x: Tensor) -> Tensor:
    """Return x with contiguous rows, a copy if needed; there may be gaps between rows."""
    if x.is_contiguous() or (x.stride(1) == 1 and x.stride(0) >= x.shape[1]):
        return x
    return x.contiguous()


def resolved(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor with torch's lazy negation and lazy zeros materialized.

    Raises:
        ValueError: It has no memory.
    """
    if is_zero(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    check_memory(name, tensor)
    return tensor.resolve_neg()


def features(x: Tensor) -> Tensor:
    """Return x as the kernels take features, copied if its strides do not fit.

    Raises:
        ValueError: It has another dtype, is not on the cpu, or has no memory.
    """
    if not x.is_cpu or x.dtype not in DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a supported dtype on the cpu")
    return rows_contiguous(resolved("x", x))


def rows_like(name: str, tensor: Tensor, x: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return a tensor as the kernels take it beside x, with the shape of x unless given.

    Raises:
        ValueError: It has another shape or dtype, is not on the cpu, or has no memory.
    """
    shape = tuple(x.shape) if shape is None else shape
    if tensor.shape != shape or tensor.dtype != x.dtype or not tensor.is_cpu:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}, expected "
            f"{shape} of {x.dtype} on the cpu like x"
        )
    return rows_contiguous(resolved(name, tensor))


def check_index(name: str, index: Tensor, length: int | None) -> None:
    """Refuse ids that a kernel cannot take; `None` allows any length."""
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
    """Return a parameter as the kernels take it, contiguous in the accumulation dtype.

    Raises:
        ValueError: It has another shape, is not on the cpu, or has no memory.
    """
    if tensor is None:
        return None
    if tensor.shape != shape or not tensor.is_cpu:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} on {tensor.device}, expected {shape} on the cpu"
        )
    return resolved(name, tensor).to(dtype).contiguous()


def unreadable() -> ValueError:
    """Return the error for a call that passes all checks and that the extension still refuses."""
    return ValueError("a tensor cannot be read; expected plain tensors on the cpu")
