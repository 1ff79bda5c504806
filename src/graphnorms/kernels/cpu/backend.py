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
    statistics_sizes,
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
    residual: Tensor | None,
    ptr: Tensor,
    order: Tensor | None,
    seed: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    dropout: float,
    moment: bool,
) -> tuple[Tensor, Tensor]:
    """Run the forward kernel.

    Returns:
        y, and the statistics in one vector: the shift (the centre's mean relative to the cell's
        first entry), 1/sqrt(s² + eps), and s² if `moment`.
    """
    x = _rows_contiguous(x)
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    segments = ptr.shape[0] - 1
    _check(x, ptr, order, seed, groups)
    mean_scale, weight, bias, stride = _parameters(
        mean_scale, weight, bias, segments, channels, dtype
    )
    if residual is not None:
        _check_like("residual", residual, x)
        residual = _rows_contiguous(residual)
    centers, scales = statistics_sizes(center, scale, rows, segments, channels, groups)
    y = torch.empty_like(x)
    statistics = x.new_empty(centers + scales * (2 if moment else 1), dtype=dtype)
    _kernels().normalize_forward(
        _DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, dropout, stride, ptr.data_ptr(), _address(order),
        _address(seed), _address(mean_scale), _address(weight), _address(bias),
        statistics.data_ptr(), moment, x.data_ptr(), x.stride(0), _address(residual),
        0 if residual is None else residual.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y, statistics


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    seed: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    dropout: float,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward kernel. The gradient of a residual is grad_y, and not made here.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are asked for.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; an empty tensor for
        each that was not asked for.
    """
    x, grad_y = _rows_contiguous(x), _rows_contiguous(grad_y)
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    segments = ptr.shape[0] - 1
    _check(x, ptr, order, seed, groups)
    _check_like("grad_y", grad_y, x)
    size = sum(statistics_sizes(center, scale, rows, segments, channels, groups))
    if (
        statistics.dim() != 1 or statistics.shape[0] < size or statistics.dtype != dtype
        or not statistics.is_cpu or not statistics.is_contiguous()
    ):  # fmt: skip
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {dtype}"
        )
    mean_scale, weight, bias, stride = _parameters(
        mean_scale, weight, bias, segments, channels, dtype
    )
    grad_x = torch.empty_like(x) if needs[0] else x.new_empty(0)
    grad_mean_scale, grad_weight, grad_bias = (
        torch.empty_like(parameter) if needed and parameter is not None else statistics.new_empty(0)
        for parameter, needed in zip((mean_scale, weight, bias), needs[1:], strict=True)
    )
    _kernels().normalize_backward(
        _DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, dropout, stride, ptr.data_ptr(), _address(order),
        _address(seed), _address(mean_scale), _address(weight), _address(bias),
        statistics.data_ptr(), x.data_ptr(), x.stride(0), grad_y.data_ptr(), grad_y.stride(0),
        grad_x.data_ptr(), grad_mean_scale.data_ptr(), grad_weight.data_ptr(),
        grad_bias.data_ptr(),
    )  # fmt: skip
    return grad_x, grad_mean_scale, grad_weight, grad_bias


def update_running(
    x: Tensor,
    statistics: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
) -> None:
    """Move running averages towards the mean and the unbiased variance of all rows of x.

    Args:
        x: The features, at least two rows; the first one is what the statistics are relative to.
        statistics: Those of `normalize_forward` over nodes with `moment`, one segment.
        running_mean, running_var: The averages, in the accumulation dtype; changed in place.
        momentum: Weight of x in them.
    """
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    _check_storage(x)
    for name, vector, length in (
        ("statistics", statistics, 3 * channels),
        ("running_mean", running_mean, channels),
        ("running_var", running_var, channels),
    ):
        if (
            vector.shape != (length,) or vector.dtype != dtype or not vector.is_cpu
            or not vector.is_contiguous()
        ):  # fmt: skip
            raise ValueError(
                f"{name} is {tuple(vector.shape)} of {vector.dtype}, "
                f"expected ({length},) of {dtype}"
            )
    if rows < 2:
        raise ValueError(f"x is {tuple(x.shape)}, expected two rows or more")
    first = x if x.stride(1) == 1 else x[0].contiguous()
    base, size = statistics.data_ptr(), channels * statistics.element_size()
    _kernels().update_running(
        _DTYPES[x.dtype], rows, channels, momentum, first.data_ptr(), base, base + 2 * size,
        running_mean.data_ptr(), running_var.data_ptr(),
    )  # fmt: skip


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
    _check_storage(x)
    _check_index("ptr", ptr, rows + 1)
    _check_index("index", index, None)
    edges = index.shape[0]
    node_scale = _parameter("node_scale", node_scale, (rows,), dtype)
    y = x.new_empty((rows, channels))
    _kernels().aggregate(
        _DTYPES[x.dtype], rows, channels, edges, torch.get_num_threads(), ptr.data_ptr(),
        index.data_ptr(), _address(node_scale), self_weight, x.data_ptr(),
        x.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y


def _rows_contiguous(x: Tensor) -> Tensor:
    """x, or a copy of it whose rows lie without gaps within; the rows may be apart."""
    if x.is_contiguous() or (x.stride(1) == 1 and x.stride(0) >= x.shape[1]):
        return x
    return x.contiguous()


def _check(x: Tensor, ptr: Tensor, order: Tensor | None, seed: Tensor | None, groups: int) -> None:
    _check_storage(x)
    channels = x.shape[1]
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels")
    _check_index("ptr", ptr, None)
    if not ptr.shape[0]:
        raise ValueError("ptr is empty, expected segments + 1 offsets")
    if order is not None:
        _check_index("order", order, x.shape[0])
    if seed is not None and (seed.dtype != torch.int64 or seed.numel() != 1 or not seed.is_cpu):
        raise ValueError(
            f"seed is {tuple(seed.shape)} of {seed.dtype} on {seed.device}, expected one int64 "
            "on the cpu"
        )


def _check_storage(x: Tensor) -> None:
    if not x.is_cpu or x.dtype not in _DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")


def _check_like(name: str, tensor: Tensor, x: Tensor) -> None:
    if tensor.shape != x.shape or tensor.dtype != x.dtype or not tensor.is_cpu:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}, expected "
            f"{tuple(x.shape)} of {x.dtype} on the cpu like x"
        )


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


def _parameters(
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    segments: int,
    channels: int,
    dtype: torch.dtype,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, int]:
    """The parameters as a kernel reads them, and how far apart those of two segments are."""
    stride = 0
    if (weight is not None and weight.dim() == 2) or (bias is not None and bias.dim() == 2):
        stride = channels
    shape = (segments, channels) if stride else (channels,)
    return (
        _parameter("mean_scale", mean_scale, (channels,), dtype),
        _parameter("weight", weight, shape, dtype),
        _parameter("bias", bias, shape, dtype),
        stride,
    )


def _parameter(
    name: str, parameter: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor | None:
    if parameter is None:
        return None
    if parameter.shape != shape or not parameter.is_cpu:
        raise ValueError(
            f"{name} is {tuple(parameter.shape)} on {parameter.device}, expected {shape} on the cpu"
        )
    if parameter.dtype == dtype and parameter.is_contiguous():
        return parameter
    return parameter.to(dtype).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
