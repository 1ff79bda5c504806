"""Loading Triton, its refusals, and launching kernels."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import torch

DTYPES: Final = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@functools.cache
def unavailable() -> str | None:
    """Return why the backend cannot run on this machine, or `None`."""
    try:
        import_module("triton")
    except ImportError as error:
        return f"triton is not installed (on Linux torch's builds for CUDA bring it) [{error}]"
    if not interpreted() and not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU: `TRITON_INTERPRET=1`."""
    return bool(import_module("triton").knobs.runtime.interpret)


def description() -> str:
    """Describe what runs."""
    version = import_module("triton").__version__
    if interpreted():
        return f"Triton {version}, interpreted on the CPU, for tests only"
    return f"Triton {version}, {torch.cuda.get_device_name()}"


def common_refusals(device: str, dtype: torch.dtype) -> list[str]:
    """Return why no kernel can run features of a dtype on a device; empty if they can."""
    reasons = []
    if (reason := unavailable()) is not None:
        reasons.append(reason)
    elif device != "cuda" and not (device == "cpu" and interpreted()):
        reasons.append(f"x is on {device}, the triton kernels run on cuda")
    if dtype not in DTYPES:
        reasons.append(
            f"x is {dtype}, the triton kernels have float64, float32, bfloat16 and float16"
        )
    return reasons


@functools.cache
def device_code(name: str) -> ModuleType:
    """Import a module of kernels."""
    return import_module(f"graphnorms.kernels.triton.device.{name}")


@functools.cache
def accumulator(dtype: torch.dtype) -> Any:
    """Return Triton's dtype of sums."""
    language = import_module("triton.language")
    return language.float64 if dtype == torch.float64 else language.float32


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    device: torch.device,
    *arguments: Any,
    warps: int,
    **constants: Any,
) -> None:
    """Run a kernel on the current stream of a device."""
    if not all(grid):
        return
    # Triton launches on the current device, not on that of the arguments.
    elsewhere = device.type == "cuda" and device.index != torch.cuda.current_device()
    with torch.cuda.device(device) if elsewhere else nullcontext():
        # Fusing a product and a sum saves a rounding. Explicit, because triton warns otherwise.
        kernel[grid](*arguments, **constants, num_warps=warps, enable_fp_fusion=True)
