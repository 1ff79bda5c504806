"""The C++ kernels as functions of tensors.

Addresses are passed on, so everything is checked here: a size, stride, dtype or device that
does not fit never reaches the kernels.
"""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

from graphnorms.kernels.problem import (
    AggregateProblem,
    NormalizeProblem,
    Over,
    accumulation_dtype,
    cells,
)

# The numbers are those of `Dtype` in problem.h.
_DTYPES: Final = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


@functools.cache
def _kernels() -> ModuleType:
    """Load the extension: after torch, whose OpenMP threads it then shares."""
    module = importlib.import_module("graphnorms.kernels.cpu._kernels")
    # After a fork GNU's OpenMP hangs when it is asked for the threads of the parent.
    os.register_at_fork(after_in_child=module.after_fork_in_child)
    return module


@functools.cache
def unavailable() -> str | None:
    """Why the backend cannot run at all here, or `None`."""
    try:
        _kernels()
    except ImportError as error:
        return (
            "the C++ kernels are not installed (no working C++ compiler was found when "
            "graphnorms was installed): install a compiler, then "
            f"`pip install --force-reinstall --no-deps graphnorms` [{error}]"
        )
    return None


def description() -> str:
    """What would run: the instruction set and the threads."""
    module = _kernels()
    threads = f"{torch.get_num_threads()} threads" if module.openmp else "1 thread, no OpenMP"
    return f"{module.instruction_set()}, {threads}"


def normalize_refusals(problem: NormalizeProblem) -> list[str]:
    """Why the backend cannot run a `segment_normalize`; empty if it can."""
    reasons = _common_refusals(problem.device, problem.dtype)
    over = {problem.center, problem.scale} - {None}
    if Over.CHANNELS in over and len(over) > 1:
        reasons.append("one statistic within rows and one over nodes")
    if Over.CHANNELS in over and problem.mean_scale:
        reasons.append("mean_scale with a centre within rows")
    if problem.center is Over.BOTH and problem.scale is Over.NODES:
        reasons.append("a centre over nodes and channels with a scale over nodes")
    if problem.center is Over.BOTH and problem.mean_scale:
        reasons.append("mean_scale with a centre over nodes and channels")
    return reasons


def aggregate_refusals(problem: AggregateProblem) -> list[str]:
    """Why the backend cannot run an `aggregate`; empty if it can."""
    return _common_refusals(problem.device, problem.dtype)


def _common_refusals(device: str, dtype: torch.dtype) -> list[str]:
    reasons = []
    if (reason := unavailable()) is not None:
        reasons.append(reason)
    if device != "cpu":
        reasons.append(f"x is on {device}, the kernels run on the cpu")
    if dtype not in _DTYPES:
        reasons.append(f"x is {dtype}, the kernels have float64, float32, bfloat16 and float16")
    return reasons


def normalize_forward(
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the forward kernel.

    Returns:
        y, the shift (the centre's mean relative to the cell's first entry), 1/sqrt(s² + eps),
        and s² if `statistics`, else an empty tensor.
    """
    x = _rows_contiguous(x)
    dtype = accumulation_dtype(x.dtype)
    rows, channels, segments = _check(x, ptr, order, groups)
    centers = cells(center, rows, segments, channels, groups)
    scales = cells(scale, rows, segments, channels, groups)
    y = x.new_empty((rows, channels))
    shift = x.new_empty(centers, dtype=dtype)
    rstd = x.new_empty(scales, dtype=dtype)
    moment = x.new_empty(scales if statistics else (0, 0), dtype=dtype)
    mean_scale = _parameter("mean_scale", mean_scale, channels, dtype)
    weight = _parameter("weight", weight, channels, dtype)
    bias = _parameter("bias", bias, channels, dtype)
    _kernels().normalize_forward(
        _DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, ptr.data_ptr(), _address(order), _address(mean_scale),
        _address(weight), _address(bias), shift.data_ptr(), rstd.data_ptr(), moment.data_ptr(),
        x.data_ptr(), x.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y, shift, rstd, moment


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor,
    rstd: Tensor,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward kernel.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are asked for.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; an empty tensor for
        each that was not asked for.
    """
    x, grad_y = _rows_contiguous(x), _rows_contiguous(grad_y)
    dtype = accumulation_dtype(x.dtype)
    rows, channels, segments = _check(x, ptr, order, groups)
    if grad_y.shape != x.shape or grad_y.dtype != x.dtype or grad_y.device != x.device:
        raise ValueError(f"grad_y is {grad_y.shape} of {grad_y.dtype}, expected that of x")
    for name, statistic, over in (("shift", shift, center), ("rstd", rstd, scale)):
        shape = cells(over, rows, segments, channels, groups)
        if statistic.shape != shape or statistic.dtype != dtype or not statistic.is_contiguous():
            raise ValueError(f"{name} is {tuple(statistic.shape)}, expected {shape} of {dtype}")
    mean_scale = _parameter("mean_scale", mean_scale, channels, dtype)
    weight = _parameter("weight", weight, channels, dtype)
    bias = _parameter("bias", bias, channels, dtype)
    grad_x = x.new_empty((rows, channels) if needs[0] else (0,))
    grads = [x.new_empty((channels,) if needed else (0,), dtype=dtype) for needed in needs[1:]]
    _kernels().normalize_backward(
        _DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, ptr.data_ptr(), _address(order), _address(mean_scale),
        _address(weight), _address(bias), shift.data_ptr(), rstd.data_ptr(), x.data_ptr(),
        x.stride(0), grad_y.data_ptr(), grad_y.stride(0), grad_x.data_ptr(),
        grads[0].data_ptr(), grads[1].data_ptr(), grads[2].data_ptr(),
    )  # fmt: skip
    return grad_x, grads[0], grads[1], grads[2]


def aggregate(
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    node_scale: Tensor | None,
    self_weight: float,
) -> Tensor:
    """Run the aggregation kernel; with the transposed CSR it is its own backward."""
    x = _rows_contiguous(x)
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    if not x.is_cpu or x.dtype not in _DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")
    _check_index("ptr", ptr, rows + 1)
    _check_index("index", index, None)
    edges = index.shape[0]
    node_scale = _parameter("node_scale", node_scale, rows, dtype)
    y = x.new_empty((rows, channels))
    _kernels().aggregate(
        _DTYPES[x.dtype], rows, channels, edges, torch.get_num_threads(), ptr.data_ptr(),
        index.data_ptr(), _address(node_scale), self_weight, x.data_ptr(),
        x.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y


def _rows_contiguous(x: Tensor) -> Tensor:
    """x, or a copy of it whose rows lie without gaps within; the rows may be apart."""
    if x.stride(1) == 1 and x.stride(0) >= x.shape[1]:
        return x
    return x.contiguous()


def _check(x: Tensor, ptr: Tensor, order: Tensor | None, groups: int) -> tuple[int, int, int]:
    rows, channels = x.shape
    if not x.is_cpu or x.dtype not in _DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels")
    _check_index("ptr", ptr, None)
    if order is not None:
        _check_index("order", order, rows)
    return rows, channels, ptr.shape[0] - 1


def _check_index(name: str, index: Tensor, length: int | None) -> None:
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


def _parameter(
    name: str, parameter: Tensor | None, length: int, dtype: torch.dtype
) -> Tensor | None:
    if parameter is None:
        return None
    if parameter.dim() != 1 or parameter.shape[0] != length or not parameter.is_cpu:
        raise ValueError(
            f"{name} is {tuple(parameter.shape)} on {parameter.device}, expected ({length},) "
            "on the cpu"
        )
    if parameter.dtype == dtype and parameter.is_contiguous():
        return parameter
    return parameter.to(dtype).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
